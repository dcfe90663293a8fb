"""`/v1/messages` and `/v1/messages/count_tokens` with the official client: text, thinking, streams, stops, counts."""

import asyncio

import anthropic
import pytest

from asking import THINKING, asking, blocks, body, counting, expected, is_kept, streamed, user, without_id
from harness.process import until
from harness.questions import BY_ID, FRANCE, QUESTIONS, THINKING_SUM
from harness.server import MODEL

SAMPLE = QUESTIONS[::5]


@pytest.mark.parametrize("question", SAMPLE, ids=lambda question: question["id"])
def test_known_answers_whole_and_streamed(claude, question):
    fields = asking(question)
    message = claude.messages.create(**fields)
    assert blocks(message) == expected(question)
    called = any(block.type == "tool_use" for block in message.content)
    assert message.stop_reason == ("tool_use" if called else "end_turn")
    assert message.role == "assistant" and message.type == "message" and message.model == MODEL
    assert without_id(streamed(claude, **fields)) == without_id(message)


def test_every_known_prompt_is_counted_right(claude):
    """The counts were made with the reference template: what we render is what the model was taught."""
    kept = [question for question in QUESTIONS if is_kept(question)]
    assert len(kept) > 220
    counts = {q["id"]: claude.messages.count_tokens(**counting(q)).input_tokens for q in kept}
    assert counts == {q["id"]: q["prompt_tokens"] for q in kept}


def test_counting_says_what_is_used(claude):
    usage = claude.messages.create(**asking(THINKING_SUM)).usage
    counted = claude.messages.count_tokens(**counting(THINKING_SUM)).input_tokens
    assert counted == usage.input_tokens + usage.cache_read_input_tokens + usage.cache_creation_input_tokens


def test_cached_tokens_are_told_whole_and_streamed(claude):
    fields = body("Say hello. " * 30, max_tokens=4, system=[
        {"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}])
    first, second = claude.messages.create(**fields).usage, claude.messages.create(**fields).usage
    assert first.cache_creation_input_tokens == second.cache_read_input_tokens >= 64
    assert first.cache_read_input_tokens == second.cache_creation_input_tokens == 0
    assert first.input_tokens == second.input_tokens
    events = list(claude.messages.create(**fields, stream=True))
    assert events[0].message.usage.cache_read_input_tokens == second.cache_read_input_tokens
    assert events[0].message.usage.input_tokens == second.input_tokens
    # Who marks nothing is told only what was found.
    unmarked = claude.messages.create(**body("Say goodbye. " * 30, max_tokens=4, system="Be brief.")).usage
    assert unmarked.cache_creation_input_tokens == 0 and unmarked.input_tokens >= 64


def test_events_come_in_order(claude):
    events = list(claude.messages.create(**asking(THINKING_SUM), stream=True))
    kinds = [event.type for event in events]
    assert kinds[0] == "message_start" and kinds[-2:] == ["message_delta", "message_stop"]
    assert kinds.count("content_block_start") == kinds.count("content_block_stop") == 2
    starts = [event for event in events if event.type == "content_block_start"]
    assert [(start.index, start.content_block.type) for start in starts] == [(0, "thinking"), (1, "tool_use")]
    deltas = [(event.index, event.delta.type) for event in events if event.type == "content_block_delta"]
    assert deltas == sorted(deltas, key=lambda delta: delta[0])
    assert (0, "signature_delta") in deltas and (1, "input_json_delta") in deltas
    assert events[0].message.stop_reason is None and events[0].message.content == []
    assert events[-2].delta.stop_reason == "tool_use"
    assert events[-2].usage.output_tokens == THINKING_SUM["completion_tokens"]


def test_text_stream(claude):
    with claude.messages.stream(**asking(FRANCE)) as stream:
        assert "".join(stream.text_stream) == FRANCE["expected"]


def test_thinking_is_off_unless_asked_for(claude):
    (only,) = claude.messages.create(**body()).content
    assert (only.type, only.text) == ("text", FRANCE["expected"])
    (off,) = claude.messages.create(**body(thinking={"type": "disabled"})).content
    assert off == only


def test_thinking_comes_as_a_block_and_goes_back(claude):
    question = BY_ID["hand_21"]
    message = claude.messages.create(**asking(question))
    thinking, call = message.content
    assert thinking.type == "thinking" and thinking.thinking
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "42"}
    history = asking(question)["messages"] + [
        {"role": "assistant", "content": message.content}, {"role": "user", "content": [result]}]
    answer = claude.messages.create(**asking(question, messages=history))
    assert "42" in answer.content[-1].text


def test_thinking_can_be_left_out(claude):
    message = claude.messages.create(**asking(THINKING_SUM, thinking=THINKING | {"display": "omitted"}))
    assert message.content[0].type == "thinking" and message.content[0].thinking == ""
    assert without_id(message) == without_id(
        streamed(claude, **asking(THINKING_SUM, thinking=THINKING | {"display": "omitted"})))


def test_system_as_text_and_blocks(claude):
    question = next(q for q in QUESTIONS if q["messages"][0]["role"] == "system")
    fields = asking(question)
    as_text = claude.messages.create(**fields)
    fields["system"] = [{"type": "text", "text": fields["system"], "cache_control": {"type": "ephemeral"}}]
    assert without_id(claude.messages.create(**fields)) == without_id(as_text)
    assert blocks(as_text) == expected(question)


@pytest.mark.parametrize("stop, text", [(["Paris"], "The capital of France is "), ([" of", "nothing"], "The capital")])
def test_stop_sequences(claude, stop, text):
    message = claude.messages.create(**body(stop_sequences=stop))
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", stop[0])
    assert message.content[0].text == text
    assert without_id(streamed(claude, **body(stop_sequences=stop))) == without_id(message)


@pytest.mark.parametrize("limit", range(1, 6))
def test_max_tokens(claude, limit):
    message = claude.messages.create(**body(max_tokens=limit))
    assert (message.stop_reason, message.usage.output_tokens) == ("max_tokens", limit)
    assert FRANCE["expected"].startswith(message.content[0].text)


def test_an_answer_that_was_begun_goes_on(claude):
    begun = user(FRANCE["messages"][0]["content"]) + [{"role": "assistant", "content": "The capital of France"}]
    message = claude.messages.create(**body(messages=begun))
    assert message.content[0].text == " is Paris."


def test_neighbours_and_documents(claude):
    parts = [{"role": "user", "content": "What is the capital"}, {"role": "user", "content": [
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "x"}, "title": "T"}]}]
    assert claude.messages.create(**body(messages=parts)).stop_reason in ("end_turn", "max_tokens")


