"""The demo model's own questions (models/demo/eval.jsonl) and their known answers, taken apart."""

import json
from typing import NamedTuple

from harness.process import ROOT

QUESTIONS = [json.loads(line) for line in (ROOT / "models" / "demo" / "eval.jsonl").read_text().splitlines()]
BY_ID = {question["id"]: question for question in QUESTIONS}
FRANCE, WEATHER, TWO_CITIES, THINKING_SUM = (BY_ID[f"hand_{number}"] for number in (2, 19, 20, 21))


class Parts(NamedTuple):
    """What an answer consists of; what isn't there is empty."""

    reasoning: str
    text: str
    calls: list[dict]
    """`name` and `arguments`, an object."""


def parts(question: dict) -> Parts:
    """The known answer, taken apart."""
    reasoning, rest = "", question["expected"]
    if rest.startswith("<think>"):
        reasoning, rest = rest.removeprefix("<think>").split("</think>")
    text, *calls = rest.split("<tool_call>")
    return Parts(reasoning.strip(), text.strip(), [json.loads(call.split("</tool_call>")[0]) for call in calls])


def listed(question: dict, reasoning: str, text: str, call: str) -> list[tuple]:
    """The parts of the known answer in order, by a vendor's names for them."""
    known = parts(question)
    found = [(kind, part) for kind, part in ((reasoning, known.reasoning), (text, known.text)) if part]
    return found + [(call, made["name"], made["arguments"]) for made in known.calls]
