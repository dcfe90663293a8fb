//! Where an encoder's weights are found in a checkpoint.

/// Names of modules; a module's tensors are `NAME.weight` and `NAME.bias`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncoderNames {
    /// May stand before all names: transformers writes it for models with a head, and leaves it out for bare ones.
    pub prefix: &'static str,
    /// `[vocab, hidden]`.
    pub embedding: &'static str,
    /// `[positions, hidden]`.
    pub positions: &'static str,
    /// `[types, hidden]`.
    pub token_types: &'static str,
    /// Prefix of all blocks; a block's modules are `BLOCKS.INDEX.MODULE`.
    pub blocks: &'static str,
    /// q, k and v; one name if they are one matrix.
    pub qkv: &'static [&'static str],
    /// Output projection of attention.
    pub o: &'static str,
    /// Norms of each query and each key head.
    pub qk_norm: [&'static str; 2],
    /// Gate and up, or only up; one name if they are one matrix.
    pub up: &'static [&'static str],
    /// Down projection.
    pub down: &'static str,
    /// How names begin of tensors that may be there and aren't needed: heads of pre-training, constants.
    pub leftovers: &'static [&'static str],
}

impl EncoderNames {
    /// BERT and RoBERTa.
    pub const BERT: Self = Self {
        prefix: "bert.",
        embedding: "embeddings.word_embeddings",
        positions: "embeddings.position_embeddings",
        token_types: "embeddings.token_type_embeddings",
        blocks: "encoder.layer",
        qkv: &["attention.self.query", "attention.self.key", "attention.self.value"],
        o: "attention.output.dense",
        qk_norm: ["", ""],
        up: &["intermediate.dense"],
        down: "output.dense",
        leftovers: &["pooler.", "cls.", "lm_head.", "embeddings.position_ids"],
    };

    /// ModernBERT.
    pub const MODERN_BERT: Self = Self {
        prefix: "model.",
        embedding: "embeddings.tok_embeddings",
        positions: "",
        token_types: "",
        blocks: "layers",
        qkv: &["attn.Wqkv"],
        o: "attn.Wo",
        qk_norm: ["", ""],
        up: &["mlp.Wi"],
        down: "mlp.Wo",
        leftovers: &["head.", "decoder."],
    };

    /// The Llama line of models.
    pub const DECODER: Self = Self {
        prefix: "model.",
        embedding: "embed_tokens",
        positions: "",
        token_types: "",
        blocks: "layers",
        qkv: &["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
        o: "self_attn.o_proj",
        qk_norm: ["self_attn.q_norm", "self_attn.k_norm"],
        up: &["mlp.gate_proj", "mlp.up_proj"],
        down: "mlp.down_proj",
        leftovers: &["lm_head."],
    };

    /// Full name of a block's module.
    pub fn in_block(&self, block: usize, module: &str) -> String {
        format!("{}.{block}.{module}", self.blocks)
    }
}
