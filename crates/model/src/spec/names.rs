//! Where a spec's weights are found in a checkpoint.

/// Names of modules; a module's tensors are `NAME.weight` and `NAME.bias`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WeightNames {
    /// `[vocab, hidden]`.
    pub embedding: &'static str,
    /// `[hidden]`.
    pub final_norm: &'static str,
    /// `[vocab, hidden]`, absent if tied.
    pub head: &'static str,
    /// Prefix of all layers; a layer's modules are `LAYERS.INDEX.MODULE`.
    pub layers: &'static str,
    /// Norm before the mixer, `[hidden]`.
    pub mixer_norm: &'static str,
    /// Query projection.
    pub q: &'static str,
    /// Key projection.
    pub k: &'static str,
    /// Value projection.
    pub v: &'static str,
    /// Output projection of attention.
    pub o: &'static str,
    /// Norm of each query head, `[head_dim]`.
    pub q_norm: &'static str,
    /// Norm of each key head, `[head_dim]`.
    pub k_norm: &'static str,
    /// Norm before the feed-forward, `[hidden]`.
    pub ffn_norm: &'static str,
    /// Gate projection.
    pub gate: &'static str,
    /// Up projection.
    pub up: &'static str,
    /// Down projection.
    pub down: &'static str,
}

impl WeightNames {
    /// The names that Hugging Face transformers gives to the Llama line of models.
    pub const HUGGING_FACE: Self = Self {
        embedding: "model.embed_tokens",
        final_norm: "model.norm",
        head: "lm_head",
        layers: "model.layers",
        mixer_norm: "input_layernorm",
        q: "self_attn.q_proj",
        k: "self_attn.k_proj",
        v: "self_attn.v_proj",
        o: "self_attn.o_proj",
        q_norm: "self_attn.q_norm",
        k_norm: "self_attn.k_norm",
        ffn_norm: "post_attention_layernorm",
        gate: "mlp.gate_proj",
        up: "mlp.up_proj",
        down: "mlp.down_proj",
    };

    /// Full name of a layer's module.
    pub fn in_layer(&self, layer: usize, module: &str) -> String {
        format!("{}.{layer}.{module}", self.layers)
    }
}
