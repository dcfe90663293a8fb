//! The same request gives the same tokens, whatever runs beside it and however its work is cut up.

mod common;

use common::*;
use millrace_engine::{Engine, EngineConfig, SubmitOptions};
use millrace_types::{FinishReason, RequestOutput, SamplingParams};

/// Ten requests of different lengths, all at once.
fn run_all(config: &EngineConfig, sampling: impl Fn(u32) -> SamplingParams) -> Vec<RequestOutput> {
    let engine = engine(config);
    let streams: Vec<_> =
        (0..10u32).map(|i| submit(&engine, prompt(3 + 7 * i as usize, i), sampling(i))).collect();
    let outputs = streams.into_iter().map(collect).collect();
    assert_idle(&engine, 10);
    outputs
}

fn tokens(outputs: &[RequestOutput]) -> Vec<Vec<u32>> {
    outputs.iter().map(|o| o.tokens.clone()).collect()
}

/// Mixed: half of the requests are greedy, half are seeded and hot.
fn mixed(i: u32) -> SamplingParams {
    match i % 2 {
        0 => greedy(24),
        _ => SamplingParams {
            temperature: 1.3,
            seed: Some(i.into()),
            top_p: 0.95,
            frequency_penalty: 0.5,
            max_tokens: 24,
            ..SamplingParams::default()
        },
    }
}

#[test]
fn tokens_do_not_depend_on_neighbours_chunks_caching_or_preemption() {
    let alone = {
        let engine = engine(&config());
        let run = |i: u32| generate(&engine, prompt(3 + 7 * i as usize, i), mixed(i));
        tokens(&(0..10).map(run).collect::<Vec<_>>())
    };
    assert_eq!(tokens(&run_all(&config(), mixed)), alone, "all at once");

    let chunked = EngineConfig { max_num_batched_tokens: 5, ..config() };
    assert_eq!(tokens(&run_all(&chunked, mixed)), alone, "in chunks of 5");

    let uncached = EngineConfig { prefix_caching: false, ..config() };
    assert_eq!(tokens(&run_all(&uncached, mixed)), alone, "without prefix caching");

    // 12 blocks of 16 tokens hold two of the longer sequences.
    let cramped = EngineConfig { kv_cache_memory: kv_bytes(12), ..config() };
    let outputs = run_all(&cramped, mixed);
    assert!(outputs.iter().map(|o| o.preemptions).sum::<u32>() > 0, "nobody was preempted");
    assert_eq!(tokens(&outputs), alone, "under preemption");
}

#[test]
fn a_seed_fixes_the_text_and_no_seed_varies_it() {
    let engine = engine(&config());
    let hot = |seed| SamplingParams { temperature: 1.5, seed, max_tokens: 20, ..SamplingParams::default() };
    let run = |seed| generate(&engine, prompt(9, 1), hot(seed)).tokens;
    assert_eq!(run(Some(5)), run(Some(5)));
    assert_ne!(run(Some(5)), run(Some(6)));
    assert_ne!(run(None), run(None));
}

#[test]
fn cached_prefixes_are_counted_and_salts_keep_them_apart() {
    let engine = engine(&config());
    let run = |salt: Option<&str>| {
        let options = SubmitOptions { cache_salt: salt.map(str::to_owned), ..SubmitOptions::default() };
        collect(engine.handle.submit(prompt(50, 3), greedy(4), options).unwrap())
    };
    let first = run(None);
    assert_eq!(first.usage.cached_tokens, 0);
    let second = run(None);
    assert_eq!(second.usage.cached_tokens, 48);
    assert_eq!(second.tokens, first.tokens);
    assert_eq!(run(Some("a")).usage.cached_tokens, 0);
    assert_eq!(run(Some("a")).usage.cached_tokens, 48);
    assert_eq!(run(Some("b")).usage.cached_tokens, 0);
    let stats = assert_idle(&engine, 5);
    assert_eq!((stats.prefix_queries, stats.prefix_hits), (250, 96));
}

fn first_token(engine: &Engine, len: usize) -> u32 {
    generate(engine, prompt(len, 1), greedy(1)).tokens[0]
}

