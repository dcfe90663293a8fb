#!/usr/bin/env python3
"""Makes the golden fixtures of models that read whole texts: tiny random ones and what transformers gives for them.

    python scripts/golden/make_encoders.py [--only NAME] [--out crates/model/tests/encoders]

Seeded, in float32 and on one thread as make_golden.py is.
"""

import json
import shutil
import zlib
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import AutoConfig

from encoder_cases import CASES, LENGTHS, EncoderCase
from make_golden import FELT, MAX_FOLDER_BYTES, ROOT, difference, make_all, write_json

POOLS = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "lasttoken")
# Texts for models with a tokenizer.
PAIRS = (
    ("w5 w17 w90", "w33 w34 w35 w36 w37"),
    ("w5 w17 w90", "w200 w100 w50 nothing"),
    ("w5 w17 w90", "w5 w17 w90"),
    ("w8 w9 w10 w11", None),
    ("w240", None),
)
# The prompt of Qwen3-Reranker, as its model card has it.
JUDGE = """<|im_start|>system
Judge whether the Document meets the requirements based on the Query and the Instruct provided. Note that the answer can only be "yes" or "no".<|im_end|>
<|im_start|>user
<Instruct>: Given a web search query, retrieve relevant passages that answer the query
<Query>: {query}
<Document>: {document}<|im_end|>
<|im_start|>assistant
<think>

</think>

"""
# A key's bias adds the same to all scores of a query.
UNFELT = ("key.bias", "k_proj.bias")


def main() -> None:
    make_all(__doc__, ROOT / "crates/model/tests/encoders", CASES, make, write_index)


def make(case: EncoderCase, folder: Path) -> dict:
    """Writes one fixture folder and returns what golden.json says."""
    seed = zlib.crc32(case.name.encode())
    model = build(case, case.config(**case.args, dtype="float32"))
    dense = dense_layers(case)
    randomize([model, *dense], seed)
    texts = make_texts(case, seed)
    results = run(case, model, dense, texts)
    check_felt(case, model, dense, texts, results)

    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    write_legacy_config(case, folder, model, dense, texts, results)
    write_sentence_files(case, folder, dense)
    tensors = {f"ids_{i}": ids for i, (ids, _) in enumerate(texts)}
    tensors |= {f"second_{i}": torch.tensor([second]) for i, (_, second) in enumerate(texts)}
    tensors |= {f"result_{i}": row.contiguous() for i, row in enumerate(results)}
    save_file(tensors, folder / "golden.safetensors")
    facts = {
        "name": case.name,
        "about": case.about,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "seed": seed,
        "parameters": sum(p.numel() for m in (model, *dense) for p in m.parameters()),
        "results_std": round(torch.cat(results).std().item(), 3),
        # Largest difference between these results and the same model in float64.
        "float32_noise": float(f"{difference(run(case, model.double(), [d.double() for d in dense], texts), results):.2e}"),
    }
    if case.tokens:
        (write_byte_tokenizer if case.judge else write_tokenizer)(case, folder)
        model = build(case, AutoConfig.from_pretrained(folder))
        # A tied head isn't stored twice.
        tied = case.args.get("tie_word_embeddings", False)
        model.load_state_dict(load_file(folder / "model.safetensors"), strict=not tied)
        facts["pairs"] = [pair(case, model, folder, first, second) for first, second in PAIRS]
    write_json(folder / "golden.json", facts)
    size = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
    if size > MAX_FOLDER_BYTES:
        raise SystemExit(f"{case.name} takes {size} bytes; the limit is {MAX_FOLDER_BYTES}")
    return facts


def build(case: EncoderCase, config) -> torch.nn.Module:
    config._attn_implementation = "eager"
    bare = case.model.__name__ in ("BertModel", "RobertaModel")
    model = case.model(config, add_pooling_layer=False) if bare else case.model(config)
    return model.float().eval()


def dense_layers(case: EncoderCase) -> list[torch.nn.Module]:
    width, layers = case.args["hidden_size"], []
    for out, bias, act in case.dense:
        layers.append(torch.nn.Sequential(torch.nn.Linear(width, out, bias), getattr(torch.nn, act)()))
        width = out
    return layers


