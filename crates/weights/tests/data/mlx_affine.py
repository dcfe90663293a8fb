"""Makes mlx_affine.safetensors: matrices quantized by MLX itself, with the values MLX reads back.

Run with `pip install "mlx[cpu]"` (made with mlx 0.32.4): python mlx_affine.py
"""

import os

import mlx.core as mx

ROWS, COLS = 3, 128
mx.random.seed(0)
tensors = {}
for bits in (2, 3, 4, 5, 6, 8):
    for group in (32, 64, 128):
        dtype = {32: mx.bfloat16, 64: mx.float16, 128: mx.float32}[group]
        dense = mx.random.normal((ROWS, COLS)).astype(dtype)
        weight, scales, biases = mx.quantize(dense, group_size=group, bits=bits)
        name = f"b{bits}g{group}"
        tensors[f"{name}.weight"] = weight
        tensors[f"{name}.scales"] = scales
        tensors[f"{name}.biases"] = biases
        wide = [t.astype(mx.float32) for t in (scales, biases)]
        tensors[f"{name}.expected"] = mx.dequantize(weight, *wide, group_size=group, bits=bits)
mx.save_safetensors(os.path.join(os.path.dirname(__file__), "mlx_affine.safetensors"), tensors)
