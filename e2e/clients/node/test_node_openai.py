"""OpenAI's package for JavaScript: whole, streamed, with its stream helper and its tool runner, left, refused."""

import pytest

from harness.server import MODEL
from known import ASKED, ORDER, FRANCE, LONG, PARIS, ROUNDS, is_order, known_calls, name, parts, too_long


@pytest.fixture(scope="module")
def openai_js(script):
    return script("openai")


def answer(seen: dict) -> dict:
    return {
        "text": (seen["content"] or "").strip(), "reasoning": (seen["reasoning"] or "").strip(), "calls": seen["calls"]
    }


@pytest.mark.parametrize("question", ASKED, ids=name)
def test_the_same_answer_in_every_way(openai_js, question):
    whole = openai_js.run("whole", question=question)
    assert answer(whole) == parts(question)
    assert whole["finish"] == ("tool_calls" if whole["calls"] else "stop")
    assert whole["usage"]["prompt_tokens"] == question["prompt_tokens"]
    assert whole["usage"]["completion_tokens"] == question["completion_tokens"]
    assert whole["object"] == "chat.completion" and whole["request_id"]
    streamed = openai_js.run("stream", question=question)
    assert answer(streamed) == answer(whole) and streamed["finish"] == whole["finish"]
    assert streamed["usage"]["total_tokens"] == whole["usage"]["total_tokens"]
    helped = openai_js.run("helper", question=question)
    # Of a field that OpenAI's API doesn't have, the helper keeps the last piece; and `strict` lengthens the prompt.
    assert answer(helped) | {"reasoning": ""} == answer(whole) | {"reasoning": ""}
    assert helped["finish"] == whole["finish"]
    assert helped["usage"]["completion_tokens"] == question["completion_tokens"]
    assert bool(helped["events"]["content"]) == bool(whole["content"])
    assert helped["events"]["tool_calls.function.arguments.done"] == len(whole["calls"])
    assert helped["events"]["tool_calls.function.arguments.delta"] >= 2 * len(whole["calls"])


@pytest.mark.parametrize("case", ["tools", "toolsStreamed"])
@pytest.mark.parametrize("question", ROUNDS, ids=name)
def test_the_tool_runner(openai_js, question, case):
    """It calls the functions and sends the results; all ends with the known answer."""
    ran = openai_js.run(case, question=question)
    assert ran["calls"] == known_calls(question)
    assert ran["content"].strip() == parts(question)["text"]
    assert ran["turns"] == [turn["role"] for turn in question["messages"]] + ["assistant"]


def test_text_completions(openai_js):
    seen = openai_js.run("text", prompt="Once upon a time, there was a little")
    assert seen["text"] and seen["text"] == seen["streamed"]


def test_models(openai_js):
    seen = openai_js.run("models")
    assert [model["id"] for model in seen["listed"]] == [MODEL]
    assert seen["one"] == seen["listed"][0]


def test_leaving_in_the_middle(server, openai_js):
    with openai_js.open("abort", question=LONG) as seen:
        # The client's process still lives: only closed connections make the server idle.
        server.wait_idle(10)
    assert seen["aborted"] and seen["ended"]["kind"] == "APIUserAbortError"
    assert seen["read"] >= 6


@pytest.mark.parametrize("case", ["refused", "refusedStream"])
def test_errors_have_their_types(openai_js, case):
    unknown = openai_js.run(case, question=FRANCE, model="no-such-model")
    assert (unknown["kind"], unknown["status"], unknown["code"]) == ("NotFoundError", 404, 404)
    hot = openai_js.run(case, question=FRANCE, fields={"temperature": 9})
    assert (hot["kind"], hot["status"], hot["param"]) == ("BadRequestError", 400, "temperature")
    assert "temperature" in hot["message"]
    long = openai_js.run(case, question=too_long())
    assert long["kind"] == "BadRequestError" and "maximum context length" in long["message"]
    assert all(error["requestID"] for error in (unknown, hot, long))


def test_errors_of_keys(launch, script):
    here = script("openai", url=launch("--api-key", "sesame").url)
    assert here.run("whole", key="sesame", question=FRANCE)["content"] == PARIS
    wrong = here.run("refused", question=FRANCE)
    assert (wrong["kind"], wrong["status"], wrong["code"]) == ("AuthenticationError", 401, 401)


def test_schemas_become_values(openai_js):
    """`parse` and the stream helpers with a schema of zod's: each gives a value of its type."""
    seen = openai_js.run("parsed", question=ORDER)
    assert seen["chat"] == seen["chatStream"] and seen["responses"] == seen["responsesStream"]
    assert is_order(seen["chat"]) and is_order(seen["responses"])


def test_a_batch_from_file_to_file(openai_js):
    seen = openai_js.run("batch", questions=ASKED)
    assert seen["first"] in ("validating", "in_progress") and seen["batch"]["status"] == "completed"
    assert seen["batch"]["request_counts"] == {"total": len(ASKED), "completed": len(ASKED), "failed": 0}
    assert seen["batch"]["metadata"] == {"from": "node"} and not seen["batch"].get("error_file_id")
    answers = {line["custom_id"]: line["response"] for line in seen["answers"]}
    for at, question in enumerate(ASKED):
        message = answers[f"q{at}"]["body"]["choices"][0]["message"]
        assert answers[f"q{at}"]["status_code"] == 200
        assert (message["content"] or "").strip() == parts(question)["text"], question
    ids = {seen["batch"]["input_file_id"], seen["batch"]["output_file_id"]}
    assert ids <= set(seen["listed"]["files"]) and seen["batch"]["id"] in seen["listed"]["batches"]
    assert seen["deleted"]["deleted"] is True and seen["gone"]["status"] == 404
