"""Answers that are kept: conversations by id, look-ups, the background, keys, restarts, failing disks."""

import pytest

from harness.process import until
from harness.questions import FRANCE
from harness.server import MODEL
from replies import asking, body, expected, failure, told

LONG = {"extra_body": {"temperature": 2.0, "seed": 1}}


def long_story(client, **fields):
    """Something that takes a while."""
    return client.responses.create(**body("Tell me a story.", max_output_tokens=4000, background=True), **LONG, **fields)


def settled(client, identity: str):
    return until(
        lambda: (response := client.responses.retrieve(identity)).status not in ("queued", "in_progress") and response,
        "the response ends",
    )


def texts(client, identity: str, **query) -> list[str]:
    return [item.content[0].text for item in client.responses.input_items.list(identity, **query)]


def test_a_conversation_by_id(client):
    first = client.responses.create(**body("My name is Ada."), instructions="Be kind.")
    second = client.responses.create(**body("What is my name?"), previous_response_id=first.id)
    assert (second.previous_response_id, second.instructions) == (first.id, None)
    # The same as sending all of it, without the first instructions.
    by_hand = [
        {"role": "user", "content": "My name is Ada."}, {"role": "assistant", "content": first.output_text},
        {"role": "user", "content": "What is my name?"},
    ]
    same = client.responses.create(**body(by_hand, store=False))
    assert (same.output_text, same.usage.input_tokens) == (second.output_text, second.usage.input_tokens)
    count = client.responses.input_tokens.count(model=MODEL, input="What is my name?", previous_response_id=first.id,
                                                reasoning={"effort": "none"})
    assert count.input_tokens == second.usage.input_tokens
    assert second.usage.input_tokens_details.cached_tokens >= 0
    third = client.responses.create(**body("And now?"), previous_response_id=second.id)
    assert third.usage.input_tokens > second.usage.input_tokens


def test_stored_answers_are_found_listed_and_deleted(client):
    items = [{"role": "user", "content": f"Question {number}"} for number in range(5)] + asking(FRANCE)["input"]
    response = client.responses.create(**body(items))
    again = client.responses.retrieve(response.id)
    assert again == response
    newest_first = [item["content"] for item in reversed(items)]
    assert texts(client, response.id) == newest_first
    assert texts(client, response.id, order="asc", limit=2) == newest_first[::-1], "the client turns the pages"
    page = client.responses.input_items.list(response.id, limit=2)
    assert page.has_more and len(page.data) == 2 and page.data[-1].id == page.last_id
    # An item by its id, from input and output.
    reference = [{"type": "item_reference", "id": page.data[0].id}, {"type": "item_reference", "id": response.output[0].id}]
    told(client.responses.create(**body(reference + [{"role": "user", "content": "Again?"}])))
    client.responses.delete(response.id)
    for gone in (client.responses.retrieve, client.responses.delete, client.responses.input_items.list):
        failure(lambda: gone(response.id), 404)
    failure(lambda: client.responses.create(**body(), previous_response_id=response.id), 404, "previous_response_id")


def test_what_is_not_to_be_stored_is_not(client):
    response = client.responses.create(**body(), store=False)
    failure(lambda: client.responses.retrieve(response.id), 404)
    assert client.responses.create(**body(), stream=False).store is True
    failure(lambda: client.responses.retrieve("resp_" + "0" * 32), 404)


def test_the_background(client):
    response = client.responses.create(**asking(FRANCE), background=True)
    assert response.status in ("queued", "in_progress") and response.background
    done = settled(client, response.id)
    assert done.status == "completed" and told(done) == expected(FRANCE)
    failure(lambda: client.responses.cancel(response.id), 400)
    follow = client.responses.create(**body("And of Italy?"), previous_response_id=response.id)
    assert follow.usage.input_tokens > FRANCE["prompt_tokens"]
    foreground = client.responses.create(**body())
    failure(lambda: client.responses.cancel(foreground.id), 400)


def test_cancelling(server, client):
    response = long_story(client)
    until(lambda: client.responses.retrieve(response.id).status == "in_progress", "it runs")
    failure(lambda: client.responses.create(**body(), previous_response_id=response.id), 400, "previous_response_id")
    cancelled = client.responses.cancel(response.id)
    assert cancelled.status == "cancelled" == client.responses.retrieve(response.id).status
    assert client.responses.cancel(response.id).id == response.id
    server.wait_idle()
    other = long_story(client)
    client.responses.delete(other.id)
    failure(lambda: client.responses.retrieve(other.id), 404)
    server.wait_idle()


