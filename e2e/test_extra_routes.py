"""vLLM's further routes: lists of conversations, rendering, the tokenizer's configuration, sleep."""

import threading

import pytest

from harness.ask import FRANCE, PARIS, PLAIN, chat_body, complete, endless_body, user
from harness.process import until
from harness.server import MODEL

LIST = "/v1/chat/completions/batch"


def test_several_conversations_are_one_answer(server, client):
    questions = [FRANCE, "What is 2+2?", FRANCE]
    body = {"model": MODEL, "messages": [user(text) for text in questions], "temperature": 0, "logprobs": True} | PLAIN
    answer = server.http.post(LIST, json=body).raise_for_status().json()
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2]
    alone = [server.http.post("/v1/chat/completions", json=chat_body(text, logprobs=True)).json() for text in questions]
    assert [choice["message"] for choice in answer["choices"]] == [each["choices"][0]["message"] for each in alone]
    assert [choice["logprobs"] for choice in answer["choices"]] == [each["choices"][0]["logprobs"] for each in alone]
    for field in ("prompt_tokens", "completion_tokens", "total_tokens"):
        assert answer["usage"][field] == sum(each["usage"][field] for each in alone)


@pytest.mark.parametrize("fields, param", [
    ({"messages": user(FRANCE)}, "messages"), ({"messages": []}, "messages"), ({"stream": True}, "stream"), ({"n": 2}, "n"),
    ({"messages": [user(FRANCE), [{"role": "user", "content": 5}]]}, "messages[1][0].content"),
    ({"temperature": 9}, "temperature"),
])
def test_lists_that_are_refused(server, fields, param):
    answer = server.http.post(LIST, json={"model": MODEL, "messages": [user(FRANCE)]} | fields)
    assert answer.status_code == 400 and answer.json()["error"]["param"] == param, answer.text


def test_what_is_rendered_is_what_runs(server, client):
    rendered = server.http.post("/v1/chat/completions/render", json=chat_body(max_tokens=9, seed=5)).json()
    tokens = server.http.post("/tokenize", json=chat_body()).json()["tokens"]
    assert rendered["token_ids"] == tokens and rendered["model"] == MODEL
    assert rendered["sampling_params"]["max_tokens"] == 9 and rendered["sampling_params"]["seed"] == 5
    answer = complete(client, tokens, max_tokens=20)
    assert answer.choices[0].text.strip() == PARIS
    prompts = server.http.post("/v1/completions/render", json={"model": MODEL, "prompt": ["a b", [5, 6]]}).json()
    assert prompts[1]["token_ids"] == [5, 6] and prompts[0]["sampling_params"]["max_tokens"] == 16
    assert server.http.post("/v1/completions/render", json={"model": MODEL, "prompt": "a", "top_p": 7}).status_code == 400


def test_the_tokenizer_is_shown_on_request_only(server, launch):
    assert server.http.get("/tokenizer_info").status_code == 404
    told = launch("--enable-tokenizer-info-endpoint").http.get("/tokenizer_info").json()
    assert "message" in told["chat_template"] and told["vocab_size"] > 1000


def test_a_model_without_such_tokens_fills_no_gaps(server):
    answer = server.http.post("/v1/completions", json={"model": MODEL, "prompt": "a", "suffix": "b"})
    assert answer.status_code == 400 and answer.json()["error"]["param"] == "suffix"
    assert server.http.post("/v1/completions", json={"model": MODEL, "prompt": "a", "suffix": "", "max_tokens": 1}).is_success


def test_sleep_gives_the_memory_back(launch):
    server = launch()
    http = server.http
    assert http.get("/is_sleeping").json() == {"is_sleeping": False}
    before = server.rss_bytes("RssAnon")
    assert http.post("/sleep?level=1").json() == {"is_sleeping": True}
    assert server.rss_bytes("RssAnon") < before / 2, "weights and KV cache are gone"
    refused = http.post("/v1/chat/completions", json=chat_body())
    assert refused.status_code == 503 and int(refused.headers["retry-after"]) > 0 and "asleep" in refused.text
    assert http.post("/tokenize", json={"prompt": "x"}).status_code == 503
    assert (http.get("/ready").status_code, http.get("/health").status_code) == (503, 200)
    assert http.post("/wake_up").json() == {"is_sleeping": False}
    assert http.post("/v1/chat/completions", json=chat_body()).json()["choices"][0]["message"]["content"] == PARIS
    for path in ("/sleep?level=3", "/sleep?mode=keep", "/sleep?x=1", "/wake_up?tags=weights"):
        assert http.post(path).status_code == 400, path
    assert http.get("/is_sleeping").json() == {"is_sleeping": False}


@pytest.mark.parametrize("mode", ["abort", "wait"])
def test_running_requests_before_sleep(launch, mode):
    server = launch()
    answers = []
    asking = threading.Thread(target=lambda: answers.append(server.http.post("/v1/completions", json=endless_body(600)).json()))
    asking.start()
    until(lambda: server.metrics().value("millrace:num_requests_running"), "it runs")
    assert server.http.post(f"/sleep?mode={mode}").json()["is_sleeping"]
    asking.join()
    choice = answers[0]["choices"][0]
    assert choice["finish_reason"] == {"abort": "abort", "wait": "length"}[mode]
    server.http.post("/wake_up").raise_for_status()
    assert server.http.post("/v1/chat/completions", json=chat_body()).is_success
