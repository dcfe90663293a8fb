#!/usr/bin/env python3
"""Millrace and llama.cpp side by side on one machine, interleaved, as medians and ratios.

    bench/compare.py --llama DIR --gguf Q8_0=model-q8_0.gguf --gguf Q4_0=model-q4_0.gguf [--gguf BF16=model.gguf]

DIR holds llama-bench and llama-batched-bench. The GGUF files must have the shape of --shape (random weights will do:
neither side looks at them). Millrace makes its weights from the shape's config.json alone. Each round runs every
case once on both sides, in turn; the table shows medians over the rounds.
"""
import argparse
import datetime
import json
import os
import pathlib
import platform
import re
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
QUANTIZE = {"BF16": "none", "Q8_0": "q8", "Q4_0": "q4"}


def run(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{done.stderr[-2000:]}")
    return done.stdout


class Llama:
    name = "llama.cpp"

    def __init__(self, folder, files, threads):
        self.folder, self.files, self.threads = pathlib.Path(folder), files, threads

    def prefill(self, kind, tokens):
        return self.bench(kind, "-p", tokens, "-n", 0)

    def decode(self, kind, context, tokens):
        return self.bench(kind, "-p", 0, "-n", tokens, "-d", context)

    def bench(self, kind, *options):
        command = [self.folder / "llama-bench", "-m", self.files[kind], "-t", self.threads, "-r", 1, "-o", "json"]
        return json.loads(run([*map(str, command), *map(str, options)]))[0]["avg_ts"]

    def batch(self, kind, size, prompt, tokens):
        command = [self.folder / "llama-batched-bench", "-m", self.files[kind], "-t", self.threads, "-npp", prompt,
                   "-ntg", tokens, "-npl", size, "-c", size * (prompt + tokens) + 64, "-b", 2048, "-ub", 512]
        rows = [line.split("|") for line in run(map(str, command)).splitlines() if re.match(r"\|\s+\d", line)]
        return float(rows[0][8])  # S_TG t/s


class Millrace:
    name = "Millrace"

    def __init__(self, binary, shape, threads):
        self.binary, self.shape, self.threads = binary, shape, threads

    def prefill(self, kind, tokens):
        return self.latency(kind, tokens, 1, 1)["prefill_tokens_per_second"]

    def decode(self, kind, context, tokens):
        return self.latency(kind, max(context, 1), tokens, 1)["decode_tokens_per_second"]

    def batch(self, kind, size, prompt, tokens):
        return self.latency(kind, prompt, tokens, size)["decode_tokens_per_second"]

    def latency(self, kind, prompt, tokens, size):
        command = [self.binary, "bench", "latency", self.shape, "--load-format", "dummy", "--quantize",
                   QUANTIZE[kind], "--input-len", prompt, "--output-len", tokens, "--batch-size", size,
                   "--max-num-seqs", max(size, 1), "--num-iters", 1, "--threads", self.threads,
                   "--max-model-len", prompt + tokens + 16, "--json"]
        return json.loads(run(map(str, command)))


def main():
    target = os.environ.get("CARGO_TARGET_DIR", ROOT / "target")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--llama", required=True, help="folder of llama-bench and llama-batched-bench")
    parser.add_argument("--gguf", required=True, action="append", help="TYPE=FILE, TYPE one of BF16, Q8_0, Q4_0")
    parser.add_argument("--shape", default=str(ROOT / "bench/shapes/qwen3-0.6b"))
    parser.add_argument("--millrace", default=str(pathlib.Path(target) / "release/millrace"))
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--prefill", type=int, nargs="*", default=[512])
    parser.add_argument("--decode", type=int, nargs="*", default=[128], help="contexts at batch 1")
    parser.add_argument("--batch", type=int, nargs="*", default=[4, 16], help="prompt 128, 64 new tokens each")
    parser.add_argument("--out", help="also write the figures as JSON")
    args = parser.parse_args()

    files = dict(entry.split("=", 1) for entry in args.gguf)
    sides = [Millrace(args.millrace, args.shape, args.threads), Llama(args.llama, files, args.threads)]
    cases = [(f"{kind} prefill {n}", lambda s, k=kind, n=n: s.prefill(k, n)) for kind in files for n in args.prefill]
    cases += [(f"{kind} decode at {n}", lambda s, k=kind, n=n: s.decode(k, n, 64)) for kind in files for n in args.decode]
    cases += [(f"{kind} batch {n}", lambda s, k=kind, n=n: s.batch(k, n, 128, 64)) for kind in files for n in args.batch]

    figures = {case: {side.name: [] for side in sides} for case, _ in cases}
    for number in range(args.rounds):
        for case, measure in cases:
            # Alternate who goes first, so that a drifting machine favours nobody.
            for side in sides if number % 2 == 0 else sides[::-1]:
                figures[case][side.name].append(measure(side))
        print(f"round {number + 1} of {args.rounds} done", file=sys.stderr)

    cpu = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
    print(f"{cpu}, {args.threads} threads, {datetime.date.today()}, shape {pathlib.Path(args.shape).name}, "
          f"medians of {args.rounds}\n")
    print(f"| tok/s | {sides[0].name} | {sides[1].name} | ratio |\n|---|---|---|---|")
    for case, both in figures.items():
        ours, theirs = (statistics.median(both[side.name]) for side in sides)
        print(f"| {case} | {ours:.1f} | {theirs:.1f} | {ours / theirs:.2f} |")
    if args.out:
        head = {"cpu": cpu, "kernel": platform.release(), "threads": args.threads, "shape": args.shape}
        pathlib.Path(args.out).write_text(json.dumps({**head, "figures": figures}, indent=1))


if __name__ == "__main__":
    main()
