#!/usr/bin/env python3
"""What holding answers to a format costs: the throughput of a full batch with a format and without one.

    cargo build --release
    target/release/millrace serve --max-num-seqs 32 &
    bench/mask_cost.py --pid $! [--url http://127.0.0.1:8000] [--pairs 9] [--batch 32] [--tokens 128] [--json FILE]

A pair is two batches, one after the other, that differ only in the format; which of them comes first alternates. The ratio of
their speeds doesn't know how busy the machine is from one pair to the next. Told are the median of the ratios and their
quartiles, for greedy answers (most of which need no masks on a CPU) and for random ones, the times of masks from the
server's histogram, and the share of tokens that the format forced, which come for less. No answer ends before its time.
The server should have nothing else to do. Where the machine has, the processor time that the server took (with its --pid, on
Linux) says more than the speed.
"""
import argparse
import asyncio
import json
import os
import pathlib
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

    def __init__(self, server: Server, size: int, tokens: int, pid: int | None) -> None:
        self.server, self.size, self.tokens, self.pid = server, size, tokens, pid

    def processor_time(self) -> float:
        """Seconds of all cores that the server has taken so far, if it is known."""
        if self.pid is None:
            return 0.0
        # Behind the name, which may have spaces: fields 14 and 15 of proc(5), in clock ticks.
        fields = pathlib.Path(f"/proc/{self.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")

    async def run(self, number: int, temperature: float, extra: dict) -> tuple[float, float]:
        """Tokens per second, and tokens per second of processor time. Every batch of a number has the same prompts, which no
        other number has."""
        bodies = [
            {"prompt": f"Once upon a time {number} {index}", "min_tokens": self.tokens, "max_tokens": self.tokens,
             "temperature": temperature, "top_p": 1, "top_k": 0, "seed": index, "ignore_eos": True} | extra
            for index in range(self.size)
        ]
        start, taken = time.monotonic(), self.processor_time()
        answers = await asyncio.gather(*(self.server.post("/v1/completions", body) for body in bodies))
        seconds, taken = time.monotonic() - start, self.processor_time() - taken
        assert all(status == 200 for status, _ in answers), answers[0]
        generated = sum(answer["usage"]["completion_tokens"] for _, answer in answers)
        assert generated == self.size * self.tokens, f"{generated} tokens instead of {self.size * self.tokens}"
        return generated / seconds, generated / taken if taken else float("nan")


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
            speed = await batch.run(number, temperature, extra)
            if with_format and number:
                await masks.add(1)
            # The first pair warms up.
            (held if with_format else free).extend([speed] if number else [])
    by_clock, by_processor = (
        statistics.quantiles([one[way] / other[way] for one, other in zip(held, free, strict=True)], n=4, method="inclusive")
        for way in (0, 1)
    )
    return {
        "format": name, "temperature": temperature, "ratio_quartiles": [round(ratio, 4) for ratio in by_clock],
        **({"processor_ratio_quartiles": [round(ratio, 4) for ratio in by_processor]} if batch.pid else {}),
        "free_tokens_per_s": round(statistics.median(speed for speed, _ in free)),
        "held_tokens_per_s": round(statistics.median(speed for speed, _ in held)), **masks.report(),
    }


def quartiles(found: list[float]) -> str:
    low, middle, high = (ratio - 1 for ratio in found)
    return f"{middle:+6.1%} ({low:+.1%} to {high:+.1%})"


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--pid", type=int, help="the server's process, if it is on this machine")
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
        batch = Batch(Server(session, args.url, args.batch), args.batch, args.tokens, args.pid)
        print(f"batch {args.batch}, {args.tokens} tokens each, {args.pairs} pairs")
        found = []
        for temperature in args.temperatures:
            for name in FORMATS:
                one = await measure(batch, name, temperature, args.pairs)
                found.append(one)
                processor = f"; by processor time {quartiles(one['processor_ratio_quartiles'])}" if args.pid else ""
                print(f"  temperature {temperature:g}, {name:18} {quartiles(one['ratio_quartiles'])}{processor}; "
                      f"{one['held_tokens_per_s']} instead of {one['free_tokens_per_s']} tokens/s; {one['mean_us']} µs a mask "
                      f"(p50 ≤ {one['p50_us_at_most']:.0f}, p99 ≤ {one['p99_us_at_most']:.0f}), {one['forced']:.0%} forced")
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump({"batch": args.batch, "tokens": args.tokens, "pairs": args.pairs, "results": found}, file, indent=1)


if __name__ == "__main__":
    asyncio.run(main())
