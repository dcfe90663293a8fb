//! A model whose layers all have sliding windows: blocks that no token sees any more serve others.
#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use millrace_backend::{recording::Recorder, reference::ReferenceBackend};
use millrace_engine::{Engine, EngineConfig};
use millrace_types::{RequestOutput, TokenId};

/// 2 layers, 2 KV heads of 32, float32; a window of 12.
fn mistral(blocks: u64, prefix_caching: bool) -> Engine {
    let kv_cache_memory = (blocks + 1) * 2 * 2 * 2 * 32 * 16 * 4;
    let config = EngineConfig { kv_cache_memory, max_model_len: Some(150), prefix_caching, ..config() };
    engine_of("mistral_window", Recorder::new(ReferenceBackend::new()), &config).unwrap()
}

fn text(salt: u32) -> Vec<TokenId> {
    prompt(40, salt).into_iter().map(|token| token % 250).collect()
}

/// Four answers of 100 tokens, all at once.
fn run(engine: &Engine) -> Vec<RequestOutput> {
    let streams: Vec<_> = (0..4).map(|salt| submit(engine, text(salt), greedy(100))).collect();
    streams.into_iter().map(collect).collect()
}

#[test]
fn long_answers_share_a_small_cache() {
    let alone = mistral(100, true);
    let alone: Vec<_> = (0..4).map(|salt| generate(&alone, text(salt), greedy(100)).tokens).collect();
    for prefix_caching in [true, false] {
        // A whole sequence of 140 tokens has nine blocks.
        let engine = mistral(12, prefix_caching);
        let outputs = run(&engine);
        assert_eq!(outputs.iter().map(|output| output.preemptions).sum::<u32>(), 0);
        for (output, alone) in outputs.iter().zip(&alone) {
            assert_eq!(output.tokens, *alone);
        }
        assert_idle(&engine, 4);
    }
}

#[test]
fn a_prefix_is_found_by_what_is_seen_of_it() {
    let engine = mistral(100, true);
    let first = generate(&engine, text(1), greedy(60));
    let whole = [text(1), first.tokens.clone()].concat();
    let again = generate(&engine, whole[..90].to_vec(), greedy(10));
    assert_eq!((again.usage.cached_tokens, &again.tokens[..]), (80, &first.tokens[50..]));
}
