"""Function tools through `/v1/responses`: calls, results, choices, calls that break off."""

import pytest

from replies import asking, expected, failure, streamed, told, without_ids
from harness.questions import BY_ID, QUESTIONS, THINKING_SUM, TWO_CITIES, WEATHER

ROUNDS = [question for question in QUESTIONS if question["family"] == "tool_answer"]


@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize("question", ROUNDS, ids=lambda question: question["id"])
def test_a_round_with_results(client, question, stored):
    """The model's own calls go back with the known results, through the store or by hand; it tells the known answer."""
    fields = asking(question)
    first = next(index for index, item in enumerate(fields["input"]) if item.get("type", "message") != "message")
    asked = fields["input"][:first]
    response = client.responses.create(**fields | {"input": asked, "store": stored})
    calls = [item for item in response.output if item.type == "function_call"]
    known = [item["output"] for item in fields["input"] if item.get("type") == "function_call_output"]
    assert len(calls) == len(known)
    results = [
        {"type": "function_call_output", "call_id": call.call_id, "output": [{"type": "input_text", "text": text}]}
        for call, text in zip(calls, known)
    ]
    if stored:
        fields |= {"input": results, "previous_response_id": response.id}
    else:
        fields |= {"input": asked + response.output + results}
    assert told(client.responses.create(**fields)) == expected(question)


def test_calls_in_parallel_and_one_at_a_time(client):
    fields = asking(TWO_CITIES)
    response = client.responses.create(**fields)
    assert told(response) == expected(TWO_CITIES)
    assert response.output[0].call_id != response.output[1].call_id
    single = fields | {"parallel_tool_calls": False}
    response = client.responses.create(**single)
    assert told(response) == expected(TWO_CITIES)[:1]
    assert without_ids(streamed(client, **single)) == without_ids(response)


@pytest.mark.parametrize("limit", range(1, 22))
def test_a_call_that_is_cut_off_reads_the_same_both_ways(client, limit):
    fields = asking(WEATHER, max_output_tokens=limit)
    response = client.responses.create(**fields)
    assert without_ids(streamed(client, **fields)) == without_ids(response)
    assert (response.status == "completed") == (limit >= WEATHER["completion_tokens"])


def test_a_broken_call_is_not_shown_again(client):
    answers = (client.responses.create(**asking(WEATHER, max_output_tokens=limit)) for limit in range(1, 21))
    broken = next(answer for answer in answers if answer.output and answer.output[-1].status == "incomplete")
    assert broken.output[-1].type == "function_call" and broken.status == "incomplete"
    follow = {"model": broken.model, "input": "What is the capital of France?", "reasoning": {"effort": "none"}}
    assert told(client.responses.create(**follow, previous_response_id=broken.id))


def test_choices(client):
    fields = asking(WEATHER)
    assert all(item.type == "message" for item in client.responses.create(**fields, tool_choice="none").output)
    # Both tools of this question, but only one may be used: it is as if there were no other.
    both = asking(THINKING_SUM)
    allowed = {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "add"}]}
    count = client.responses.input_tokens.count
    one = [tool for tool in both["tools"] if tool["name"] == "add"]
    assert count(**both, tool_choice=allowed).input_tokens == count(**both | {"tools": one}).input_tokens
    failure(lambda: client.responses.create(**fields, tool_choice={"type": "function", "name": "nope"}), 400, "tool_choice.name")


def test_arguments_are_streamed_in_pieces(client):
    question = BY_ID["hand_20"]
    with client.responses.stream(**asking(question)) as stream:
        pieces = [event.delta for event in stream if event.type == "response.function_call_arguments.delta"]
    assert len(pieces) > 4
