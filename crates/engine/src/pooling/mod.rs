//! The engine of models that read whole texts: a request is a text, its answer is one row.
//!
//! There is no cache and nothing to go on with, so the scheduler is a queue: each step takes whole texts from its
//! front, of as many users as there are, up to the budget of tokens. The way in is the same [`EngineHandle`](crate::EngineHandle).

mod core;

use millrace_backend::Backend;
use millrace_model::{Encoder, spec::encoder::PoolingTask};

use crate::{Engine, EngineError, EngineInfo, Policy, PoolingInfo, channel, work};
use core::Pooling;

/// Settings of a pooling engine; the names are those of the `serve` flags.
#[derive(Debug, Clone)]
pub struct PoolingConfig {
    /// Longest text in tokens; at most what the model was made for.
    pub max_model_len: usize,
    /// Texts in one step.
    pub max_num_seqs: usize,
    /// Tokens in one step; what the encoder was loaded for.
    pub max_num_batched_tokens: usize,
    /// Order of the queue.
    pub policy: Policy,
    /// Texts that may wait.
    pub max_queued: usize,
}

/// Starts the engine thread of an encoder that was loaded in `backend`; `task` says what its rows mean.
///
/// # Errors
/// A text of the greatest length doesn't fit into a step or exceeds what the model was made for, or the system
/// refuses the thread.
pub fn start_pooling(
    backend: Box<dyn Backend>,
    encoder: Encoder,
    task: PoolingTask,
    config: &PoolingConfig,
) -> Result<Engine, EngineError> {
    let (asked, limit) = (config.max_model_len, encoder.body().max_positions);
    if asked > limit {
        return Err(EngineError::ModelLen { asked, limit });
    }
    if config.max_model_len == 0 || config.max_num_batched_tokens < config.max_model_len {
        let (len, budget) = (config.max_model_len, config.max_num_batched_tokens);
        return Err(EngineError::StepTooSmall { len, budget });
    }
    let info = EngineInfo {
        max_model_len: config.max_model_len,
        vocab_size: encoder.body().vocab,
        kv_capacity_tokens: 0,
        block_size: backend.block_multiple(),
        max_queued: config.max_queued,
        prefix_caching: false,
        device: backend.describe(),
        pooling: Some(PoolingInfo { dim: encoder.dim(), task }),
    };
    let (handle, port) = channel(info);
    let thread = work::spawn("millrace-pooling", Pooling::new(backend, encoder, config), port)?;
    Ok(Engine::new(handle, thread))
}
