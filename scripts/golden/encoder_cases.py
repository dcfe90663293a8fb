"""The tiny models that read whole texts: embeddings and classifiers, and what each of them is there to catch.

A case is a transformers class and its config's arguments, `pool` and `dense` as sentence-transformers writes them
down, and `ablate`: config changes, each of which must change the results.
"""

from dataclasses import dataclass, field
from typing import Any

import transformers as hf

# Longer than every window below; one token alone is a text too.
LENGTHS = (1, 5, 33, 61)


@dataclass(frozen=True)
class EncoderCase:
    """One fixture folder."""

    name: str
    about: str
    model: type
    config: type
    args: dict[str, Any]
    # pooling_mode_* of 1_Pooling/config.json; None for classifiers.
    pool: str | None = None
    # (output features, bias, activation in torch.nn) of dense modules behind the pooling.
    dense: tuple[tuple[int, bool, str], ...] = ()
    ablate: tuple[dict[str, Any], ...] = ()
    # Tokens for yes and no of a model that writes its answer: the result is the difference of their logits. With
    # `tokens`, its tokenizer knows bytes, these two and the ones of Qwen3-Reranker's prompt.
    judge: tuple[int, int] | None = None
    # Ids of the tokens before, between and for unknown words; with them comes a tokenizer.
    tokens: tuple[int, int, int] | None = None
    # The config as transformers 4 wrote it: fields that go, and fields that come.
    legacy_drop: tuple[str, ...] = ()
    legacy: dict[str, Any] = field(default_factory=dict)


def sizes(vocab, hidden, ffn, layers, heads, **more):
    """Config arguments that every family shares. Token ids 0 to 2 are special."""
    return dict(
        vocab_size=vocab, hidden_size=hidden, intermediate_size=ffn, num_hidden_layers=layers,
        num_attention_heads=heads, max_position_embeddings=80, **more,
    )


def rope(theta):
    return {"rope_type": "default", "rope_theta": theta}


BERT = sizes(251, 48, 100, 2, 3)
ROBERTA = sizes(249, 32, 70, 2, 2, pad_token_id=1, bos_token_id=0, eos_token_id=2)
MODERN = dict(pad_token_id=0, bos_token_id=1, eos_token_id=2, cls_token_id=1, sep_token_id=2)
MODERN_ROPE = {"full_attention": rope(2000.0), "sliding_attention": rope(300.0)}
GEMMA = dict(pad_token_id=0, bos_token_id=1, eos_token_id=2, head_dim=16, num_key_value_heads=1)

