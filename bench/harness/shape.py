"""The tensors of a Llama-like model, from its `config.json`: names in both worlds, rows and columns."""
import json
import pathlib


class Shape:
    """Sizes of a model."""

    def __init__(self, folder):
        self.name = pathlib.Path(folder).resolve().name
        self.config = json.loads((pathlib.Path(folder) / "config.json").read_text())
        get = self.config.__getitem__
        self.vocab, self.hidden, self.layers = get("vocab_size"), get("hidden_size"), get("num_hidden_layers")
        self.heads, self.kv_heads = get("num_attention_heads"), get("num_key_value_heads")
        self.head_dim = self.config.get("head_dim") or self.hidden // self.heads
        self.ffn, self.family = get("intermediate_size"), get("model_type")
        if not self.config.get("tie_word_embeddings") or self.family not in ("qwen3", "llama"):
            raise SystemExit(f"{folder}: only qwen3 and llama with a tied embedding are known here")

    def matrices(self):
        """(name in safetensors, name in GGUF, rows, columns) of every matrix."""
        hidden, q, kv = self.hidden, self.heads * self.head_dim, self.kv_heads * self.head_dim
        yield "model.embed_tokens", "token_embd", self.vocab, hidden
        for layer in range(self.layers):
            ours, theirs = f"model.layers.{layer}.", f"blk.{layer}."
            yield ours + "self_attn.q_proj", theirs + "attn_q", q, hidden
            yield ours + "self_attn.k_proj", theirs + "attn_k", kv, hidden
            yield ours + "self_attn.v_proj", theirs + "attn_v", kv, hidden
            yield ours + "self_attn.o_proj", theirs + "attn_output", hidden, q
            yield ours + "mlp.gate_proj", theirs + "ffn_gate", self.ffn, hidden
            yield ours + "mlp.up_proj", theirs + "ffn_up", self.ffn, hidden
            yield ours + "mlp.down_proj", theirs + "ffn_down", hidden, self.ffn

    def norms(self):
        """(name in safetensors, name in GGUF, length) of every norm's weight."""
        yield "model.norm", "output_norm", self.hidden
        for layer in range(self.layers):
            ours, theirs = f"model.layers.{layer}.", f"blk.{layer}."
            yield ours + "input_layernorm", theirs + "attn_norm", self.hidden
            yield ours + "post_attention_layernorm", theirs + "ffn_norm", self.hidden
            if self.family == "qwen3":
                yield ours + "self_attn.q_norm", theirs + "attn_q_norm", self.head_dim
                yield ours + "self_attn.k_norm", theirs + "attn_k_norm", self.head_dim
