#!/usr/bin/env python3
"""Writes a model of a known shape with random weights, for tests of speed that need real files.

    bench/make_model.py bench/shapes/qwen3-0.6b OUT --type bf16|q8|q4 [--group 32|64]     a folder of safetensors
    bench/make_model.py bench/shapes/qwen3-0.6b OUT.gguf --type bf16|q8|q4                a file for llama.cpp

q4 and q8 folders are in MLX's format (bfloat16 scale and bias per group, the embedding quantized too); GGUF files are
BF16, Q8_0 and Q4_0. The tokenizer knows every byte and fills up the vocabulary with words that nobody writes.
"""
import argparse
import pathlib

from harness import gguf, safetensors
from harness.shape import Shape

GGUF_TYPES = {"bf16": "BF16", "q8": "Q8_0", "q4": "Q4_0"}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shape", help="folder with a config.json")
    parser.add_argument("out", type=pathlib.Path, help="a folder, or a file that ends in .gguf")
    parser.add_argument("--type", choices=sorted(GGUF_TYPES), default="bf16")
    parser.add_argument("--group", type=int, choices=[32, 64, 128], default=64, help="weights per scale in a folder")
    args = parser.parse_args()
    make(args.shape, args.out, args.type, args.group)


def make(shape, out, kind, group=64):
    """Writes one model; a half-written one never has its final name."""
    shape, out = Shape(shape), pathlib.Path(out)
    temporary = out.with_name(out.name + ".tmp")
    if out.suffix == ".gguf":
        temporary.parent.mkdir(parents=True, exist_ok=True)
        gguf.write(shape, temporary, GGUF_TYPES[kind])
    else:
        safetensors.write(shape, temporary, {"bf16": 16, "q8": 8, "q4": 4}[kind], group)
    temporary.rename(out)


if __name__ == "__main__":
    main()
