//! What can be set about an engine.

use millrace_backend::KvDtype;
use millrace_sched::Policy;

/// Settings of one engine; the names are those of the `serve` flags.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Longest prompt plus output; `None`: what the model was made for, as far as the KV cache allows.
    pub max_model_len: Option<usize>,
    /// Sequences in one step.
    pub max_num_seqs: usize,
    /// Tokens in one step; long prompts are prefilled in chunks of at most this size.
    pub max_num_batched_tokens: usize,
    /// Tokens per KV block; a multiple of the backend's.
    pub block_size: usize,
    /// Bytes for the KV cache.
    pub kv_cache_memory: u64,
    /// Take that memory at the start; otherwise, where the system allows, as it is needed.
    pub commit_kv: bool,
    /// Element type of the KV cache.
    pub kv_dtype: KvDtype,
    /// Reuse the KV blocks of common prefixes.
    pub prefix_caching: bool,
    /// Order of admission.
    pub policy: Policy,
    /// Requests that may wait for admission.
    pub max_queued: usize,
    /// Seeds requests that bring none; `None`: from the clock.
    pub seed: Option<u64>,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            max_model_len: None,
            max_num_seqs: 256,
            max_num_batched_tokens: 512,
            block_size: 16,
            kv_cache_memory: 1 << 30,
            commit_kv: false,
            kv_dtype: KvDtype::Bf16,
            prefix_caching: true,
            policy: Policy::Fcfs,
            max_queued: 4096,
            seed: None,
        }
    }
}

/// Why an engine could not start.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The KV cache is too small to be of use.
    #[error(
        "{memory} bytes of KV cache hold {blocks} blocks of {block_size} tokens, fewer than the {needed} that one \
         sequence of {max_model_len} tokens needs; raise --kv-cache-memory or lower --max-model-len"
    )]
    KvTooSmall {
        /// `--kv-cache-memory`.
        memory: u64,
        /// Blocks that fit.
        blocks: usize,
        /// `--block-size`.
        block_size: usize,
        /// Blocks for one longest sequence, and the null block.
        needed: usize,
        /// `--max-model-len`.
        max_model_len: usize,
    },
    /// The block size doesn't suit the backend.
    #[error("--block-size {block_size} is not a multiple of {multiple}, which {backend} needs")]
    BlockSize {
        /// What was asked for.
        block_size: usize,
        /// What the backend needs.
        multiple: usize,
        /// Who needs it.
        backend: String,
    },
    /// A length beyond what the model was made for.
    #[error("--max-model-len {asked} is more than the {limit} positions that the model was made for")]
    ModelLen {
        /// What was asked for.
        asked: usize,
        /// What the model has.
        limit: usize,
    },
    /// A text has to be computed in one step.
    #[error(
        "texts of up to {len} tokens don't fit into steps of {budget}; raise --max-num-batched-tokens or lower \
         --max-model-len"
    )]
    StepTooSmall {
        /// `--max-model-len`.
        len: usize,
        /// `--max-num-batched-tokens`.
        budget: usize,
    },
    /// The scheduler refused a setting.
    #[error(transparent)]
    Scheduler(#[from] millrace_sched::SchedError),
    /// The backend refused.
    #[error(transparent)]
    Backend(#[from] millrace_backend::BackendError),
    /// The operating system refused a thread.
    #[error("the engine thread could not be started: {0}")]
    Thread(#[from] std::io::Error),
}
