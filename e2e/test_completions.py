"""/v1/completions: forms of the prompt, several choices, streams."""

from harness.ask import STORY, complete, text_of
from harness.server import MODEL


def tokens_of(server, text: str) -> list[int]:
    return server.http.post("/tokenize", json={"model": MODEL, "prompt": text}).json()["tokens"]


def test_shape(client):
    reply = complete(client, max_tokens=5)
    assert reply.id.startswith("cmpl-")
    assert (reply.object, reply.model, len(reply.choices)) == ("text_completion", MODEL, 1)
    assert reply.usage.completion_tokens == 5


def test_token_ids_are_the_same_prompt(server, client):
    as_text, as_ids = (complete(client, prompt, max_tokens=10) for prompt in (STORY, tokens_of(server, STORY)))
    assert as_ids.choices[0].text == as_text.choices[0].text
    assert as_ids.usage.prompt_tokens == as_text.usage.prompt_tokens == len(tokens_of(server, STORY))


def test_lists_of_prompts(server, client):
    prompts = [STORY, "One day, a cat"]
    single = [complete(client, prompt, max_tokens=8).choices[0].text for prompt in prompts]
    for listed in (prompts, [tokens_of(server, prompt) for prompt in prompts]):
        reply = complete(client, listed, max_tokens=8)
        assert [choice.index for choice in reply.choices] == [0, 1]
        assert [choice.text for choice in reply.choices] == single


def test_prompts_times_samples(client):
    reply = complete(client, [STORY, "One day, a cat"], n=3, temperature=1, seed=1, max_tokens=4, echo=True)
    assert [choice.index for choice in reply.choices] == list(range(6))
    assert [choice.text.startswith(STORY) for choice in reply.choices] == [True] * 3 + [False] * 3


def test_stream(client):
    whole = complete(client, max_tokens=20)
    *chunks, usage = complete(client, max_tokens=20, stream=True, stream_options={"include_usage": True})
    assert text_of(chunks) == whole.choices[0].text
    assert (usage.choices, usage.usage.completion_tokens) == ([], 20)


def test_echo_in_a_stream(client):
    assert text_of(complete(client, max_tokens=5, echo=True, stream=True)).startswith(STORY)


def test_return_token_ids(server, client):
    choice = complete(client, max_tokens=7, extra={"return_token_ids": True, "ignore_eos": True}).choices[0]
    assert choice.prompt_token_ids == tokens_of(server, STORY)
    assert len(choice.token_ids) == 7
    text = server.http.post("/detokenize", json={"model": MODEL, "tokens": choice.token_ids}).json()["prompt"]
    assert text == choice.text


def test_special_tokens_on_request(client):
    """The end token is text only for those who ask."""
    prompt = "<|im_start|>user\nHello!<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    options = {"max_tokens": 30, "stop": None}
    assert complete(client, prompt, **options).choices[0].text == "Hello! How can I help you today?"
    kept = {"skip_special_tokens": False, "ignore_eos": True}
    assert "<|im_end|>" in complete(client, prompt, extra=kept, **options).choices[0].text
