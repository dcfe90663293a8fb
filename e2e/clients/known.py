"""The demo model's own questions with their answers, as the clients' tests ask them."""

import json

from harness import questions
from harness.questions import BY_ID, FRANCE, THINKING_SUM, TWO_CITIES

PARIS = FRANCE["expected"]
LONG = FRANCE | {"id": "long", "messages": [{"role": "user", "content": "List the numbers from 1 to 500."}]}
# One call, then several at once, then reasoning before the calls and before the answer.
ROUNDS = [BY_ID[name] for name in ("tool_answer_2", "tool_answer_think_1")]
# Text with unusual letters, two calls, reasoning and a call.
ASKED = [BY_ID["hand_7"], TWO_CITIES, THINKING_SUM]


def name(question: dict) -> str:
    """For pytest's `ids`."""
    return question["id"]


def parts(question: dict) -> dict:
    """The known answer, taken apart: `text`, `reasoning` and `calls` as [name, arguments]."""
    known = questions.parts(question)
    return known._asdict() | {"calls": [[call["name"], call["arguments"]] for call in known.calls]}


def known_calls(question: dict) -> list[list]:
    """The calls in the history of a question: what its first answer must be."""
    return [
        [call["function"]["name"], json.loads(call["function"]["arguments"])]
        for turn in question["messages"]
        for call in turn.get("tool_calls", [])
    ]


def asked(question: dict) -> list[dict]:
    """The turns before the first answer."""
    roles = [turn["role"] for turn in question["messages"]]
    return question["messages"][: roles.index("assistant") if "assistant" in roles else None]


def results(question: dict) -> list[str]:
    """The known results of its calls, in order."""
    return [turn["content"] for turn in question["messages"] if turn["role"] == "tool"]


def too_long() -> dict:
    """A question that no 8,192 tokens can hold."""
    return FRANCE | {"id": "too_long", "messages": [{"role": "user", "content": "water " * 12000}]}


# No known answer: what counts is the form, which `case.mjs` has as a schema.
ORDER = {
    "messages": [{"role": "user", "content": "Give me an order for bolts."}], "tools": None, "enable_thinking": False,
}


def is_order(value) -> bool:
    parts = value["parts"]
    return (
        value.keys() == {"customer", "parts", "note"}
        and len(value["customer"]) <= 20
        and 1 <= len(parts) <= 2
        and all(part["code"] in ("bolt", "nut") and 1 <= part["count"] <= 9 for part in parts)
        and (value["note"] is None or len(value["note"]) <= 10)
    )
