#!/usr/bin/env python3
"""Random strings of each `format`: whatever a grammar writes must have the format.

    cargo build -p millrace-grammar --example write
    pip install -r e2e/requirements.txt
    bench/random_formats.py [--write target/debug/examples/write] [--count 3000] [--seed 1]

The judge is the format checker of the Python package `jsonschema`, with all the packages that it asks. Ends with 1 if a string
doesn't have its format. Dates are also tried the other way: every day from the year 1 to 9999 must be accepted
(`--check target/debug/examples/check`), and no other.
"""
import argparse
import calendar
import json
import random
import subprocess
import sys

import jsonschema

FORMATS = [
    "date", "date-time", "time", "duration", "email", "idn-email", "hostname", "idn-hostname", "ipv4", "ipv6", "uri",
    "uri-reference", "iri", "iri-reference", "uri-template", "uuid", "json-pointer", "relative-json-pointer", "regex",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", default="target/debug/examples/write")
    parser.add_argument("--check", default="target/debug/examples/check")
    parser.add_argument("--count", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    failed = written(args.write, args.count, args.seed) + days(args.check, args.seed)
    sys.exit(1 if failed else 0)


def ask(program: str, cases: list[dict]) -> list[dict]:
    lines = "\n".join(map(json.dumps, cases))
    done = subprocess.run([program], input=lines, capture_output=True, text=True, check=True, timeout=3600)
    return [json.loads(line) for line in done.stdout.split("\n") if line]


def written(program: str, count: int, seed: int) -> int:
    """Prints a line for each format; returns how many texts are wrong."""
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    unknown = [name for name in FORMATS if name not in checker.checkers]
    assert not unknown, f"nobody here can judge {unknown}: install the requirements"
    cases = [{"schema": {"type": "string", "format": name}, "count": count, "seed": seed} for name in FORMATS]
    failed = 0
    for name, report in zip(FORMATS, ask(program, cases)):
        assert "error" not in report, f"{name}: {report}"
        texts = {json.loads(text) for text in report["texts"]}
        wrong = [text for text in texts if not checker.conforms(text, name)]
        print(f"{name:22} {len(texts):6} different texts, {len(wrong):4} wrong {[text[:100] for text in sorted(wrong, key=len)[:3]] or ''}")
        failed += len(wrong)
    return failed


def days(program: str, seed: int) -> int:
    """The last days of months of all years, and those behind them."""
    chance = random.Random(seed)
    texts = [f"{year:04}-{month:02}-{day:02}" for year in range(10_000) for month, day in
             [(2, 28), (2, 29), (2, 30), (chance.randint(0, 13), chance.randint(0, 32))]]
    (report,) = ask(program, [{"schema": {"type": "string", "format": "date"}, "instances": texts}])
    wrong = [text for text, accepted in zip(texts, report["accepted"], strict=True) if accepted != is_day(text)]
    print(f"{'days of all years':22} {len(texts):6} different texts, {len(wrong):4} wrong {wrong[:3] or ''}")
    return len(wrong)


def is_day(text: str) -> bool:
    year, month, day = map(int, text.split("-"))
    return year > 0 and 1 <= month <= 12 and 1 <= day <= calendar.monthrange(year, month)[1]


if __name__ == "__main__":
    main()
