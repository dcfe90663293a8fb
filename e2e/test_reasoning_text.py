"""Reasoning that is marked by sentences and not by tokens, as Granite 3 and Apriel do: bounds, and formats behind it."""

import json

import jsonschema
import pytest

from harness import harmony
from harness.server import Server

# The marks that the demo model has tokens for would be taken for its own.
NAMES = {"<think>": "<|reserved_1|>", "</think>": "<|reserved_2|>"}
TURNS = """\
{%- for m in messages %}<|im_start|>{{ m.role }}
{{ m.content }}<|im_end|>
{% endfor -%}
<|im_start|>assistant
"""
GRANITE = TURNS + "{# Here is my thought process: #}"
APRIEL = TURNS + "Here are my reasoning steps:\n{# [BEGIN FINAL RESPONSE] #}"
ORDER = {
    "type": "object",
    "properties": {"item": {"type": "string", "maxLength": 12}, "count": {"type": "integer", "minimum": 1, "maximum": 99}},
    "required": ["item", "count"],
    "additionalProperties": False,
}


def serve(folder, template):
    return Server("--served-model-name", "m", model=harmony.make(folder / "model", NAMES, template))


@pytest.fixture(scope="module")
def granite(tmp_path_factory):
    with serve(tmp_path_factory.mktemp("granite"), GRANITE) as server:
        yield server
        server.wait_idle()


@pytest.fixture(scope="module")
def apriel(tmp_path_factory):
    with serve(tmp_path_factory.mktemp("apriel"), APRIEL) as server:
        yield server
        server.wait_idle()


def ids(server, text: str) -> list[int]:
    reply = server.http.post("/tokenize", json={"model": "m", "prompt": text, "add_special_tokens": False})
    return reply.raise_for_status().json()["tokens"]


def ask(server, **fields):
    """An answer, and the tokens of all that the model wrote."""
    body = {"model": "m", "messages": [{"role": "user", "content": "What is 2 + 3?"}], "max_tokens": 120,
            "temperature": 0, "return_token_ids": True} | fields
    choice = server.http.post("/v1/chat/completions", json=body).raise_for_status().json()["choices"][0]
    return choice, choice["token_ids"]


def find(part: list[int], whole: list[int]) -> int:
    return next(at for at in range(len(whole)) if whole[at:at + len(part)] == part)


@pytest.mark.parametrize("budget", [0, 1, 9])
@pytest.mark.parametrize("temperature", [0, 1])
def test_a_budget_forces_the_sentence(apriel, budget, temperature):
    choice, tokens = ask(apriel, thinking_token_budget=budget, temperature=temperature, seed=budget)
    # The model may have come to an end before.
    assert find(ids(apriel, "\n[BEGIN FINAL RESPONSE]"), tokens) <= budget
    assert choice["message"]["content"], choice
    assert bool(choice["message"].get("reasoning")) <= bool(budget)


def test_the_watchdog_leaves_room_for_an_answer(tmp_path):
    with Server("--served-model-name", "m", "--answer-reserve", "40", "--chat-template", APRIEL, "--reasoning-parser", "apriel") as server:
        choice, tokens = ask(server, max_tokens=80, ignore_eos=True)
        assert find(ids(server, "\n[BEGIN FINAL RESPONSE]"), tokens) <= 40 and choice["message"]["content"], choice


@pytest.mark.parametrize("temperature", [0, 1])
def test_a_format_comes_behind_it(apriel, temperature):
    for seed in range(3):
        choice, _ = ask(apriel, thinking_token_budget=6, temperature=temperature, seed=seed,
                        structured_outputs={"json": ORDER})
        assert choice["finish_reason"] == "stop" and choice["message"]["reasoning"], choice
        jsonschema.validate(json.loads(choice["message"]["content"]), ORDER)


def test_the_model_may_choose_to_reason(granite):
    """A bias towards its first word makes it begin the sentence; then it has to go on with it."""
    opening = ids(granite, "Here is my thought process:")
    for bias in (100, -100):
        choice, tokens = ask(granite, thinking_token_budget=4, structured_outputs={"json": ORDER},
                             logit_bias={str(opening[0]): bias})
        assert (tokens[:len(opening)] == opening) == (bias > 0), choice
        assert bool(choice["message"].get("reasoning")) == (bias > 0)
        assert choice["finish_reason"] == "stop", choice
        jsonschema.validate(json.loads(choice["message"]["content"]), ORDER)


def test_a_budget_bounds_what_the_model_began(granite):
    opening = ids(granite, "Here is my thought process:")
    bias = {str(token): 100 for token in opening[:1]}
    for budget in (0, 5):
        choice, tokens = ask(granite, thinking_token_budget=budget, logit_bias=bias,
                             structured_outputs={"choice": ["yes", "no"]})
        closing = ids(granite, "\nHere is my response:")
        assert find(closing, tokens) == len(opening) + budget, choice
        assert choice["message"]["content"] in ("yes", "no")
