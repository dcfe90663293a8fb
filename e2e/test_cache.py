"""The prefix cache, seen from outside: cached_tokens in the usage, and the same answers."""

import uuid

import pytest

from harness.ask import complete

BLOCK = 16


@pytest.fixture
def prompt() -> str:
    """About a hundred tokens that no other test has sent."""
    return f"{uuid.uuid4()} " + "The cat sat on the mat and looked at the dog. " * 7


def cached(reply) -> int:
    details = reply.usage.prompt_tokens_details
    return (details and details.cached_tokens) or 0


def test_second_time_is_cached(client, prompt):
    first, second = (complete(client, prompt, max_tokens=8) for _ in range(2))
    assert cached(first) == 0
    # Whole blocks, and never the last token: it has to be computed to get logits.
    assert cached(second) == (second.usage.prompt_tokens - 1) // BLOCK * BLOCK
    assert first.choices[0].text == second.choices[0].text


def test_shared_prefix_is_cached(client, prompt):
    complete(client, prompt + "and the first end", max_tokens=1)
    reply = complete(client, prompt + "but another end", max_tokens=1)
    assert BLOCK <= cached(reply) < reply.usage.prompt_tokens


def test_generated_tokens_are_cached_too(client, prompt):
    """The next turn of a conversation starts with the answer before."""
    first = complete(client, prompt, max_tokens=40, extra={"return_token_ids": True, "ignore_eos": True})
    choice = first.choices[0]
    reply = complete(client, choice.prompt_token_ids + choice.token_ids + [300], max_tokens=1)
    assert cached(reply) >= (len(choice.prompt_token_ids) + 39) // BLOCK * BLOCK


def test_salt_keeps_apart(client, prompt):
    salted = [{"cache_salt": salt} for salt in ("one", "one", "two")]
    hits = [cached(complete(client, prompt, max_tokens=1, extra=extra)) for extra in [{}, *salted]]
    assert hits[0] == hits[1] == hits[3] == 0 < hits[2]


def test_usage_of_a_stream_names_cached_tokens(client, prompt):
    complete(client, prompt, max_tokens=1)
    *_, last = complete(client, prompt, max_tokens=4, stream=True, stream_options={"include_usage": True})
    assert cached(last) > 0


def test_metrics_count_hits(server, client, prompt):
    names = ("millrace:prefix_cache_queries_total", "millrace:prefix_cache_hits_total")
    before = [server.metrics().value(name) for name in names]
    replies = [complete(client, prompt, max_tokens=1) for _ in range(2)]
    queries, hits = (server.metrics().value(name) - old for name, old in zip(names, before, strict=True))
    assert hits == cached(replies[1])
    assert queries >= hits


def test_off(launch, client, prompt):
    other = launch("--no-enable-prefix-caching").client()
    replies = [complete(other, prompt, max_tokens=8) for _ in range(2)]
    assert [cached(reply) for reply in replies] == [0, 0]
    assert {reply.choices[0].text for reply in replies} == {complete(client, prompt, max_tokens=8).choices[0].text}
