"""Broken model folders: the server refuses to start, with one clear sentence that names the file."""

import json
import shutil

import pytest

from harness.process import ROOT, Process

DEMO = ROOT / "models" / "demo"


@pytest.fixture
def folder(tmp_path):
    """A copy of the demo model, to be damaged."""
    return shutil.copytree(DEMO, tmp_path / "model")


def refusal(folder) -> str:
    """What the server says when it does not start."""
    server = Process(model=folder).spawn()
    assert server.wait(60) not in (0, 101, -6), server.log()
    said = server.stderr().strip()
    assert "listening on" not in server.stdout()
    assert "panicked" not in said and "stack backtrace" not in said
    sentence = said.splitlines()[-1]
    assert len(sentence) < 400
    return sentence


def cut(path, keep: float) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])


@pytest.mark.parametrize("keep", [0, 0.000_001, 0.000_2, 0.5, 0.999])
def test_truncated_weights(folder, keep):
    cut(folder / "model.safetensors", keep)
    assert "model.safetensors" in refusal(folder)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_truncated_json(folder, name):
    cut(folder / name, 0.5)
    assert name in refusal(folder)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_missing_file(folder, name):
    (folder / name).unlink()
    # Weights may have other names, so only their kind can be named.
    assert name.removeprefix("model.") in refusal(folder)


def test_header_that_claims_too_much(folder):
    path = folder / "model.safetensors"
    path.write_bytes((2**62).to_bytes(8, "little") + path.read_bytes()[8:])
    assert "model.safetensors" in refusal(folder)


@pytest.mark.parametrize("field, value", [("hidden_size", 256), ("num_hidden_layers", 11), ("vocab_size", 9000)])
def test_config_that_does_not_fit_the_weights(folder, field, value):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
    refusal(folder)


def test_unknown_architecture(folder):
    path = folder / "config.json"
    config = json.loads(path.read_text()) | {"model_type": "abacus", "architectures": ["AbacusForCausalLM"]}
    path.write_text(json.dumps(config))
    assert "abacus" in refusal(folder).lower()


def test_no_such_folder(tmp_path):
    assert "nothing-here" in refusal(tmp_path / "nothing-here")


def test_undamaged_copy_is_served(folder, launch):
    """The other tests break this folder; whole, it works."""
    server = launch("--served-model-name", "millrace-demo", model=folder)
    assert server.alive()
