"""API keys."""

import pytest

from harness.ask import PARIS, ask, chat_body
from harness.server import Server

KEYS = ("first-key", "second-key")


@pytest.fixture(scope="module")
def locked():
    with Server("--api-key", KEYS[0], "--api-key", KEYS[1]) as server:
        yield server


@pytest.mark.parametrize("headers", [
    {}, {"Authorization": "Bearer wrong"}, {"Authorization": "Bearer"}, {"Authorization": "Bearer first-ke"},
    {"Authorization": "Bearer first-key2"}, {"Authorization": "Basic first-key"}, {"Authorization": "first-key"},
    {"x-api-key": ""}, {"x-api-key": "wrong"}, {"x-api-key": "Bearer first-key"},
])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/tokenize"])
def test_refused(locked, path, headers):
    answer = locked.http.post(path, json=chat_body(), headers=headers)
    assert answer.status_code == 401
    assert answer.json()["error"]["message"]


def test_models_are_locked_too(locked):
    assert locked.http.get("/v1/models").status_code == 401


@pytest.mark.parametrize("key", KEYS)
def test_each_key_opens(locked, key):
    assert ask(locked.client(key)).choices[0].message.content == PARIS
    answer = locked.http.post("/v1/chat/completions", json=chat_body(), headers={"x-api-key": key})
    assert answer.status_code == 200


@pytest.mark.parametrize("path", ["/health", "/ready", "/version", "/metrics"])
def test_what_stays_open(locked, path):
    assert locked.http.get(path).status_code == 200


def test_keys_are_not_shown(locked):
    assert not any(key in locked.log() for key in KEYS)
