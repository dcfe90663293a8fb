"""When an answer ends. The greedy answer is known: "The capital of France is Paris."."""

import json

import pytest

from harness.ask import PARIS, ask, complete, text_of
from harness.server import MODEL


@pytest.mark.parametrize("stop", [" is", [" is"], ["nowhere", " is", "Paris"]])
def test_stop_string(client, stop):
    choice = ask(client, stop=stop).choices[0]
    assert (choice.message.content, choice.finish_reason) == ("The capital of France", "stop")
    assert choice.stop_reason == " is"


def test_stop_string_over_several_tokens(client):
    choice = ask(client, stop="France is Pa").choices[0]
    assert (choice.message.content, choice.stop_reason) == ("The capital of ", "France is Pa")


def test_stop_string_is_held_back_in_a_stream(client):
    """No chunk may show the beginning of a stop string that is then found."""
    chunks = list(ask(client, stop="France is Paris", stream=True))
    assert text_of(chunks) == "The capital of "
    assert [c.choices[0].finish_reason for c in chunks if c.choices[0].finish_reason] == ["stop"]


def test_what_was_held_back_in_vain_is_delivered(client):
    choice = ask(client, stop=["France is London", "Paris.\n"]).choices[0]
    assert (choice.message.content, choice.finish_reason, choice.stop_reason) == (PARIS, "stop", None)
    assert text_of(ask(client, stop=["France is London", "Paris.\n"], stream=True)) == PARIS


@pytest.mark.parametrize("stream", [False, True])
def test_stop_string_in_the_output(client, stream):
    reply = ask(client, stop=" is", stream=stream, extra={"include_stop_str_in_output": True})
    text = text_of(reply) if stream else reply.choices[0].message.content
    assert text == "The capital of France is"


def test_usage_counts_up_to_the_stop(client):
    assert 4 <= ask(client, stop=" is").usage.completion_tokens < 8


def test_stop_token(client):
    tokens = ask(client, extra={"return_token_ids": True}).choices[0].token_ids
    choice = ask(client, extra={"stop_token_ids": [tokens[3]], "return_token_ids": True}).choices[0]
    assert (choice.finish_reason, choice.stop_reason) == ("stop", tokens[3])
    assert choice.token_ids == tokens[:4]
    assert PARIS.startswith(choice.message.content) and len(choice.message.content) < len(PARIS)


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_length(client, name):
    reply = ask(client, **{name: 3})
    assert reply.choices[0].finish_reason == "length"
    assert reply.usage.completion_tokens == 3
    assert PARIS.startswith(reply.choices[0].message.content)


def test_completion_length_defaults_to_16(client):
    reply = complete(client, extra={"ignore_eos": True})
    assert (reply.choices[0].finish_reason, reply.usage.completion_tokens) == ("length", 16)


def test_ignore_eos(client):
    reply = ask(client, max_tokens=40, extra={"ignore_eos": True})
    assert (reply.choices[0].finish_reason, reply.usage.completion_tokens) == ("length", 40)


def test_min_tokens(client):
    """The answer is eight tokens long with its end token; fewer than twenty must not be."""
    reply = ask(client, max_tokens=60, extra={"min_tokens": 20})
    assert 20 <= reply.usage.completion_tokens <= 60


def test_min_tokens_holds_off_stop_strings(client):
    reply = ask(client, stop=" is", max_tokens=40, extra={"min_tokens": 12})
    assert reply.usage.completion_tokens >= 12
    assert reply.choices[0].message.content.startswith("The capital of France is")


def test_overrides_say_which_tokens_end_an_answer(server, launch):
    tokens = server.http.post("/tokenize", json={"model": MODEL, "prompt": PARIS, "add_special_tokens": False}).json()["tokens"]
    other = launch("--hf-overrides", json.dumps({"eos_token_id": [tokens[1]]}))
    choice = ask(other.client()).choices[0]
    assert (choice.message.content, choice.finish_reason) == ("The", "stop")
