"""A file of keys: names, budgets, models, administration, and reading it again."""

import signal

import anthropic
import openai
import pytest

from harness.ask import PARIS, ask, chat_body, complete, endless_body
from harness.process import until
from harness.server import MODEL, Server

KEYS = """
keys:
  - {name: ada, key: key-of-ada, requests_per_minute: 2}
  - {name: bob, key: key-of-bob, tokens_per_minute: 60}
  - {name: eve, key: key-of-eve, models: [another]}
  - {name: root, key: key-of-root, admin: true}
"""
PROXIED = {"x-forwarded-for": "10.0.0.1"}


@pytest.fixture
def keys(tmp_path):
    file = tmp_path / "keys.yaml"
    file.write_text(KEYS)
    return file


@pytest.fixture
def locked(keys):
    with Server("--api-keys-file", str(keys), "--log-level", "info", "--log-format", "json") as server:
        yield server


def test_a_budget_of_requests(locked):
    client = locked.client("key-of-ada")
    for left in (1, 0):
        raw = locked.http.post("/v1/chat/completions", json=chat_body(max_tokens=1), headers={"x-api-key": "key-of-ada"})
        assert raw.headers["x-ratelimit-remaining-requests"] == str(left)
    with pytest.raises(openai.RateLimitError) as refused:
        ask(client)
    assert 1 <= int(refused.value.response.headers["retry-after"]) <= 31
    with anthropic.Anthropic(base_url=locked.url, api_key="key-of-ada", max_retries=0) as theirs:
        with pytest.raises(anthropic.RateLimitError):
            theirs.messages.create(model=MODEL, max_tokens=1, messages=[{"role": "user", "content": "Hi"}])


def test_a_budget_of_tokens(locked):
    client = locked.client("key-of-bob")
    assert complete(client, max_tokens=50, extra={"ignore_eos": True}).usage.completion_tokens == 50
    with pytest.raises(openai.RateLimitError, match="tokens"):
        complete(client, max_tokens=1)
    assert locked.metrics().value("millrace:key_completion_tokens_total", key="bob") == 50
    # Refused before it was queued.
    assert locked.metrics().value("millrace:request_success_total") == 1


def test_models_of_a_key(locked):
    client = locked.client("key-of-eve")
    with pytest.raises(openai.PermissionDeniedError):
        ask(client)
    assert client.models.list().data == []


def test_the_file_is_read_again(locked, keys):
    keys.write_text("keys: [")
    locked.signal(signal.SIGHUP)
    until(lambda: "the old keys stay" in locked.stderr(), "the bad file is reported")
    assert ask(locked.client("key-of-root")).choices[0].message.content == PARIS
    keys.write_text("keys: [{name: zoe, key: key-of-zoe}]")
    locked.signal(signal.SIGHUP)
    until(lambda: "1 keys open the server" in locked.stderr(), "the new file is read")
    assert ask(locked.client("key-of-zoe")).choices[0].message.content == PARIS
    with pytest.raises(openai.AuthenticationError):
        ask(locked.client("key-of-root"))
    assert '"key":"zoe"' in locked.stderr()
    assert not any(key in locked.log() for key in ("key-of-zoe", "key-of-root"))


def test_a_bad_file_ends_the_start(tmp_path):
    file = tmp_path / "keys.yaml"
    file.write_text("keys: [{name: a, kye: SECRET}]")
    with pytest.raises(AssertionError, match="needs either `key` or `sha256`") as failure:
        Server("--api-keys-file", str(file)).__enter__()
    assert "SECRET" not in str(failure.value)


@pytest.mark.parametrize("method, path", [
    ("GET", "/v1/status"), ("GET", "/v1/cache/stats"), ("DELETE", "/v1/cache/prefix"), ("POST", "/v1/requests/x/cancel"),
])
def test_the_administration_is_guarded(locked, method, path):
    def status(**headers):
        return locked.http.request(method, path, headers=headers).status_code

    good = 404 if path.endswith("cancel") else 200
    assert status() == good  # from this machine
    assert status(**PROXIED) == 401
    assert status(**PROXIED, Authorization="Bearer key-of-ada") == 403
    assert status(**PROXIED, Authorization="Bearer key-of-root") == good
    assert status(host="rebound.example") == 401
    assert status(origin="https://evil.example") == 401


def test_an_administrator_sees_and_ends_what_runs(server):
    with server.events("/v1/completions", endless_body(n=2, temperature=1)) as events:
        first = next(events)

        def request():
            found = [r for r in server.http.get("/v1/status").json()["requests"] if r["id"] == first["id"]]
            return found[0] if found and found[0]["generated_tokens"] > 2 else None

        shown = until(request, "the request is shown")
        assert (shown["state"], shown["sequences"], shown["model"]) == ("running", 2, MODEL)
        assert shown["computed_tokens"] > shown["prompt_tokens"] > 0
        status = server.http.get("/v1/status").json()
        assert status["memory"]["resident_bytes"] > 1 << 20
        assert status["models"][0]["running"] >= 2
        assert server.http.post(f"/v1/requests/{first['id']}/cancel").json()["requests"] == 1
        ends = [c["finish_reason"] for e in events if e != "[DONE]" for c in e["choices"]]
        assert [end for end in ends if end] == ["abort", "abort"]
    server.wait_idle()
    assert server.http.get("/v1/status").json()["requests"] == []


def test_the_cache_is_dropped(launch):
    server = launch()
    client = server.client()
    text = "All work and no play makes Jack a dull boy. " * 8

    def cached():
        return complete(client, text, max_tokens=1).usage.prompt_tokens_details.cached_tokens

    assert cached() == 0 < cached()
    server.wait_idle()
    stats = server.http.get("/v1/cache/stats").json()["data"][0]["cache"]
    assert stats["blocks_cached"] > 0 == stats["blocks_in_use"]
    dropped = server.http.delete("/v1/cache/prefix").json()["data"][0]["blocks"]
    assert dropped == stats["blocks_cached"]
    assert cached() == 0


def test_one_cannot_end_anothers_request(locked):
    headers = {"Authorization": "Bearer key-of-bob"}
    other = {"Authorization": "Bearer key-of-ada"}
    body = endless_body(stream=True)
    with locked.http.stream("POST", "/v1/completions", json=body, headers=headers | {"x-request-id": "mine"}) as stream:
        lines = stream.iter_lines()
        next(lines)
        assert locked.http.delete("/v1/requests/mine", headers=other).status_code == 404
        assert locked.http.delete("/v1/requests/mine", headers=headers).status_code == 200
