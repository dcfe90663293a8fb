"""Requests with the fields of programs that are too large to install here. docs/clients.md says which versions."""

import json

import pytest

from harness.server import MODEL, parse_events
from known import FRANCE, LONG, PARIS, ROUNDS, asked, known_calls, name, parts, results

CHAT = "/v1/chat/completions"
HEADERS = {"authorization": "Bearer none", "user-agent": "Python/3.11 aiohttp/3.14.5"}


def whole(server, body: dict) -> dict:
    reply = server.http.post(CHAT, json=body, headers=HEADERS)
    assert reply.status_code == 200, reply.text
    return reply.json()


def streamed(server, body: dict) -> dict:
    """A stream put together as these programs do it: by choice, delta and index, to `[DONE]`."""
    said = {"text": "", "reasoning": "", "calls": [], "finish": None, "usage": None}
    with server.http.stream("POST", CHAT, json=body | {"stream": True}, headers=HEADERS) as reply:
        assert reply.status_code == 200 and reply.headers["content-type"].startswith("text/event-stream")
        *chunks, end = parse_events(reply.iter_lines())
    assert end == "[DONE]"
    for chunk in chunks:
        assert (chunk["object"], chunk["model"]) == ("chat.completion.chunk", MODEL)
        said["usage"] = chunk.get("usage") or said["usage"]
        for choice in chunk["choices"]:
            said["finish"] = choice["finish_reason"] or said["finish"]
            said["text"] += choice["delta"].get("content") or ""
            said["reasoning"] += choice["delta"].get("reasoning_content") or ""
            for call in choice["delta"].get("tool_calls") or []:
                if call["index"] == len(said["calls"]):
                    said["calls"].append({"id": call["id"], "name": call["function"]["name"], "arguments": ""})
                said["calls"][call["index"]]["arguments"] += call["function"].get("arguments") or ""
    return said


QUESTION = FRANCE["messages"][0]["content"]
PLAIN = {"chat_template_kwargs": {"enable_thinking": False}}
# Every setting of a model that Open WebUI's own page offers and passes on, at values that leave the answer as it is.
OPEN_WEBUI = {
    "temperature": 0.0, "top_p": 1.0, "min_p": 0.0, "top_k": 40, "max_tokens": 200, "frequency_penalty": 0.0,
    "presence_penalty": 0.0, "seed": 42, "stop": ["</end>"], "logit_bias": {"7": -100}, "reasoning_effort": "low",
    "num_ctx": 8192, "repeat_penalty": 1.1, "keep_alive": "5m", "response_format": {"type": "text"},
}


def test_open_webui_lists_models(server):
    reply = server.http.get("/v1/models", headers=HEADERS | {"content-type": "application/json"})
    (model,) = reply.json()["data"]
    assert reply.json()["object"] == "list" and model["id"] == MODEL and model["owned_by"]


@pytest.mark.parametrize("content", [QUESTION, [{"type": "text", "text": QUESTION}]])
def test_open_webui_chats(server, content):
    body = {"model": MODEL, "messages": [{"role": "user", "content": content}]} | PLAIN | OPEN_WEBUI
    said = streamed(server, body | {"stream_options": {"include_usage": True}})
    assert (said["text"], said["finish"]) == (PARIS, "stop")
    assert said["usage"]["total_tokens"] == FRANCE["prompt_tokens"] + FRANCE["completion_tokens"]


def test_open_webui_names_a_chat(server):
    """Titles, tags and follow-up questions are asked for without a stream, with a prompt that shows JSON."""
    prompt = (
        '### Task:\nGenerate a concise, 3-5 word title.\n### Output:\nJSON format: { "title": "your title here" }\n'
        f"### Chat History:\n<chat_history>\nUSER: {QUESTION}\nASSISTANT: {PARIS}\n</chat_history>"
    )
    body = {"model": MODEL, "messages": [{"role": "user", "content": prompt}], "stream": False, "max_tokens": 60}
    reply = whole(server, body | PLAIN)
    assert reply["choices"][0]["message"]["content"]
    assert reply["choices"][0]["finish_reason"] in ("stop", "length")


def test_open_webui_stops(server):
    """Its stop button closes the connection."""
    body = {"model": MODEL, "messages": LONG["messages"], "stream_options": {"include_usage": True}} | PLAIN
    with server.events(CHAT, body) as events:
        assert [next(events)["object"] for _ in range(3)] == ["chat.completion.chunk"] * 3
    server.wait_idle(10)


# What each program's requests have beside model, messages, tools and stream, and what it writes into the turn with the
# calls when that goes back. Temperature 0 is ours: the answers have to be the known ones.
USAGE = {"stream_options": {"include_usage": True}}
AGENTS = {
    "Open WebUI": (USAGE, lambda said: {"content": "", "reasoning_content": said["reasoning"]}),
    "OpenCode": (
        USAGE | {"max_tokens": 512, "tool_choice": "auto"},
        lambda said: {"content": "", "reasoning_content": said["reasoning"]},
    ),
    "Cline": (USAGE | {"tool_choice": "auto"}, lambda said: {"content": None, "reasoning_content": said["reasoning"]}),
    "Continue": (USAGE | {"max_tokens": 300}, lambda said: {"content": ""}),
}


@pytest.mark.parametrize("question", ROUNDS, ids=name)
@pytest.mark.parametrize("agent", AGENTS)
def test_agents_call_tools(server, question, agent):
    """Open WebUI also sends each call back with the index that the stream gave it."""
    fields, turn_of = AGENTS[agent]
    body = {"model": MODEL, "temperature": 0, "tools": question["tools"]} | fields
    body["chat_template_kwargs"] = {"enable_thinking": question["enable_thinking"]}
    said = streamed(server, body | {"messages": asked(question)})
    assert [[call["name"], json.loads(call["arguments"])] for call in said["calls"]] == known_calls(question)
    assert said["finish"] == "tool_calls" and said["usage"]["completion_tokens"] > 0
    calls = [
        {"id": call["id"], "type": "function", "function": {"name": call["name"], "arguments": call["arguments"]}}
        | ({"index": index} if agent == "Open WebUI" else {})
        for index, call in enumerate(said["calls"])
    ]
    told = [
        {"role": "tool", "tool_call_id": call["id"], "content": text}
        for call, text in zip(calls, results(question), strict=True)
    ]
    turn = {"role": "assistant", "tool_calls": calls} | turn_of(said)
    said = streamed(server, body | {"messages": [*asked(question), turn, *told]})
    assert (said["text"].strip(), said["finish"]) == (parts(question)["text"], "stop")
