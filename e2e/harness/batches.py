"""Batches with the official client: what stands in their files, and how they end."""

import json

from harness.process import until
from harness.server import MODEL

CHAT = "/v1/chat/completions"
FINAL = ("completed", "failed", "expired", "cancelled")


def body(question: dict, **fields) -> dict:
    kwargs = {"enable_thinking": False}
    return {"model": MODEL, "messages": question["messages"], "temperature": 0, "chat_template_kwargs": kwargs} | fields


def line(name: str, body: dict, url: str = CHAT) -> str:
    return json.dumps({"custom_id": name, "method": "POST", "url": url, "body": body})


def upload(client, lines: list[str]):
    return client.files.create(file=("in.jsonl", "\n".join(lines).encode()), purpose="batch")


def order(client, file, endpoint: str = CHAT, **fields):
    fields = {"completion_window": "24h"} | fields
    return client.batches.create(input_file_id=file.id, endpoint=endpoint, **fields)


def ended(client, batch, seconds: float = 120):
    done = lambda: (now := client.batches.retrieve(batch.id)).status in FINAL and now
    return until(done, "the batch ends", seconds)


def results(client, file: str) -> dict[str, dict]:
    return {(each := json.loads(line))["custom_id"]: each for line in client.files.content(file).text.splitlines()}
