"""Anthropic's package for JavaScript: whole, streamed, with its stream helper and its tool runner, left, refused."""

import pytest

from harness.server import MODEL
from known import ASKED, FRANCE, LONG, PARIS, ROUNDS, asked, known_calls, name, parts, too_long

THINKING = {"type": "enabled", "budget_tokens": 1024}


@pytest.fixture(scope="module")
def claude_js(script):
    return script("anthropic")


def body(question: dict, **fields) -> dict:
    """The question in Anthropic's shape; the tool runner brings tools of its own."""
    turns = asked(question)
    made = {"model": MODEL, "max_tokens": 2000, "messages": [turn for turn in turns if turn["role"] != "system"]}
    if turns[0]["role"] == "system":
        made["system"] = turns[0]["content"]
    if question["tools"]:
        made["tools"] = [
            {"name": tool["name"], "description": tool.get("description", ""), "input_schema": tool["parameters"]}
            for tool in (each["function"] for each in question["tools"])
        ]
    return made | ({"thinking": THINKING} if question["enable_thinking"] else {}) | fields


def answer(message: dict) -> dict:
    said = {"text": "", "reasoning": "", "calls": []}
    for block in message["content"]:
        match block["type"]:
            case "text":
                said["text"] += block["text"]
            case "thinking":
                said["reasoning"] += block["thinking"]
            case "tool_use":
                said["calls"].append([block["name"], block["input"]])
    return {"text": said["text"].strip(), "reasoning": said["reasoning"].strip(), "calls": said["calls"]}


def tokens(message: dict) -> tuple:
    usage = message["usage"]
    return (usage["input_tokens"] + usage["cache_read_input_tokens"], usage["output_tokens"])


@pytest.mark.parametrize("question", ASKED, ids=name)
def test_the_same_answer_in_every_way(claude_js, question):
    seen = claude_js.run("whole", body=body(question))
    whole = seen["message"]
    assert answer(whole) == parts(question) and seen["request_id"]
    assert whole["stop_reason"] == ("tool_use" if answer(whole)["calls"] else "end_turn")
    assert tokens(whole) == (question["prompt_tokens"], question["completion_tokens"])
    helped = claude_js.run("helper", body=body(question))
    assert answer(helped["message"]) == answer(whole) and tokens(helped["message"]) == tokens(whole)
    assert helped["told"]["text"].strip() == parts(question)["text"]
    assert helped["told"]["thinking"].strip() == parts(question)["reasoning"]
    assert bool(helped["told"]["inputJson"]) == bool(parts(question)["calls"])
    kinds = claude_js.run("stream", body=body(question))["kinds"]
    assert kinds[0] == "message_start" and kinds[-2:] == ["message_delta", "message_stop"]
    assert kinds.count("content_block_start") == kinds.count("content_block_stop") == len(whole["content"])


@pytest.mark.parametrize("threads", [False, True])
@pytest.mark.parametrize("case", ["tools", "toolsStreamed"])
@pytest.mark.parametrize("question", ROUNDS, ids=name)
def test_the_tool_runner(claude_js, question, case, threads):
    """As it is, it first asks for a conversation that the server keeps."""
    ran = claude_js.run(case, question=question, body=body(question), threads=threads)
    assert ran["calls"] == known_calls(question)
    assert answer(ran["message"]) == parts(question)


def test_counts_and_models(claude_js):
    assert claude_js.run("count", body=body(FRANCE)) == {"input_tokens": FRANCE["prompt_tokens"]}
    seen = claude_js.run("models")
    assert [model["id"] for model in seen["listed"]] == [MODEL]
    assert seen["one"] == seen["listed"][0] and seen["one"]["type"] == "model"


def test_leaving_in_the_middle(server, claude_js):
    with claude_js.open("abort", body=body(LONG)) as seen:
        # The client's process still lives: only closed connections make the server idle.
        server.wait_idle(10)
    assert seen["aborted"] and seen["ended"]["kind"] == "APIUserAbortError" and seen["read"] == 3


@pytest.mark.parametrize("case", ["refused", "refusedStream"])
def test_errors_have_their_types(claude_js, case):
    unknown = claude_js.run(case, body=body(FRANCE, model="no-such-model"))
    assert (unknown["kind"], unknown["status"], unknown["type"]) == ("NotFoundError", 404, "not_found_error")
    hot = claude_js.run(case, body=body(FRANCE, temperature=9))
    assert (hot["kind"], hot["status"], hot["type"]) == ("BadRequestError", 400, "invalid_request_error")
    assert "temperature" in hot["message"]
    long = claude_js.run(case, body=body(too_long()))
    assert long["kind"] == "BadRequestError" and "prompt is too long" in long["message"]
    assert all(error["requestID"] for error in (unknown, hot, long))


def test_errors_of_keys(launch, script):
    here = script("anthropic", url=launch("--api-key", "sesame").url)
    assert here.run("whole", key="sesame", body=body(FRANCE))["message"]["content"][0]["text"] == PARIS
    wrong = here.run("refused", body=body(FRANCE))
    assert (wrong["kind"], wrong["status"], wrong["type"]) == ("AuthenticationError", 401, "authentication_error")
