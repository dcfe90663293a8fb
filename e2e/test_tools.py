"""Tool calls and reasoning through /v1/chat/completions, with the official client and the demo model's own questions."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest

from harness import questions
from harness.questions import BY_ID, THINKING_SUM, TWO_CITIES, WEATHER
from harness.server import MODEL
from harness.stream import new_session, send

QUESTIONS = [question for question in questions.QUESTIONS if question["tools"] or question["enable_thinking"]]


def options(question: dict, **fields) -> dict:
    thinking = {"chat_template_kwargs": {"enable_thinking": question["enable_thinking"]}}
    tools = {"tools": question["tools"]} if question["tools"] else {}
    return tools | {
        "model": MODEL,
        "messages": question["messages"],
        "temperature": 0,
        "max_tokens": 300,
        "extra_body": thinking | fields.pop("extra", {}),
    } | fields


def ask(client, question: dict, **fields):
    return client.chat.completions.create(**options(question, **fields)).choices[0]


def stream(client, question: dict, **fields) -> dict:
    """A streamed answer, put together as clients do it by hand."""
    whole = {"content": "", "reasoning": "", "calls": {}, "finish": None}
    for chunk in client.chat.completions.create(**options(question, **fields), stream=True):
        (choice,) = chunk.choices
        assert whole["finish"] is None, "news after the end"
        whole["finish"] = choice.finish_reason
        whole["content"] += choice.delta.content or ""
        whole["reasoning"] += choice.delta.model_extra.get("reasoning_content") or ""
        for call in choice.delta.tool_calls or []:
            entry = whole["calls"].setdefault(call.index, {"id": call.id, "name": call.function.name, "arguments": ""})
            assert call.type == ("function" if call.id else None)
            entry["arguments"] += call.function.arguments
    return whole


def calls_of(message) -> list[tuple[str, dict]]:
    return [(call.function.name, json.loads(call.function.arguments)) for call in message.tool_calls or []]


def test_a_call(client):
    choice = ask(client, WEATHER)
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    (call,) = choice.message.tool_calls
    assert (call.type, call.function.name, call.function.arguments) == ("function", "get_weather", '{"location": "Paris"}')
    assert call.id.startswith("call_")


def test_parallel_calls(client):
    choice = ask(client, TWO_CITIES)
    assert calls_of(choice.message) == [("get_weather", {"location": "Paris"}), ("get_weather", {"location": "London"})]
    first, second = (call.id for call in choice.message.tool_calls)
    assert first != second


def test_one_call_at_a_time(client):
    whole = client.chat.completions.create(**options(TWO_CITIES, parallel_tool_calls=False))
    assert calls_of(whole.choices[0].message) == [("get_weather", {"location": "Paris"})]
    assert whole.choices[0].finish_reason == "tool_calls"
    assert whole.usage.completion_tokens < TWO_CITIES["completion_tokens"]
    assert list(stream(client, TWO_CITIES, parallel_tool_calls=False)["calls"]) == [0]


def test_thinking_and_a_call(client):
    choice = ask(client, THINKING_SUM)
    assert choice.message.reasoning_content == "I need to call add with a = 17, b = 25."
    assert choice.message.content is None and choice.finish_reason == "tool_calls"
    assert calls_of(choice.message) == [("add", {"a": 17, "b": 25})]
    hidden = ask(client, THINKING_SUM, extra={"include_reasoning": False})
    assert "reasoning_content" not in hidden.message.model_extra
    assert calls_of(hidden.message) == calls_of(choice.message)


def test_a_budget_for_thinking(client):
    """At the limit the model has to close its thinking; then it answers."""
    free = client.chat.completions.create(**options(THINKING_SUM))
    thought = free.usage.completion_tokens_details.reasoning_tokens - 2
    for budget in (0, 3, thought + 5, -1):
        reply = client.chat.completions.create(**options(THINKING_SUM, extra={"thinking_token_budget": budget}))
        message, usage = reply.choices[0].message, reply.usage.completion_tokens_details
        limited = 0 <= budget < thought
        assert usage.reasoning_tokens == 2 + (budget if limited else thought)
        reasoning = message.model_extra.get("reasoning_content", "")
        assert free.choices[0].message.reasoning_content.startswith(reasoning)
        if not limited:
            assert calls_of(message) == [("add", {"a": 17, "b": 25})]
        assert "think>" not in (message.content or "") and (message.content or message.tool_calls)
    # Raw text has no thinking to limit.
    with pytest.raises(openai.BadRequestError, match="thinking_token_budget"):
        client.completions.create(model=MODEL, prompt="x", extra_body={"thinking_token_budget": 5})


def test_reasoning_leaves_room_for_an_answer(launch):
    """The server's own bounds: a reserve for the answer, unless the request names a budget, and a limit for all."""
    with launch("--answer-reserve", "200").client() as client:
        def reasoned(**extra) -> int:
            reply = client.chat.completions.create(**options(THINKING_SUM, max_tokens=20, extra=extra))
            assert reply.usage.completion_tokens <= 20
            return reply.usage.completion_tokens_details.reasoning_tokens

        free = reasoned(thinking_token_budget=-1)
        assert free == 20  # cut off while it reasons
        assert reasoned() == 10 and reasoned(thinking_token_budget=4) == 6
        # What has no reasoning to bound is left alone.
        assert client.completions.create(model=MODEL, prompt="x", max_tokens=4).usage.completion_tokens == 4
    with launch("--max-thinking-tokens", "5").client() as client:
        for budget in (-1, 3, 100):
            reply = client.chat.completions.create(**options(THINKING_SUM, extra={"thinking_token_budget": budget}))
            assert reply.usage.completion_tokens_details.reasoning_tokens == 2 + (3 if budget == 3 else 5)
        reply = client.responses.create(
            model=MODEL, input=THINKING_SUM["messages"], temperature=0, reasoning={"effort": "medium"},
            extra_body={"thinking_token_budget": 3})
        assert reply.usage.output_tokens_details.reasoning_tokens == 5


