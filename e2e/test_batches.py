"""Files and batches with the official client: answers, order, limits, restarts."""

import openai
import pytest

from harness.batches import CHAT, body, ended, line, order, results, upload
from harness.process import until
from harness.questions import FRANCE, QUESTIONS
from harness.server import MODEL

# Plain questions: one message, no tools, no thinking.
PLAIN = [each for each in QUESTIONS if not each["tools"] and not each["enable_thinking"]][:20]


def story(name: str, tokens: int = 60) -> str:
    """A request of a known length."""
    return line(name, body(FRANCE, max_tokens=tokens, ignore_eos=True))


def said(result: dict) -> str:
    assert result["response"]["status_code"] == 200, result
    return result["response"]["body"]["choices"][0]["message"]["content"]


def test_known_answers(client):
    lines = [line(str(number), body(question)) for number, question in enumerate(PLAIN)]
    file = upload(client, lines)
    assert (file.object, file.purpose, file.filename, file.status) == ("file", "batch", "in.jsonl", "processed")
    batch = order(client, file, metadata={"project": "known"})
    assert (batch.status, batch.input_file_id, batch.metadata) == ("validating", file.id, {"project": "known"})
    batch = ended(client, batch)
    assert (batch.status, batch.error_file_id, batch.errors) == ("completed", None, None)
    counts = batch.request_counts
    assert (counts.total, counts.completed, counts.failed) == (len(PLAIN), len(PLAIN), 0)
    answers = results(client, batch.output_file_id)
    assert list(answers) == [str(number) for number in range(len(PLAIN))]
    for number, question in enumerate(PLAIN):
        assert said(answers[str(number)]) == question["expected"].strip(), question["messages"]
    output = client.files.retrieve(batch.output_file_id)
    assert output.purpose == "batch_output" and output.bytes == len(client.files.content(output.id).content)


def test_a_batch_says_what_a_request_says(client):
    completion = {"model": MODEL, "prompt": "The capital of France is", "max_tokens": 8, "temperature": 0, "logprobs": 2}
    batch = order(client, upload(client, [line("a", completion, "/v1/completions")]), "/v1/completions")
    batched = results(client, ended(client, batch).output_file_id)["a"]["response"]["body"]
    direct = client.completions.create(**completion).model_dump()
    assert batched["choices"][0]["text"] == direct["choices"][0]["text"]
    assert batched["choices"][0]["logprobs"]["tokens"] == direct["choices"][0]["logprobs"]["tokens"]
    request = {"model": MODEL, "input": "What is the capital of France?", "reasoning": {"effort": "none"}}
    batch = order(client, upload(client, [line("a", request, "/v1/responses")]), "/v1/responses")
    response = results(client, ended(client, batch).output_file_id)["a"]["response"]["body"]
    assert response["output"][0]["content"][0]["text"] == client.responses.create(**request).output_text
    assert client.responses.retrieve(response["id"]).status == "completed", "it is stored as usual"


def test_wrong_requests_are_told_and_cost_no_other(client):
    lines = [line("good", body(FRANCE)), line("hot", body(FRANCE, temperature=9)), line("who", body(FRANCE, model="x"))]
    batch = ended(client, order(client, upload(client, lines)))
    assert batch.status == "completed" and batch.request_counts.failed == 2
    assert said(results(client, batch.output_file_id)["good"]) == FRANCE["expected"].strip()
    errors = results(client, batch.error_file_id)
    assert {name: each["response"]["status_code"] for name, each in errors.items()} == {"hot": 400, "who": 404}
    assert "temperature" in errors["hot"]["response"]["body"]["error"]["message"]


def test_inputs_that_make_no_batch(client):
    lines = [line("a", body(FRANCE)), line("a", body(FRANCE)), line("b", body(FRANCE), "/v1/completions")]
    batch = ended(client, order(client, upload(client, lines)))
    assert batch.status == "failed" and batch.output_file_id is None
    assert [(each.line, each.code) for each in batch.errors.data] == [(2, "duplicate_custom_id"), (3, "mismatched_url")]
    for broken in (["{"], ["[1]"], ["{}", "x"]):
        with pytest.raises(openai.BadRequestError, match=f"Line {len(broken)}"):
            upload(client, broken)
    with pytest.raises(openai.BadRequestError, match="purpose"):
        client.files.create(file=("a.jsonl", b"{}"), purpose="fine-tune")
    with pytest.raises(openai.BadRequestError, match="endpoint"):
        order(client, upload(client, ["{}"]), "/v1/models")


