"""LangChain's chat models for OpenAI's and Anthropic's APIs: invoked, streamed, in batches, with tools, refused."""

import asyncio

import pytest
from langchain_anthropic import ChatAnthropic
from langchain_core.exceptions import ContextOverflowError, ModelAuthenticationError, ModelNotFoundError
from langchain_core.messages import AIMessageChunk, ToolMessage
from langchain_openai import ChatOpenAI

from harness.server import MODEL
from known import (
    FRANCE, LONG, PARIS, ROUNDS, THINKING_SUM, TWO_CITIES, asked, known_calls, name, parts, results, too_long,
)


def openai_chat(url: str, *, key: str = "none", thinking: bool = False, **options) -> ChatOpenAI:
    extra = {"chat_template_kwargs": {"enable_thinking": thinking}}
    return ChatOpenAI(
        base_url=f"{url}/v1", api_key=key, temperature=0, max_retries=0, stream_usage=True, extra_body=extra,
        **{"model": MODEL} | options,
    )


def claude_chat(url: str, *, key: str = "none", thinking: bool = False, **options) -> ChatAnthropic:
    budget = {"thinking": {"type": "enabled", "budget_tokens": 1024}} if thinking else {}
    options = {"model": MODEL} | budget | options
    return ChatAnthropic(base_url=url, api_key=key, max_tokens=2000, max_retries=0, **options)


CHATS = {"openai": openai_chat, "anthropic": claude_chat}


@pytest.fixture(params=CHATS)
def chat(server, request):
    """chat(**options): a chat model for the shared server."""
    return lambda **options: CHATS[request.param](server.url, **options)


def ready(chat, question: dict):
    """A model with the question's tools."""
    model = chat(thinking=question["enable_thinking"])
    return model.bind_tools(question["tools"]) if question["tools"] else model


def calls(message) -> list[list]:
    assert not message.invalid_tool_calls
    return [[call["name"], call["args"]] for call in message.tool_calls]


def streamed(model, turns) -> AIMessageChunk:
    """The sum of the chunks, as LangChain adds them."""
    first, *rest = model.stream(turns)
    return sum(rest, first)


@pytest.mark.parametrize("question", [FRANCE, TWO_CITIES, THINKING_SUM], ids=name)
def test_invoked_and_streamed(chat, question):
    model = ready(chat, question)
    whole, added = model.invoke(question["messages"]), streamed(model, question["messages"])
    for message in (whole, added):
        assert message.text.strip() == parts(question)["text"]
        assert calls(message) == parts(question)["calls"]
        usage = message.usage_metadata
        assert usage["input_tokens"] == question["prompt_tokens"]
        assert usage["output_tokens"] == question["completion_tokens"]
        told = message.response_metadata.get("finish_reason") or message.response_metadata["stop_reason"]
        assert told in (("tool_calls", "tool_use") if calls(message) else ("stop", "end_turn"))


@pytest.mark.parametrize("question", ROUNDS, ids=name)
def test_tools_with_results(chat, question):
    model, turns = ready(chat, question), asked(question)
    message = model.invoke(turns)
    assert calls(message) == known_calls(question)
    told = [
        ToolMessage(content=text, tool_call_id=call["id"])
        for call, text in zip(message.tool_calls, results(question), strict=True)
    ]
    for answer in (model.invoke([*turns, message, *told]), streamed(model, [*turns, message, *told])):
        assert answer.text.strip() == parts(question)["text"]


def test_many_at_once(chat):
    async def all_of_them():
        return await chat().abatch([FRANCE["messages"]] * 8)

    assert [message.text for message in asyncio.run(all_of_them())] == [PARIS] * 8


def test_leaving_in_the_middle(server, chat):
    stream = chat().stream(LONG["messages"])
    assert sum(1 for _ in zip(range(3), stream)) == 3
    stream.close()
    server.wait_idle(10)


def test_errors_have_their_types(server, chat):
    with pytest.raises(ModelNotFoundError, match="no-such-model"):
        chat(model="no-such-model").invoke("Hello!")
    for call in (chat().invoke, lambda turns: list(chat().stream(turns))):
        with pytest.raises(ContextOverflowError):
            call(too_long()["messages"])


def test_errors_of_keys(launch):
    server = launch("--api-key", "sesame")
    for made in CHATS.values():
        assert made(server.url, key="sesame").invoke(FRANCE["messages"]).text == PARIS
        with pytest.raises(ModelAuthenticationError):
            made(server.url).invoke("Hello!")