def test_a_stream_in_the_background_is_taken_up_again(client):
    stream = client.responses.create(**asking(FRANCE), background=True, stream=True)
    events = []
    for event in stream:
        events.append(event)
        if event.type == "response.output_text.delta":
            break
    stream.close()
    identity = events[0].response.id
    assert [event.type for event in events[:3]] == ["response.created", "response.queued", "response.in_progress"]
    rest = list(client.responses.retrieve(identity, stream=True, starting_after=events[-1].sequence_number))
    numbers = [event.sequence_number for event in events + rest]
    assert numbers == list(range(len(numbers))) and rest[-1].type == "response.completed"
    assert told(rest[-1].response) == expected(FRANCE)
    # And once more from the beginning, now that it has ended.
    assert len(list(client.responses.retrieve(identity, stream=True))) == len(numbers)
    plain = client.responses.create(**body())
    failure(lambda: list(client.responses.retrieve(plain.id, stream=True)), 400, "stream")


def test_a_restart_keeps_what_was_stored(launch, tmp_path):
    path = tmp_path / "responses.redb"
    first = launch("--response-store", str(path))
    client = first.client()
    kept = client.responses.create(**body("My name is Ada."))
    running = long_story(client)
    until(lambda: client.responses.retrieve(running.id).status == "in_progress", "it runs")
    first.kill()
    client = launch("--response-store", str(path)).client()
    assert client.responses.retrieve(kept.id) == kept
    assert client.responses.create(**body("What is my name?"), previous_response_id=kept.id).status == "completed"
    lost = client.responses.retrieve(running.id)
    assert lost.status == "failed" and "stopped" in lost.error.message
    client.responses.delete(running.id)
    failure(lambda: client.responses.retrieve(running.id), 404)


def test_a_damaged_store_is_put_aside(launch, tmp_path):
    path = tmp_path / "responses.redb"
    path.write_bytes(b"this is no database " * 1000)
    server = launch("--response-store", str(path))
    client = server.client()
    response = client.responses.create(**body())
    assert client.responses.retrieve(response.id).id == response.id
    assert (tmp_path / "responses.redb.damaged").is_file() and "damaged" in server.log()


def test_a_small_store_forgets_the_oldest_and_answers_anyway(launch):
    server = launch("--response-store-size", "8K")
    client = server.client()
    made = [client.responses.create(**body()) for _ in range(12)]
    failure(lambda: client.responses.retrieve(made[0].id), 404)
    assert client.responses.retrieve(made[-1].id).id == made[-1].id
    metrics = server.metrics()
    assert metrics.value("millrace:response_store_bytes") <= 8192
    assert metrics.value("millrace:response_store_evictions_total") > 0
    # Too large for the store, but answered.
    big = client.responses.create(**body(metadata={str(n): "x" * 512 for n in range(16)}))
    assert told(big) == expected(FRANCE)
    failure(lambda: client.responses.retrieve(big.id), 404)
    assert server.metrics().value("millrace:response_store_failures_total") == 1


def test_nothing_is_stored_without_room(launch):
    server = launch("--response-store-size", "0")
    client = server.client()
    response = client.responses.create(**body())
    assert server.metrics().value("millrace:response_store_failures_total") == 0, "it is no failure"
    failure(lambda: client.responses.retrieve(response.id), 404)


@pytest.mark.parametrize("background", [False, True])
def test_answers_belong_to_their_key(launch, background):
    server = launch("--api-key", "one,two")
    one, two = server.client("one"), server.client("two")
    response = one.responses.create(**body(), background=background)
    for theirs in (two.responses.retrieve, two.responses.delete, two.responses.cancel, two.responses.input_items.list):
        failure(lambda: theirs(response.id), 404)
    failure(lambda: two.responses.create(**body(), previous_response_id=response.id), 404)
    done = settled(one, response.id)
    reference = [{"type": "item_reference", "id": done.output[0].id}, {"role": "user", "content": "x"}]
    failure(lambda: two.responses.create(**body(reference)), 404)
    one.responses.create(**body(reference))
