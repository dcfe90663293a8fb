"""The endpoints beside generation."""

import openai
import pytest

from harness.ask import FRANCE, PLAIN, ask, user
from harness.server import MODEL

TEXTS = ["Hello!", " two  spaces\n\tand a tab", "Grüße, 世界! 🦀👩‍👩‍👧", "<think>\nraw</think>", "a" * 500]


@pytest.mark.parametrize("text", TEXTS)
def test_tokenize_and_back(server, text):
    answer = server.http.post("/tokenize", json={"model": MODEL, "prompt": text}).json()
    assert answer["count"] == len(answer["tokens"]) > 0
    assert answer["max_model_len"] > 0
    back = server.http.post("/detokenize", json={"model": MODEL, "tokens": answer["tokens"]})
    assert back.json()["prompt"] == text


def test_tokenize_a_conversation(server, client):
    answer = server.http.post("/tokenize", json={"model": MODEL, "messages": user(FRANCE)} | PLAIN).json()
    assert answer["count"] == ask(client).usage.prompt_tokens == 19


def test_models(client):
    (card,) = client.models.list().data
    assert (card.id, card.object) == (MODEL, "model") and card.max_model_len > 0
    assert client.models.retrieve(MODEL).id == MODEL
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("no-such-model")


@pytest.mark.parametrize("path", ["/health", "/ready", "/version", "/ping", "/metrics"])
def test_open_endpoints(server, path):
    assert server.http.get(path).status_code == 200


def test_version_is_named(server):
    assert server.http.get("/version").json()["version"]


def test_served_model_names(launch):
    client = launch("--served-model-name", "first", "--served-model-name", "second").client()
    assert {card.id for card in client.models.list().data} == {"first", "second"}
    for name in ("first", "second"):
        reply = client.chat.completions.create(model=name, messages=user(FRANCE), max_tokens=2)
        assert reply.usage.completion_tokens == 2
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model=MODEL, messages=user(FRANCE))


def test_the_stated_context_holds(launch):
    server = launch("--max-model-len", "64")
    client = server.client()
    assert client.models.list().data[0].max_model_len == 64
    reply = ask(client, extra={"ignore_eos": True})
    assert (reply.usage.total_tokens, reply.choices[0].finish_reason) == (64, "length")
    with pytest.raises(openai.BadRequestError, match="context length is 64"):
        ask(client, FRANCE * 20)
