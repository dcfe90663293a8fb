#!/usr/bin/env python3
"""Soak test: many streaming clients, some of which hang up in the middle, for a while.

    python e2e/soak.py [--seconds 60] [--clients 64]

Fails on any error, if KV blocks are still in use when all is quiet, or if resident memory has grown since the
warm-up. Prints time to first token and inter-token latency.
"""

import argparse
import asyncio
import json
import random
import sys
import time
from collections import Counter

from harness.ask import STORY, chat_body
from harness.server import MODEL, Server
from harness.stats import milliseconds
from harness.stream import Stream, new_session, send

# Small, so that the warm-up has touched every page of it and memory can be compared; preemptions come with it.
SERVER_FLAGS = ("--kv-cache-memory", "256M")
HANG_UP_SHARE = 0.3
# Allocators keep some slack; a leak of one token's text per token would be well above this in a minute.
ALLOWED_GROWTH = 1.05
ALLOWED_EXTRA_BYTES = 16 * 2**20
TOPICS = ["What is the capital of France?", "Tell me a story.", "Write a four line poem about a frog.", "Hello!"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    args = parser.parse_args()
    with Server(*SERVER_FLAGS) as server:
        streams, warm_bytes = asyncio.run(soak(server, args))
        server.wait_idle()
        report = summary(server, args, streams, warm_bytes)
    print(json.dumps(report) if args.json else "\n".join(f"{key:>22}  {value}" for key, value in report.items()))
    failures = verdict(report, streams)
    if failures:
        sys.exit("soak: " + "; ".join(failures))
    print("soak: no error, all blocks free, memory level")


async def soak(server: Server, args) -> tuple[list[Stream], int]:
    """All streams, and the resident memory after the first third of the time."""
    end = time.monotonic() + args.seconds
    streams: list[Stream] = []

    async def client(session, number: int) -> None:
        rng = random.Random(f"{args.seed} {number}")
        while time.monotonic() < end:
            path, body, leave_after = draw(rng)
            streams.append(await send(session, server.url + path, body, leave_after=leave_after))

    async def memory_after_warm_up() -> int:
        await asyncio.sleep(args.seconds / 3)
        return server.rss_bytes()

    async with new_session() as session:
        warm_bytes, *_ = await asyncio.gather(
            memory_after_warm_up(), *(client(session, number) for number in range(args.clients))
        )
    return streams, warm_bytes


def draw(rng: random.Random) -> tuple[str, dict, int | None]:
    """A random request, and after how many chunks the client hangs up, if it does."""
    tokens = rng.randint(1, 160)
    sampling = {"max_tokens": tokens, "temperature": rng.choice([0, 0.7, 1.0]), "seed": rng.randrange(2**31)}
    leave_after = rng.randrange(tokens) if rng.random() < HANG_UP_SHARE else None
    if rng.random() < 0.5:
        return "/v1/chat/completions", chat_body(rng.choice(TOPICS), **sampling), leave_after
    prompt = f"{rng.random()} {STORY} " * rng.randint(1, 12)
    return "/v1/completions", {"model": MODEL, "prompt": prompt, "ignore_eos": True} | sampling, leave_after


def summary(server: Server, args, streams: list[Stream], warm_bytes: int) -> dict:
    ends = Counter("hung up" if s.left else "error" if s.error else s.finish_reason for s in streams)
    ttfts = [stream.ttft for stream in streams if stream.arrivals]
    gaps = [gap for stream in streams for gap in stream.gaps]
    metrics = server.metrics()
    return {
        "clients": args.clients,
        "seconds": args.seconds,
        "requests": len(streams),
        "ends": dict(ends),
        "chunks_per_s": round(sum(len(stream.arrivals) for stream in streams) / args.seconds, 1),
        "preemptions": int(metrics.value("millrace:num_preemptions_total")),
        "kv_cache_usage": metrics.value("millrace:kv_cache_usage_perc"),
        "rss_warm_bytes": warm_bytes,
        "rss_end_bytes": server.rss_bytes(),
        "ttft_ms": milliseconds(ttfts, 0.5, 0.99),
        "inter_token_ms": milliseconds(gaps, 0.5, 0.99),
    }


def verdict(report: dict, streams: list[Stream]) -> list[str]:
    """What is wrong, if anything."""
    wrong = []
    errors = [stream.error for stream in streams if stream.error]
    if errors:
        wrong.append(f"{len(errors)} errors, the first: {errors[0]}")
    unfinished = [s for s in streams if not s.left and not s.error and s.finish_reason not in ("stop", "length")]
    if unfinished:
        wrong.append(f"{len(unfinished)} streams ended without a proper finish_reason")
    if not report["ends"].get("hung up"):
        wrong.append("no client hung up, so the test was none")
    if report["kv_cache_usage"] != 0:
        wrong.append(f"KV blocks are still in use: {report['kv_cache_usage']}")
    if report["rss_end_bytes"] > report["rss_warm_bytes"] * ALLOWED_GROWTH + ALLOWED_EXTRA_BYTES:
        wrong.append(f"memory grew from {report['rss_warm_bytes']} to {report['rss_end_bytes']} bytes")
    return wrong


if __name__ == "__main__":
    main()
