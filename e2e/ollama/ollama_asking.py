"""The official client of Ollama's API, and what makes answers comparable."""

import json

import ollama

from harness.questions import parts
from harness.server import MODEL

GREEDY = {"temperature": 0}
TIMES = ("total_duration", "load_duration", "prompt_eval_duration", "eval_duration")


def ollama_of(server) -> ollama.Client:
    return ollama.Client(host=server.url, timeout=120)


def asking(question: dict, **fields) -> dict:
    """One of the known questions as keyword arguments. They are in OpenAI's shape."""
    known = {
        "model": MODEL,
        "messages": [message(each) for each in question["messages"]],
        "think": question["enable_thinking"],
        "options": GREEDY,
    }
    if question["tools"]:
        known["tools"] = question["tools"]
    return known | fields


def message(openai: dict) -> dict:
    """A message in Ollama's shape: arguments are objects, and results name their tool."""
    mine = {"role": openai["role"], "content": openai.get("content") or ""}
    if calls := openai.get("tool_calls"):
        mine["tool_calls"] = [
            {"function": {"name": call["function"]["name"], "arguments": json.loads(call["function"]["arguments"])}}
            for call in calls
        ]
    if thinking := openai.get("reasoning_content"):
        mine["thinking"] = thinking
    return mine


def expected(question: dict) -> dict:
    """What the known answer says."""
    known = parts(question)
    calls = [(call["name"], call["arguments"]) for call in known.calls]
    return {"content": known.text, "thinking": known.reasoning or None, "calls": calls}


def said(message) -> dict:
    calls = [(call.function.name, dict(call.function.arguments)) for call in message.tool_calls or []]
    thinking = (message.thinking or "").strip() or None
    return {"content": (message.content or "").strip(), "thinking": thinking, "calls": calls}


def put_together(parts) -> dict:
    """A streamed conversation as the dictionary of a whole one."""
    parts = [part.model_dump(exclude_none=True) for part in parts]
    assert [part["done"] for part in parts] == [False] * (len(parts) - 1) + [True]
    whole = dict(parts[-1])
    messages = [part["message"] for part in parts]
    whole["message"] = {"role": "assistant", "content": "".join(each["content"] for each in messages)}
    for field in ("thinking", "tool_calls"):
        if joined := [each[field] for each in messages if each.get(field)]:
            whole["message"][field] = "".join(joined) if field == "thinking" else sum(joined, [])
    return whole


def without_times(answer) -> dict:
    """All of an answer but what differs each time."""
    whole = answer if isinstance(answer, dict) else answer.model_dump(exclude_none=True)
    for field in TIMES:
        assert isinstance(whole[field], int) and whole[field] >= 0, field
    return {field: value for field, value in whole.items() if field not in (*TIMES, "created_at")}
