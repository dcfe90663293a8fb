"""Errors of Anthropic's API: every type that can be provoked, with the exception that the official client makes of it."""

from concurrent.futures import ThreadPoolExecutor

import anthropic
import httpx2
import pytest

from asking import body, claude_of, counting, user
from harness.questions import FRANCE
from harness.process import until

TOOL = {"name": "f", "input_schema": {"type": "object"}}
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}
PDF = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "aGk="}}
CALL = {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {}}]}


def check(error: anthropic.APIStatusError, status: int, kind: str) -> str:
    """The shape of an error; returns its message."""
    assert error.status_code == status
    assert error.body["type"] == "error" and error.body["error"]["type"] == kind
    assert error.request_id and error.body["request_id"] == error.request_id
    return error.body["error"]["message"]


@pytest.mark.parametrize("fields, said", [
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": "many"}, "max_tokens"),
    ({"messages": []}, "messages"),
    ({"messages": [{"role": "robot", "content": "x"}]}, "messages.0.role"),
    ({"messages": [{"role": "user", "content": [IMAGE]}]}, "This model takes no images"),
    ({"messages": [{"role": "user", "content": [PDF]}]}, "messages.0.content.0.source"),
    ({"messages": user("x") + [CALL]}, "tool_result"),
    ({"messages": user("x") + [{"role": "assistant", "content": "It is "}]}, "white space"),
    ({"extra_body": {"temperature": 1.1}}, "temperature"),
    ({"extra_body": {"seed": 1}}, "seed: Extra inputs are not permitted"),
    ({"stop_sequences": [""]}, "stop_sequences.0"),
    ({"thinking": {"type": "enabled", "budget_tokens": 100}}, "thinking.budget_tokens"),
    ({"tools": [TOOL, TOOL]}, "tools.1.name"),
    ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "web_search_20250305"),
    ({"tools": [TOOL], "tool_choice": {"type": "tool", "name": "g"}}, "tool_choice.name"),
    ({"output_config": {"format": {"type": "json_schema", "schema": {"not": {}}}}}, "JSON schema"),
    ({"messages": user("word " * 9000)}, "too long"),
])
def test_bad_requests(server, claude, fields, said):
    with pytest.raises(anthropic.BadRequestError) as caught:
        claude.messages.create(**body() | fields)
    assert said in check(caught.value, 400, "invalid_request_error")
    # A stream that is refused is refused before it begins.
    with pytest.raises(anthropic.BadRequestError):
        claude.messages.create(**body() | fields, stream=True)
    assert server.idle()


@pytest.mark.parametrize("sent", [b"", b"{", b"[]", b"null", b'{"model": NaN}', b"[" * 10_000, b"\xff\xfe"])
def test_what_is_no_json(server, sent):
    answer = server.http.post("/v1/messages", content=sent, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_unknown_models_and_paths(server, claude):
    with pytest.raises(anthropic.NotFoundError) as caught:
        claude.messages.create(**body(model="claude-nothing"))
    assert "claude-nothing" in check(caught.value, 404, "not_found_error")
    with pytest.raises(anthropic.NotFoundError) as caught:
        claude.messages.count_tokens(model="claude-nothing", messages=user("x"))
    check(caught.value, 404, "not_found_error")
    with pytest.raises(anthropic.NotFoundError) as caught:
        claude.messages.batches.list()
    check(caught.value, 404, "not_found_error")
    with pytest.raises(anthropic.NotFoundError) as caught:
        claude.models.retrieve("claude-nothing")
    check(caught.value, 404, "not_found_error")
    wrong = server.http.get("/v1/messages")
    assert (wrong.status_code, wrong.json()["error"]["type"]) == (405, "invalid_request_error")


def test_too_large(claude):
    with pytest.raises(anthropic.APIStatusError) as caught:
        claude.messages.create(**body("x" * (17 << 20)))
    check(caught.value, 413, "request_too_large")


def test_keys(launch):
    server = launch("--api-key", "right")
    with pytest.raises(anthropic.AuthenticationError) as caught:
        claude_of(server, "wrong").messages.create(**body())
    check(caught.value, 401, "authentication_error")
    with pytest.raises(anthropic.AuthenticationError):
        claude_of(server, "wrong").models.list()
    by_token = anthropic.Anthropic(base_url=server.url, api_key=None, auth_token="right", max_retries=0)
    for client in (claude_of(server, "right"), by_token):
        assert client.messages.create(**body()).content[0].text == FRANCE["expected"]
        assert client.messages.count_tokens(**counting(FRANCE)).input_tokens == FRANCE["prompt_tokens"]


def test_full_queue(launch):
    server = launch("--max-num-queued-reqs", "1", "--max-num-seqs", "1")
    client = claude_of(server)
    endless = {"model": "millrace-demo", "prompt": "Once", "max_tokens": 4000, "ignore_eos": True, "temperature": 0}
    with ThreadPoolExecutor(1) as pool, server.events("/v1/completions", endless) as running:
        first = next(running)
        waiting = pool.submit(client.messages.create, **body())
        until(lambda: server.metrics().value("millrace:num_requests_waiting") == 1, "the second request waits")
        with pytest.raises(anthropic.OverloadedError) as caught:
            client.messages.create(**body())
        check(caught.value, 529, "overloaded_error")
        assert int(caught.value.response.headers["retry-after"]) >= 1
        server.http.delete(f"/v1/requests/{first['id']}").raise_for_status()
        assert waiting.result().content[0].text == FRANCE["expected"]


def test_cancelled_from_outside(server, claude):
    with claude.messages.create(**body("Tell me a story.", max_tokens=8000), stream=True) as stream:
        events = iter(stream)
        start = next(events)
        answer = server.http.delete(f"/v1/requests/{start.message.id}")
        ends = [event.delta.stop_reason for event in events if event.type == "message_delta"]
        # A short story may be told before the word arrives.
        assert ends == (["pause_turn"] if answer.status_code == 200 else ["end_turn"])
    server.wait_idle()


def test_other_errors_keep_their_shape(server):
    answer = server.http.post("/v1/chat/completions", json={})
    assert answer.json()["error"]["code"] == 400 and "request-id" not in answer.headers
    answer = server.http.get("/v1/models", headers={"anthropic-version": "2023-06-01"}, params={"limit": 0})
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert isinstance(answer, httpx2.Response)