@pytest.mark.parametrize("question", [WEATHER, TWO_CITIES, THINKING_SUM], ids=lambda question: question["id"])
def test_the_stream_says_the_same(client, question):
    whole, streamed = ask(client, question), stream(client, question)
    assert streamed["finish"] == whole.finish_reason
    assert streamed["content"] == (whole.message.content or "")
    assert streamed["reasoning"] == whole.message.model_extra.get("reasoning_content", "")
    told = [(call["name"], call["arguments"]) for _, call in sorted(streamed["calls"].items())]
    assert told == [(call.function.name, call.function.arguments) for call in whole.message.tool_calls]


def test_arguments_come_bit_by_bit(client):
    deltas = [
        call.function.arguments
        for chunk in client.chat.completions.create(**options(TWO_CITIES), stream=True)
        for call in chunk.choices[0].delta.tool_calls or []
    ]
    assert len(deltas) > 6, deltas


def test_results_are_used(client):
    """The whole loop: call, result, answer."""
    message = ask(client, WEATHER).message
    (call,) = message.tool_calls
    result = {"role": "tool", "tool_call_id": call.id, "content": '{"temperature": 21, "condition": "sunny"}'}
    talk = WEATHER["messages"] + [message.model_dump(exclude_none=True), result]
    answer = ask(client, WEATHER | {"messages": talk})
    assert answer.finish_reason == "stop" and not answer.message.tool_calls
    assert "Paris" in answer.message.content and "21" in answer.message.content


def test_the_history_is_read_in_every_form(client):
    """Arguments as a text or an object, content absent, null or empty, reasoning under each of its names."""
    question = BY_ID["tool_answer_3"]
    user, call, result = question["messages"]
    answers = set()
    for content in ({}, {"content": None}, {"content": ""}):
        for name in ("reasoning_content", "reasoning", "thinking"):
            for arguments in (str, json.loads):
                function = call["tool_calls"][0]["function"]
                function = function | {"arguments": arguments(function["arguments"])}
                said = {"role": "assistant", name: call["reasoning_content"]} | content
                said["tool_calls"] = [call["tool_calls"][0] | {"function": function}]
                reply = client.chat.completions.create(**options(question | {"messages": [user, said, result]}))
                answers.add((reply.choices[0].message.content, reply.usage.prompt_tokens))
    # A template prints an object with the same spaces that the text has.
    assert answers == {(question["expected"], question["prompt_tokens"])}


