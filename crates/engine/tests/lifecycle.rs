//! Requests are opened once and closed once; leaving, timing out, draining and stopping free everything.

mod common;

use std::time::{Duration, Instant};

use common::*;
use millrace_backend::KvDtype;
use millrace_engine::{EngineConfig, EngineError, Policy, SubmitError, SubmitOptions};
use millrace_types::FinishReason;

/// Far more tokens than any test waits for.
const ENDLESS: usize = 200;

#[test]
fn dropping_the_stream_frees_the_blocks() {
    let engine = engine(&config());
    let mut stream = submit(&engine, prompt(30, 1), greedy(ENDLESS));
    stream.blocking_recv().unwrap();
    wait_for(&engine, |s| s.blocks_in_use > 0);
    drop(stream);
    assert_eq!(assert_idle(&engine, 1).finished[FinishReason::Abort as usize], 1);
}

#[test]
fn abort_ends_one_request_and_tells_it() {
    let engine = engine(&config());
    let mut doomed = submit(&engine, prompt(30, 1), greedy(ENDLESS));
    let other = submit(&engine, prompt(30, 2), greedy(40));
    doomed.blocking_recv().unwrap();
    engine.handle.abort(doomed.id());
    assert_eq!(collect(doomed).finish.unwrap().reason, FinishReason::Abort);
    assert_eq!(collect(other).tokens.len(), 40);
    assert_idle(&engine, 2);
}

#[test]
fn a_deadline_ends_a_request_that_runs_and_one_that_waits() {
    let engine = engine(&EngineConfig { max_num_seqs: 1, ..config() });
    let with_deadline = || {
        let deadline = Some(Instant::now() + Duration::from_millis(30));
        let options = SubmitOptions { deadline, ..SubmitOptions::default() };
        engine.handle.submit(prompt(30, 1), greedy(ENDLESS), options).unwrap()
    };
    let already_over = SubmitOptions { deadline: Some(Instant::now()), ..SubmitOptions::default() };
    let over = engine.handle.submit(prompt(9, 1), greedy(5), already_over).unwrap();
    let (first, second) = (with_deadline(), with_deadline());
    for stream in [over, first, second] {
        let output = collect(stream);
        let reason = output.finish.unwrap().reason;
        // A fast machine may finish the first one in time; nothing may end for another reason.
        let done = reason == FinishReason::Length && output.tokens.len() == ENDLESS;
        assert!(done || reason == FinishReason::Timeout, "{reason:?}");
    }
    assert!(assert_idle(&engine, 3).finished[FinishReason::Timeout as usize] >= 1);
}

#[test]
fn a_full_queue_refuses_and_recovers() {
    let engine = engine(&EngineConfig { max_num_seqs: 1, max_queued: 2, ..config() });
    let mut running = submit(&engine, prompt(9, 1), greedy(ENDLESS));
    running.blocking_recv().unwrap();
    let waiting: Vec<_> = (0..2).map(|i| submit(&engine, prompt(9, i), greedy(3))).collect();
    let refused = engine.handle.submit(prompt(9, 9), greedy(3), SubmitOptions::default());
    assert_eq!(refused.unwrap_err(), SubmitError::QueueFull);
    drop(running);
    for stream in waiting {
        assert_eq!(collect(stream).tokens.len(), 3);
    }
    assert_eq!(generate(&engine, prompt(9, 9), greedy(3)).tokens.len(), 3);
}

#[test]
fn places_are_reserved_together_or_not_at_all() {
    let engine = engine(&EngineConfig { max_num_seqs: 1, max_queued: 3, ..config() });
    let handle = &engine.handle;
    assert_eq!(handle.reserve(4).unwrap_err(), SubmitError::TooMany { count: 4, most: 3 });
    let mut places = handle.reserve(2).unwrap();
    assert_eq!(handle.reserve(2).unwrap_err(), SubmitError::QueueFull);
    let mut running = places.submit(prompt(9, 1), greedy(ENDLESS), SubmitOptions::default()).unwrap();
    running.blocking_recv().unwrap();
    // The first sequence runs, so its place is free again; the second place is still taken.
    let others = handle.reserve(2).unwrap();
    assert_eq!(handle.reserve(1).unwrap_err(), SubmitError::QueueFull);
    drop((places, others));
    assert!(handle.reserve(3).is_ok());
    let mut one = handle.reserve(1).unwrap();
    let last = one.submit(prompt(9, 2), greedy(3), SubmitOptions::default()).unwrap();
    let beyond = one.submit(prompt(9, 3), greedy(3), SubmitOptions::default());
    assert_eq!(beyond.unwrap_err(), SubmitError::QueueFull);
    drop(running);
    assert_eq!(collect(last).tokens.len(), 3);
}

