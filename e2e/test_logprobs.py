"""Log-probabilities on both endpoints."""

import math

import pytest

from harness.ask import PARIS, STORY, ask, complete

# bf16 or 8-bit weights, prefill against decode: the same mathematics in another order.
SAME = 0.1


def chat_logprobs(client, **options):
    return ask(client, logprobs=True, **options).choices[0].logprobs.content


def test_chat(client):
    tokens = chat_logprobs(client, top_logprobs=5)
    text = b"".join(bytes(token.bytes) for token in tokens)
    assert text.decode().removesuffix("<|im_end|>") == PARIS
    for token in tokens:
        top = [entry.logprob for entry in token.top_logprobs]
        assert len(top) == 5 and top == sorted(top, reverse=True)
        assert token.logprob <= 0 and sum(map(math.exp, top)) <= 1.001
        # Greedy: the sampled token is the most likely one.
        assert (token.token, token.logprob) == (token.top_logprobs[0].token, token.top_logprobs[0].logprob)


def test_chat_without_alternatives(client):
    assert all(token.top_logprobs == [] for token in chat_logprobs(client))


def test_chat_stream_gives_the_same(client):
    streamed = [
        token
        for chunk in ask(client, stream=True, logprobs=True, top_logprobs=2)
        for choice in chunk.choices
        if choice.logprobs
        for token in choice.logprobs.content
    ]
    whole = chat_logprobs(client, top_logprobs=2)
    assert [token.token for token in streamed] == [token.token for token in whole]
    assert [token.logprob for token in streamed] == pytest.approx([token.logprob for token in whole], abs=SAME)


def test_completion(client):
    choice = complete(client, max_tokens=6, logprobs=3).choices[0]
    scores = choice.logprobs
    assert "".join(scores.tokens) == choice.text
    assert len(scores.token_logprobs) == len(scores.top_logprobs) == len(scores.text_offset) == 6
    assert scores.text_offset == [len("".join(scores.tokens[:i])) for i in range(6)]
    for token, logprob, top in zip(scores.tokens, scores.token_logprobs, scores.top_logprobs, strict=True):
        assert len(top) >= 3 and top[token] == logprob == max(top.values())


def test_echo_scores_the_prompt(client):
    choice = complete(client, max_tokens=4, echo=True, logprobs=1).choices[0]
    assert choice.text.startswith(STORY)
    assert "".join(choice.logprobs.tokens) == choice.text
    assert choice.logprobs.token_logprobs[0] is None
    assert all(logprob <= 0 for logprob in choice.logprobs.token_logprobs[1:])


def test_scoring_without_generating(client):
    reply = complete(client, max_tokens=0, echo=True, logprobs=1)
    assert reply.choices[0].text == STORY
    assert "".join(reply.choices[0].logprobs.tokens) == STORY
    assert reply.usage.completion_tokens == 0


def test_decode_and_prefill_agree(client):
    """What decoding said of its own tokens, scoring the whole text as a prompt must say again."""
    extra = {"return_token_ids": True, "ignore_eos": True}
    written = complete(client, max_tokens=12, logprobs=0, extra=extra).choices[0]
    tokens = written.prompt_token_ids + written.token_ids
    scored = complete(client, tokens, max_tokens=0, echo=True, logprobs=0).choices[0]
    assert scored.logprobs.token_logprobs[-12:] == pytest.approx(written.logprobs.token_logprobs, abs=SAME)


def test_prompt_logprobs(client):
    choice = complete(client, max_tokens=1, extra={"prompt_logprobs": 2, "return_token_ids": True}).choices[0]
    first, *rest = choice.prompt_logprobs
    assert first is None and len(rest) == len(choice.prompt_token_ids) - 1
    for token, entry in zip(choice.prompt_token_ids[1:], rest, strict=True):
        assert entry[str(token)]["logprob"] <= 0 and entry[str(token)]["rank"] >= 1
        assert len(entry) in (2, 3)
        assert 1 in {alternative["rank"] for alternative in entry.values()}


def test_prompt_logprobs_do_not_depend_on_the_prefix_cache(client):
    """The cache is skipped for them: a cached token has no logits."""
    prompt = f"{STORY} " * 12
    runs = [complete(client, prompt, max_tokens=1, extra={"prompt_logprobs": 0}).choices[0] for _ in range(2)]
    cold, warm = ([list(e.values())[0]["logprob"] for e in run.prompt_logprobs[1:]] for run in runs)
    assert cold == pytest.approx(warm, abs=SAME)


def test_chat_prompt_logprobs(client):
    reply = ask(client, extra={"prompt_logprobs": 1})
    assert len(reply.prompt_logprobs) == reply.usage.prompt_tokens
