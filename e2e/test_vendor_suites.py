"""What vLLM's and llama.cpp's own server tests look at and no other file here does; e2e/README.md has the whole list."""

import json
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest

from harness.ask import FRANCE, PARIS, STORY, ask, chat_body, complete, endless_body, user
from harness.process import until
from harness.server import MODEL

CHAT, COMPLETION = "/v1/chat/completions", "/v1/completions"


def test_unknown_fields_do_not_hurt(client):
    assert ask(client, extra={"extra_field": {"a": [1]}}).choices[0].message.content == PARIS
    assert ask(client, user="somebody", metadata={"a": "b"}).choices[0].message.content == PARIS


@pytest.mark.parametrize("seed, taken", [(2**63 - 1, True), (-(2**63), True), (2**63, False), (-(2**63) - 1, False)])
def test_seeds_have_64_bits(client, seed, taken):
    draw = lambda: complete(client, seed=seed, temperature=1, max_tokens=12).choices[0].text
    if taken:
        assert draw() == draw()
    else:
        with pytest.raises(openai.BadRequestError, match="seed"):
            draw()


@pytest.mark.parametrize("stream", [False, True])
def test_tokens_as_ids(client, server, stream):
    options = {"extra": {"return_tokens_as_token_ids": True, "return_token_ids": True}, "max_tokens": 6, "logprobs": 1}
    answer = complete(client, stream=stream, **options)
    choices = [chunk.choices[0] for chunk in (answer if stream else [answer])]
    names = [name for choice in choices if choice.logprobs for name in choice.logprobs.tokens]
    ids = [token for choice in choices for token in choice.token_ids]
    assert names == [f"token_id:{token}" for token in ids] and len(ids) == 6


def test_usage_of_every_chunk_while_the_prompt_comes_in_pieces(launch):
    server = launch("--max-num-batched-tokens", "32")
    prompt = "The capital of France is Paris. " * 20
    options = {"include_usage": True, "continuous_usage_stats": True}
    with server.events(COMPLETION, {"model": MODEL, "prompt": prompt, "max_tokens": 5, "stream_options": options}) as events:
        usages = [event["usage"] for event in events if event != "[DONE]"]
    assert len({usage["prompt_tokens"] for usage in usages}) == 1 and usages[0]["prompt_tokens"] > 64
    counts = [usage["completion_tokens"] for usage in usages]
    assert counts == sorted(counts) and counts[-1] == 5
    assert all(usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"] for usage in usages)


def test_conversations_are_tokenized_as_they_are_asked(server):
    tokenize = lambda **fields: server.http.post("/tokenize", json={"model": MODEL} | fields).raise_for_status().json()["tokens"]
    text = lambda tokens: server.http.post("/detokenize", json={"model": MODEL, "tokens": tokens}).json()["prompt"]
    messages = user(FRANCE) + [{"role": "assistant", "content": "The capital"}]
    closed = tokenize(messages=messages, add_generation_prompt=False)
    opened = tokenize(messages=messages, add_generation_prompt=True)
    continued = tokenize(messages=messages, continue_final_message=True, add_generation_prompt=False)
    assert opened[: len(closed)] == closed and len(opened) > len(closed)
    assert closed[: len(continued)] == continued and text(continued).endswith("The capital")
    usage = server.http.post(CHAT, json=chat_body(messages=messages)).json()["usage"]
    assert usage["prompt_tokens"] == len(tokenize(messages=messages, chat_template_kwargs={"enable_thinking": False}))
    tool = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object", "properties": {}}}}
    assert "look_up" in text(tokenize(messages=user(FRANCE), tools=[tool]))
    both = server.http.post("/tokenize", json={"messages": messages, "continue_final_message": True, "add_generation_prompt": True})
    assert both.status_code == 400


@pytest.mark.parametrize("text", ["", " ", "Grüße, 世界! 🦀👩‍👩‍👧", "a\n\n\tb", "<|im_start|>user", "\u0000x"])
def test_every_text_comes_back(server, text):
    tokens = server.http.post("/tokenize", json={"prompt": text, "add_special_tokens": False}).json()
    assert tokens["count"] == len(tokens["tokens"])
    assert server.http.post("/detokenize", json={"tokens": tokens["tokens"]}).json()["prompt"] == text


def test_more_requests_than_places(launch):
    server = launch("--max-num-seqs", "2")
    client = server.client()
    prompts = [f"{STORY} {number}" for number in range(8)]
    alone = [complete(client, prompt, max_tokens=24).choices[0].text for prompt in prompts]
    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(lambda prompt: complete(client, prompt, max_tokens=24).choices[0].text, prompts))
    assert together == alone


def test_a_cached_prompt_changes_nothing(launch):
    server = launch()
    client = server.client()
    prompt = STORY * 12
    fresh = complete(client, prompt, max_tokens=24, logprobs=3)
    cached = complete(client, prompt, max_tokens=24, logprobs=3)
    server.http.delete("/v1/cache/prefix").raise_for_status()
    again = complete(client, prompt, max_tokens=24, logprobs=3)
    cached_tokens = [answer.usage.prompt_tokens_details.cached_tokens for answer in (fresh, cached, again)]
    assert cached_tokens[0] == cached_tokens[2] == 0 < cached_tokens[1]
    assert fresh.choices == cached.choices == again.choices


