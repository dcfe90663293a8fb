"""LiteLLM, through its routes for vLLM, OpenAI-compatible servers and Anthropic. It runs in an environment of its own;
see README.md."""

import asyncio
import json
import os

import pytest

# The prices that come with the package, not today's from the network.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
import litellm

from harness.server import MODEL
from known import (
    FRANCE, LONG, PARIS, ROUNDS, THINKING_SUM, TWO_CITIES, asked, known_calls, name, parts, results, too_long,
)

ROUTES = {"openai": "/v1", "hosted_vllm": "/v1", "anthropic": ""}


@pytest.fixture(params=ROUTES)
def options(server, request):
    """options(question, **fields): the arguments of `litellm.completion`."""
    def made(question: dict, url: str = server.url, model: str = MODEL, **fields) -> dict:
        thinking = {"chat_template_kwargs": {"enable_thinking": question["enable_thinking"]}}
        if request.param == "anthropic":
            # LiteLLM has a list of models that think, and ours isn't on it.
            enabled = {
                "thinking": {"type": "enabled", "budget_tokens": 1024}, "allowed_openai_params": ["thinking"]
            }
            own = {"temperature": 0} if not question["enable_thinking"] else enabled
        else:
            own = {"temperature": 0, "extra_body": thinking}
        return {
            "model": f"{request.param}/{model}", "api_base": url + ROUTES[request.param], "api_key": "none",
            "messages": asked(question), "tools": question["tools"], "max_tokens": 2000, "num_retries": 0,
        } | own | fields

    return made


def answer(message) -> dict:
    return {
        "text": (message.content or "").strip(),
        "reasoning": (getattr(message, "reasoning_content", None) or "").strip(),
        "calls": [[call.function.name, json.loads(call.function.arguments)] for call in message.tool_calls or []],
    }


def streamed(options: dict):
    """A streamed answer, put together by LiteLLM's own helper."""
    chunks = list(litellm.completion(**options, stream=True, stream_options={"include_usage": True}))
    return litellm.stream_chunk_builder(chunks, messages=options["messages"])


@pytest.mark.parametrize("question", [FRANCE, TWO_CITIES, THINKING_SUM], ids=name)
def test_whole_and_streamed(options, question):
    for reply in (litellm.completion(**options(question)), streamed(options(question))):
        (choice,) = reply.choices
        assert answer(choice.message) == parts(question)
        assert choice.finish_reason == ("tool_calls" if choice.message.tool_calls else "stop")
        assert reply.usage.prompt_tokens == question["prompt_tokens"]
        assert reply.usage.completion_tokens == question["completion_tokens"]


@pytest.mark.parametrize("question", ROUNDS, ids=name)
def test_tools_with_results(options, question):
    message = litellm.completion(**options(question)).choices[0].message
    assert answer(message)["calls"] == known_calls(question)
    told = [
        {"role": "tool", "tool_call_id": call.id, "content": text}
        for call, text in zip(message.tool_calls, results(question), strict=True)
    ]
    history = options(question, messages=asked(question) + [message.model_dump(exclude_none=True), *told])
    for reply in (litellm.completion(**history), streamed(history)):
        assert answer(reply.choices[0].message) == parts(question)


def test_many_at_once(options):
    async def all_of_them():
        return await asyncio.gather(*(litellm.acompletion(**options(FRANCE)) for _ in range(8)))

    assert [reply.choices[0].message.content for reply in asyncio.run(all_of_them())] == [PARIS] * 8


def test_leaving_in_the_middle(server, options):
    async def leave():
        reply = await litellm.acompletion(**options(LONG), stream=True)
        async for _ in reply:
            break
        await reply.aclose()

    asyncio.run(leave())
    server.wait_idle(10)


def test_errors_have_their_types(options):
    with pytest.raises(litellm.NotFoundError, match="no-such-model"):
        litellm.completion(**options(FRANCE, model="no-such-model"))
    with pytest.raises(litellm.ContextWindowExceededError):
        litellm.completion(**options(too_long()))
    with pytest.raises(litellm.ContextWindowExceededError):
        streamed(options(too_long()))


def test_errors_of_keys(launch, options):
    with pytest.raises(litellm.AuthenticationError):
        litellm.completion(**options(FRANCE, url=launch("--api-key", "sesame").url))