#[test]
fn drain_finishes_what_runs_and_refuses_the_rest() {
    let engine = engine(&config());
    let streams: Vec<_> = (0..4).map(|i| submit(&engine, prompt(9, i), greedy(20))).collect();
    engine.handle.drain();
    let refused = engine.handle.submit(prompt(9, 9), greedy(3), SubmitOptions::default());
    assert_eq!(refused.unwrap_err(), SubmitError::Draining);
    for stream in streams {
        assert_eq!(collect(stream).finish.unwrap().reason, FinishReason::Length);
    }
    let handle = engine.handle.clone();
    assert!(engine.join());
    assert!(!handle.stats().alive);
}

#[test]
fn shutdown_aborts_what_runs() {
    let engine = engine(&config());
    let mut stream = submit(&engine, prompt(9, 1), greedy(ENDLESS));
    stream.blocking_recv().unwrap();
    engine.handle.shutdown();
    let output = collect(stream);
    assert!(matches!(output.finish.unwrap().reason, FinishReason::Abort | FinishReason::Length));
    assert!(engine.join());
}

#[test]
fn priority_decides_who_is_admitted_next() {
    let engine = engine(&EngineConfig { max_num_seqs: 1, policy: Policy::Priority, ..config() });
    let mut running = submit(&engine, prompt(9, 1), greedy(ENDLESS));
    running.blocking_recv().unwrap();
    let with = |priority| {
        let options = SubmitOptions { priority, ..SubmitOptions::default() };
        engine.handle.submit(prompt(9, 2), greedy(10), options).unwrap()
    };
    let (late, urgent) = (with(5), with(-5));
    drop(running);
    let (late, urgent) = (collect(late), collect(urgent));
    assert!(late.queue_time > urgent.queue_time, "{:?} {:?}", late.queue_time, urgent.queue_time);
}

#[test]
fn impossible_settings_are_refused_with_a_reason() {
    let refuse = |config: EngineConfig| try_engine(&config).unwrap_err().to_string();
    assert!(refuse(EngineConfig { kv_cache_memory: 10, ..config() }).contains("raise --kv-cache-memory"));
    assert!(refuse(EngineConfig { max_model_len: Some(10_000), ..config() }).contains("256 positions"));
    let odd_block = EngineConfig { block_size: 0, ..config() };
    assert!(matches!(try_engine(&odd_block), Err(EngineError::BlockSize { block_size: 0, .. })));
}

#[test]
fn the_kv_dtype_changes_memory_and_little_else() {
    let half = engine(&EngineConfig { kv_dtype: KvDtype::Bf16, ..config() });
    let full = engine(&config());
    let (a, b) = (half.handle.info().kv_capacity_tokens, full.handle.info().kv_capacity_tokens);
    assert!(a >= 2 * b, "{a} {b}");
    assert_eq!(generate(&half, prompt(30, 1), greedy(3)).tokens.len(), 3);
}

#[test]
fn a_request_that_waits_too_long_is_sent_away() {
    let engine = engine(&EngineConfig { max_num_seqs: 1, ..config() });
    let mut running = submit(&engine, prompt(9, 1), greedy(ENDLESS));
    running.blocking_recv().unwrap();
    let start_by = Some(Instant::now());
    let options = SubmitOptions { start_by, ..SubmitOptions::default() };
    let waiting = engine.handle.submit(prompt(9, 2), greedy(3), options).unwrap();
    let output = collect(waiting);
    // A fast machine may have ended the first one by now; then the second one was started, or is still too late.
    if output.tokens.is_empty() {
        assert_eq!(output.finish.unwrap().reason, FinishReason::Timeout);
        assert!(output.error.unwrap().contains("waited too long"));
    }
    drop(running);
    assert_idle(&engine, 2);
}

#[test]
fn inspection_shows_what_is_open_and_what_is_cached() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let engine = engine(&EngineConfig { max_num_seqs: 1, ..config() });
    let inspect = || runtime.block_on(engine.handle.inspect()).unwrap();
    assert_eq!(inspect(), millrace_engine::Inspection::default());
    let mut running = submit(&engine, prompt(33, 1), greedy(ENDLESS));
    let waiting = submit(&engine, prompt(9, 2), greedy(3));
    running.blocking_recv().unwrap();
    let seen = inspect();
    // A fast machine may have ended the first one by now.
    if let [first, second] = &*seen.requests {
        assert_eq!((first.id, first.running, first.prompt_tokens), (running.id(), true, 33));
        assert!(first.generated_tokens >= 1 && first.computed_tokens >= 33);
        assert_eq!((second.id, second.running, second.generated_tokens), (waiting.id(), false, 0));
    }
    drop(running);
    assert_eq!(collect(waiting).tokens.len(), 3);
    assert_idle(&engine, 2);
    // The prompt's full blocks are kept until they are dropped.
    assert!(inspect().cached_blocks >= 2);
    assert!(runtime.block_on(engine.handle.drop_cache()).unwrap() >= 2);
    assert_eq!(inspect().cached_blocks, 0);
    assert_eq!(generate(&engine, prompt(33, 1), greedy(3)).usage.cached_tokens, 0);
    engine.handle.shutdown();
    let handle = engine.handle.clone();
    assert!(engine.join());
    assert_eq!(runtime.block_on(handle.inspect()), None);
}
