#!/usr/bin/env python3
"""Makes the golden fixtures: tiny random models and the logits that Hugging Face transformers gives for them.

    python scripts/golden/make_golden.py [--only NAME] [--out crates/model/tests/fixtures]

Everything is seeded by the case's name, float32, eager attention, one thread. See README.md.
"""

import argparse
import json
import shutil
import zlib
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM

from cases import CASES, LENGTHS, Case
from legacy import to_legacy

ROOT = Path(__file__).resolve().parents[2]
MAX_FOLDER_BYTES = 1_000_000
# A change that matters must move some logit by more than this; float32 noise is below 1e-4.
FELT = 0.02


def main() -> None:
    make_all(__doc__, ROOT / "crates/model/tests/fixtures", CASES, make, write_index)


def make_all(doc: str, out: Path, cases: list, make, write_index) -> None:
    """The command line of a script that makes a folder for each case and an index of all."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--out", type=Path, default=out)
    parser.add_argument("--only", help="make just this case")
    args = parser.parse_args()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    chosen = [case for case in cases if args.only in (None, case.name)]
    if not chosen:
        parser.error(f"there is no case {args.only}; the cases are {', '.join(case.name for case in cases)}")
    for case in chosen:
        facts = make(case, args.out / case.name)
        print(f"{case.name:18} {facts['parameters']:7} parameters, noise {facts['float32_noise']:.1e}")
    write_index(args.out)


def make(case: Case, folder: Path) -> dict:
    """Writes one fixture folder and returns what golden.json says."""
    seed = zlib.crc32(case.name.encode())
    model = build(case.config(**case.args, dtype="float32"))
    randomize(model, seed)
    prompts = make_prompts(case, seed)
    logits = run(model, prompts)
    check_felt(case, model, prompts, logits)

    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    write_legacy_config(case, folder, prompts, logits)
    tensors = {f"ids_{i}": ids for i, ids in enumerate(prompts)}
    tensors |= {f"logits_{i}": rows.contiguous() for i, rows in enumerate(logits)}
    save_file(tensors, folder / "golden.safetensors")

    facts = {
        "name": case.name,
        "about": case.about,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "seed": seed,
        "parameters": sum(p.numel() for p in model.parameters()),
        "lengths": list(LENGTHS),
        "logits_std": round(torch.cat(logits).std().item(), 3),
        "smallest_argmax_margin": round(smallest_margin(logits), 6),
        # Largest difference between these logits and the same model in float64: what float32 rounding alone does.
        "float32_noise": float(f"{float64_difference(model, prompts, logits):.2e}"),
    }
    write_json(folder / "golden.json", facts)
    size = sum(f.stat().st_size for f in folder.iterdir())
    if size > MAX_FOLDER_BYTES:
        raise SystemExit(f"{case.name} takes {size} bytes; the limit is {MAX_FOLDER_BYTES}")
    return facts


def build(config) -> torch.nn.Module:
    return AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().eval()


def randomize(model, seed: int) -> None:
    """Random weights that keep activations near 1 and make attention and logits far from flat."""
    generator = torch.Generator().manual_seed(seed)
    tied = model.config.tie_word_embeddings
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=generator)
            if name.endswith("bias"):
                weight.copy_(0.3 * noise)
            elif "norm" in name:
                weight.copy_(1 + 0.3 * noise)
            elif "embed_tokens" in name:
                # A tied head would otherwise just repeat the input token.
                weight.copy_((0.4 if tied else 1.0) * noise)
            else:
                gain = 2.5 if "lm_head" in name else 1.4
                weight.copy_(gain * noise / weight.shape[1] ** 0.5)


def make_prompts(case: Case, seed: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed + 1)
    return [torch.randint(0, case.args["vocab_size"], (n,), generator=generator) for n in LENGTHS]


def run(model, prompts) -> list[torch.Tensor]:
    """Logits at every position of every prompt, `[tokens, vocab]` each."""
    with torch.no_grad():
        return [model(ids[None], use_cache=False).logits[0].clone() for ids in prompts]


def difference(a, b) -> float:
    return max((x - y).abs().max().item() for x, y in zip(a, b, strict=True))


def check_felt(case: Case, model, prompts, logits) -> None:
    """Fails unless every weight and the case's feature change the logits: what isn't felt isn't tested."""
    state = {name: weight.clone() for name, weight in model.state_dict().items()}
    for name, weight in model.named_parameters():
        saved = weight.detach().clone()
        with torch.no_grad():
            weight.zero_()
        felt = difference(run(model, prompts), logits)
        with torch.no_grad():
            weight.copy_(saved)
        if not felt > FELT:
            raise SystemExit(f"{case.name}: zeroing {name} changes the logits by only {felt}")
    for change in case.ablate:
        other = build(case.config(**(case.args | change), dtype="float32"))
        other.load_state_dict(state)
        felt = difference(run(other, prompts), logits)
        if not felt > FELT:
            raise SystemExit(f"{case.name}: {change} changes the logits by only {felt}")


def write_legacy_config(case: Case, folder: Path, prompts, logits) -> None:
    """Writes config.legacy.json and checks that transformers reads it as the same model."""
    config = json.loads((folder / "config.json").read_text())
    legacy = to_legacy(config, case.legacy, case.legacy_drop)
    write_json(folder / "config.legacy.json", legacy)
    read = AutoConfig.for_model(**legacy)
    again = AutoModelForCausalLM.from_pretrained(folder, config=read, attn_implementation="eager", dtype=torch.float32)
    found = difference(run(again.eval(), prompts), logits)
    if found != 0.0:
        raise SystemExit(f"{case.name}: the older config gives other logits, by {found}")


def smallest_margin(logits) -> float:
    top = torch.cat(logits).topk(2).values
    return (top[:, 0] - top[:, 1]).min().item()


def float64_difference(model, prompts, logits) -> float:
    return difference(run(model.double(), prompts), logits)


def write_json(path: Path, value) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n")


def write_index(out: Path) -> None:
    """README.md beside the fixtures, from what lies there."""
    facts = [json.loads((out / case.name / "golden.json").read_text()) for case in CASES if (out / case.name).is_dir()]
    rows = "\n".join(f"| `{f['name']}` | {f['about']} | {f['parameters']:,} |" for f in facts)
    (out / "README.md").write_text(INDEX.format(rows=rows, lengths=", ".join(map(str, LENGTHS))))


INDEX = """# Golden fixtures

Tiny random models and the logits that Hugging Face transformers computes for them (float32, eager attention).
Made by `scripts/golden/make_golden.py`; don't edit by hand.

Each folder holds
- `config.json` as transformers 5 saves it (`rope_parameters`, `dtype`, `layer_types`), and `config.legacy.json`,
  the same model in the older style (`rope_theta`, `rope_scaling`, `torch_dtype`), as most of the Hub still has it.
  Both were checked to give the same logits.
- `model.safetensors`: float32 weights with Hugging Face names (no `lm_head.weight` if tied).
- `golden.safetensors`: for i = 0, 1, 2 the prompt `ids_i` (int64 `[tokens]`) and `logits_i` (float32
  `[tokens, vocab]`, one row per position). The prompts have {lengths} tokens.
- `golden.json`: versions, seed, and `float32_noise`, the largest difference to the same model in float64
  (a tolerance below some multiple of it asks for luck); `smallest_argmax_margin` is the least distance between
  the best and the second-best logit: where it is below the tolerance, argmax may rightly differ.

| folder | what it is there for | parameters |
|---|---|---|
{rows}
"""


if __name__ == "__main__":
    main()
