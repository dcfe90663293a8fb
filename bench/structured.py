#!/usr/bin/env python3
"""Structured output under load: a thousand schemas like those of real programs.

    bench/structured.py --url http://127.0.0.1:8000 [--schemas 1000] [--concurrency 32] [--seed 1]

Each schema once, with its own temperature and seed. Every answer that wasn't cut off must validate (`jsonschema`, formats
included); the times of masks come from the server's own histogram. What formats cost: `mask_cost.py`.
"""
import argparse
import asyncio
import json
import random
import time

import aiohttp
import jsonschema
from prometheus_client.parser import text_string_to_metric_families

WORDS = ("id name title status created_at email price currency items tags address city country zip phone notes active "
         "count total rating author version kind parent owner size weight colour category").split()
LEAVES = [
    lambda r: {"type": "string", "maxLength": r.randint(1, 40)},
    lambda r: {"type": "string", "minLength": 1, "maxLength": r.randint(3, 20), "description": "free text"},
    lambda r: {"type": "string", "enum": r.sample(WORDS, r.randint(2, 5))},
    lambda r: {"type": "string", "pattern": r.choice([r"^[A-Z]{2}-\d{3,5}$", r"^\+\d{6,12}$", r"^[a-z0-9-]{1,12}$"])},
    lambda r: {"type": "string", "format": r.choice(["date", "date-time", "email", "uuid", "ipv4"])},
    lambda r: {"type": "integer", "minimum": r.randint(-50, 0), "maximum": r.randint(1, 10_000)},
    lambda r: {"type": "number", "minimum": 0, "exclusiveMaximum": r.randint(1, 100)},
    lambda r: {"type": "integer", "multipleOf": r.choice([2, 5, 10]), "minimum": 0, "maximum": 1000},
    lambda r: {"type": "boolean"},
    lambda r: {"type": ["integer", "null"], "maximum": 99, "minimum": 0},
    lambda r: {"const": r.choice([1, "v1", None, ["a"], {"k": 2.5}])},
    lambda r: {"enum": [1, 2.5, "x", None, True]},
]


