//! A tiny real model behind a recording backend: every test also proves that nothing reads back inside a step.
#![allow(dead_code, clippy::unwrap_used)] // each test file uses its part; a panic is how a test fails

use std::path::PathBuf;

use millrace_backend::{Backend, KvDtype, WeightFormat, recording::Recorder, reference::ReferenceBackend};
use millrace_engine::{Engine, EngineConfig, EngineError, EngineStats, ResponseStream, SubmitOptions, start};
use millrace_model::{Decoder, LoadOptions, spec};
use millrace_types::{RequestOutput, SamplingParams, TokenId};
use millrace_weights::{Checkpoint, HfConfig};

/// Prompt lengths and budgets are far below this.
pub(crate) const VOCAB: u32 = 258;

/// A config with room for everything; tests shrink it.
pub(crate) fn config() -> EngineConfig {
    EngineConfig {
        kv_cache_memory: 8 << 20,
        kv_dtype: KvDtype::F32,
        max_num_batched_tokens: 64,
        max_num_seqs: 16,
        seed: Some(1),
        ..EngineConfig::default()
    }
}

/// Bytes of KV cache that hold `blocks` usable blocks of 16 tokens (3 layers, 1 KV head of 16, float32).
pub(crate) fn kv_bytes(blocks: u64) -> u64 {
    (blocks + 1) * 3 * 2 * 16 * 16 * 4
}

pub(crate) fn engine(config: &EngineConfig) -> Engine {
    try_engine(config).unwrap()
}

pub(crate) fn try_engine(config: &EngineConfig) -> Result<Engine, EngineError> {
    engine_on(Recorder::new(ReferenceBackend::new()), config)
}

pub(crate) fn engine_on(
    backend: impl Backend + 'static,
    config: &EngineConfig,
) -> Result<Engine, EngineError> {
    engine_of("qwen3_tied", backend, config)
}

/// One of the tiny models that the decoder is tested with.
pub(crate) fn engine_of(
    model: &str,
    mut backend: impl Backend + 'static,
    config: &EngineConfig,
) -> Result<Engine, EngineError> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../model/tests/fixtures").join(model);
    let json = std::fs::read(dir.join("config.json")).unwrap();
    let spec = spec::from_config(&HfConfig::parse("config.json", &json).unwrap()).unwrap();
    let checkpoint = Checkpoint::open(&dir).unwrap();
    let options = LoadOptions {
        format: WeightFormat::Native,
        max_tokens: config.max_num_batched_tokens,
        max_logit_rows: 8,
    };
    let (decoder, _) = Decoder::load(&spec, &checkpoint, &mut backend, options, &mut |_| {}).unwrap();
    start(Box::new(backend), decoder, &spec, config)
}

pub(crate) fn greedy(max_tokens: usize) -> SamplingParams {
    SamplingParams { temperature: 0.0, max_tokens, ..SamplingParams::default() }
}

/// A prompt of `len` tokens that differs by `salt`.
pub(crate) fn prompt(len: usize, salt: u32) -> Vec<TokenId> {
    (0..len as u32).map(|i| (i * 37 + salt * 101 + 11) % VOCAB).collect()
}

pub(crate) fn submit(engine: &Engine, prompt: Vec<TokenId>, sampling: SamplingParams) -> ResponseStream {
    engine.handle.submit(prompt, sampling, SubmitOptions::default()).unwrap()
}

/// All outputs of a stream, joined into one.
pub(crate) fn collect(mut stream: ResponseStream) -> RequestOutput {
    let mut all = RequestOutput::default();
    while let Some(output) = stream.blocking_recv() {
        assert!(all.finish.is_none(), "news after the end");
        all.tokens.extend(output.tokens);
        all.logprobs.extend(output.logprobs);
        all.prompt_logprobs = all.prompt_logprobs.or(output.prompt_logprobs);
        all.finish = output.finish;
        all.error = output.error;
        all.usage = output.usage;
        all.preemptions = output.preemptions;
        all.queue_time = output.queue_time;
    }
    assert!(all.finish.is_some(), "the stream ended without a reason");
    all
}

pub(crate) fn generate(engine: &Engine, prompt: Vec<TokenId>, sampling: SamplingParams) -> RequestOutput {
    collect(submit(engine, prompt, sampling))
}

/// Waits for a published snapshot; tokens arrive before the snapshot that counts them.
pub(crate) fn wait_for(engine: &Engine, condition: impl FnMut(&EngineStats) -> bool) -> EngineStats {
    let mut watch = engine.handle.watch();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    *runtime.block_on(watch.wait_for(condition)).unwrap()
}

/// Waits until so many requests have ended, and checks that they left nothing behind.
pub(crate) fn assert_idle(engine: &Engine, ended: u64) -> EngineStats {
    let stats = wait_for(engine, |s| s.finished.iter().sum::<u64>() >= ended);
    assert_eq!((stats.running, stats.waiting, stats.blocks_in_use), (0, 0, 0));
    assert_eq!(stats.finished.iter().sum::<u64>(), ended, "a request ended twice");
    stats
}
