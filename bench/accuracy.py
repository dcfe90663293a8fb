#!/usr/bin/env python3
"""What number formats cost: perplexity on bench/heldout.txt, and right answers out of models/demo/eval.jsonl.

    cargo build --release && cargo build --release -p millrace-weights --example quantize
    pip install -r e2e/requirements.txt
    bench/accuracy.py MODEL

MODEL is a folder with bf16 weights and the demo model's tokenizer. Rewrites the tables of docs/accuracy.md. Fails
if a format answers fewer questions than GATES asks for.
"""

import argparse
import asyncio
import contextlib
import importlib
import json
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "e2e"))
from harness.process import binary  # noqa: E402
from harness.server import MODEL, Server  # noqa: E402

PAGE = ROOT / "docs" / "accuracy.md"
TEXT = ROOT / "bench" / "heldout.txt"
KV_TYPES = ("bf16", "f32", "int8")
# Requests at a time while questions are asked; answers don't depend on it.
CONCURRENCY = 16


@dataclass
class Format:
    """Weights as a user can have them: by a flag while loading, or as a checkpoint of so many bits."""

    name: str
    flag: str = "none"
    bits: int | None = None
    group: int | None = None
    # Share of right answers asked for.
    gate: float = 0.98


FORMATS = [
    Format("bf16", gate=1.0),
    Format("q8, groups of 32 (`--quantize q8`)", flag="q8"),
    Format("q8, groups of 64 (checkpoint)", bits=8, group=64),
    Format("q4, groups of 32 (`--quantize q4`)", flag="q4"),
    Format("q4, groups of 32 (checkpoint)", bits=4, group=32),
    Format("q4, groups of 64 (checkpoint)", bits=4, group=64),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--table", choices=("perplexity", "answers"), help="only this one; default: both")
    args = parser.parse_args()
    failures = []
    with tempfile.TemporaryDirectory() as folder:
        folders = {f.name: checkpoint(f, args.model, Path(folder)) for f in FORMATS}
        if args.table != "answers":
            replace("perplexity", perplexity_table(folders))
        if args.table != "perplexity":
            rows, failures = answers_table(folders)
            replace("answers", rows)
    if failures:
        sys.exit("accuracy: " + "; ".join(failures))


def checkpoint(form: Format, source: Path, target: Path) -> Path:
    """The folder with this format's weights."""
    if form.bits is None:
        return source
    quantize = binary().parent / "examples" / "quantize"
    quantize = os.environ.get("MILLRACE_QUANTIZE", quantize)
    folder = target / f"q{form.bits}g{form.group}"
    run([quantize, source, folder, form.bits, form.group])
    return folder


def perplexity_table(folders: dict[str, Path]) -> list[str]:
    """A row per format and KV type, a column per CPU level."""
    levels = json.loads(run([binary(), "doctor", "--json"]))["cpu"]["levels"]
    # Without kernels of its own, the portable level takes minutes for each row.
    levels = [level["name"] for level in levels if level["works"] and level["name"] != "portable"]
    rows = [f"| weights | KV cache | {' | '.join(levels)} | beside bf16 |", "|---|---|" + "---:|" * (len(levels) + 1)]
    base = None
    for form in FORMATS:
        for kv in KV_TYPES:
            values = [perplexity(form, folders[form.name], kv, level) for level in levels]
            base = base or values[-1]
            shown = " | ".join(f"{value:.4f}" for value in values)
            rows.append(f"| {form.name} | {kv} | {shown} | {100 * (values[-1] / base - 1):+.2f} % |")
            print(rows[-1], flush=True)
    return rows


def perplexity(form: Format, folder: Path, kv: str, level: str) -> float:
    flags = ["--file", TEXT, "--quantize", form.flag, "--kv-cache-dtype", kv, "--json"]
    result = json.loads(run([binary(), "perplexity", folder, *flags], MILLRACE_CPU=level))
    return result["perplexity"]


def answers_table(folders: dict[str, Path]) -> tuple[list[str], list[str]]:
    """Right answers per format at the machine's best level, and the gates that don't hold."""
    evaluation = importlib.import_module("eval")
    questions = [json.loads(line) for line in evaluation.QUESTIONS.read_text().splitlines()]
    rows, failures = ["| weights | right answers | asked for |", "|---|---:|---:|"], []
    for form in FORMATS:
        flags = ("--served-model-name", MODEL, "--quantize", form.flag)
        with Server(*flags, model=folders[form.name]) as server:
            result = asyncio.run(evaluation.ask_all(server.url, MODEL, questions, CONCURRENCY))
        failures += evaluation.below_bar(form.name, "bf16 KV cache", result, form.gate)
        rows.append(f"| {form.name} | {result.right} of {len(questions)} | {form.gate:.0%} |")
        print(rows[-1], flush=True)
    return rows, failures


def replace(table: str, rows: list[str]) -> None:
    """Puts a table between its marks."""
    page = PAGE.read_text()
    start, end = f"<!-- {table}: made by bench/accuracy.py -->\n", f"<!-- end of {table} -->"
    pattern = re.compile(re.escape(start) + ".*?" + re.escape(end), re.DOTALL)
    page, count = pattern.subn(lambda _: start + "\n".join(rows) + "\n" + end, page)
    if count != 1:
        sys.exit(f"{PAGE} has no place for the table of {table}")
    PAGE.write_text(page)


def run(command: list, **environment: str) -> str:
    command = [str(part) for part in command]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | environment)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return done.stdout


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