#[test]
fn stop_tokens_end_a_request_unless_min_tokens_forbids() {
    let engine = engine(&config());
    let stop = first_token(&engine, 9);
    let stopping = |min_tokens| SamplingParams { stop_token_ids: vec![stop], min_tokens, ..greedy(8) };
    let output = generate(&engine, prompt(9, 1), stopping(0));
    assert_eq!(output.tokens, [stop]);
    let finish = output.finish.unwrap();
    assert_eq!((finish.reason, finish.stop_token), (FinishReason::Stop, Some(stop)));

    let eos = SamplingParams { eos_token_ids: vec![stop], ..greedy(8) };
    let finish = generate(&engine, prompt(9, 1), eos).finish.unwrap();
    assert_eq!((finish.reason, finish.stop_token), (FinishReason::Stop, None));

    let output = generate(&engine, prompt(9, 1), stopping(3));
    assert!(!output.tokens[..3].contains(&stop), "{:?}", output.tokens);
}

#[test]
fn constraints_hold_at_every_step() {
    let engine = engine(&config());
    let best = first_token(&engine, 9);
    let run = |params: SamplingParams| generate(&engine, prompt(9, 1), params).tokens;
    let allowed = SamplingParams { allowed_token_ids: Some(vec![7, 8, 9]), ..greedy(12) };
    assert!(run(allowed).iter().all(|t| [7, 8, 9].contains(t)));
    let banned = SamplingParams { bad_words: vec![vec![best]], ..greedy(12) };
    assert!(!run(banned).contains(&best));
    let biased = SamplingParams { logit_bias: vec![(200, 1e4)], ..greedy(4) };
    assert_eq!(run(biased), [200; 4]);
    let top_k = SamplingParams { temperature: 2.0, top_k: 1, seed: Some(3), max_tokens: 6, ..greedy(6) };
    assert_eq!(run(top_k), run(greedy(6)));
    let presence = SamplingParams { presence_penalty: 1e6, ..greedy(30) };
    let mut unique = run(presence);
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), 30, "a token was repeated against an enormous presence penalty");
}

#[test]
fn log_probabilities_are_those_of_the_model_and_of_each_position() {
    let engine = engine(&EngineConfig { max_num_batched_tokens: 7, ..config() });
    let params = SamplingParams { logprobs: Some(2), prompt_logprobs: Some(1), ..greedy(5) };
    let output = generate(&engine, prompt(20, 2), params.clone());
    assert_eq!(output.logprobs.len(), 5);
    for (token, report) in output.tokens.iter().zip(&output.logprobs) {
        assert_eq!((report.token, report.rank, report.top.len()), (*token, 1, 2));
        assert_eq!(report.top[0], (*token, report.logprob));
    }
    let scores = output.prompt_logprobs.unwrap();
    assert_eq!(scores.len(), 20);
    assert!(scores[0].is_none() && scores[1..].iter().all(Option::is_some));

    // Prompt plus output, scored as a prompt, gives the output's log-probabilities again.
    let whole = [prompt(20, 2), output.tokens.clone()].concat();
    let again = generate(&engine, whole, SamplingParams { max_tokens: 0, ..params });
    assert_eq!(again.tokens, [0u32; 0]);
    assert_eq!(again.finish.unwrap().reason, FinishReason::Length);
    let scores = again.prompt_logprobs.unwrap();
    for (i, report) in output.logprobs.iter().enumerate() {
        let score = scores[20 + i].as_ref().unwrap();
        assert_eq!((score.token, score.logprob, score.rank), (report.token, report.logprob, report.rank));
    }
}

#[test]
fn prompt_scores_survive_preemption_whole() {
    let scoring = |_| SamplingParams { prompt_logprobs: Some(0), ..greedy(24) };
    let calm = run_all(&config(), scoring);
    let cramped = EngineConfig { kv_cache_memory: kv_bytes(12), max_num_batched_tokens: 16, ..config() };
    let outputs = run_all(&cramped, scoring);
    assert!(outputs.iter().map(|o| o.preemptions).sum::<u32>() > 0, "nobody was preempted");
    for (calm, cramped) in calm.iter().zip(&outputs) {
        assert_eq!(calm.prompt_logprobs, cramped.prompt_logprobs);
        assert_eq!(calm.tokens, cramped.tokens);
    }
}

#[test]
fn the_context_length_ends_a_request() {
    let engine = engine(&EngineConfig { max_model_len: Some(20), ..config() });
    let output = generate(&engine, prompt(15, 1), greedy(100));
    assert_eq!(output.finish.unwrap().reason, FinishReason::Length);
    assert_eq!((output.usage.prompt_tokens, output.usage.completion_tokens), (15, 5));
}
