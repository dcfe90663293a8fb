"""/v1/chat/completions with the official client."""

from collections import Counter

from harness.ask import FRANCE, PARIS, PLAIN, ask, chat_body, text_of, user
from harness.server import MODEL


def test_answer(client):
    reply = ask(client)
    assert reply.id.startswith("chatcmpl-")
    assert (reply.object, reply.model) == ("chat.completion", MODEL)
    (choice,) = reply.choices
    assert (choice.index, choice.message.role, choice.message.content) == (0, "assistant", PARIS)
    assert choice.finish_reason == "stop"
    # Seven words and marks, and the end token.
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (19, 8)
    assert reply.usage.total_tokens == 27


def test_stream_says_the_same(client):
    chunks = list(ask(client, stream=True))
    assert text_of(chunks) == PARIS
    assert len({chunk.id for chunk in chunks}) == 1
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [c.choices[0].finish_reason for c in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    assert all(chunk.usage is None for chunk in chunks)
    assert len(chunks) > 4, "the answer came in one piece"


def test_stream_with_usage(client):
    *chunks, last = ask(client, stream=True, stream_options={"include_usage": True})
    assert last.choices == [] and last.usage == ask(client).usage.model_copy(
        update={"prompt_tokens_details": last.usage.prompt_tokens_details}
    )
    assert all(chunk.usage is None for chunk in chunks)


def test_stream_with_continuous_usage(client):
    options = {"include_usage": True, "continuous_usage_stats": True}
    counts = [chunk.usage.completion_tokens for chunk in ask(client, stream=True, stream_options=options)]
    assert counts == sorted(counts) and counts[-1] == 8 and len(set(counts)) > 4


def test_stream_on_the_wire(server):
    with server.events("/v1/chat/completions", chat_body()) as events:
        *chunks, done = events
    assert done == "[DONE]"
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}


def test_two_samples(client):
    reply = ask(client, "Tell me a story.", n=2, temperature=1, seed=7, max_tokens=40)
    first, second = (choice.message.content for choice in reply.choices)
    assert [choice.index for choice in reply.choices] == [0, 1]
    assert first != second
    assert 2 < reply.usage.completion_tokens <= 80


def test_two_samples_streamed(client):
    options = dict(n=2, temperature=1, seed=7, max_tokens=40)
    texts, ends = {0: "", 1: ""}, Counter()
    for chunk in ask(client, "Tell me a story.", stream=True, **options):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
            ends[choice.index] += choice.finish_reason is not None
    assert ends == {0: 1, 1: 1}
    whole = ask(client, "Tell me a story.", **options)
    assert [texts[0], texts[1]] == [choice.message.content for choice in whole.choices]


def test_history_and_system_message(client):
    system = [{"role": "system", "content": 'Start every answer with "Hello!"'}]
    reply = client.chat.completions.create(
        model=MODEL, messages=system + user(FRANCE), temperature=0, extra_body=PLAIN
    )
    assert reply.choices[0].message.content == f"Hello! {PARIS}"
    talk = user(FRANCE) + [{"role": "assistant", "content": PARIS}] + user("And of Japan?")
    reply = client.chat.completions.create(model=MODEL, messages=talk, temperature=0, extra_body=PLAIN)
    assert reply.choices[0].message.content == "The capital of Japan is Tokyo."


def test_content_parts_are_joined(client):
    parts = [{"type": "text", "text": "What is the capital"}, {"type": "text", "text": " of France?"}]
    message = {"role": "user", "content": parts}
    reply = client.chat.completions.create(model=MODEL, messages=[message], temperature=0, extra_body=PLAIN)
    assert "Paris" in reply.choices[0].message.content


def test_thinking_is_a_template_option(client):
    reply = ask(client, extra={"chat_template_kwargs": {"enable_thinking": True}}, max_tokens=200)
    message = reply.choices[0].message
    assert message.reasoning_content and message.reasoning_content == message.reasoning
    assert "<" not in message.reasoning_content and message.content == PARIS
    details = reply.usage.completion_tokens_details
    assert 4 < details.reasoning_tokens < reply.usage.completion_tokens - 7
    assert ask(client).choices[0].message.model_extra.get("reasoning_content") is None


def test_continue_final_message(client):
    reply = client.chat.completions.create(
        model=MODEL,
        messages=user(FRANCE) + [{"role": "assistant", "content": "The capital of France"}],
        temperature=0,
        extra_body=PLAIN | {"continue_final_message": True, "add_generation_prompt": False},
    )
    assert reply.choices[0].message.content == PARIS.removeprefix("The capital of France")


def test_default_temperature_comes_from_the_model(client):
    """generation_config.json says do_sample: false; without a temperature the answers are greedy."""
    answers = {ask(client, temperature=None).choices[0].message.content for _ in range(3)}
    assert answers == {PARIS}