def test_no_calls_without_tools(client):
    choice = ask(client, WEATHER, tool_choice="none")
    assert choice.finish_reason == "stop" and choice.message.tool_calls is None and choice.message.content


def test_a_call_that_is_cut_off(client):
    choice = ask(client, WEATHER, max_tokens=16)
    assert choice.finish_reason == "length"
    (call,) = choice.message.tool_calls
    assert '{"location": "Paris"}'.startswith(call.function.arguments)


def test_a_stop_string_in_the_arguments(client):
    choice = ask(client, WEATHER, stop=["Par"])
    assert (choice.finish_reason, choice.stop_reason) == ("stop", "Par")
    assert choice.message.tool_calls[0].function.arguments == '{"location": "'


def test_logprobs_name_every_token(client):
    reply = client.chat.completions.create(**options(THINKING_SUM, logprobs=True))
    tokens = [token.token for token in reply.choices[0].logprobs.content]
    assert len(tokens) == reply.usage.completion_tokens
    assert "".join(tokens).removesuffix("<|im_end|>") == THINKING_SUM["expected"]


def test_the_stream_helper(client):
    """`client.chat.completions.stream` adds events up and checks their order."""
    strict = [
        {"type": "function", "function": tool["function"] | {"strict": True}} for tool in TWO_CITIES["tools"]
    ]
    kinds, arguments = [], []
    with client.chat.completions.stream(**options(TWO_CITIES, tools=strict)) as events:
        for event in events:
            kinds.append(event.type)
            if event.type == "tool_calls.function.arguments.done":
                arguments.append((event.name, json.loads(event.arguments)))
        final = events.get_final_completion().choices[0]
    assert "tool_calls.function.arguments.delta" in kinds
    assert arguments == calls_of(final.message)
    assert [city["location"] for _, city in arguments] == ["Paris", "London"]
    assert final.finish_reason == "tool_calls"


def test_parsers_can_be_turned_off(launch):
    with launch("--tool-call-parser", "none", "--reasoning-parser", "none").client() as client:
        choice = ask(client, THINKING_SUM)
        assert choice.message.content == THINKING_SUM["expected"] and choice.finish_reason == "stop"
        assert choice.message.tool_calls is None


def test_choices_have_calls_of_their_own(client):
    reply = client.chat.completions.create(**options(TWO_CITIES, n=3, temperature=0.01, seed=1))
    calls = [calls_of(choice.message) for choice in reply.choices]
    assert calls == [calls_of(ask(client, TWO_CITIES).message)] * 3
    ids = [call.id for choice in reply.choices for call in choice.message.tool_calls]
    assert len(set(ids)) == len(ids)


def test_all_questions_at_once(server):
    """Every question with tools or thinking, 32 at a time: each gets its own calls, reasoning and text."""

    async def ask_all():
        gate = asyncio.Semaphore(32)
        async with new_session() as session:

            async def one(question):
                body = options(question)
                body |= body.pop("extra_body") | {"stream_options": {"include_usage": True}}
                async with gate:
                    return await send(session, f"{server.url}/v1/chat/completions", body)

            return await asyncio.gather(*map(one, QUESTIONS))

    wrong = []
    for question, got in zip(QUESTIONS, asyncio.run(ask_all()), strict=True):
        calls = "tool_calls" if "<tool_call>" in question["expected"] else "stop"
        if got.error or got.written != question["expected"] or got.finish_reason != calls:
            wrong.append((question["id"], got.error or got.written, got.finish_reason))
    assert len(QUESTIONS) >= 64 and not wrong, wrong


def test_threads_get_their_own_calls(server):
    """The official client from 32 threads, streamed and not, mixed."""
    asked = [WEATHER, TWO_CITIES, THINKING_SUM, BY_ID["tool_none_1"]] * 8
    with server.client() as client, ThreadPoolExecutor(32) as pool:
        expected = {question["id"]: calls_of(ask(client, question).message) for question in asked[:4]}

        def one(numbered):
            index, question = numbered
            if index % 2:
                return calls_of(ask(client, question).message)
            calls = stream(client, question)["calls"]
            return [(call["name"], json.loads(call["arguments"])) for _, call in sorted(calls.items())]

        assert list(pool.map(one, enumerate(asked))) == [expected[question["id"]] for question in asked]
