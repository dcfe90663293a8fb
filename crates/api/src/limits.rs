//! How much one request may ask for.

/// Bounds on the size and shape of requests. All are inclusive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a request body.
    pub max_body_bytes: usize,
    /// Nested arrays and objects in a body.
    pub max_json_depth: usize,
    /// Values in a body (a parsed value takes far more memory than its text).
    pub max_json_values: usize,
    /// Messages of a conversation.
    pub max_messages: usize,
    /// Characters of one prompt, or of all messages of a conversation together.
    pub max_prompt_chars: usize,
    /// Tools of a conversation.
    pub max_tools: usize,
    /// Bytes of one tool's schema as JSON.
    pub max_tool_schema_bytes: usize,
    /// Nested arrays and objects in one tool's schema.
    pub max_tool_schema_depth: usize,
    /// Sequences of one request: prompts × `n`.
    pub max_sequences: usize,
    /// Texts of one request for embeddings, scores or classes.
    pub max_texts: usize,
    /// Stop strings.
    pub max_stop: usize,
    /// Characters of one stop string or bad word.
    pub max_stop_chars: usize,
    /// Entries of `bad_words`, in token sequences too.
    pub max_bad_words: usize,
    /// Entries of `stop_token_ids`, `allowed_token_ids` and `logit_bias`; each of `n` sequences keeps a copy.
    pub max_token_ids: usize,
    /// `logprobs`, `top_logprobs` and `prompt_logprobs`.
    pub max_logprobs: usize,
    /// Tokens of reasoning in one answer, whatever its request says, of models whose reasoning can be closed.
    pub max_thinking_tokens: Option<usize>,
    /// Tokens of `max_tokens` (but at most half of them) that reasoning leaves for the answer, if the request has no
    /// budget for its reasoning.
    pub answer_reserve: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_body_bytes: 16 << 20,
            max_json_depth: 100,
            max_json_values: 1 << 20,
            max_messages: 4096,
            max_prompt_chars: 8 << 20,
            max_tools: 1024,
            max_tool_schema_bytes: 256 << 10,
            max_tool_schema_depth: 64,
            max_sequences: 1024,
            max_texts: 2048,
            max_stop: 4,
            max_stop_chars: 1024,
            max_bad_words: 128,
            max_token_ids: 16_384,
            max_logprobs: 20,
            max_thinking_tokens: None,
            answer_reserve: 0,
        }
    }
}
