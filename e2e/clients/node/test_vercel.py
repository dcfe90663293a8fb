"""Vercel's AI SDK, over its providers for OpenAI's and Anthropic's APIs."""

import pytest

from known import ASKED, FRANCE, LONG, ORDER, PARIS, ROUNDS, is_order, known_calls, name, parts, too_long

PROVIDERS = ["compatible", "openai", "anthropic"]


@pytest.fixture(scope="module", params=PROVIDERS)
def sdk(script, request):
    return script("vercel", provider=request.param)


def answer(seen: dict) -> dict:
    return {
        "text": seen["text"].strip(), "reasoning": (seen["reasoning"] or "").strip(), "calls": seen["calls"]
    }


def readable(question: dict, sdk) -> dict:
    """The known answer as this provider can show it: OpenAI's knows no reasoning in chats."""
    return parts(question) | ({"reasoning": ""} if sdk.input["provider"] == "openai" else {})


@pytest.mark.parametrize("question", ASKED, ids=name)
def test_whole_and_streamed(sdk, question):
    whole = sdk.run("whole", question=question)
    assert answer(whole) == readable(question, sdk)
    assert whole["finish"] == ("tool-calls" if whole["calls"] else "stop")
    assert whole["usage"]["inputTokens"] == question["prompt_tokens"]
    assert whole["usage"]["outputTokens"] == question["completion_tokens"]
    streamed = sdk.run("stream", question=question)
    assert answer(streamed) == answer(whole) and streamed["finish"] == whole["finish"]
    assert streamed["usage"]["totalTokens"] == whole["usage"]["totalTokens"]
    assert not streamed["failures"] and "error" not in streamed["kinds"]
    assert streamed["kinds"].get("tool-call", 0) == len(whole["calls"])
    assert not whole["text"] or streamed["kinds"]["text-delta"] > 1


@pytest.mark.parametrize("case", ["whole", "stream"])
@pytest.mark.parametrize("question", ROUNDS, ids=name)
def test_tools_with_results(sdk, question, case):
    seen = sdk.run(case, question=question)
    assert seen["calls"] == known_calls(question)
    assert seen["text"].strip() == parts(question)["text"]
    assert seen["steps"] == ["tool-calls", "stop"]


def test_an_answer_that_is_cut_off(sdk):
    for case in ("whole", "stream"):
        seen = sdk.run(case, question=FRANCE, limit=3)
        assert seen["finish"] == "length" and PARIS.startswith(seen["text"])
        assert seen["usage"]["outputTokens"] == 3


def test_leaving_in_the_middle(server, sdk):
    with sdk.open("abort", question=LONG, limit=4000) as seen:
        # The client's process still lives: only closed connections make the server idle.
        server.wait_idle(10)
    assert seen["ends"] == ["abort"] and seen["pieces"] >= 3


@pytest.mark.parametrize("case", ["refused", "refusedStream"])
def test_errors_are_understood(sdk, case):
    """With the server's own message, and told apart from those that are worth another try."""
    unknown = sdk.run(case, question=FRANCE, model="no-such-model")
    assert (unknown["statusCode"], unknown["isRetryable"]) == (404, False)
    assert "no-such-model" in unknown["message"]
    long = sdk.run(case, question=too_long())
    assert (long["statusCode"], long["isRetryable"]) == (400, False)
    assert "8192" in long["message"]


def test_errors_of_keys(launch, script):
    server = launch("--api-key", "sesame")
    for provider in PROVIDERS:
        here = script("vercel", provider=provider, url=server.url)
        assert here.run("whole", key="sesame", question=FRANCE)["text"] == PARIS
        assert here.run("refused", question=FRANCE)["statusCode"] == 401


def test_schemas_become_objects(sdk):
    """`generateObject` and `streamObject` with a schema of zod's."""
    seen = sdk.run("object", question=ORDER)
    assert is_order(seen["whole"]) and seen["streamed"] == seen["whole"] and seen["pieces"] > 1
