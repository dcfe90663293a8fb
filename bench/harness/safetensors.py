"""Writes a model folder of safetensors with random weights: bfloat16, or MLX's 4- or 8-bit integers."""
import json
import random
import struct

from .randoms import Affine, Bf16, Bytes, ones_bf16
from .vocabulary import Vocabulary


def write(shape, folder, bits=16, group=32, seed=1):
    """`bits` 16 is bfloat16; 4 and 8 are quantized in groups of `group`, the embedding too."""
    folder.mkdir(parents=True, exist_ok=True)
    config = dict(shape.config)
    vocabulary = Vocabulary(shape.vocab)
    config["eos_token_id"] = vocabulary.special["<|im_end|>"]
    if bits != 16:
        config["quantization"] = {"group_size": group, "bits": bits, "mode": "affine"}
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    vocabulary.write(folder)
    tensors = _plain(shape) if bits == 16 else _quantized(shape, Affine(bits, group))
    _write(folder / "model.safetensors", [*tensors, *_norms(shape)], random.Random(seed))


def _norms(shape):
    for name, _, length in shape.norms():
        yield f"{name}.weight", "BF16", [length], 2 * length, lambda _, n=length: [ones_bf16(n)]


def _plain(shape):
    for name, _, rows, cols in shape.matrices():
        yield (f"{name}.weight", "BF16", [rows, cols], Bf16.nbytes(rows, cols),
               lambda rng, r=rows, c=cols: Bf16.parts(rng, r, c))


def _quantized(shape, affine):
    """A matrix is three tensors. Scales and biases share their random numbers, so each pair has its own seed."""
    for name, _, rows, cols in shape.matrices():
        count, nbytes = rows * cols // affine.group, rows * cols * affine.bits // 8
        yield f"{name}.weight", "U32", [rows, nbytes // rows // 4], nbytes, lambda rng, n=nbytes: Bytes.parts(rng, n)
        for index, part in enumerate(("scales", "biases")):
            yield (f"{name}.{part}", "BF16", [rows, cols // affine.group], 2 * count,
                   lambda _, i=index, n=count, s=name: [affine.scales_and_biases(random.Random(s), n)[i]])


def _write(file, tensors, rng):
    header, at = {"__metadata__": {"format": "mlx"}}, 0
    for name, dtype, dims, nbytes, _ in tensors:
        header[name] = {"dtype": dtype, "shape": dims, "data_offsets": [at, at + nbytes]}
        at += nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(file, "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for *_, parts in tensors:
            for part in parts(rng):
                out.write(part)
