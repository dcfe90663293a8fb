#!/usr/bin/env python3
"""How Millrace's speed changes with the work: against batch, against context, against threads.

    bench/growth.py [--shape FOLDER] [--weights Q4_0 Q8_0 BF16] [--quick]

Writes the figures into bench/results; bench/report.py makes the plots and tables of docs/performance.md from them.
Beside each figure stands the ceiling: the time in which the machine could read the bytes or do the operations.
"""
import argparse
import os
import pathlib
import statistics
import sys

from harness import machine, results
from harness.engines import BATCH_PROMPT, QUANTIZE, Ceilings, Millrace

NEW = 33
"""Tokens per answer: 32 steps."""


class Sweep:
    """Figures of one process, which has one type of weights and a number of threads."""

    def __init__(self, args, kind, threads, cases):
        self.args, self.kind, self.threads = args, kind, threads
        with machine.exclusively(args.lock):
            self.millrace = Millrace(args.millrace, args.shape, kind, threads, cases)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.millrace.close()

    def measure(self, prompt, tokens, batch):
        """Medians of both rates over the repeats."""
        runs, meters = [], []
        while len(runs) < self.args.repeats and sum(meter["seconds"] for meter in meters) < self.args.patience:
            run, meter = machine.quietly(lambda: self.millrace.case(prompt, tokens, batch), self.args.lock,
                                         [self.millrace.process.pid])
            runs.append(run)
            meters.append(meter.to_json())
        point = {"weights": self.kind, "threads": self.threads, "input": prompt, "output": tokens, "batch": batch,
                 "device": runs[0]["device"], "meters": meters}
        for what, per_ideal in (("prefill", prompt * batch), ("decode", batch)):
            rates = [run[f"{what}_tokens_per_second"] for run in runs]
            if None not in rates:
                point[what] = {"rate": statistics.median(rates), "rates": rates, "tokens": per_ideal,
                               "bytes": runs[0]["roofline"][what]["bytes"],
                               "operations": runs[0]["roofline"][what]["operations"]}
        print(f"{self.kind}, {self.threads} threads, {prompt}→{tokens} × {batch}: "
              + ", ".join(f"{w} {point[w]['rate']:.0f}" for w in ("prefill", "decode") if w in point),
              file=sys.stderr)
        return point


def add_ceilings(points, ceilings):
    """To each figure, the rate at which the machine would do the same at best."""
    for point in points:
        for what in ("prefill", "decode"):
            if what in point:
                seconds, by = ceilings.bound(point["weights"], point[what])
                point[what] |= {"ceiling": point[what]["tokens"] / seconds, "bound_by": by}


def against_batch(sweep, batches):
    return [sweep.measure(BATCH_PROMPT, NEW, batch) for batch in batches]


def against_context(sweep, contexts, patience):
    """Stops where the next prompt would take longer than we want to wait, going by the last two."""
    points, last = [], None
    for context in contexts:
        expected = last and last * (context / points[-1]["input"]) ** 2
        if expected and expected > patience:
            print(f"{context} tokens would take up to {expected:.0f} s: left out", file=sys.stderr)
            break
        point = sweep.measure(context, NEW, 1)
        last = context / point["prefill"]["rate"]
        points.append(point)
    return points


def main():
    args = arguments()
    longest = max(args.contexts)
    result = results.head("growth", args.shape, args.threads, args.repeats,
                          {"Millrace": machine.millrace_version(args.millrace)})
    result |= {"batch": [], "context": [], "threads": []}
    ceilings = Ceilings(args.millrace, args.threads)
    cases = [(BATCH_PROMPT, NEW, max(args.batches)), (longest, NEW, 1), (512, NEW, 16)]
    for kind in args.weights:
        with machine.exclusively(args.lock):
            ceilings.measure()
        with Sweep(args, kind, args.threads, cases) as sweep:
            result["batch"] += against_batch(sweep, args.batches)
            result["context"] += against_context(sweep, args.contexts, args.patience)
        with machine.exclusively(args.lock):
            ceilings.measure()
        add_ceilings(result["batch"] + result["context"], ceilings)
        result["ceilings"] = ceilings.to_json()
        results.save(result, args.out)
    for threads in thread_counts(args.threads):
        with Sweep(args, args.weights[0], threads, [(512, NEW, 1), (BATCH_PROMPT, NEW, 16)]) as sweep:
            result["threads"] += [sweep.measure(512, NEW, 1), sweep.measure(BATCH_PROMPT, NEW, 1),
                                  sweep.measure(BATCH_PROMPT, NEW, 16)]
    print(f"written to {results.save(result, args.out)}", file=sys.stderr)


def thread_counts(most):
    """1, 2, 4, … and the most."""
    return sorted({most, *(1 << n for n in range(most.bit_length()) if 1 << n <= most)})


def arguments():
    target = os.environ.get("CARGO_TARGET_DIR", machine.ROOT / "target")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default=str(machine.ROOT / "bench/shapes/qwen3-0.6b"))
    parser.add_argument("--millrace", default=str(pathlib.Path(target) / "release/millrace"))
    parser.add_argument("--weights", nargs="+", choices=list(QUANTIZE), default=list(QUANTIZE)[::-1])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32, 64])
    parser.add_argument("--contexts", type=int, nargs="+", default=[128, 512, 2048, 8192, 32768 - NEW])
    parser.add_argument("--threads", type=int, default=len(machine.cpus()), help="default: the CPUs we may use")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--patience", type=float, default=90, help="seconds that a case may take; longer contexts are "
                                                                   "left out, slow ones repeated less often")
    parser.add_argument("--quick", action="store_true", help="4-bit weights only, small work, once")
    parser.add_argument("--out", help="folder for the results instead of bench/results")
    parser.add_argument("--lock", help="hold this lock file (as flock does) during a measurement, never between")
    args = parser.parse_args()
    if args.quick:
        args.weights, args.batches, args.contexts, args.repeats = ["Q4_0"], [1, 4, 16], [128, 512], 1
    return args


if __name__ == "__main__":
    main()
