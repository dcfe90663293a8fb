"""Tools through `/v1/messages`: calls, results, cut-off calls, choices."""

import pytest

from asking import asking, blocks, expected, streamed, without_id
from harness.questions import BY_ID, QUESTIONS, TWO_CITIES, WEATHER

ROUNDS = [question for question in QUESTIONS if question["family"] == "tool_answer"]


@pytest.mark.parametrize("question", ROUNDS, ids=lambda question: question["id"])
def test_a_round_with_results(claude, question):
    """The model's own calls go back with the known results, and it tells the known answer."""
    fields = asking(question)
    first = next(index for index, turn in enumerate(fields["messages"]) if turn["role"] == "assistant")
    asked = fields["messages"][:first]
    message = claude.messages.create(**fields | {"messages": asked})
    assert message.stop_reason == "tool_use"
    calls = [block for block in message.content if block.type == "tool_use"]
    known = [turn["content"] for turn in question["messages"] if turn["role"] == "tool"]
    assert len(calls) == len(known)
    results = [
        {"type": "tool_result", "tool_use_id": call.id, "content": [{"type": "text", "text": text}]}
        for call, text in zip(calls, known)
    ]
    history = asked + [{"role": "assistant", "content": message.content}, {"role": "user", "content": results}]
    assert blocks(claude.messages.create(**fields | {"messages": history})) == expected(question)


def test_calls_in_parallel_and_one_at_a_time(claude):
    fields = asking(TWO_CITIES)
    message = claude.messages.create(**fields)
    assert blocks(message) == expected(TWO_CITIES)
    assert message.content[0].id != message.content[1].id
    single = fields | {"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}}
    message = claude.messages.create(**single)
    assert blocks(message) == expected(TWO_CITIES)[:1] and message.stop_reason == "tool_use"
    assert without_id(streamed(claude, **single)) == without_id(message)


@pytest.mark.parametrize("limit", range(1, 22))
def test_a_call_that_is_cut_off_reads_the_same_both_ways(claude, limit):
    fields = asking(WEATHER, max_tokens=limit)
    message = claude.messages.create(**fields)
    assert without_id(streamed(claude, **fields)) == without_id(message)
    assert (message.stop_reason == "tool_use") == (limit >= WEATHER["completion_tokens"])


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": WEATHER["tools"][0]["function"]["name"]}])
def test_forced_calls_are_made(claude, choice):
    fields = asking(WEATHER) | {"messages": [{"role": "user", "content": "Hello!"}]}
    message = claude.messages.create(**fields | {"tool_choice": choice | {"disable_parallel_tool_use": True}})
    (call,) = message.content
    assert message.stop_reason == "tool_use" and isinstance(call.input, dict)


def test_inputs_of_strict_tools_fit(claude):
    fields = asking(WEATHER)
    strict = [tool | {"strict": True} for tool in fields["tools"]]
    assert blocks(claude.messages.create(**fields | {"tools": strict})) == expected(WEATHER)


def test_no_calls_with_none(claude):
    message = claude.messages.create(**asking(WEATHER, tool_choice={"type": "none"}))
    assert message.stop_reason == "end_turn"
    assert all(block.type == "text" for block in message.content)


def test_input_is_streamed_in_pieces(claude):
    question = BY_ID["hand_20"]
    with claude.messages.stream(**asking(question)) as stream:
        pieces = [event.partial_json for event in stream if event.type == "input_json"]
    assert len([piece for piece in pieces if piece]) > 4


def test_failed_calls_are_told_to_the_model(claude):
    fields = asking(WEATHER)
    (call,) = claude.messages.create(**fields).content
    def prompt(**result):
        block = {"type": "tool_result", "tool_use_id": call.id, "content": "no such place"} | result
        history = fields["messages"] + [
            {"role": "assistant", "content": [call.model_dump()]}, {"role": "user", "content": [block]}]
        return claude.messages.count_tokens(
            model=fields["model"], tools=fields["tools"], messages=history).input_tokens
    assert prompt(is_error=True) > prompt(is_error=False) == prompt()