class Corpus:
    """Schemas as programs write them: nested records, lists, optional fields, references, variants."""

    def __init__(self, seed: int):
        self.random = random.Random(seed)

    def schema(self) -> dict:
        r = self.random
        schema = self.record(r.randint(1, 3))
        if r.random() < 0.25:
            schema["$defs"] = {"shared": self.record(0)}
            schema["properties"]["first"] = {"$ref": "#/$defs/shared"}
            schema["properties"]["others"] = {"type": "array", "items": {"$ref": "#/$defs/shared"}, "maxItems": 2}
            schema["required"] = list(schema["properties"])
        if r.random() < 0.1:
            schema["$defs"] = schema.get("$defs", {}) | {"node": {
                "type": "object",
                "properties": {"value": {"type": "integer", "minimum": 0, "maximum": 9},
                               "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}},
                "required": ["value", "next"], "additionalProperties": False,
            }}
            schema["properties"]["list"] = {"$ref": "#/$defs/node"}
        return schema

    def record(self, depth: int) -> dict:
        r = self.random
        names = r.sample(WORDS, r.randint(1, 6))
        schema = {"type": "object", "properties": {name: self.value(depth) for name in names}}
        schema["required"] = names if r.random() < 0.7 else [name for name in names if r.random() < 0.6]
        schema["additionalProperties"] = False if r.random() < 0.9 else {"type": "integer"}
        return schema

    def value(self, depth: int) -> dict:
        r = self.random
        kind = r.random()
        if depth == 0 or kind < 0.6:
            return r.choice(LEAVES)(r)
        if kind < 0.75:
            least = r.randint(0, 1)
            return {"type": "array", "items": self.value(depth - 1), "minItems": least, "maxItems": least + r.randint(0, 2)}
        if kind < 0.85:
            return {"anyOf": [self.value(depth - 1), {"type": "null"}]}
        if kind < 0.9:
            return {"oneOf": [{"type": "string", "maxLength": 5}, {"type": "integer", "minimum": 0, "maximum": 9}]}
        if kind < 0.94:
            return {"type": "array", "prefixItems": [self.value(0), self.value(0)], "items": False, "minItems": 2}
        return self.record(depth - 1)


class Server:
    def __init__(self, session: aiohttp.ClientSession, url: str, concurrency: int):
        self.session, self.url, self.gate = session, url, asyncio.Semaphore(concurrency)

    async def post(self, path: str, body: dict) -> tuple[int, dict]:
        async with self.gate, self.session.post(self.url + path, json=body) as response:
            return response.status, await response.json()

    async def metric(self, name: str) -> list:
        async with self.session.get(self.url + "/metrics") as response:
            families = text_string_to_metric_families(await response.text())
            return [sample for family in families for sample in family.samples if sample.name == f"millrace:{name}"]

    async def value(self, name: str) -> float:
        return sum(sample.value for sample in await self.metric(name))

    async def histogram(self, name: str) -> dict[float, float]:
        return {float(sample.labels["le"]): sample.value for sample in await self.metric(f"{name}_bucket")}


def quantile(counts: dict[float, float], share: float) -> float:
    """The bound of the bucket in which the quantile lies."""
    bounds = sorted(counts)
    return next(bound for bound in bounds if counts[bound] >= share * counts[bounds[-1]])


async def corpus(server: Server, count: int, seed: int) -> None:
    made = Corpus(seed)
    schemas = [made.schema() for _ in range(count)]
    before, compiled = await server.histogram("mask_time_seconds"), await server.histogram("grammar_compile_seconds")
    tokens, forced = await server.value("generation_tokens_total"), await server.value("forced_tokens_total")
    start = time.monotonic()
    done = await asyncio.gather(*(one(server, index, schema) for index, schema in enumerate(schemas)))
    seconds = time.monotonic() - start
    outcomes = {kind: [text for outcome, text in done if outcome == kind] for kind in ("valid", "cut", "refused", "INVALID")}
    print(f"{count} schemas in {seconds:.0f} s: " + ", ".join(f"{len(texts)} {kind}" for kind, texts in outcomes.items()))
    tokens = await server.value("generation_tokens_total") - tokens
    forced = await server.value("forced_tokens_total") - forced
    print(f"{tokens:.0f} tokens, of which {forced / tokens:.0%} forced; {tokens / seconds:.0f} tokens/s")
    for name, old in (("mask_time_seconds", before), ("grammar_compile_seconds", compiled)):
        new = await server.histogram(name)
        counts = {bound: new[bound] - old[bound] for bound in new}
        print(f"{name}: p50 ≤ {quantile(counts, 0.5) * 1e6:.0f} µs, p99 ≤ {quantile(counts, 0.99) * 1e6:.0f} µs, "
              f"max ≤ {quantile(counts, 1) * 1e6:.0f} µs of {max(counts.values()):.0f}")
    for kind in ("INVALID", "refused"):
        for text in outcomes[kind][:10]:
            print(f"{kind}: {text}")
    if outcomes["INVALID"]:
        raise SystemExit(1)


async def one(server: Server, index: int, schema: dict) -> tuple[str, str]:
    body = {
        "messages": [{"role": "user", "content": f"Write an example JSON object, number {index}."}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": True}},
        "max_tokens": 256, "temperature": (index % 4) / 2, "seed": index, "chat_template_kwargs": {"enable_thinking": False},
    }
    status, answer = await server.post("/v1/chat/completions", body)
    if status != 200:
        return ("refused" if status == 400 else "INVALID"), f"{answer['error']['message']} {json.dumps(schema)}"
    choice = answer["choices"][0]
    text = choice["message"]["content"]
    if choice["finish_reason"] == "length":
        return "cut", text
    try:
        jsonschema.validate(json.loads(text), schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)
        return "valid", text
    except (ValueError, jsonschema.ValidationError) as error:
        return "INVALID", f"{text} by {json.dumps(schema)}: {str(error).splitlines()[0]}"


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--schemas", type=int, default=1000)
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0)) as session:
        server = Server(session, args.url, args.concurrency)
        await corpus(server, args.schemas, args.seed)


if __name__ == "__main__":
    asyncio.run(main())
