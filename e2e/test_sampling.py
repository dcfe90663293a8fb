"""Sampling parameters, each by an effect that nothing else has."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from harness.ask import FRANCE, PARIS, ask, complete


def story(client, seed: int, **options) -> str:
    return complete(client, temperature=1, seed=seed, max_tokens=24, **options).choices[0].text


def token_ids(client, max_tokens: int = 20, **extra) -> list[int]:
    extra = {"return_token_ids": True, "ignore_eos": True} | extra
    return complete(client, max_tokens=max_tokens, extra=extra).choices[0].token_ids


def test_same_seed_same_text_under_load(client):
    alone = [story(client, seed) for seed in range(4)]
    with ThreadPoolExecutor(16) as pool:
        noise = [pool.submit(ask, client, FRANCE, temperature=1, max_tokens=30) for _ in range(12)]
        crowded = list(pool.map(lambda seed: story(client, seed), range(4)))
    assert crowded == alone
    assert all(future.result().choices for future in noise)


def test_different_seeds_differ(client):
    assert len({story(client, seed) for seed in range(6)}) > 1


def test_no_seed_differs(client):
    texts = {complete(client, temperature=1, max_tokens=24).choices[0].text for _ in range(6)}
    assert len(texts) > 1


@pytest.mark.parametrize("narrow", [{"top_k": 1}, {"top_p": 1e-6}, {"min_p": 1.0}, {"temperature": 0}])
def test_parameters_that_leave_one_token_are_greedy(client, narrow):
    options = {"temperature": 1.5, "seed": 3} | {k: v for k, v in narrow.items() if k in ("temperature", "top_p")}
    extra = {k: v for k, v in narrow.items() if k not in options}
    assert ask(client, extra=extra, **options).choices[0].message.content == PARIS


def test_typical_p_is_taken(client):
    """Locally typical sampling with little mass still gives text, and the same for the same seed."""
    assert story(client, 5, extra={"typical_p": 0.2}) == story(client, 5, extra={"typical_p": 0.2}) != ""


def test_logit_bias_forces_and_forbids(client):
    plain = token_ids(client)
    other = plain[0] - 1
    assert token_ids(client, logit_bias={str(other): 100})[:3] == [other] * 3
    assert plain[0] not in token_ids(client, logit_bias={str(plain[0]): -100})


def test_allowed_token_ids(client):
    allowed = [300, 400, 500]
    assert set(token_ids(client, allowed_token_ids=allowed)) <= set(allowed)


def test_frequency_penalty(client):
    """A penalty that grows with each use must sooner or later take both of two tokens, and about as often."""
    ids = token_ids(client, allowed_token_ids=[300, 400], frequency_penalty=2.0, max_tokens=40)
    assert min(ids.count(300), ids.count(400)) >= 5


def test_presence_and_repetition_penalty_change_a_loop(client):
    """Ignoring the end, greedy text repeats itself; each penalty must break the loop."""
    plain = complete(client, FRANCE, max_tokens=100, extra={"ignore_eos": True}).choices[0].text
    presence = complete(client, FRANCE, max_tokens=100, presence_penalty=2, extra={"ignore_eos": True})
    repetition = complete(client, FRANCE, max_tokens=100, extra={"ignore_eos": True, "repetition_penalty": 2.0})
    assert presence.choices[0].text != plain != repetition.choices[0].text


def test_bad_words(client):
    answer = ask(client, max_tokens=30, extra={"bad_words": ["Paris"]}).choices[0].message.content
    assert "Paris" not in answer and answer.startswith("The capital of France is")


def test_each_request_in_a_batch_has_its_own_parameters(client):
    """Different parameters at once give what they give alone."""
    calls = [
        lambda: ask(client).choices[0].message.content,
        lambda: ask(client, stop=" is").choices[0].message.content,
        lambda: ask(client, max_tokens=3).choices[0].message.content,
        lambda: ask(client, extra={"bad_words": ["Paris"]}, max_tokens=30).choices[0].message.content,
        lambda: story(client, 11),
        lambda: str(token_ids(client, allowed_token_ids=[300, 400])),
    ]
    alone = [call() for call in calls]
    with ThreadPoolExecutor(18) as pool:
        together = [future.result() for future in [pool.submit(call) for _ in range(3) for call in calls]]
    assert together == alone * 3
