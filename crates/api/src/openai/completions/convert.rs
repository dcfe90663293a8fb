//! Completion bodies to the neutral request; collected answers to completions.

use serde_json::{Map, Value, json};

use super::{
    best_of::BestOf,
    stream::CompletionEncoder,
    types::{Completion, CompletionBody, CompletionChoice, Logprobs},
    validate::validate_prompts,
};
use crate::{
    ApiError, Collected, GenerationOptions, GenerationRequest, Input, Limits, MaxTokensDefault, Prompt,
    ReplyHead, Scored, Structure,
    openai::{
        Call, UsageBody,
        body::{CommonBody, TokenFormat},
        reply,
        stream::UsagePlan,
    },
};

/// OpenAI's default of `max_tokens` for this endpoint.
const DEFAULT_MAX_TOKENS: usize = 16;

/// Everything that doesn't need the model is checked here.
pub(super) fn to_call(
    common: &CommonBody,
    own: CompletionBody,
    structure: Option<Structure>,
    limits: &Limits,
) -> Result<Call, ApiError> {
    let best = BestOf::read(common, limits)?;
    let shared = common.options()?;
    let shows_logprobs = own.logprobs.is_some();
    let options = GenerationOptions {
        n: best.map_or(shared.n, |best| best.samples),
        // The texts are compared by them.
        logprobs: own.logprobs.map(|count| count.0).or(best.map(|_| 0)),
        max_tokens_default: MaxTokensDefault::Fixed(DEFAULT_MAX_TOKENS),
        structure,
        ..shared
    };
    options.validate(limits)?;
    let prompts = own.prompt.unwrap_or_default().0;
    let prompts = match own.suffix.filter(|suffix| !suffix.is_empty()) {
        Some(suffix) => gaps(prompts, &suffix, options.echo, limits)?,
        None => prompts,
    };
    validate_prompts(&prompts, options.n, limits)?;
    let encoder = CompletionEncoder {
        tokens: common.token_format(),
        usage: UsagePlan::new(common),
        best,
        logprobs: shows_logprobs,
        prompt_logprobs: options.prompt_logprobs.is_some(),
        start: None,
        opened: Vec::new(),
        offsets: Vec::new(),
    };
    let input = Input::Prompts { prompts, add_special_tokens: own.add_special_tokens.unwrap_or(true) };
    let request = GenerationRequest { model: common.model.clone(), input, options };
    Ok(Call { request, encoder: Box::new(encoder), stream: common.streams(), ignored: Vec::new() })
}

/// Prompts that ask for what stands between each text and the suffix.
fn gaps(prompts: Vec<Prompt>, suffix: &str, echo: bool, limits: &Limits) -> Result<Vec<Prompt>, ApiError> {
    // Each prompt has a copy of it.
    if suffix.len().saturating_mul(prompts.len()) > limits.max_prompt_chars {
        let message = "The suffix is too long for so many prompts. Send fewer at a time.";
        return Err(ApiError::invalid("suffix", message));
    }
    if echo {
        return Err(ApiError::invalid("suffix", "`suffix` and `echo` don't go together. Leave one out."));
    }
    let gap = |prompt| match prompt {
        Prompt::Text(before) => Ok(Prompt::Gap { before, after: suffix.to_owned() }),
        _ => Err(ApiError::invalid("suffix", "`suffix` needs prompts of text, not of token ids.")),
    };
    prompts.into_iter().map(gap).collect()
}

/// A whole answer.
pub(super) fn to_completion(encoder: &CompletionEncoder, head: &ReplyHead, answer: Collected) -> Value {
    let usage = UsageBody::from(&answer.usage);
    let answer = match encoder.best {
        Some(best) => best.choose(answer),
        None => answer,
    };
    let (start, tokens) = (answer.start, encoder.tokens);
    let choices = answer.choices.into_iter().enumerate().map(|(index, choice)| CompletionChoice {
        index,
        finish_reason: Some(reply::finish_reason(&choice.end)),
        stop_reason: reply::stop_reason(&choice.end),
        logprobs: encoder.logprobs.then(|| to_logprobs(&choice.logprobs, tokens, &mut 0)),
        prompt_logprobs: choice
            .prompt_logprobs
            .filter(|_| encoder.prompt_logprobs)
            .map(|positions| reply::prompt_logprobs(&positions)),
        token_ids: tokens.ids.then_some(choice.token_ids),
        prompt_token_ids: prompt_token_ids(tokens, &start, index),
        text: choice.text,
    });
    let completion = Completion {
        id: &head.id,
        object: "text_completion",
        created: head.created,
        model: &head.model,
        choices: choices.collect(),
        usage: Some(Some(usage)),
    };
    serde_json::to_value(completion).unwrap_or_default()
}

/// The ids of a choice's prompt, if they were asked for.
pub(super) fn prompt_token_ids(tokens: TokenFormat, start: &crate::Start, choice: usize) -> Option<Vec<u32>> {
    let prompt = start.prompts.get(choice / start.samples.max(1))?;
    tokens.ids.then(|| prompt.to_vec())
}

/// `logprobs` of some tokens; `offset` is where the first begins and moves past the last.
pub(super) fn to_logprobs(scored: &[Scored], format: TokenFormat, offset: &mut usize) -> Logprobs {
    let mut logprobs = Logprobs::default();
    for position in scored {
        logprobs.text_offset.push(*offset);
        *offset += position.token.text().chars().count();
        logprobs.tokens.push(format.name(&position.token));
        logprobs.token_logprobs.push(position.logprob.map(reply::shown_logprob));
        logprobs.top_logprobs.push(position.logprob.map(|own| alternatives(position, own, format)));
    }
    logprobs
}

fn alternatives(position: &Scored, own: f32, format: TokenFormat) -> Map<String, Value> {
    let own = (&position.token, own);
    let ranked = position.top.iter().map(|(token, logprob)| (token, *logprob));
    let mut map = Map::new();
    for (token, logprob) in ranked.chain([own]) {
        // Two tokens may look the same; the likelier one comes first and stays.
        map.entry(format.name(token)).or_insert(json!(reply::shown_logprob(logprob)));
    }
    map
}
