#!/usr/bin/env python3
"""Random schemas of all keywords, and random values for each: what a grammar accepts must validate.

    cargo build -p millrace-grammar --example check
    bench/random_schemas.py [--check target/debug/examples/check] [--seed 1] [--schemas 600] [--show 3]

The judge is the Python package `jsonschema`. Ends with 1 if an invalid value was accepted. Rejected valid values and refused
schemas are counted: grammars may be stricter.
"""
import argparse
import collections
import json
import random
import subprocess
import sys

import jsonschema

KEYS = ["a", "b", "c"]
TEXTS = ["", "x", "xy", "y", "ab", 'é"', "2024-02-29", "2023-02-29", "1x", "x\n"]
SIMPLE = [
    True, *({"type": name} for name in ("string", "integer", "number", "boolean", "null", "object", "array")),
    {"type": ["string", "null"]}, {"const": "x"}, {"const": ""}, {"const": 1}, {"const": None}, {"const": [1, "x"]},
    {"const": {"a": 1}}, {"enum": ["x", "xy", ""]}, {"enum": [1, 2, "x"]}, {"enum": [1, 3, -1]}, {"minimum": 1}, {"maximum": 2},
    {"exclusiveMinimum": 1}, {"minLength": 1}, {"maxLength": 1}, {"type": "string", "enum": ["x", "y"]},
    {"$ref": "#/$defs/d"}, {"$ref": "#/$defs/e"}, {"pattern": "^x"}, {"pattern": "[xy]$"}, {"type": "string", "pattern": "^\\d.*$"},
    {"format": "date"}, {"type": "string", "format": "date"},
]
DEFINITIONS = {
    "d": {"type": "object", "properties": {"b": {"const": "x"}}, "required": ["b"]},
    "e": {"type": "array", "items": {"type": "integer"}},
}
APPLICATORS = [
    "not", "if", "oneOf", "anyOf", "allOf", "dependentRequired", "dependentSchemas", "propertyNames", "unevaluatedProperties",
    "unevaluatedItems",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", default="target/debug/examples/check")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--schemas", type=int, default=600)
    parser.add_argument("--show", type=int, default=3, help="so many examples of each mistake")
    args = parser.parse_args()
    made = Maker(random.Random(args.seed))
    cases = [made.case() for _ in range(args.schemas)]
    lines = "\n".join(map(json.dumps, cases))
    done = subprocess.run([args.check], input=lines, capture_output=True, text=True, check=True, timeout=3600)
    sys.exit(judge(cases, [json.loads(line) for line in done.stdout.split("\n") if line], args.show))


