#!/usr/bin/env python3
"""What grammars make of the official JSON-Schema-Test-Suite (draft 2020-12), by keyword, as a table in Markdown.

    cargo build -p millrace-grammar --example check
    bench/schema_suite.py [--check target/debug/examples/check] [--suite FOLDER] [--list OUTCOME]

The suite comes with the source of the Python package `jsonschema`, fetched with `pip download` unless --suite names a
folder that has it (the npm package `@json-schema-org/tests` only refers to it, and not to this draft).
A schema is refused, or its instances are accepted or rejected. Wrong is only an invalid instance that is accepted:
grammars may be stricter than their schema, and refusing says so. Some outcomes have names of their own: a valid instance
that is accepted if its fields come in the grammar's order and its whole numbers without a point (`respelled`), a schema that is
refused because nothing validates (`empty`), and texts that don't have their `format`, which is a rule here and for the suite
a hint (`format`).
"""
import argparse
import collections
import json
import pathlib
import subprocess
import sys
import tarfile
import tempfile

PACKAGE = "jsonschema==4.26.0"
DRAFT = "draft2020-12"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", default="target/debug/examples/check")
    parser.add_argument("--suite", type=pathlib.Path, help="a folder that has it")
    parser.add_argument("--list", choices=["wrong", "strict", "refused", "respelled", "empty", "format"], help="names the tests of this outcome")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        files = find(args.suite or fetch(pathlib.Path(folder)))
        groups = [(file.stem, group) for file in files for group in json.loads(file.read_text())]
        table(groups, run(args.check, [group for _, group in groups]), args.list)


def fetch(folder: pathlib.Path) -> pathlib.Path:
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:", PACKAGE]
    subprocess.run(pip, cwd=folder, check=True)
    with tarfile.open(next(folder.glob("*.tar.gz"))) as archive:
        archive.extractall(folder, filter="data")
    return folder


def find(folder: pathlib.Path) -> list[pathlib.Path]:
    """One file a keyword. Those in `optional` test what schemas needn't mean."""
    files = sorted(folder.rglob(f"tests/{DRAFT}/*.json"))
    assert files, f"{folder} has no {DRAFT}"
    return files


def run(check: str, groups: list[dict]) -> list[dict]:
    lines = [
        json.dumps({"schema": group["schema"], "instances": [test["data"] for test in group["tests"]]}) for group in groups
    ]
    done = subprocess.run([check], input="\n".join(lines), capture_output=True, text=True, check=True, timeout=600)
    return [json.loads(line) for line in done.stdout.splitlines()]


def table(groups: list, reports: list[dict], listed: str | None) -> None:
    assert len(groups) == len(reports)
    rows = collections.defaultdict(collections.Counter)
    for (keyword, group), report in zip(groups, reports):
        for index, test in enumerate(group["tests"]):
            outcome = outcome_of(report, index, group, test)
            rows[keyword][outcome] += 1
            if outcome == listed:
                print(f"{keyword}: {group['description']}: {test['description']}: {report.get('error', json.dumps(test['data']))}")
    columns = ("right", "respelled", "format", "empty", "refused", "strict", "wrong")
    print("| keyword | right | in another spelling | `format` held | nothing validates | schema refused | valid but rejected | invalid but accepted |")
    print("|---|" + "--:|" * len(columns))
    total = collections.Counter()
    for keyword, counts in sorted(rows.items()):
        total += counts
        print(f"| `{keyword}` | " + " | ".join(str(counts[column]) for column in columns) + " |")
    print("| all | " + " | ".join(str(total[column]) for column in columns) + " |")


def outcome_of(report: dict, index: int, group: dict, test: dict) -> str:
    if "error" in report:
        says_so = "nsatisfiable" in report["error"] or "nothing validates" in report["error"]
        return "empty" if says_so and not any(other["valid"] for other in group["tests"]) else "refused"
    if report["accepted"][index] == test["valid"]:
        return "right"
    if report["respelled"][index] and test["valid"]:
        return "respelled"
    if "only an annotation" in test["description"]:
        return "format"
    return "strict" if test["valid"] else "wrong"


if __name__ == "__main__":
    main()
