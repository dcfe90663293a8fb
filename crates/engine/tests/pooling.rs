//! The engine of models that read whole texts, with a tiny real one behind a recording backend.
#![allow(clippy::unwrap_used)]

mod common;

use std::{path::PathBuf, time::Instant};

use common::{assert_idle, wait_for};
use millrace_backend::{WeightFormat, recording::Recorder, reference::ReferenceBackend};
use millrace_engine::{
    Engine, EngineError, Policy, PoolingConfig, ResponseStream, SubmitError, SubmitOptions, start_pooling,
};
use millrace_model::{Encoder, LoadOptions, spec::encoder};
use millrace_types::{FinishReason, RequestOutput, SamplingParams};
use millrace_weights::{Checkpoint, HfConfig};

fn config() -> PoolingConfig {
    PoolingConfig {
        max_model_len: 80,
        max_num_seqs: 4,
        max_num_batched_tokens: 100,
        policy: Policy::Fcfs,
        max_queued: 1000,
    }
}

fn try_engine(config: &PoolingConfig) -> Result<Engine, EngineError> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../model/tests/encoders/bert_cross");
    let json = std::fs::read(dir.join("config.json")).unwrap();
    let spec = encoder::from_config(&HfConfig::parse("config.json", &json).unwrap()).unwrap().unwrap();
    let checkpoint = Checkpoint::open_file(&dir.join("model.safetensors"), None).unwrap();
    let mut backend = Recorder::new(ReferenceBackend::new());
    let options = LoadOptions {
        format: WeightFormat::Native,
        max_tokens: config.max_num_batched_tokens,
        max_logit_rows: 3,
    };
    let loaded = Encoder::load(&spec, &checkpoint, &mut backend, options, &mut |_| ()).unwrap();
    start_pooling(Box::new(backend), loaded.0, spec.task, config)
}

fn ask(engine: &Engine, len: u32, salt: u32, second: Option<usize>) -> ResponseStream {
    let text = (0..len).map(|i| 3 + (i * 37 + salt * 101) % 240).collect();
    let options = SubmitOptions { second, ..SubmitOptions::default() };
    engine.handle.submit(text, SamplingParams::default(), options).unwrap()
}

fn answer(mut stream: ResponseStream) -> RequestOutput {
    let output = stream.blocking_recv().unwrap();
    assert!(output.finish.is_some() && stream.blocking_recv().is_none());
    output
}

fn stop(engine: Engine) {
    engine.handle.drain();
    assert!(engine.join());
}

#[test]
fn rows_do_not_depend_on_company() {
    let engine = try_engine(&config()).unwrap();
    let alone: Vec<RequestOutput> =
        (0..12).map(|salt| answer(ask(&engine, 5 + salt * 6, salt, Some(3)))).collect();
    let together: Vec<ResponseStream> =
        (0..12).map(|salt| ask(&engine, 5 + salt * 6, salt, Some(3))).collect();
    for (alone, together) in alone.into_iter().zip(together) {
        let together = answer(together);
        assert_eq!((together.pooled.len(), &alone.pooled), (1, &together.pooled));
        assert_eq!(together.finish.unwrap().reason, FinishReason::Stop);
        assert_eq!(together.usage.prompt_tokens, alone.usage.prompt_tokens);
    }
    // Where the second text begins is felt.
    assert_ne!(answer(ask(&engine, 20, 1, Some(3))).pooled, answer(ask(&engine, 20, 1, Some(9))).pooled);
    let stats = assert_idle(&engine, 26);
    assert!(stats.steps < 26, "{} steps", stats.steps);
    assert!(stats.prompt_tokens > 0);
    stop(engine);
}

#[test]
fn a_step_keeps_to_its_budgets() {
    let engine = try_engine(&config()).unwrap();
    // The engine sleeps until the first of these comes, and takes what is there by then.
    let streams: Vec<ResponseStream> = (0..40).map(|salt| ask(&engine, 30, salt, None)).collect();
    streams.into_iter().for_each(|stream| drop(answer(stream)));
    let stats = assert_idle(&engine, 40);
    // 100 tokens a step hold three texts of 30.
    assert!(stats.steps >= 14, "{} steps", stats.steps);
    let beyond = stats.iteration_tokens[8..].iter().sum::<u64>();
    assert_eq!(beyond, 0, "steps of more than 128 tokens");
    stop(engine);
}

#[test]
fn texts_that_nobody_waits_for_any_more_are_not_computed() {
    let engine = try_engine(&config()).unwrap();
    let streams: Vec<ResponseStream> = (0..200).map(|salt| ask(&engine, 70, salt, None)).collect();
    let ids: Vec<_> = streams.iter().map(ResponseStream::id).collect();
    drop(streams);
    ids.iter().for_each(|id| engine.handle.abort(*id));
    let stats = assert_idle(&engine, 200);
    assert!(stats.finished[FinishReason::Abort as usize] > 100, "{:?}", stats.finished);
    // The places are free again.
    drop(engine.handle.reserve(1000).unwrap());
    assert_eq!(engine.handle.reserve(1001).unwrap_err(), SubmitError::TooMany { count: 1001, most: 1000 });
    stop(engine);
}

#[test]
fn deadlines_and_wrong_lengths_end_requests() {
    let engine = try_engine(&config()).unwrap();
    let past = SubmitOptions { deadline: Some(Instant::now()), ..SubmitOptions::default() };
    let stream = engine.handle.submit(vec![5], SamplingParams::default(), past).unwrap();
    assert_eq!(answer(stream).finish.unwrap().reason, FinishReason::Timeout);
    for len in [0, 101] {
        let output = answer(ask(&engine, len, 0, None));
        assert_eq!(output.finish.unwrap().reason, FinishReason::Error);
        assert!(output.error.unwrap().contains("doesn't fit"));
    }
    wait_for(&engine, |stats| stats.waiting == 0);
    stop(engine);
}

#[test]
fn a_drained_engine_finishes_what_it_has() {
    let engine = try_engine(&config()).unwrap();
    let streams: Vec<ResponseStream> = (0..20).map(|salt| ask(&engine, 40, salt, None)).collect();
    engine.handle.drain();
    for stream in streams {
        assert_eq!(answer(stream).finish.unwrap().reason, FinishReason::Stop);
    }
    assert!(engine.join());
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let message = |config: PoolingConfig| try_engine(&config).unwrap_err().to_string();
    assert!(message(PoolingConfig { max_model_len: 81, ..config() }).contains("81 is more than the 80"));
    assert!(message(PoolingConfig { max_num_batched_tokens: 79, ..config() }).contains("steps of 79"));
}
