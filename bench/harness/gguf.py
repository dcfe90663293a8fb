"""Writes a GGUF file with random weights: BF16, Q8_0 or Q4_0 (every matrix, as `llama-quantize` leaves a tied one).

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""
import math
import random
import struct

from .randoms import Bf16, Blocks, ones_f32
from .vocabulary import CHAT_TEMPLATE, SPECIAL, Vocabulary

ALIGNMENT = 32
# Type of a tensor, and of a file that is mostly of it.
TYPES = {"F32": (0, 0), "Q4_0": (2, 2), "Q8_0": (8, 7), "BF16": (30, 32)}
FORMATS = {"Q4_0": Blocks(4), "Q8_0": Blocks(8), "BF16": Bf16}
U32, I32, F32, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9
NORMAL, CONTROL = 1, 3


def write(shape, file, kind, seed=1):
    """One file with everything in it."""
    tensors = [(f"{name}.weight", kind, [cols, rows], lambda rng, r=rows, c=cols: FORMATS[kind].parts(rng, r, c),
                FORMATS[kind].nbytes(rows, cols)) for _, name, rows, cols in shape.matrices()]
    tensors += [(f"{name}.weight", "F32", [n], lambda _, n=n: [ones_f32(n)], 4 * n) for _, name, n in shape.norms()]
    factors = _rope_factors(shape)
    if factors:
        tensors.append(("rope_freqs.weight", "F32", [len(factors)],
                        lambda _: [struct.pack(f"<{len(factors)}f", *factors)], 4 * len(factors)))
    metadata = _metadata(shape, kind)
    rng = random.Random(seed)
    with open(file, "wb") as out:
        out.write(b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata)))
        for key, type_, value in metadata:
            out.write(_string(key) + struct.pack("<I", type_) + _value(type_, value))
        at = 0
        for name, type_, dims, _, nbytes in tensors:
            out.write(_string(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, TYPES[type_][0], at))
            at += nbytes + -nbytes % ALIGNMENT
        _pad(out)
        for *_, parts, _ in tensors:
            for part in parts(rng):
                out.write(part)
            _pad(out)


def _metadata(shape, kind):
    config, arch = shape.config, shape.family
    vocabulary = Vocabulary(shape.vocab)
    special = vocabulary.special
    types = [NORMAL] * (shape.vocab - len(SPECIAL)) + [CONTROL] * len(SPECIAL)
    entries = [
        ("general.architecture", STRING, arch),
        ("general.name", STRING, f"{shape.name}, random weights"),
        ("general.file_type", U32, TYPES[kind][1]),
        ("general.quantization_version", U32, 2),
        (f"{arch}.context_length", U32, config["max_position_embeddings"]),
        (f"{arch}.embedding_length", U32, shape.hidden),
        (f"{arch}.block_count", U32, shape.layers),
        (f"{arch}.feed_forward_length", U32, shape.ffn),
        (f"{arch}.attention.head_count", U32, shape.heads),
        (f"{arch}.attention.head_count_kv", U32, shape.kv_heads),
        (f"{arch}.attention.key_length", U32, shape.head_dim),
        (f"{arch}.attention.value_length", U32, shape.head_dim),
        (f"{arch}.attention.layer_norm_rms_epsilon", F32, config["rms_norm_eps"]),
        (f"{arch}.rope.freq_base", F32, config["rope_theta"]),
        (f"{arch}.rope.dimension_count", U32, shape.head_dim),
        (f"{arch}.vocab_size", U32, shape.vocab),
        ("tokenizer.ggml.model", STRING, "gpt2"),
        ("tokenizer.ggml.pre", STRING, "qwen2" if arch == "qwen3" else "llama-bpe"),
        ("tokenizer.ggml.tokens", ARRAY, (STRING, vocabulary.tokens)),
        ("tokenizer.ggml.token_type", ARRAY, (I32, types)),
        ("tokenizer.ggml.merges", ARRAY, (STRING, vocabulary.merges)),
        ("tokenizer.ggml.bos_token_id", U32, special["<|endoftext|>"]),
        ("tokenizer.ggml.eos_token_id", U32, special["<|im_end|>"]),
        ("tokenizer.ggml.add_bos_token", BOOL, False),
        ("tokenizer.chat_template", STRING, CHAT_TEMPLATE),
    ]
    return entries


def _rope_factors(shape):
    """Llama 3's divisors of the rotary frequencies; none for other models."""
    scaling = shape.config.get("rope_scaling") or {}
    if scaling.get("rope_type") != "llama3":
        return []
    factor, low, high = scaling["factor"], scaling["low_freq_factor"], scaling["high_freq_factor"]
    old = scaling["original_max_position_embeddings"]
    factors = []
    for pair in range(0, shape.head_dim, 2):
        turns = old * shape.config["rope_theta"] ** (-pair / shape.head_dim) / (2 * math.pi)
        smooth = min(max((turns - low) / (high - low), 0.0), 1.0)
        factors.append(1 / ((1 - smooth) / factor + smooth))
    return factors


def _string(text):
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _value(type_, value):
    if type_ == STRING:
        return _string(value)
    if type_ == ARRAY:
        item, values = value
        return struct.pack("<IQ", item, len(values)) + b"".join(_value(item, entry) for entry in values)
    return struct.pack({U32: "<I", I32: "<i", F32: "<f", BOOL: "<?"}[type_], value)


def _pad(out):
    out.write(b"\0" * (-out.tell() % ALIGNMENT))
