//! What may reach the engine, whatever a client asked for: the ranges that [`SamplingParams`] promises, and the limits.

use std::ops::RangeInclusive;

use millrace_engine::EngineInfo;
use millrace_types::{Request, SamplingParams, TokenId};

use crate::server;

/// The smallest number above 0.
const SMALLEST: f32 = f32::from_bits(1);

/// Checks a request that was let through.
///
/// # Panics
/// If it is out of range.
pub(crate) fn check(request: &Request, info: &EngineInfo) {
    let length = request.prompt.len();
    assert!(length > 0, "an empty prompt");
    check_tokens("the prompt", &request.prompt, info);
    if info.pooling.is_some() {
        assert!(length <= info.max_model_len, "a text of {length} tokens");
        assert!(request.second.is_none_or(|second| second <= length), "a second text behind the end");
        return;
    }
    let sampling = &request.sampling;
    let room = info.max_model_len - length.min(info.max_model_len);
    assert!(length < info.max_model_len || sampling.max_tokens == 0, "a prompt of {length} tokens");
    assert!(sampling.max_tokens <= room, "{} tokens in a room of {room}", sampling.max_tokens);
    assert!(sampling.min_tokens <= sampling.max_tokens, "more tokens at least than at most");
    check_numbers(sampling);
    check_lists(sampling, info);
}

fn check_numbers(sampling: &SamplingParams) {
    // A comparison with what is no number is false.
    let within = |name: &str, value: f32, range: RangeInclusive<f32>| {
        assert!(range.contains(&value), "{name} is {value}");
    };
    within("temperature", sampling.temperature, 0.0..=2.0);
    within("top_p", sampling.top_p, SMALLEST..=1.0);
    within("min_p", sampling.min_p, 0.0..=1.0);
    within("typical_p", sampling.typical_p, SMALLEST..=1.0);
    within("presence_penalty", sampling.presence_penalty, -2.0..=2.0);
    within("frequency_penalty", sampling.frequency_penalty, -2.0..=2.0);
    within("repetition_penalty", sampling.repetition_penalty, SMALLEST..=f32::MAX);
    sampling.logit_bias.iter().for_each(|(_, bias)| within("a bias", *bias, f32::MIN..=f32::MAX));
}

fn check_lists(sampling: &SamplingParams, info: &EngineInfo) {
    let limits = server::limits();
    let biased: Vec<TokenId> = sampling.logit_bias.iter().map(|(token, _)| *token).collect();
    for (name, tokens) in [
        ("logit_bias", &biased),
        ("stop_token_ids", &sampling.stop_token_ids),
        ("allowed_token_ids", sampling.allowed_token_ids.as_ref().unwrap_or(&biased)),
    ] {
        check_tokens(name, tokens, info);
        assert!(tokens.len() <= limits.max_token_ids, "{name} has {} tokens", tokens.len());
    }
    assert!(
        sampling.allowed_token_ids.as_ref().is_none_or(|tokens| !tokens.is_empty()),
        "nothing is allowed"
    );
    assert!(sampling.bad_words.len() <= 2 * limits.max_bad_words, "{} bad words", sampling.bad_words.len());
    for word in &sampling.bad_words {
        assert!(!word.is_empty(), "an empty bad word");
        check_tokens("bad_words", word, info);
    }
    for count in [sampling.logprobs, sampling.prompt_logprobs].into_iter().flatten() {
        assert!(count <= limits.max_logprobs, "{count} log-probabilities");
    }
}

fn check_tokens(name: &str, tokens: &[TokenId], info: &EngineInfo) {
    let beyond = tokens.iter().find(|token| **token as usize >= info.vocab_size);
    assert_eq!(beyond, None, "{name} has a token that the model doesn't know");
}
