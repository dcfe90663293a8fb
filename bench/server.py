#!/usr/bin/env python3
"""The two servers under the same load, one at a time, in interleaved rounds.

    bench/server.py --llama DIR --gguf model-q4_0.gguf --model FOLDER [--weights Q4_0] [--shape FOLDER]

FOLDER and the GGUF file hold models of one shape with the same type of weights; bench/make_model.py makes both. Each
round starts a server, measures the time to its first token, sends --streams requests at once (random token ids, no
common prefixes, greedy, a fixed number of tokens), reads its peak memory and stops it. Both get the same threads, as
many slots as streams, and room for the same number of tokens.
"""
import argparse
import asyncio
import os
import pathlib
import random
import shlex
import sys
import time

from harness import machine, results
from harness.engines import kv_bytes_per_token
from harness.servers import VOCABULARY, Llama, Millrace

# Name of a row: unit, which way is better, what Millrace wants to reach.
ROWS = {
    "output": ("tok/s", "higher", 3), "TTFT p50": ("s", "lower", None), "TTFT p95": ("s", "lower", 3),
    "time between tokens p50": ("ms", "lower", None), "time between tokens p95": ("ms", "lower", None),
    "start to first token": ("s", "lower", 1), "peak memory": ("MB", "lower", 1),
}


def percentile(values, percent):
    """Interpolated between neighbours."""
    values = sorted(values)
    place = percent / 100 * (len(values) - 1)
    low = int(place)
    high = min(low + 1, len(values) - 1)
    return values[low] + (values[high] - values[low]) * (place - low)


async def load(server, args, rng):
    """All streams at once; what clients see."""
    prompts = [prompt(rng, args.input_len) for _ in range(args.streams)]
    start = time.perf_counter()
    answers = await asyncio.gather(*(server.ask(ids, args.output_len) for ids in prompts))
    seconds = time.perf_counter() - start
    first = [answer.times[0] for answer in answers]
    gaps = [(b - a) * 1e3 for answer in answers for a, b in zip(answer.times, answer.times[1:])]
    return {"output": sum(answer.tokens for answer in answers) / seconds,
            "TTFT p50": percentile(first, 50), "TTFT p95": percentile(first, 95),
            "time between tokens p50": percentile(gaps, 50), "time between tokens p95": percentile(gaps, 95)}


def prompt(rng, length):
    return [rng.randrange(*VOCABULARY) for _ in range(length)]


def measure(make, args, rng):
    """One round of one side."""
    server = make(args, prompt(rng, 16))
    try:
        figures = asyncio.run(load(server, args, rng))
        return figures | {"start to first token": server.startup, "peak memory": server.peak_rss() / 1e6}
    finally:
        server.stop()


def main():
    args = arguments()
    args.context = args.input_len + args.output_len + 128
    args.kv_bytes_per_token = kv_bytes_per_token(args.shape)
    versions = {"Millrace": machine.millrace_version(args.millrace), "llama.cpp": machine.llama_version(args.llama)}
    result = results.head("server", args.shape, args.threads, args.rounds, versions)
    result |= {"load": f"{args.streams} streams of {args.input_len}→{args.output_len} tokens",
               "options": {"Millrace": args.millrace_options, "llama.cpp": args.llama_options}, "meters": []}
    rows = {name: {"weights": args.weights, "case": name, "unit": unit, "better": better, "goal": goal,
                   results.OURS: [], results.THEIRS: []} for name, (unit, better, goal) in ROWS.items()}
    result["rows"] = list(rows.values())
    warm_page_cache(args)
    rng = random.Random(args.seed)
    for number in range(args.rounds):
        order = (Millrace, Llama) if number % 2 == 0 else (Llama, Millrace)
        figures, meter = machine.quietly(lambda: {make.name: measure(make, args, rng) for make in order}, args.lock)
        for side, values in figures.items():
            for name, value in values.items():
                rows[name][side].append(value)
        result["meters"].append({"round": number, **meter.to_json()})
        results.save(result, args.out)
        print(f"round {number + 1} of {args.rounds} took {meter.wall:.0f} s", file=sys.stderr)
    print("\n".join([*results.table(result), "", *results.notes(result)]))
    print(f"written to {results.save(result, args.out).with_suffix('.md')}", file=sys.stderr)


def warm_page_cache(args):
    """Both start from files that the system has in memory."""
    for file in [pathlib.Path(args.gguf), *pathlib.Path(args.model).glob("*")]:
        with open(file, "rb") as data:
            while data.read(1 << 24):
                pass


def arguments():
    target = os.environ.get("CARGO_TARGET_DIR", machine.ROOT / "target")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--llama", required=True, help="folder of llama-server")
    parser.add_argument("--gguf", required=True, help="the model for llama.cpp")
    parser.add_argument("--model", required=True, help="the same for Millrace: a folder")
    parser.add_argument("--weights", default="Q4_0", help="what the table calls their type")
    parser.add_argument("--shape", default=str(machine.ROOT / "bench/shapes/qwen3-0.6b"))
    parser.add_argument("--millrace", default=str(pathlib.Path(target) / "release/millrace"))
    parser.add_argument("--threads", type=int, default=len(machine.cpus()), help="default: the CPUs we may use")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--streams", type=int, default=16)
    parser.add_argument("--input-len", type=int, default=256)
    parser.add_argument("--output-len", type=int, default=128)
    parser.add_argument("--millrace-options", type=shlex.split, default=[], metavar="FLAGS",
                        help="more for `millrace serve`, in one word: --millrace-options='--quantize q4'")
    parser.add_argument("--llama-options", type=shlex.split, default=[], metavar="FLAGS", help="more for llama-server")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", help="folder for the results instead of bench/results")
    parser.add_argument("--lock", help="hold this lock file (as flock does) during a round, never between")
    return parser.parse_args()


if __name__ == "__main__":
    main()