def test_temperature_decides_how_much_seeds_matter(client):
    draw = lambda **options: {complete(client, seed=seed, max_tokens=16, **options).choices[0].text for seed in range(6)}
    assert len(draw(temperature=0)) == 1
    assert len(draw(temperature=2)) > len(draw(temperature=0.01))


def test_a_stream_that_can_not_begin_is_an_http_error(server):
    body = {"model": MODEL, "prompt": "x " * 100_000, "stream": True}
    answer = server.http.post(COMPLETION, json=body)
    assert answer.status_code == 400 and "context length" in answer.json()["error"]["message"]
    answer = server.http.post(CHAT, json=chat_body("x " * 100_000, stream=True))
    assert answer.status_code == 400 and answer.headers["content-type"].startswith("application/json")


def test_usage_of_several_streamed_samples(server):
    options = {"include_usage": True}
    body = {"model": MODEL, "prompt": STORY, "n": 3, "max_tokens": 7, "ignore_eos": True, "stream_options": options}
    with server.events(COMPLETION, body) as events:
        chunks = [event for event in events if event != "[DONE]"]
    assert all(chunk["usage"] is None for chunk in chunks[:-1]) and chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["completion_tokens"] == 21
    assert {chunk["choices"][0]["index"] for chunk in chunks[:-1]} == {0, 1, 2}


def test_the_load_is_what_runs(server):
    load = lambda: server.http.get("/load").json()["server_load"]
    until(lambda: load() == 0, "nothing runs")
    with server.events(COMPLETION, endless_body()) as events:
        next(events)
        assert load() == 1
    until(lambda: load() == 0, "the client that left is no load")


def test_a_stop_string_at_the_very_beginning(client):
    word = complete(client, max_tokens=1).choices[0].text
    stopped = complete(client, max_tokens=20, stop=[word]).choices[0]
    assert (stopped.text, stopped.finish_reason) == ("", "stop")


@pytest.mark.parametrize("count", [0, 1, 5])
def test_as_many_alternatives_as_asked(client, count):
    logprobs = complete(client, max_tokens=5, logprobs=count).choices[0].logprobs
    assert all(len(top) in (count, count + 1) for top in logprobs.top_logprobs)
    assert all(name in top for name, top in zip(logprobs.tokens, logprobs.top_logprobs))
    chat = ask(client, max_tokens=5, logprobs=True, top_logprobs=count).choices[0].logprobs
    assert all(len(token.top_logprobs) == count for token in chat.content)


def test_prompts_that_can_not_be(server):
    for prompt in ([], [[]], [10**9], [-1], [[1, 2], []], None):
        answer = server.http.post(COMPLETION, json={"model": MODEL, "prompt": prompt})
        assert answer.status_code == 400, prompt


def test_null_is_as_if_left_out(client, server):
    """Programs that fill in every field of a form send nulls."""
    nulls = {name: None for name in (
        "tools", "tool_choice", "stop", "seed", "logit_bias", "logprobs", "top_logprobs", "response_format", "n", "top_p",
        "max_tokens", "max_completion_tokens", "stream_options", "user", "metadata", "parallel_tool_calls", "reasoning_effort",
        "presence_penalty", "frequency_penalty", "structured_outputs", "stop_token_ids", "priority", "cache_salt",
    )}
    answer = server.http.post(CHAT, json=chat_body(**nulls)).raise_for_status().json()
    assert answer["choices"][0]["message"]["content"] == PARIS
    tool = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object", "properties": {}}}}
    left_out, null = (
        server.http.post(CHAT, json=chat_body(tools=[tool], **fields)).raise_for_status().json()["choices"][0]
        for fields in ({}, {"tool_choice": None})
    )
    assert null["finish_reason"] == left_out["finish_reason"]


@pytest.mark.parametrize("echo", [False, True])
def test_offsets_say_where_tokens_begin(client, echo):
    options = {"max_tokens": 12, "logprobs": 0, "echo": echo}
    choice = complete(client, **options).choices[0]
    offsets, tokens = choice.logprobs.text_offset, choice.logprobs.tokens
    assert offsets[0] == 0 and len(offsets) == len(tokens)
    assert all(choice.text.startswith(token, offset) for token, offset in zip(tokens, offsets))
    pieces = [chunk.choices[0].logprobs for chunk in complete(client, stream=True, **options) if chunk.choices[0].logprobs]
    assert [offset for piece in pieces for offset in piece.text_offset] == offsets


def test_nobody_writes_lines_into_the_log(launch):
    server = launch("--log-level", "info", "--log-format", "json")
    for evil in ('x\n{"level":"ERROR","forged":1}', "x\r\n\x1b[31mforged"):
        server.http.post(CHAT, json=chat_body(model=evil, user=evil)).read()
        server.http.get("/v1/models/" + evil.replace("\r", "%0d").replace("\n", "%0a").replace("\x1b", "%1b")).read()
    until(lambda: server.stderr().count('"status":404') >= 4, "all are logged")
    for line in server.stderr().splitlines():
        assert "forged" not in json.loads(line) and "\x1b" not in line
