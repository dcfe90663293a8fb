"""Stored chat completions with the official client: kept whole and streamed, listed, changed, forgotten, restarted."""

import openai
import pytest

from harness.ask import FRANCE, PARIS, PLAIN, ask, user
from harness.server import MODEL, Server


def keep(client, **fields):
    return ask(client, store=True, **fields)


def test_a_stored_answer_is_found_changed_and_forgotten(client):
    made = keep(client, metadata={"topic": "capitals", "run": "1"})
    kept = client.chat.completions.retrieve(made.id)
    assert kept.choices[0].message.content == made.choices[0].message.content == PARIS
    assert (kept.id, kept.model, kept.usage.total_tokens) == (made.id, MODEL, made.usage.total_tokens)
    assert kept.metadata == {"topic": "capitals", "run": "1"}
    (message,) = client.chat.completions.messages.list(made.id)
    assert (message.role, message.content, message.id) == ("user", FRANCE, f"{made.id}-0")
    changed = client.chat.completions.update(made.id, metadata={"topic": "rivers"})
    assert changed.metadata == {"topic": "rivers"}
    assert made.id in [each.id for each in client.chat.completions.list(metadata={"topic": "rivers"})]
    assert client.chat.completions.delete(made.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.retrieve(made.id)


def test_a_streamed_answer_is_stored_too(client):
    body = {"model": MODEL, "messages": user(FRANCE), "temperature": 0, "extra_body": PLAIN}
    with client.chat.completions.stream(**body, store=True) as stream:
        final = stream.get_final_completion()
    kept = client.chat.completions.retrieve(final.id)
    assert kept.choices[0].message.content == final.choices[0].message.content == PARIS


def test_lists_come_in_pages(client):
    made = [keep(client, metadata={"list": "pages"}).id for _ in range(5)]
    listing = dict(limit=2, metadata={"list": "pages"})
    assert [each.id for each in client.chat.completions.list(**listing)] == made
    assert [each.id for each in client.chat.completions.list(**listing, order="desc")] == made[::-1]
    page = client.chat.completions.list(**listing)
    assert len(page.data) == 2 and page.has_more


def test_what_is_not_stored_is_not_there(client):
    made = ask(client)
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.retrieve(made.id)
    with pytest.raises(openai.BadRequestError, match="metadata"):
        keep(client, metadata={"key": "x" * 600})


def test_a_restart_loses_nothing(tmp_path):
    flags = ["--response-store", str(tmp_path / "store.redb")]
    with Server(*flags) as server:
        made = keep(server.client())
    with Server(*flags) as server:
        assert server.client().chat.completions.retrieve(made.id).choices[0].message.content == PARIS
