#!/usr/bin/env python3
"""Millrace and llama.cpp side by side on one machine, interleaved, as medians and ratios.

    bench/compare.py --llama DIR --gguf Q4_0=model-q4_0.gguf [--gguf Q8_0=… --gguf BF16=…] [--shape FOLDER]

DIR holds llama-bench and llama-batched-bench. The GGUF files have the shape of --shape (random weights will do:
neither side looks at them). Millrace makes its weights from the shape's config.json alone, and keeps one process per
type of weights that measures on request and sleeps in between. A round measures every group of cases once on both
sides, taking turns at going first. Writes DATE-MACHINE-SHAPE.json and .md into bench/results.
"""
import argparse
import os
import pathlib
import sys

from harness import machine, results
from harness.engines import Llama, Millrace, QUANTIZE, numbers

ROOT = machine.ROOT
# What Millrace wants to reach: (weights, what, number) -> times llama.cpp.
GOALS = {
    ("Q4_0", "decode", 128): 1.5, ("Q4_0", "decode", 4096): 1.8, ("Q8_0", "decode", 128): 1.3,
    ("BF16", "decode", 128): 1.3, ("Q4_0", "prefill", 512): 3.5, ("Q4_0", "prefill", 2048): 5,
    ("Q4_0", "prefill", 8192): 6, ("BF16", "prefill", 512): 4, ("BF16", "prefill", 2048): 5,
    ("Q4_0", "batch", 4): 1.8, ("Q4_0", "batch", 8): 2.5, ("Q4_0", "batch", 16): 3.5, ("Q4_0", "batch", 32): 4.5,
}
EVERYTHING = {"prefill": [512, 2048, 8192], "decode": [128, 4096], "batch": [4, 8, 16, 32]}
LABELS = {"prefill": "prefill {}", "decode": "decode at {}", "batch": "decode, batch {}"}


def cases(choice, kind):
    """{what: numbers} of a set for one type of weights."""
    if choice == "all":
        return EVERYTHING
    if choice == "quick":
        return {"prefill": [512], "decode": [128], "batch": [4]}
    sets = {what: [n for n in values if (kind, what, n) in GOALS] for what, values in EVERYTHING.items()}
    if choice == "short":
        sets = {what: [n for n in values if n <= 2048] for what, values in sets.items()}
    return {what: values for what, values in sets.items() if values}


def both(order, millrace, group):
    """{side: {number: rate}}, and the CPU seconds that Millrace used while it should have slept."""
    figures, idle = {}, 0.0
    for side in order:
        before = millrace.cpu_seconds()
        figures[side.name] = side.measure(group)
        if side is not millrace:
            idle += millrace.cpu_seconds() - before
    return figures, idle


def measure(kind, sides, groups, args, result, rows):
    """All rounds of one type of weights."""
    millrace = sides[0]
    for number in range(args.rounds):
        seconds = 0.0
        for group in groups:
            # Alternate who goes first, so that a drifting machine favours nobody.
            order = sides if number % 2 == 0 else sides[::-1]
            (figures, idle), meter = machine.quietly(lambda: both(order, millrace, group), args.lock,
                                                     [millrace.process.pid])
            for name, rates in figures.items():
                for value, rate in rates.items():
                    rows[kind, group[0], value][name].append(rate)
            seconds += meter.wall
            result["idle_seconds"] += idle
            result["meters"].append({"round": number, "weights": kind, "group": group[0], **meter.to_json()})
        results.save(result, args.out)
        print(f"{kind}: round {number + 1} of {args.rounds} took {seconds:.0f} s", file=sys.stderr)


def main():
    args = arguments()
    files, models = (dict(entry.split("=", 1) for entry in entries) for entries in (args.gguf, args.model))
    versions = {"Millrace": machine.millrace_version(args.millrace), "llama.cpp": machine.llama_version(args.llama)}
    result = results.head("compare", args.shape, args.threads, args.rounds, versions)
    result |= {"models": models, "rows": [], "meters": [], "idle_seconds": 0.0}
    for kind, file in files.items():
        sets = {"prefill": args.prefill, "decode": args.decode, "batch": args.batch}
        sets = {what: values for what, values in sets.items() if values} or cases(args.cases, kind)
        groups, rows = list(sets.items()), {}
        for what, value in ((what, value) for what, values in groups for value in values):
            row = {"weights": kind, "case": LABELS[what].format(value), "unit": "tok/s", "better": "higher",
                   "goal": GOALS.get((kind, what, value)), results.OURS: [], results.THEIRS: []}
            rows[kind, what, value] = row
            result["rows"].append(row)
        needed = [case for group in groups for case in numbers(group).values()]
        with machine.exclusively(args.lock):
            millrace = Millrace(args.millrace, args.shape, kind, args.threads, needed, models.get(kind))
        with millrace:
            measure(kind, [millrace, Llama(args.llama, file, args.threads)], groups, args, result, rows)
    print("\n".join([*results.table(result), "", *results.notes(result)]))
    print(f"written to {results.save(result, args.out).with_suffix('.md')}", file=sys.stderr)


def arguments():
    target = os.environ.get("CARGO_TARGET_DIR", ROOT / "target")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--llama", required=True, help="folder of llama-bench and llama-batched-bench")
    parser.add_argument("--gguf", required=True, action="append", metavar="TYPE=FILE",
                        help=f"TYPE is one of {', '.join(QUANTIZE)}; repeat for several")
    parser.add_argument("--model", action="append", default=[], metavar="TYPE=FOLDER",
                        help="weights for Millrace instead of random ones from the shape (`millrace … --quantize`)")
    parser.add_argument("--shape", default=str(ROOT / "bench/shapes/qwen3-0.6b"), help="folder with a config.json")
    parser.add_argument("--millrace", default=str(pathlib.Path(target) / "release/millrace"))
    parser.add_argument("--threads", type=int, default=len(machine.cpus()), help="default: the CPUs we may use")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cases", choices=["goals", "short", "all", "quick"], default="goals",
                        help="goals: what has a goal; short: those of at most 2048 tokens; all: every case for every "
                             "type; quick: a smoke test")
    parser.add_argument("--prefill", type=int, nargs="*", help="these lengths instead of --cases")
    parser.add_argument("--decode", type=int, nargs="*", help="these contexts at batch 1 instead of --cases")
    parser.add_argument("--batch", type=int, nargs="*", help="these batches (128 in, 64 out) instead of --cases")
    parser.add_argument("--out", help="folder for the results instead of bench/results")
    parser.add_argument("--lock", help="hold this lock file (as flock does) while measuring, never between")
    return parser.parse_args()


if __name__ == "__main__":
    main()