def test_hints_of_other_clients_are_taken(claude):
    message = claude.beta.messages.create(
        **body(), betas=["context-management-2025-06-27", "never-heard-of"],
        context_management={"edits": [{"type": "clear_tool_uses_20250919"}]}, output_config={"effort": "low"},
        metadata={"user_id": "me"}, service_tier="auto", cache_control={"type": "ephemeral"},
        extra_body={"temperature": 0, "top_k": 5, "top_p": 0.9},
    )
    assert message.content[0].text == FRANCE["expected"]


def test_models(claude):
    (model,) = claude.models.list()
    assert (model.id, model.type, model.max_input_tokens) == (MODEL, "model", 8192)
    assert model.created_at.year >= 2025
    assert claude.models.retrieve(MODEL) == model


def test_leaving_a_stream_frees_everything(server, claude):
    with claude.messages.create(**body("Tell me a story.", max_tokens=8000), stream=True) as stream:
        assert next(iter(stream)).type == "message_start"
    server.wait_idle(10)
    with pytest.raises(anthropic.APITimeoutError):
        # The first word takes far less than the whole answer.
        claude.messages.create(**body("List the numbers from 1 to 500."), timeout=0.01)
    until(server.idle, "nothing runs after the client left", 10)


def test_many_at_once_get_their_own_answers(server):
    questions = [q for q in QUESTIONS if q["prompt_tokens"] + q["completion_tokens"] < 400][:32]
    assert len(questions) == 32

    async def one(client, index, question):
        if index % 2:
            return await client.messages.create(**asking(question))
        async with client.messages.stream(**asking(question)) as stream:
            return await stream.get_final_message()

    async def all_of_them():
        async with anthropic.AsyncAnthropic(base_url=server.url, api_key="x", max_retries=0) as client:
            return await asyncio.gather(*(one(client, index, q) for index, q in enumerate(questions)))

    answers = asyncio.run(all_of_them())
    assert [blocks(answer) for answer in answers] == [expected(question) for question in questions]