class Maker:
    """Makes schemas and values by chance."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance

    def case(self) -> dict:
        schema = {**self.schema(2, as_object=True), "$defs": DEFINITIONS}
        jsonschema.Draft202012Validator.check_schema(schema)
        return {"schema": schema, "instances": [self.value() for _ in range(40)]}

    def value(self, depth: int = 3):
        kind = self.chance.random()
        if depth == 0 or kind < 0.5:
            return self.chance.choice([None, True, False, 0, 1, 2, 3, -1, 2.5, 10, *TEXTS])
        if kind < 0.7:
            return [self.value(depth - 1) for _ in range(self.chance.randint(0, 4))]
        return {key: self.value(depth - 1) for key in KEYS if self.maybe(0.6)}

    def schema(self, depth: int, as_object: bool = False):
        kind = self.chance.random()
        if not as_object and (depth == 0 or kind < 0.2):
            return self.chance.choice(SIMPLE)
        schema = self.record() if kind < 0.55 else self.list() if kind < 0.75 else dict(self.chance.choice(SIMPLE[1:]))
        for _ in range(self.chance.choice([0, 1, 1, 2])):
            schema.update(self.applicator(self.chance.choice(APPLICATORS), depth))
        return schema

    def record(self) -> dict:
        schema = {"properties": {key: self.schema(0) for key in KEYS if self.maybe(0.6)}}
        schema |= {"type": "object"} if self.maybe(0.6) else {}
        schema |= {"required": self.chance.sample(KEYS, self.chance.randint(1, 2))} if self.maybe(0.5) else {}
        patterns = self.chance.sample(["^a", "^[ab]$", "b", "^c?$"], self.chance.randint(1, 2))
        schema |= {"patternProperties": {pattern: self.schema(0) for pattern in patterns}} if self.maybe(0.2) else {}
        schema |= {"additionalProperties": self.chance.choice([False, {"type": "integer"}])} if self.maybe(0.3) else {}
        return schema

    def list(self) -> dict:
        schema = {"type": "array"} if self.maybe(0.6) else {}
        schema |= {"prefixItems": [self.schema(0) for _ in range(self.chance.randint(1, 2))]} if self.maybe(0.4) else {}
        schema |= {"items": self.schema(0)} if self.maybe(0.4) else {}
        schema |= {"minItems": self.chance.randint(0, 2)} if self.maybe(0.3) else {}
        schema |= {"maxItems": self.chance.randint(1, 3)} if self.maybe(0.2) else {}
        if self.maybe(0.4):
            schema["contains"] = self.schema(0)
            schema |= {"minContains": self.chance.randint(0, 2)} if self.maybe(0.3) else {}
            schema |= {"maxContains": self.chance.randint(0, 3)} if self.maybe(0.3) else {}
        schema |= {"uniqueItems": self.maybe(0.5)} if self.maybe(0.1) else {}
        return schema

    def applicator(self, keyword: str, depth: int) -> dict:
        below = max(depth - 1, 0)
        match keyword:
            case "if":
                names = ["if"] + ["then"] * self.maybe(0.8) + ["else"] * self.maybe(0.6)
                return {name: self.schema(below) for name in names}
            case "oneOf" | "anyOf" | "allOf":
                return {keyword: [self.schema(below) for _ in range(self.chance.randint(1, 3))]}
            case "dependentRequired":
                return {keyword: {self.chance.choice(KEYS): [self.chance.choice(KEYS)]}}
            case "dependentSchemas":
                return {keyword: {self.chance.choice(KEYS): self.schema(below)}}
            case "propertyNames":
                return {keyword: self.chance.choice([{"enum": ["a", "b"]}, {"pattern": "^[ab]"}, {"maxLength": 1}, {"const": "a"},
                                                       {"pattern": "[ab]", "not": {"pattern": "^a"}}])}
            case "unevaluatedProperties" | "unevaluatedItems":
                return {keyword: self.chance.choice([False, False, {"type": "integer"}, True])}
        return {keyword: self.schema(below)}

    def maybe(self, probability: float) -> bool:
        return self.chance.random() < probability


def judge(cases: list[dict], reports: list[dict], show: int) -> int:
    assert len(cases) == len(reports)
    counts, reasons, mistakes = collections.Counter(), collections.Counter(), []
    for case, report in zip(cases, reports):
        validator = jsonschema.Draft202012Validator(case["schema"], format_checker=jsonschema.FormatChecker(["date"]))
        valid = [validator.is_valid(value) for value in case["instances"]]
        if "error" in report:
            reasons[report["error"]] += 1
            empty = "nsatisfiable" in report["error"] or "nothing" in report["error"]
            counts["schemas refused"] += 1
            counts["schemas refused as empty, with a valid value"] += empty and any(valid)
            continue
        counts["schemas compiled"] += 1
        for value, ok, accepted, respelled in zip(case["instances"], valid, report["accepted"], report["respelled"]):
            taken = respelled if ok else accepted
            counts[f"{'valid' if ok else 'invalid'} and {'accepted' if taken else 'rejected'}"] += 1
            if accepted and not ok:
                mistakes.append((case["schema"], f"accepts {json.dumps(value)}"))
    for name, count in [*sorted(counts.items()), *reasons.most_common(5)]:
        print(f"{count:7} {name[:120]}")
    for schema, what in sorted(mistakes, key=lambda pair: len(str(pair[0])))[:show]:
        print(f"WRONG: {json.dumps(schema)}: {what}")
    return 1 if mistakes else 0


if __name__ == "__main__":
    main()
