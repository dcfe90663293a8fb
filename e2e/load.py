#!/usr/bin/env python3
"""Load client: many concurrent streams against any OpenAI-compatible server.

    python e2e/load.py --url http://127.0.0.1:8000 --concurrency 8 --num-prompts 16 --input-len 256 --output-len 128

Every request has its own random prompt, as token ids, so that no prefix cache helps, and generates exactly
`--output-len` tokens (`ignore_eos`). TTFT is sending to the first chunk with text; ITL is the gap between chunks.
"""

import argparse
import asyncio
import json
import random
import time

from harness.stats import milliseconds
from harness.stream import Stream, new_session, send


def main() -> None:
    args = parse()
    streams, seconds = asyncio.run(run(args))
    failed = [stream.error for stream in streams if stream.error]
    report = summary(args, [stream for stream in streams if not stream.error], seconds) | {"failed": len(failed)}
    print(json.dumps(report) if args.json else "\n".join(f"{key:>18}  {value}" for key, value in report.items()))
    if failed:
        raise SystemExit(f"{len(failed)} requests failed; the first: {failed[0]}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="server, without /v1")
    parser.add_argument("--model", help="default: the server's first")
    parser.add_argument("--api-key")
    parser.add_argument("--concurrency", type=int, default=8, help="streams at any time")
    parser.add_argument("--num-prompts", type=int, default=16, help="requests in all")
    parser.add_argument("--input-len", type=int, default=256, help="tokens per prompt")
    parser.add_argument("--output-len", type=int, default=128, help="tokens per answer")
    parser.add_argument("--vocab-size", type=int, default=8000, help="random ids stay below this")
    parser.add_argument("--warmup", type=int, default=1, help="requests before the clock starts")
    parser.add_argument("--seed", type=int, default=0, help="of the prompts; change it to miss a warm prefix cache")
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    return parser.parse_args()


async def run(args) -> tuple[list[Stream], float]:
    """All requests, `concurrency` at a time, and the seconds they took together."""
    rng = random.Random(args.seed)
    headers = {"Authorization": f"Bearer {args.api_key}"} if args.api_key else None
    async with new_session() as session:
        model = args.model or await first_model(session, args.url, headers)

        async def one(_) -> Stream:
            ids = [rng.randrange(min(256, args.vocab_size // 2), args.vocab_size) for _ in range(args.input_len)]
            body = {
                "model": model, "prompt": ids, "max_tokens": args.output_len, "temperature": 0, "ignore_eos": True,
                "stream_options": {"include_usage": True},
            }
            return await send(session, f"{args.url}/v1/completions", body, headers=headers)

        await pooled(one, args.warmup, args.concurrency)
        start = time.perf_counter()
        streams = await pooled(one, args.num_prompts, args.concurrency)
        return streams, time.perf_counter() - start


async def pooled(job, count: int, concurrency: int) -> list:
    """job(0) … job(count - 1), at most `concurrency` at a time, results in order."""
    gate = asyncio.Semaphore(concurrency)

    async def gated(index: int):
        async with gate:
            return await job(index)

    return await asyncio.gather(*(gated(index) for index in range(count)))


async def first_model(session, url: str, headers) -> str:
    async with session.get(f"{url}/v1/models", headers=headers) as response:
        response.raise_for_status()
        return (await response.json())["data"][0]["id"]


def summary(args, streams: list[Stream], seconds: float) -> dict:
    tokens = sum(stream.tokens for stream in streams)
    ttfts = [stream.ttft for stream in streams if stream.arrivals]
    gaps = [gap for stream in streams for gap in stream.gaps]
    return {
        "concurrency": args.concurrency,
        "requests": len(streams),
        "input_len": args.input_len,
        "output_len": args.output_len,
        "seconds": round(seconds, 2),
        "output_tokens": tokens,
        "output_tok_per_s": round(tokens / seconds, 1),
        "total_tok_per_s": round((tokens + len(streams) * args.input_len) / seconds, 1),
        **{f"ttft_{name}_ms": value for name, value in milliseconds(ttfts, 0.5, 0.95).items()},
        **{f"itl_{name}_ms": value for name, value in milliseconds(gaps, 0.5, 0.95).items()},
    }


if __name__ == "__main__":
    main()
