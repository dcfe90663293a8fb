#!/usr/bin/env python3
"""What holding answers to a format costs: the throughput of a full batch with a format and without one.

    cargo build --release
    target/release/millrace serve --max-num-seqs 32 &
    bench/mask_cost.py [--url http://127.0.0.1:8000] [--pairs 9] [--batch 32] [--tokens 128] [--json FILE]

A pair is two batches, one after the other, that differ only in the format; which of them comes first alternates. The ratio of
their speeds doesn't know how busy the machine is from one pair to the next. Told are the median of the ratios and their
quartiles, for greedy answers (most of which need no masks on a CPU) and for random ones, the times of masks from the
server's histogram, and the share of tokens that the format forced, which come for less. No answer ends before its time.
The server should have nothing else to do.
"""
import argparse
import asyncio
import json
import statistics
import time

import aiohttp

from structured import Server, quantile

RECORD = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 3, "maxLength": 40},
        "count": {"type": "integer", "minimum": 0, "maximum": 10_000},
        "kind": {"enum": ["small", "large", "other"]},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 12}, "maxItems": 3},
    },
    "required": ["name", "count", "kind", "tags"],
    "additionalProperties": False,
}
# None of them ends before the measured length does.
FORMATS = {
    "any text": {"regex": r"(.|\n)*"},
    "a list of strings": {
        "json": {"type": "array", "items": {"type": "string", "minLength": 10, "maxLength": 40}, "minItems": 500}},
    "a list of records": {"json": {"type": "array", "items": RECORD, "minItems": 500}},
}


class Batch:
    """Answers that are generated together."""

    def __init__(self, server: Server, size: int, tokens: int) -> None:
        self.server, self.size, self.tokens = server, size, tokens

    async def speed(self, number: int, temperature: float, extra: dict) -> float:
        """Tokens per second. Every batch of a number has the same prompts, which no other number has."""
        bodies = [
            {"prompt": f"Once upon a time {number} {index}", "min_tokens": self.tokens, "max_tokens": self.tokens,
             "temperature": temperature, "top_p": 1, "top_k": 0, "seed": index, "ignore_eos": True} | extra
            for index in range(self.size)
        ]
        start = time.monotonic()
        answers = await asyncio.gather(*(self.server.post("/v1/completions", body) for body in bodies))
        seconds = time.monotonic() - start
        assert all(status == 200 for status, _ in answers), answers[0]
        generated = sum(answer["usage"]["completion_tokens"] for _, answer in answers)
        assert generated == self.size * self.tokens, f"{generated} tokens instead of {self.size * self.tokens}"
        return generated / seconds


class Masks:
    """What the server says about its masks, between two moments."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.sums = dict.fromkeys(("mask_time_seconds_sum", "mask_time_seconds_count", "forced_tokens_total", "generation_tokens_total"), 0.0)
        self.buckets: dict[float, float] = {}

    async def add(self, sign: int) -> None:
        for name in self.sums:
            self.sums[name] += sign * await self.server.value(name)
        for bound, count in (await self.server.histogram("mask_time_seconds")).items():
            self.buckets[bound] = self.buckets.get(bound, 0) + sign * count

    def report(self) -> dict:
        seconds, count, forced, tokens = self.sums.values()
        return {
            "mean_us": round(seconds / count * 1e6, 1), "forced": round(forced / tokens, 3),
            "p50_us_at_most": quantile(self.buckets, 0.5) * 1e6, "p99_us_at_most": quantile(self.buckets, 0.99) * 1e6,
        }


async def measure(batch: Batch, name: str, temperature: float, pairs: int) -> dict:
    free, held, masks = [], [], Masks(batch.server)
    for number in range(pairs + 1):
        for with_format in (False, True) if number % 2 else (True, False):
            extra = {"structured_outputs": FORMATS[name]} if with_format else {}
            if with_format and number:
                await masks.add(-1)
            speed = await batch.speed(number, temperature, extra)
            if with_format and number:
                await masks.add(1)
            # The first pair warms up.
            (held if with_format else free).extend([speed] if number else [])
    ratios = [one / other for one, other in zip(held, free, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return {
        "format": name, "temperature": temperature, "ratio": round(middle, 4), "quartiles": [round(low, 4), round(high, 4)],
        "free_tokens_per_s": round(statistics.median(free)), "held_tokens_per_s": round(statistics.median(held)), **masks.report(),
    }


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--temperatures", type=float, nargs="+", default=[0, 1])
    parser.add_argument("--json", help="a file for the figures")
    args = parser.parse_args()
    if args.pairs < 3:
        parser.error("quartiles need three pairs")
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0)) as session:
        batch = Batch(Server(session, args.url, args.batch), args.batch, args.tokens)
        print(f"batch {args.batch}, {args.tokens} tokens each, {args.pairs} pairs")
        found = []
        for temperature in args.temperatures:
            for name in FORMATS:
                one = await measure(batch, name, temperature, args.pairs)
                found.append(one)
                low, high = one["quartiles"]
                print(f"  temperature {temperature:g}, {name:18} {one['ratio'] - 1:+6.1%}  ({low - 1:+.1%} to {high - 1:+.1%}); "
                      f"{one['held_tokens_per_s']} instead of {one['free_tokens_per_s']} tokens/s; {one['mean_us']} µs a mask "
                      f"(p50 ≤ {one['p50_us_at_most']:.0f}, p99 ≤ {one['p99_us_at_most']:.0f}), {one['forced']:.0%} forced")
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump({"batch": args.batch, "tokens": args.tokens, "pairs": args.pairs, "results": found}, file, indent=1)


if __name__ == "__main__":
    asyncio.run(main())
