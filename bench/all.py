#!/usr/bin/env python3
"""Everything in docs/performance.md, measured anew by one command.

    bench/all.py --llama DIR [--models FOLDER] [--quick] [--only compare server growth report]

Makes the models it needs (random weights, about 7 GB, kept in --models), runs the comparisons with llama.cpp and the
growth curves, and fills the page. --quick does a little of everything, to see that it all runs.
"""
import argparse
import os
import pathlib
import subprocess
import sys
import time

from harness import machine
from make_model import make

BENCH = pathlib.Path(__file__).resolve().parent
STAGES = ("compare", "server", "growth", "report")
QWEN, LLAMA = "qwen3-0.6b", "llama-3.2-1b"
TYPES = {"Q4_0": "q4", "Q8_0": "q8", "BF16": "bf16"}


class Plan:
    """What to run with which arguments."""

    def __init__(self, args):
        self.args = args
        self.common = ["--millrace", args.millrace, "--threads", args.threads]
        if args.lock:
            self.common += ["--lock", args.lock]
        if args.out:
            self.common += ["--out", args.out]

    def run(self):
        for stage in self.args.only:
            start = time.monotonic()
            getattr(self, stage)()
            print(f"== {stage}: {(time.monotonic() - start) / 60:.1f} minutes", file=sys.stderr)

    def compare(self):
        """The short cases of the larger shape: its prompts of thousands of tokens take the peer minutes each."""
        for shape, cases in ((QWEN, "goals"), (LLAMA, "short")):
            kinds = ["Q4_0"] if self.args.quick else list(TYPES)
            ggufs = [part for kind in kinds for part in ("--gguf", f"{kind}={self.model(shape, kind, '.gguf')}")]
            folders = []
            if self.args.q4 == "folder":
                folders = ["--model", f"Q4_0={self.model(shape, 'Q4_0', '')}"]
            cases = "quick" if self.args.quick else cases
            self.script("compare.py", "--llama", self.args.llama, "--shape", self.shape(shape), *ggufs, *folders,
                        "--cases", cases, "--rounds", self.rounds())

    def server(self):
        quick = ["--streams", 4, "--output-len", 16]
        self.script("server.py", "--llama", self.args.llama, "--shape", self.shape(QWEN),
                    "--gguf", self.model(QWEN, "Q4_0", ".gguf"), "--model", self.model(QWEN, "Q4_0", ""),
                    *(quick if self.args.quick else []), "--rounds", self.rounds())

    def growth(self):
        self.script("growth.py", "--shape", self.shape(QWEN), "--weights", "Q4_0", "BF16", "--patience", 45,
                    *(["--quick"] if self.args.quick else []))

    def report(self):
        results = ["--results", self.args.out] if self.args.out else []
        self.call("report.py", *results)

    def rounds(self):
        return 1 if self.args.quick else self.args.rounds

    def script(self, name, *options):
        self.call(name, *options, *self.common)

    def call(self, name, *options):
        command = [sys.executable, BENCH / name, *options]
        if subprocess.run([str(part) for part in command]).returncode != 0:
            raise SystemExit(f"{name} failed")

    def shape(self, name):
        return BENCH / "shapes" / name

    def model(self, shape, kind, suffix):
        """The path of a model with random weights; made if it isn't there."""
        path = self.args.models / f"{shape}-{TYPES[kind]}{suffix}"
        if not path.exists():
            print(f"making {path}", file=sys.stderr)
            with machine.exclusively(self.args.lock):
                make(self.shape(shape), path, TYPES[kind])
        return path


def main():
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", machine.ROOT / "target"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--llama", required=True, help="folder of llama-bench, llama-batched-bench and llama-server")
    parser.add_argument("--models", type=pathlib.Path, default=target / "bench-models")
    parser.add_argument("--millrace", default=str(target / "release/millrace"))
    parser.add_argument("--threads", type=int, default=len(machine.cpus()), help="default: the CPUs we may use")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--q4", choices=["quantize", "folder"], default="folder",
                        help="Millrace's 4-bit weights in the comparison without servers: as `--quantize q4` makes "
                             "them, or a folder with 4-bit integers throughout, the embedding too")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", nargs="+", choices=STAGES, default=STAGES)
    parser.add_argument("--out", help="folder for the results instead of bench/results")
    parser.add_argument("--lock", help="hold this lock file (as flock does) while measuring, never between")
    Plan(parser.parse_args()).run()


if __name__ == "__main__":
    main()
