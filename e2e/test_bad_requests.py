"""Requests that must be refused: each a 4xx in OpenAI's error shape, with the server unharmed."""

import pytest

from harness.ask import PARIS, ask, chat_body
from harness.server import MODEL

TOO_LARGE_ID = 10_000_000
CHAT, COMPLETION = "/v1/chat/completions", "/v1/completions"


def error_of(answer, status: int) -> dict:
    """The error object of a refusal, its shape checked."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"].startswith("application/json")
    error = answer.json()["error"]
    assert set(error) >= {"message", "type", "param", "code"}
    assert isinstance(error["message"], str) and error["message"]
    assert isinstance(error["type"], str) and error["type"]
    assert error["param"] is None or isinstance(error["param"], str)
    assert error["code"] == status
    return error


@pytest.fixture(autouse=True)
def still_alive(server, client):
    yield
    assert server.alive()
    assert ask(client).choices[0].message.content == PARIS


# Fields on top of a good chat request, and what the message must mention.
CHAT_FIELDS = {
    "no messages": ({"messages": []}, "messages"),
    "messages of the wrong type": ({"messages": "hello"}, "messages"),
    "message without a role": ({"messages": [{"content": "hi"}]}, "role"),
    "message that is no object": ({"messages": ["hi"]}, "messages"),
    "content of the wrong type": ({"messages": [{"role": "user", "content": 5}]}, "content"),
    "image for a text model": ({"messages": [{"role": "user", "content": [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]}]}, "image"),
    "temperature below 0": ({"temperature": -1}, "temperature"),
    "temperature above 2": ({"temperature": 2.5}, "temperature"),
    "temperature as text": ({"temperature": "hot"}, "temperature"),
    "top_p of 0": ({"top_p": 0}, "top_p"),
    "top_p above 1": ({"top_p": 1.5}, "top_p"),
    "top_k below -1": ({"top_k": -2}, "top_k"),
    "top_k as a fraction": ({"top_k": 1.5}, "top_k"),
    "min_p above 1": ({"min_p": 1.1}, "min_p"),
    "typical_p of 0": ({"typical_p": 0}, "typical_p"),
    "presence_penalty": ({"presence_penalty": 2.5}, "presence_penalty"),
    "frequency_penalty": ({"frequency_penalty": -2.5}, "frequency_penalty"),
    "repetition_penalty of 0": ({"repetition_penalty": 0}, "repetition_penalty"),
    "max_tokens of 0": ({"max_tokens": 0}, "max_tokens"),
    "max_tokens beyond the context": ({"max_tokens": 1_000_000}, "max_tokens"),
    "max_tokens as text": ({"max_tokens": "ten"}, "max_tokens"),
    "max_completion_tokens below 0": ({"max_completion_tokens": -5}, "max_completion_tokens"),
    "min_tokens above max_tokens": ({"min_tokens": 5, "max_tokens": 4}, "min_tokens"),
    "n of 0": ({"n": 0}, "n must be"),
    "n beyond reason": ({"n": 1_000_000, "temperature": 1}, "n must be"),
    "n of 2 without sampling": ({"n": 2, "temperature": 0}, "greedy"),
    "five stop strings": ({"stop": list("abcde")}, "stop"),
    "empty stop string": ({"stop": [""]}, "stop"),
    "stop of the wrong type": ({"stop": 5}, "stop"),
    "stop token out of range": ({"stop_token_ids": [TOO_LARGE_ID]}, "stop_token_ids"),
    "logit_bias for no token": ({"logit_bias": {"x": 1}}, "logit_bias"),
    "logit_bias out of range": ({"logit_bias": {str(TOO_LARGE_ID): 1}}, "logit_bias"),
    "nothing allowed": ({"allowed_token_ids": []}, "allowed_token_ids"),
    "allowed token out of range": ({"allowed_token_ids": [TOO_LARGE_ID]}, "allowed_token_ids"),
    "empty bad word": ({"bad_words": [""]}, "bad_words"),
    "top_logprobs without logprobs": ({"top_logprobs": 3}, "logprobs"),
    "top_logprobs above 20": ({"logprobs": True, "top_logprobs": 21}, "20"),
    "prompt_logprobs in a stream": ({"prompt_logprobs": 1, "stream": True}, "prompt_logprobs"),
    "stream_options without a stream": ({"stream_options": {"include_usage": True}}, "tream"),
    "empty cache_salt": ({"cache_salt": ""}, "cache_salt"),
    "seed as text": ({"seed": "one"}, "seed"),
    "seed beyond 64 bits": ({"seed": 2**70}, "seed"),
    "no tools": ({"tools": []}, "tools"),
    "tool_choice without tools": ({"tool_choice": "auto"}, "tool_choice"),
    "two ways to end the prompt": ({"continue_final_message": True, "add_generation_prompt": True}, "continue_final"),
    "json_schema without a schema": ({"response_format": {"type": "json_schema"}}, "json_schema"),
    "prompt beyond the context": ({"messages": [{"role": "user", "content": "word " * 20_000}]}, "context length"),
}


@pytest.mark.parametrize("name", CHAT_FIELDS)
def test_chat(server, name):
    fields, mentions = CHAT_FIELDS[name]
    error = error_of(server.http.post(CHAT, json=chat_body(**fields)), 400)
    assert mentions in f"{error['message']} {error['param']}"


COMPLETION_FIELDS = {
    "no prompt": ({}, "prompt"),
    "empty list": ({"prompt": []}, "prompt"),
    "list of an empty list": ({"prompt": [[]]}, "prompt"),
    "mixed list": ({"prompt": [1, "two"]}, "prompt"),
    "token below 0": ({"prompt": [-1]}, "prompt"),
    "token out of range": ({"prompt": [1, TOO_LARGE_ID]}, "vocab"),
    "prompt as an object": ({"prompt": {"text": "hi"}}, "prompt"),
    "too many token ids": ({"prompt": [5] * 9000}, "context length"),
    "logprobs above 20": ({"prompt": "hi", "logprobs": 21}, "20"),
    "max_tokens of 0 without echo": ({"prompt": "hi", "max_tokens": 0}, "max_tokens"),
}


@pytest.mark.parametrize("name", COMPLETION_FIELDS)
def test_completion(server, name):
    fields, mentions = COMPLETION_FIELDS[name]
    error = error_of(server.http.post(COMPLETION, json={"model": MODEL} | fields), 400)
    assert mentions in f"{error['message']} {error['param']}"


@pytest.mark.parametrize("content", [
    b"", b"{", b"[]", b"null", b'"text"', b'{"messages": [', b"\xff\xfe", b"[" * 100_000, b'{"a":' * 50_000,
    b'{"messages": [{"role": "user", "content": "\\ud800"}]}', b'{"temperature": NaN}', b'{"temperature": 1e999}',
], ids=lambda content: repr(content[:24]))
@pytest.mark.parametrize("path", [CHAT, COMPLETION, "/tokenize"])
def test_body_that_is_no_request(server, path, content):
    error_of(server.http.post(path, content=content, headers={"Content-Type": "application/json"}), 400)


def test_wrong_content_type(server):
    answer = server.http.post(CHAT, content=b"hello", headers={"Content-Type": "text/plain"})
    error_of(answer, answer.status_code)
    assert answer.status_code in (400, 415)


@pytest.mark.parametrize("method, path, status", [
    ("GET", "/v1/nothing", 404), ("POST", "/", 405), ("PUT", CHAT, 405), ("PUT", COMPLETION, 405),
    ("GET", "/v1/models/nothing", 404), ("DELETE", "/v1/requests/nothing", 404),
])
def test_wrong_address(server, method, path, status):
    error_of(server.http.request(method, path), status)


@pytest.mark.parametrize("path", [CHAT, COMPLETION])
def test_unknown_model(server, path):
    body = chat_body(model="gpt-none", prompt="hi")
    assert "gpt-none" in error_of(server.http.post(path, json=body), 404)["message"]


@pytest.mark.parametrize("tokens", [[-1], [TOO_LARGE_ID], "text", None])
def test_detokenize(server, tokens):
    error_of(server.http.post("/detokenize", json={"model": MODEL, "tokens": tokens}), 400)


def test_body_over_the_limit(launch):
    server = launch("--max-body-size", "64K")
    error_of(server.http.post(CHAT, json=chat_body("x" * 100_000)), 413)
    assert ask(server.client()).choices[0].message.content == PARIS
