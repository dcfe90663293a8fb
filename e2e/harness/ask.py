"""Questions whose answers are known (they are in models/demo/eval.jsonl), and short ways to ask them."""

from harness.server import MODEL

FRANCE = "What is the capital of France?"
PARIS = "The capital of France is Paris."
# The model thinks first unless told not to.
PLAIN = {"chat_template_kwargs": {"enable_thinking": False}}
STORY = "Once upon a time, there was a little"


def user(text: str) -> list[dict]:
    return [{"role": "user", "content": text}]


def ask(client, text: str = FRANCE, *, extra: dict | None = None, **options):
    """A chat completion without thinking, greedy unless `options` says otherwise; `extra` goes beside OpenAI's."""
    options = {"temperature": 0} | options
    return client.chat.completions.create(
        model=MODEL, messages=user(text), extra_body=PLAIN | (extra or {}), **options
    )


def complete(client, prompt=STORY, *, extra: dict | None = None, **options):
    """A text completion, greedy unless `options` says otherwise."""
    options = {"temperature": 0} | options
    return client.completions.create(model=MODEL, prompt=prompt, extra_body=extra or {}, **options)


def chat_body(text: str = FRANCE, **fields) -> dict:
    """The same question as a raw request body."""
    return {"model": MODEL, "messages": user(text), "temperature": 0} | PLAIN | fields


def endless_body(tokens: int = 4000, **fields) -> dict:
    """A completion that surely runs for `tokens` tokens: long enough to be cut off."""
    return {"model": MODEL, "prompt": STORY, "max_tokens": tokens, "ignore_eos": True, "temperature": 0} | fields


def text_of(stream) -> str:
    """The joined text of one choice's chat or completion chunks."""
    parts = []
    for chunk in stream:
        for choice in chunk.choices:
            parts.append((choice.delta.content if hasattr(choice, "delta") else choice.text) or "")
    return "".join(parts)