def randomize(models, seed: int) -> None:
    """Random weights that keep activations near 1 and attention far from flat."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in (named for model in models for named in model.named_parameters()):
            noise = torch.randn(weight.shape, generator=generator)
            if name.endswith("bias"):
                weight.copy_(0.3 * noise)
            elif weight.dim() == 1:
                # Gemma stores the difference to one.
                weight.copy_((0.0 if "Gemma" in type(models[0]).__name__ else 1.0) + 0.3 * noise)
            elif "embed" in name:
                weight.copy_(0.6 * noise)
            else:
                weight.copy_(1.4 * noise / weight.shape[1] ** 0.5)


def make_texts(case: EncoderCase, seed: int) -> list[tuple[torch.Tensor, int]]:
    """Token ids, and where the second text of a pair begins (the length, if there is none)."""
    generator = torch.Generator().manual_seed(seed + 1)
    has_types = case.args.get("type_vocab_size", 2) > 1 and case.config is transformers.BertConfig
    texts = []
    for length in LENGTHS:
        ids = torch.randint(3, case.args["vocab_size"], (length,), generator=generator)
        texts.append((ids, length // 2 if has_types and length > 1 else length))
    return texts


def run(case: EncoderCase, model, dense, texts) -> list[torch.Tensor]:
    with torch.no_grad():
        return [one(case, model, dense, ids, second) for ids, second in texts]


def one(case: EncoderCase, model, dense, ids, second) -> torch.Tensor:
    inputs = {"input_ids": ids[None]}
    if case.config is transformers.BertConfig:
        inputs["token_type_ids"] = (torch.arange(len(ids)) >= second).long()[None]
    output = model(**inputs)
    if case.judge:
        yes, no = case.judge
        return (output.logits[0, -1, yes] - output.logits[0, -1, no])[None].clone()
    if case.pool is None:
        return output.logits[0].clone()
    states = output.last_hidden_state[0]
    row = {
        "cls_token": lambda: states[0],
        "lasttoken": lambda: states[-1],
        "mean_tokens": lambda: states.mean(0),
        "mean_sqrt_len_tokens": lambda: states.sum(0) / len(states) ** 0.5,
        "max_tokens": lambda: states.max(0).values,
    }[case.pool]()
    for layer in dense:
        row = layer(row)
    return row.clone()


def check_felt(case: EncoderCase, model, dense, texts, results) -> None:
    """Fails unless every weight and the case's features change the results: what isn't felt isn't tested."""
    state = {name: weight.clone() for name, weight in model.state_dict().items()}
    for name, weight in (named for m in (model, *dense) for named in m.named_parameters()):
        if name.endswith(UNFELT):
            continue
        saved = weight.detach().clone()
        with torch.no_grad():
            weight.zero_()
        felt = difference(run(case, model, dense, texts), results)
        with torch.no_grad():
            weight.copy_(saved)
        if not felt > FELT:
            raise SystemExit(f"{case.name}: zeroing {name} changes the results by only {felt}")
    for change in case.ablate:
        other = build(case, case.config(**(case.args | change), dtype="float32"))
        other.load_state_dict(state)
        felt = difference(run(case, other, dense, texts), results)
        if not felt > FELT:
            raise SystemExit(f"{case.name}: {change} changes the results by only {felt}")


def write_legacy_config(case: EncoderCase, folder: Path, model, dense, texts, results) -> None:
    """Writes config.legacy.json and checks that transformers reads it as the same model."""
    config = json.loads((folder / "config.json").read_text())
    if case.config in (transformers.Qwen3Config,):
        rope = dict(config.pop("rope_parameters"))
        config["rope_theta"] = rope["rope_theta"]
    for key in ("transformers_version", *case.legacy_drop):
        config.pop(key, None)
    config["torch_dtype"] = config.pop("dtype")
    legacy = dict(sorted((config | case.legacy).items()))
    write_json(folder / "config.legacy.json", legacy)
    again = build(case, AutoConfig.for_model(**legacy))
    again.load_state_dict(model.state_dict())
    found = difference(run(case, again, dense, texts), results)
    if found != 0.0:
        raise SystemExit(f"{case.name}: the older config gives other results, by {found}")


