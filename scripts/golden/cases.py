"""The tiny models: which configurations are covered, and what each of them is there to catch.

A case is a transformers config class, its arguments, and
- `ablate`: config changes, each of which must change the logits. They prove that the feature which the case is
  named after is felt at the lengths tested (a window longer than the prompt, say, would test nothing).
- `legacy`: changes on top of the automatic translation into the older config style (see legacy.py).
"""

from dataclasses import dataclass, field
from typing import Any

import transformers as hf

# Longer than a KV block of 16, than every sliding window below and than every original context below.
LENGTHS = (5, 33, 61)

DEFAULT_ROPE = {"rope_type": "default", "rope_theta": 10000.0}


@dataclass(frozen=True)
class Case:
    """One fixture folder."""

    name: str
    about: str
    config: type
    args: dict[str, Any]
    ablate: tuple[dict[str, Any], ...] = ()
    legacy: dict[str, Any] = field(default_factory=dict)
    legacy_drop: tuple[str, ...] = ()


def sizes(vocab, hidden, ffn, layers, heads, kv_heads, **more):
    """Config arguments that every family shares. Token ids 0 to 2 are special."""
    return dict(
        vocab_size=vocab, hidden_size=hidden, intermediate_size=ffn, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=kv_heads, max_position_embeddings=256,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, **more,
    )


LLAMA3_ROPE = {
    "rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0, "original_max_position_embeddings": 32,
}
YARN_ROPE = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 16}
# A longer original context here: over 16 positions nothing turns `beta_fast` times, so it would not be felt.
YARN_LONGER = YARN_ROPE | {"original_max_position_embeddings": 48}
YARN_OPTIONS = {"attention_factor": 0.8, "beta_fast": 4.0, "beta_slow": 0.5, "truncate": False}

CASES = [
    Case(
        "llama2_mha", "Llama 2: as many KV heads as query heads; the older config names neither KV heads nor head_dim",
        hf.LlamaConfig, sizes(251, 48, 100, 2, 3, 3, rms_norm_eps=1e-5),
        legacy_drop=("num_key_value_heads", "head_dim", "attention_bias", "mlp_bias"),
    ),
    Case(
        "llama2_gqa", "Llama 2 with grouped KV heads (4 query heads on 2 KV heads of 16)",
        hf.LlamaConfig,
        sizes(257, 64, 90, 2, 4, 2, rms_norm_eps=1e-5, rope_parameters={"rope_type": "default", "rope_theta": 500.0}),
        ablate=({"rope_parameters": DEFAULT_ROPE},),
    ),
    Case(
        "llama3_rope", "Llama 3.1: rope type llama3, original context 32, so that all three frequency bands occur",
        hf.LlamaConfig, sizes(253, 64, 97, 2, 4, 2, rms_norm_eps=1e-5, rope_parameters=LLAMA3_ROPE),
        ablate=({"rope_parameters": DEFAULT_ROPE},),
    ),
    Case(
        "llama_bias_tied", "Llama with attention_bias (q, k, v and o), mlp_bias and tied embeddings",
        hf.LlamaConfig,
        sizes(255, 48, 75, 2, 3, 1, attention_bias=True, mlp_bias=True, tie_word_embeddings=True),
    ),
    Case(
        "llama_linear_rope", "Linear rope scaling; the older config says `type` instead of `rope_type`",
        hf.LlamaConfig,
        sizes(251, 32, 70, 2, 2, 1, rope_parameters={"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}),
        ablate=({"rope_parameters": DEFAULT_ROPE},),
        legacy={"rope_scaling": {"type": "linear", "factor": 4.0}},
    ),
    Case(
        "llama_yarn", "YaRN with every option: attention_factor, beta_fast, beta_slow, truncate off",
        hf.LlamaConfig,
        sizes(251, 64, 70, 2, 2, 1, rope_parameters=YARN_LONGER | YARN_OPTIONS),
        ablate=tuple(
            {"rope_parameters": YARN_LONGER | {key: value for key, value in YARN_OPTIONS.items() if key != left_out}}
            for left_out in YARN_OPTIONS
        ),
    ),
    Case(
        "mistral_window", "Mistral: sliding window 12 in every layer, head_dim 32 although hidden / heads is 12",
        hf.MistralConfig, sizes(254, 48, 99, 2, 4, 2, head_dim=32, sliding_window=12),
        ablate=({"sliding_window": None},),
    ),
    Case(
        "qwen2", "Qwen2: biases on q, k and v only; the older config names a sliding window that is switched off",
        hf.Qwen2Config, sizes(250, 64, 85, 2, 4, 2),
        legacy={"use_sliding_window": False, "sliding_window": 8, "max_window_layers": 0},
    ),
    Case(
        "qwen2_window", "Qwen2 with a sliding window of 10 from layer 1 on (max_window_layers = 1)",
        hf.Qwen2Config,
        sizes(250, 48, 85, 3, 3, 1, use_sliding_window=True, sliding_window=10, max_window_layers=1),
        ablate=({"layer_types": ["sliding_attention"] * 3},),
    ),
    Case(
        "qwen2_yarn_tied", "Qwen2, tied, with YaRN as Qwen's model cards write it (`type`, defaults for the rest)",
        hf.Qwen2Config, sizes(252, 64, 80, 2, 2, 1, tie_word_embeddings=True, rope_parameters=YARN_ROPE),
        ablate=({"rope_parameters": DEFAULT_ROPE},),
        legacy={"rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}},
    ),
    Case(
        "qwen3", "Qwen3: RMS norm on each q and k head, head_dim 32 although hidden / heads is 16, theta 1e6",
        hf.Qwen3Config,
        sizes(259, 64, 83, 2, 4, 2, head_dim=32, rope_parameters={"rope_type": "default", "rope_theta": 1e6}),
        ablate=({"rope_parameters": DEFAULT_ROPE},),
    ),
    Case(
        "qwen3_tied", "Qwen3 with tied embeddings, three layers, one KV head",
        hf.Qwen3Config, sizes(258, 48, 95, 3, 2, 1, head_dim=16, tie_word_embeddings=True),
    ),
    Case(
        "smollm3", "SmolLM3: tied, every second layer without rope; the older config gives only the interval",
        hf.SmolLM3Config, sizes(253, 48, 71, 4, 3, 1, no_rope_layer_interval=2),
        ablate=({"no_rope_layers": [1, 1, 1, 1]},),
        legacy_drop=("no_rope_layers",),
    ),
    Case(
        "smollm3_irregular", "SmolLM3, untied, with a list of rope layers that follows no interval",
        hf.SmolLM3Config, sizes(253, 32, 71, 3, 2, 2, no_rope_layers=[0, 1, 1], tie_word_embeddings=False),
        ablate=({"no_rope_layers": [1, 1, 0]},),
    ),
]
