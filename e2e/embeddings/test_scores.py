"""Scores and classes of tiny random cross-encoders, against what transformers computes for the same texts."""

import json
import math
import shutil

import pytest

from harness.process import ROOT
from harness.server import Server

FIXTURES = ROOT / "crates/model/tests/encoders"


def pairs(name: str, with_second: bool) -> list[dict]:
    all_pairs = json.loads((FIXTURES / name / "golden.json").read_text())["pairs"]
    return [pair for pair in all_pairs if (pair["second"] is not None) == with_second]


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def softmax(row: list[float]) -> list[float]:
    weights = [math.exp(x) for x in row]
    return [weight / sum(weights) for weight in weights]


@pytest.fixture(scope="module")
def cross():
    with Server(model=str(FIXTURES / "bert_cross")) as running:
        yield running


@pytest.fixture(scope="module", params=["xlmr_cross", "modernbert_cross"])
def classifier(request):
    with Server(model=str(FIXTURES / request.param)) as running:
        yield request.param, running


def test_scores_of_pairs(cross):
    golden = pairs("bert_cross", True)
    body = {"text_1": [pair["first"] for pair in golden], "text_2": [pair["second"] for pair in golden]}
    answer = cross.http.post("/v1/score", json=body).raise_for_status().json()
    scores = [row["score"] for row in answer["data"]]
    assert scores == pytest.approx([sigmoid(pair["result"][0]) for pair in golden], abs=1e-5)
    assert answer["usage"]["prompt_tokens"] == sum(pair["tokens"] for pair in golden)
    raw = cross.http.post("/score", json=body | {"use_activation": False}).raise_for_status().json()
    assert [row["score"] for row in raw["data"]] == pytest.approx([pair["result"][0] for pair in golden], abs=1e-4)


def test_rerank_sorts_by_the_score(cross):
    golden = pairs("bert_cross", True)
    query, documents = golden[0]["first"], [pair["second"] for pair in golden]
    body = {"query": query, "documents": documents}
    results = cross.http.post("/rerank", json=body).raise_for_status().json()["results"]
    expected = sorted(range(len(golden)), key=lambda i: -golden[i]["result"][0])
    assert [row["index"] for row in results] == expected
    for row in results:
        assert row["relevance_score"] == pytest.approx(sigmoid(golden[row["index"]]["result"][0]), abs=1e-5)
        assert row["document"]["text"] == documents[row["index"]]


def test_classes_of_texts(classifier):
    name, server = classifier
    golden = pairs(name, False)
    answer = server.http.post("/classify", json={"input": [pair["first"] for pair in golden]}).raise_for_status().json()
    for row, pair in zip(answer["data"], golden, strict=True):
        expected = softmax(pair["result"])
        assert row["probs"] == pytest.approx(expected, abs=1e-5)
        assert row["label"] == f"LABEL_{expected.index(max(expected))}"
    pooled = server.http.post("/pooling", json={"input": golden[0]["first"]}).raise_for_status().json()
    assert pooled["data"][0]["data"] == answer["data"][0]["probs"]


def test_what_a_classifier_cannot_do(classifier, cross):
    _, server = classifier
    for path, body in [
        ("/v1/embeddings", {"input": "w5"}),
        ("/score", {"text_1": "w5", "text_2": "w6"}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "w5"}]}),
    ]:
        answer = server.http.post(path, json=body)
        assert answer.status_code == 400 and "does not support the" in answer.json()["error"]["message"], answer.text
    assert cross.http.post("/classify", json={"input": "w5"}).status_code == 200


@pytest.fixture(scope="module", params=["sentence_transformers", "overrides"])
def judge(request, tmp_path_factory):
    """A tiny model in the form of Qwen3-Reranker: as sentence-transformers describes it, and as it was published."""
    folder = FIXTURES / "qwen3_judge"
    flags = []
    if request.param == "overrides":
        copy = tmp_path_factory.mktemp("judge")
        for name in ("config.json", "model.safetensors", "tokenizer.json"):
            shutil.copy(folder / name, copy)
        flags = ["--hf-overrides", json.dumps({
            "architectures": ["Qwen3ForSequenceClassification"], "classifier_from_token": ["no", "yes"],
            "is_original_qwen3_reranker": True,
        })]
        folder = copy
    with Server(*flags, model=str(folder)) as running:
        yield running


def test_a_model_that_writes_yes_or_no(judge):
    golden = pairs("qwen3_judge", True)
    body = {"text_1": [pair["first"] for pair in golden], "text_2": [pair["second"] for pair in golden]}
    answer = judge.http.post("/v1/score", json=body).raise_for_status().json()
    assert [row["score"] for row in answer["data"]] == pytest.approx([sigmoid(p["result"][0]) for p in golden], abs=1e-4)
    assert answer["usage"]["prompt_tokens"] == sum(pair["tokens"] for pair in golden)
    documents = [pair["second"] for pair in golden]
    body = {"query": golden[0]["first"], "documents": documents}
    results = judge.http.post("/v1/rerank", json=body).raise_for_status().json()["results"]
    assert [row["index"] for row in results] == sorted(range(len(golden)), key=lambda i: -golden[i]["result"][0])
    told = judge.http.post("/v1/rerank", json=body | {"instruction": "Find w33"}).raise_for_status().json()["results"]
    assert {r["index"]: r["relevance_score"] for r in told} != {r["index"]: r["relevance_score"] for r in results}
    # A text alone is read as it is.
    for pair in pairs("qwen3_judge", False):
        row = judge.http.post("/classify", json={"input": pair["first"]}).raise_for_status().json()["data"][0]
        assert row["probs"] == pytest.approx([sigmoid(pair["result"][0])], abs=1e-4)


def test_a_long_document_loses_its_end_and_not_the_question(judge):
    pair = pairs("qwen3_judge", True)[0]
    body = {"text_1": pair["first"], "text_2": pair["second"] + " and more" * 9}
    assert judge.http.post("/score", json=body).raise_for_status().json()["usage"]["prompt_tokens"] > pair["tokens"]
    answer = judge.http.post("/score", json=body | {"truncate_prompt_tokens": pair["tokens"]}).raise_for_status().json()
    assert answer["data"][0]["score"] == pytest.approx(sigmoid(pair["result"][0]), abs=1e-4)