CASES = [
    EncoderCase(
        "bert_mean", "BERT: learned positions, token types, post-norm, exact GELU; pooled by the mean",
        hf.BertModel, hf.BertConfig, BERT, pool="mean_tokens", ablate=({"hidden_act": "relu"},), tokens=(1, 2, 0),
    ),
    EncoderCase(
        "bert_max", "BERT with one token type and the tanh GELU; pooled by the maximum",
        hf.BertModel, hf.BertConfig, sizes(250, 32, 65, 2, 4, type_vocab_size=1, hidden_act="gelu_new"),
        pool="max_tokens", ablate=({"hidden_act": "relu"},),
    ),
    EncoderCase(
        "bert_cross", "BERT as a cross-encoder: pairs by token types, pooler, one label",
        hf.BertForSequenceClassification, hf.BertConfig, BERT | {"num_labels": 1}, tokens=(1, 2, 0),
    ),
    EncoderCase(
        "roberta_cls", "RoBERTa: positions begin behind the padding token's; pooled by the first token",
        hf.RobertaModel, hf.RobertaConfig, ROBERTA | {"type_vocab_size": 1}, pool="cls_token",
    ),
    EncoderCase(
        "xlmr_cross", "XLM-RoBERTa as a classifier of three labels: two layers over the first token",
        hf.XLMRobertaForSequenceClassification, hf.XLMRobertaConfig, ROBERTA | {"type_vocab_size": 1, "num_labels": 3},
        tokens=(0, 2, 3),
    ),
    EncoderCase(
        "modernbert_mean", "ModernBERT: two rotations, windows of 12 in two of four layers, no biases; the mean over √n",
        hf.ModernBertModel, hf.ModernBertConfig,
        sizes(253, 48, 40, 4, 3, local_attention=12, rope_parameters=MODERN_ROPE,
              layer_types=["full_attention", "sliding_attention"] * 2, **MODERN),
        pool="mean_sqrt_len_tokens",
        ablate=({"local_attention": 60}, {"rope_parameters": {"full_attention": rope(300.0), "sliding_attention": rope(300.0)}}),
        legacy_drop=("rope_parameters", "layer_types"),
        legacy={"global_rope_theta": 2000.0, "local_rope_theta": 300.0, "global_attn_every_n_layers": 2},
    ),
    EncoderCase(
        "modernbert_cross", "ModernBERT as a classifier of two labels, with all biases, pooled by the mean",
        hf.ModernBertForSequenceClassification, hf.ModernBertConfig,
        sizes(253, 32, 40, 3, 2, local_attention=16, attention_bias=True, mlp_bias=True, norm_bias=True,
              classifier_bias=True, classifier_pooling="mean", rope_parameters=MODERN_ROPE, **MODERN),
        ablate=({"classifier_pooling": "cls"},), tokens=(1, 2, 0),
    ),
    EncoderCase(
        "qwen3_last", "Qwen3 without its head (Qwen3-Embedding): causal, pooled by the last token",
        hf.Qwen3Model, hf.Qwen3Config,
        sizes(259, 64, 83, 2, 4, num_key_value_heads=2, head_dim=32, pad_token_id=0, bos_token_id=1, eos_token_id=2),
        pool="lasttoken",
    ),
    EncoderCase(
        "qwen3_score", "Qwen3 as a classifier of one label: a linear layer over the last token",
        hf.Qwen3ForSequenceClassification, hf.Qwen3Config,
        sizes(259, 32, 83, 2, 2, num_key_value_heads=1, head_dim=16, pad_token_id=0, bos_token_id=1, eos_token_id=2, num_labels=1),
    ),
    EncoderCase(
        "qwen3_judge", "Qwen3 that writes yes or no (Qwen3-Reranker): tied embeddings, and pairs in its prompt",
        hf.Qwen3ForCausalLM, hf.Qwen3Config,
        sizes(262, 32, 83, 2, 2, num_key_value_heads=1, head_dim=16, pad_token_id=0, bos_token_id=1, eos_token_id=2,
              tie_word_embeddings=True) | {"max_position_embeddings": 1024},
        judge=(260, 261), tokens=(256, 257, 258),
    ),
    EncoderCase(
        "qwen3_judge_untied", "the same with an output head of its own",
        hf.Qwen3ForCausalLM, hf.Qwen3Config,
        sizes(259, 32, 83, 2, 2, num_key_value_heads=1, head_dim=16, pad_token_id=0, bos_token_id=1, eos_token_id=2,
              tie_word_embeddings=False),
        judge=(7, 5),
    ),
    EncoderCase(
        "gemma3_dense", "Gemma 3 in both directions (EmbeddingGemma): windows of 10, four norms a block, two dense layers",
        hf.Gemma3TextModel, hf.Gemma3TextConfig,
        sizes(255, 32, 50, 3, 2, sliding_window=10, use_bidirectional_attention=True, query_pre_attn_scalar=24,
              layer_types=["sliding_attention", "full_attention", "sliding_attention"],
              rope_parameters={"full_attention": rope(5000.0), "sliding_attention": rope(100.0)}, **GEMMA),
        pool="mean_tokens", dense=((40, False, "Identity"), (24, True, "Tanh")),
        ablate=({"sliding_window": 40}, {"use_bidirectional_attention": False}),
        legacy_drop=("rope_parameters",),
        legacy={"rope_theta": 5000.0, "rope_local_base_freq": 100.0},
    ),
]