def test_lists_are_paged(launch):
    client = launch().client()
    files = [upload(client, [story(str(number), 1)]) for number in range(5)]
    newest = [file.id for file in reversed(files)]
    assert [file.id for file in client.files.list()] == newest
    assert [file.id for file in client.files.list(limit=2)] == newest, "the client turns the pages"
    assert [file.id for file in client.files.list(order="asc", purpose="batch")] == newest[::-1]
    batches = [order(client, file) for file in files]
    for batch in batches:
        ended(client, batch)
    assert [batch.id for batch in client.batches.list(limit=2)] == [batch.id for batch in reversed(batches)]
    assert client.files.delete(files[0].id).deleted
    for gone in (client.files.retrieve, client.files.delete, client.files.content):
        with pytest.raises(openai.NotFoundError):
            gone(files[0].id)


def test_interactive_requests_come_first(launch):
    server = launch("--max-num-seqs", "2", "--batch-concurrency", "2")
    client = server.client()
    batch = order(client, upload(client, [story(str(number), 400) for number in range(12)]))
    until(lambda: server.metrics().value("millrace:num_requests_running") == 2, "the batch runs")
    answer = server.http.post(CHAT, json=body(FRANCE)).json()
    assert answer["choices"][0]["message"]["content"] == FRANCE["expected"].strip()
    assert client.batches.retrieve(batch.id).status == "in_progress", "it did not wait for the batch"
    assert client.batches.cancel(batch.id).status == "cancelling"
    assert ended(client, batch).status == "cancelled"
    server.wait_idle()


def test_cancelling_keeps_what_is_done(client, server):
    batch = order(client, upload(client, [line("first", body(FRANCE))] + [story(str(n), 900) for n in range(40)]))
    until(lambda: client.batches.retrieve(batch.id).request_counts.completed, "the first one is done")
    with pytest.raises(openai.BadRequestError, match=batch.id):
        client.files.delete(batch.input_file_id)
    client.batches.cancel(batch.id)
    done = ended(client, batch)
    assert done.status == "cancelled" and done.request_counts.completed + done.request_counts.failed == 41
    assert said(results(client, done.output_file_id)["first"]) == FRANCE["expected"].strip()
    assert all(each["error"]["code"] == "batch_cancelled" for each in results(client, done.error_file_id).values())
    server.wait_idle()


def test_a_killed_server_goes_on_where_it_was(launch, tmp_path):
    flags = ("--file-store", str(tmp_path / "files.redb"), "--batch-concurrency", "2")
    first = launch(*flags)
    client = first.client()
    names = [str(number) for number in range(40)]
    batch = order(client, upload(client, [story(name) for name in names]))
    until(lambda: client.batches.retrieve(batch.id).request_counts.completed >= 5, "some are done")
    before = client.batches.retrieve(batch.id).request_counts.completed
    first.kill()
    assert before < len(names), "the test needs a longer batch"
    second = launch(*flags)
    client = second.client()
    done = ended(client, batch)
    assert (done.status, done.request_counts.completed) == ("completed", len(names))
    answers = results(client, done.output_file_id)
    assert list(answers) == names and len({said(answer) for answer in answers.values()}) == 1
    ran = second.metrics().value("millrace:request_success_total")
    assert ran <= len(names) - before, "finished lines are not run again"


def test_a_stopped_server_goes_on_too(launch, tmp_path):
    flags = ("--file-store", str(tmp_path / "files.redb"), "--batch-concurrency", "2")
    first = launch(*flags)
    client = first.client()
    batch = order(client, upload(client, [story(str(number), 200) for number in range(20)]))
    until(lambda: client.batches.retrieve(batch.id).request_counts.completed, "some are done")
    first.stop()
    client = launch(*flags).client()
    assert ended(client, batch).request_counts.completed == 20


def test_a_full_store_is_a_clean_error(launch):
    server = launch("--file-store-size", "20K")
    client = server.client()
    with pytest.raises(openai.APIStatusError, match="full") as refusal:
        upload(client, [story(str(number)) for number in range(100)])
    assert refusal.value.status_code == 413
    assert server.metrics().value("millrace:file_store_bytes") == 0, "nothing of it is left"
    # Its results don't fit.
    lines = [line(str(number), body(FRANCE, max_tokens=20, logprobs=True, top_logprobs=20)) for number in range(20)]
    batch = ended(client, order(client, upload(client, lines)))
    assert (batch.status, batch.errors.data[0].code) == ("failed", "store_full")
    assert len(results(client, batch.output_file_id)) == batch.request_counts.completed > 0


def test_files_belong_to_their_key(launch):
    server = launch("--api-key", "one,two")
    one, two = server.client("one"), server.client("two")
    file = upload(one, [line("a", body(FRANCE))])
    batch = order(one, file)
    done = ended(one, batch)
    for theirs in (lambda: two.files.retrieve(file.id), lambda: two.files.content(done.output_file_id),
                   lambda: two.files.delete(file.id), lambda: two.batches.retrieve(batch.id),
                   lambda: two.batches.cancel(batch.id)):
        with pytest.raises(openai.NotFoundError):
            theirs()
    assert list(two.files.list()) == [] == list(two.batches.list())
    with pytest.raises(openai.BadRequestError):
        order(two, file)