def write_sentence_files(case: EncoderCase, folder: Path, dense) -> None:
    """modules.json and its folders, as sentence-transformers writes them."""
    if case.judge:
        write_judge_files(case, folder)
    if case.pool is None:
        return
    paths = [("", "Transformer"), ("1_Pooling", "Pooling")]
    paths += [(f"{i + 2}_Dense", "Dense") for i in range(len(dense))]
    paths += [(f"{len(dense) + 2}_Normalize", "Normalize")]
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(paths)
    ]
    write_json(folder / "modules.json", modules)
    (folder / "1_Pooling").mkdir()
    pooling = {f"pooling_mode_{pool}": pool == case.pool for pool in POOLS}
    write_json(folder / "1_Pooling/config.json", {"word_embedding_dimension": case.args["hidden_size"]} | pooling)
    width = case.args["hidden_size"]
    for i, (layer, (out, bias, act)) in enumerate(zip(dense, case.dense, strict=True)):
        part = folder / f"{i + 2}_Dense"
        part.mkdir()
        function = f"torch.nn.modules.{'linear' if act == 'Identity' else 'activation'}.{act}"
        settings = {"in_features": width, "out_features": out, "bias": bias, "activation_function": function}
        write_json(part / "config.json", settings)
        tensors = {f"linear.{name}": value.float() for name, value in layer[0].state_dict().items()}
        save_file(tensors, part / "model.safetensors")
        width = out


def write_judge_files(case: EncoderCase, folder: Path) -> None:
    """The same for a cross-encoder that writes its answer."""
    kinds = (("", "base.modules.transformer.Transformer"), ("1_LogitScore", "cross_encoder.modules.logit_score.LogitScore"))
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.{kind}"}
        for i, (path, kind) in enumerate(kinds)
    ]
    write_json(folder / "modules.json", modules)
    (folder / "1_LogitScore").mkdir()
    yes, no = case.judge
    write_json(folder / "1_LogitScore/config.json", {"true_token_id": yes, "false_token_id": no})


def write_byte_tokenizer(case: EncoderCase, folder: Path) -> None:
    """tokenizer.json: a token for each byte, and those of Qwen3's prompts."""
    vocab = {byte: i for i, byte in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|im_start|>", "<|im_end|>", "<|endoftext|>"])
    tokenizer.add_tokens(["<think>", "yes", "no"])
    assert (tokenizer.token_to_id("yes"), tokenizer.token_to_id("no")) == case.judge
    tokenizer.save(str(folder / "tokenizer.json"))


def write_tokenizer(case: EncoderCase, folder: Path) -> None:
    """tokenizer.json: words from `w3` on, and the family's special tokens around a text and between two."""
    cls, sep, unknown = case.tokens
    vocab = {f"w{i}": i for i in range(3, case.args["vocab_size"])}
    vocab = {word: i for word, i in vocab.items() if i != unknown}
    tokenizer = Tokenizer(models.WordLevel(vocab | {"[CLS]": cls, "[SEP]": sep, "[UNK]": unknown}, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    is_bert = case.config is transformers.BertConfig
    between = "[SEP]" if case.config is not transformers.XLMRobertaConfig else "[SEP] [SEP]"
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair=f"[CLS] $A {between} $B{':1' if is_bert else ''} [SEP]{':1' if is_bert else ''}",
        special_tokens=[("[CLS]", cls), ("[SEP]", sep)],
    )
    tokenizer.save(str(folder / "tokenizer.json"))


def pair(case: EncoderCase, model, folder: Path, first: str, second: str | None) -> dict:
    """What the model makes of a text or a pair."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    if case.judge:
        # A text alone is read as it is.
        encoded = tokenizer.encode(first if second is None else JUDGE.format(query=first, document=second))
    else:
        encoded = tokenizer.encode(first, second)
    types = encoded.type_ids
    begins = types.index(1) if 1 in types else len(types)
    with torch.no_grad():
        result = one(case, model, [], torch.tensor(encoded.ids), begins)
    return {"first": first, "second": second, "tokens": len(encoded.ids), "result": result.tolist()}


def write_index(out: Path) -> None:
    """README.md beside the fixtures, from what lies there."""
    facts = [json.loads((out / case.name / "golden.json").read_text()) for case in CASES if (out / case.name).is_dir()]
    rows = "\n".join(f"| `{f['name']}` | {f['about']} | {f['parameters']:,} |" for f in facts)
    (out / "README.md").write_text(INDEX.format(rows=rows))


INDEX = """# Golden fixtures of models that read whole texts

Tiny random models and the rows that Hugging Face transformers computes for a few texts (float32, eager attention),
before any scaling. Made by `scripts/golden/make_encoders.py`; don't edit by hand.

Each folder holds the model with `config.json` and, as transformers 4 wrote it, `config.legacy.json`; the files of
sentence-transformers, if it embeds; and `golden.safetensors`: `ids_i`, `second_i` (where the second text of a pair
begins) and `result_i`.

| folder | what it is there for | parameters |
|---|---|---|
{rows}
"""


if __name__ == "__main__":
    main()
