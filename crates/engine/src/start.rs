//! Starting an engine: sizes the KV cache and spawns the thread.

use std::{
    thread::JoinHandle,
    time::{SystemTime, UNIX_EPOCH},
};

use millrace_backend::{Backend, KvSpec};
use millrace_model::{Decoder, ModelSpec};
use millrace_sched::{Scheduler, SchedulerConfig};

use crate::{
    EngineConfig, EngineError, EngineHandle, EngineInfo, channel, generation::Generation, runner::Runner,
    work,
};

/// A running engine.
#[derive(Debug)]
pub struct Engine {
    /// The way in.
    pub handle: EngineHandle,
    thread: JoinHandle<()>,
}

impl Engine {
    pub(crate) fn new(handle: EngineHandle, thread: JoinHandle<()>) -> Self {
        Self { handle, thread }
    }

    /// Waits for the thread to end, after [`EngineHandle::drain`] or [`EngineHandle::shutdown`].
    /// False if the engine thread panicked.
    pub fn join(self) -> bool {
        self.thread.join().is_ok()
    }
}

/// Allocates the KV cache in `backend`, where `decoder` was loaded for steps of at least
/// `config.max_num_batched_tokens` tokens, and starts the engine thread.
///
/// # Errors
/// Settings that cannot work, or no memory for the KV cache.
pub fn start(
    mut backend: Box<dyn Backend>,
    decoder: Decoder,
    spec: &ModelSpec,
    config: &EngineConfig,
) -> Result<Engine, EngineError> {
    let kv = plan_kv(&*backend, spec, config)?;
    backend.alloc_kv(&kv.spec)?;
    if config.commit_kv {
        backend.commit_kv()?;
    }
    let info = EngineInfo {
        max_model_len: kv.max_model_len,
        vocab_size: spec.vocab,
        kv_capacity_tokens: (kv.spec.num_blocks - 1) * kv.spec.block_size,
        block_size: kv.spec.block_size,
        max_queued: config.max_queued,
        prefix_caching: config.prefix_caching,
        device: backend.describe(),
        pooling: None,
    };
    let sched = Scheduler::new(SchedulerConfig {
        max_num_seqs: config.max_num_seqs,
        max_num_batched_tokens: config.max_num_batched_tokens,
        max_model_len: kv.max_model_len,
        block_size: kv.spec.block_size,
        num_blocks: kv.spec.num_blocks,
        enable_prefix_caching: config.prefix_caching,
        window: spec.window(),
        policy: config.policy,
        long_prefill_token_threshold: 0,
    })?;
    let (handle, port) = channel(info);
    let runner = Runner::new(backend, decoder, config.block_size);
    let seed = config.seed.unwrap_or_else(seed_from_clock);
    let thread = work::spawn("millrace-engine", Generation::new(sched, runner, spec.vocab, seed), port)?;
    Ok(Engine { handle, thread })
}

struct KvPlan {
    spec: KvSpec,
    max_model_len: usize,
}

/// As many blocks as fit the memory, and the longest sequence that they and the model allow.
fn plan_kv(backend: &dyn Backend, spec: &ModelSpec, config: &EngineConfig) -> Result<KvPlan, EngineError> {
    let block_size = config.block_size;
    let multiple = backend.block_multiple();
    if block_size == 0 || !block_size.is_multiple_of(multiple) {
        return Err(EngineError::BlockSize { block_size, multiple, backend: backend.describe() });
    }
    if let Some(asked) = config.max_model_len
        && asked > spec.max_positions
    {
        return Err(EngineError::ModelLen { asked, limit: spec.max_positions });
    }
    let mut kv = spec.kv_spec(0, block_size, config.kv_dtype);
    let fit = config.kv_cache_memory / kv.block_bytes().max(1) as u64;
    // Block 0 is reserved, and the batch's slot numbers are 32 bit.
    kv.num_blocks = fit.min(u64::from(u32::MAX) / block_size as u64) as usize;
    let capacity = kv.num_blocks.saturating_sub(1) * block_size;
    let max_model_len = config.max_model_len.unwrap_or(spec.max_positions.min(capacity));
    if max_model_len < 2 || max_model_len > capacity {
        let wanted = config.max_model_len.unwrap_or(2);
        return Err(EngineError::KvTooSmall {
            memory: config.kv_cache_memory,
            blocks: kv.num_blocks,
            block_size,
            needed: wanted.div_ceil(block_size) + 1,
            max_model_len: wanted,
        });
    }
    Ok(KvPlan { spec: kv, max_model_len })
}

fn seed_from_clock() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64)
}
