//! From a request to what the engine gets: template, tokens, lengths, parameters. Nothing here is async.

use millrace_api::{
    ApiError, ChatInput, GenerationOptions, GenerationRequest, Input, Limits, Prompt, prompt_too_long,
};
use millrace_text::{Gap, TextError, Tokenizer};
use millrace_types::{Constraint, SamplingParams, TokenId};
use serde_json::Value;

use super::{
    reading::Reading,
    render::render,
    structure::{after_reasoning, constraint},
    thinking::{ThinkingBounds, thinking_limit},
};
use crate::ServedModel;

/// One prompt, ready to be queued `n` times.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) tokens: Vec<TokenId>,
    pub(super) sampling: SamplingParams,
    /// What the answer is held to; each choice has its own copy.
    pub(super) constraint: Option<Box<dyn Constraint>>,
    /// Text with which the answer opens.
    pub(super) echo: Option<String>,
    /// How the answer is read; `None`: it is text.
    pub(super) reading: Option<Reading>,
}

/// A prompt as the model reads it.
#[derive(Debug, Default)]
pub(super) struct Tokenized {
    pub(super) tokens: Vec<TokenId>,
    reading: Option<Reading>,
    /// Tokens that end the answer, besides the model's own end.
    ends: Vec<TokenId>,
}

/// Checks and converts a request for its model.
pub(super) fn prepare(
    model: &ServedModel,
    request: &GenerationRequest,
    limits: &Limits,
) -> Result<Vec<Prepared>, ApiError> {
    let GenerationRequest { input, options, .. } = request;
    let rules = model.limits(limits);
    let bad_words = bad_words(&model.parts.tokenizer, options, limits)?;
    bad_words.iter().try_for_each(|word| rules.check_tokens("bad_words", word))?;
    let held_to = constraint(model, input, options.structure.as_ref())?;
    let with_parameters = |(index, prompt): (usize, Tokenized)| {
        let Tokenized { tokens, reading, ends } = prompt;
        // Also for texts: a tokenizer may know tokens that the model's embedding doesn't have.
        rules.check_tokens("prompt", &tokens)?;
        let resolved = options.resolve(&rules, &model.parts.defaults, tokens.len())?;
        let bounds = ThinkingBounds::new(options, limits, resolved.max_tokens);
        let thinking = thinking_limit(bounds, reading.as_ref())?;
        let mut sampling = SamplingParams { bad_words: bad_words.clone(), thinking, ..resolved };
        let constraint = held_to.clone().map(|inner| after_reasoning(inner, reading.as_ref())).transpose()?;
        if !options.ignore_eos {
            sampling.eos_token_ids.extend(ends.into_iter().filter(|id| (*id as usize) < rules.vocab_size));
        }
        if constraint.is_some() {
            // Also under `ignore_eos`: behind the end of a format there is nothing to go on with.
            sampling.eos_token_ids.clone_from(&model.parts.eos_token_ids);
        }
        rules.check_choice(&sampling)?;
        let echo = echo(model, input, index, &tokens, options);
        Ok(Prepared { tokens, sampling, constraint, echo, reading })
    };
    let prompts = tokenize(model, input, rules.max_model_len)?;
    prompts.into_iter().enumerate().map(with_parameters).collect()
}

/// The tokens of each prompt. Texts that must have more than `max_tokens` are refused unread.
pub(super) fn tokenize(
    model: &ServedModel,
    input: &Input,
    max_tokens: usize,
) -> Result<Vec<Tokenized>, ApiError> {
    match input {
        Input::Chat(chat) => {
            let text = render(model, chat)?;
            let reading = Reading::new(model, chat, &text)?;
            let tokens = encode(model, &text, chat.add_special_tokens, max_tokens)?;
            Ok(vec![Tokenized { tokens, reading, ends: Vec::new() }])
        }
        Input::Prompts { prompts, add_special_tokens } => {
            let one = |prompt: &Prompt| {
                let (tokens, ends) = match prompt {
                    Prompt::Text(text) => (encode(model, text, *add_special_tokens, max_tokens)?, Vec::new()),
                    Prompt::Tokens(tokens) => (tokens.clone(), Vec::new()),
                    Prompt::Gap { before, after } => {
                        let gap = encode_gap(model, before, after, *add_special_tokens, max_tokens)?;
                        (gap.tokens, gap.ends)
                    }
                };
                Ok(Tokenized { tokens, reading: None, ends })
            };
            prompts.iter().map(one).collect()
        }
    }
}

/// Roughly how much work a request is.
pub(super) fn input_bytes(input: &Input) -> usize {
    match input {
        Input::Chat(chat) => chat_bytes(chat),
        Input::Prompts { prompts, .. } => {
            let bytes = |prompt: &Prompt| match prompt {
                Prompt::Text(text) => text.len(),
                Prompt::Tokens(tokens) => size_of_val(&**tokens),
                Prompt::Gap { before, after } => before.len() + after.len(),
            };
            prompts.iter().map(bytes).sum()
        }
    }
}

/// All that a template may print.
fn chat_bytes(chat: &ChatInput) -> usize {
    let lists = [&chat.messages, &chat.tools, &chat.documents];
    lists.into_iter().flatten().chain(chat.template_kwargs.values()).map(json_bytes).sum()
}

/// Roughly the length of a value as JSON. Its depth is bounded: it was read from a body.
fn json_bytes(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len() + 2,
        Value::Array(list) => 2 + list.iter().map(json_bytes).sum::<usize>(),
        Value::Object(fields) => {
            2 + fields.iter().map(|(key, value)| key.len() + 4 + json_bytes(value)).sum::<usize>()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => 8,
    }
}

fn encode(
    model: &ServedModel,
    text: &str,
    add_special_tokens: bool,
    max_tokens: usize,
) -> Result<Vec<TokenId>, ApiError> {
    check_length(model, text.len(), max_tokens)?;
    model.parts.tokenizer.encode(text, add_special_tokens).map_err(|error| text_error(&error))
}

/// Refuses what must be too long, told from its length alone: tokenizing a huge text only to refuse it would be a gift to
/// an attacker.
fn check_length(model: &ServedModel, bytes: usize, max_tokens: usize) -> Result<(), ApiError> {
    let at_least = bytes / model.parts.tokenizer.max_token_bytes();
    if at_least > max_tokens {
        return Err(prompt_too_long(max_tokens, &format!("at least {at_least}")));
    }
    Ok(())
}

/// The prompt for what stands between two texts.
fn encode_gap(
    model: &ServedModel,
    before: &str,
    after: &str,
    add_special_tokens: bool,
    max_tokens: usize,
) -> Result<Gap, ApiError> {
    check_length(model, before.len() + after.len(), max_tokens)?;
    let gap = model.parts.tokenizer.encode_gap(before, after, add_special_tokens);
    gap.map_err(|error| text_error(&error))?.ok_or_else(|| {
        let message =
            "This model can't fill in the middle: its tokenizer has no tokens for that. Leave `suffix` out.";
        ApiError::invalid("suffix", message)
    })
}

fn echo(
    model: &ServedModel,
    input: &Input,
    index: usize,
    tokens: &[TokenId],
    options: &GenerationOptions,
) -> Option<String> {
    match input {
        Input::Chat(chat) => chat.open_text().filter(|_| chat.echo).map(str::to_owned),
        Input::Prompts { prompts, .. } => options.echo.then(|| match prompts.get(index) {
            Some(Prompt::Text(text)) => text.clone(),
            _ => model.parts.tokenizer.decode(tokens, options.skip_special_tokens),
        }),
    }
}

/// Token sequences that must not be completed: each word as it stands at the start of a text, and after a space if
/// that changes its first token (and only that), as in vLLM.
fn bad_words(
    tokenizer: &Tokenizer,
    options: &GenerationOptions,
    limits: &Limits,
) -> Result<Vec<Vec<TokenId>>, ApiError> {
    let mut sequences: Vec<Vec<TokenId>> = Vec::new();
    for word in &options.bad_words {
        let encode = |text: &str| tokenizer.encode(text, false).map_err(|error| text_error(&error));
        let word = word.trim_start();
        let bare = encode(word)?;
        if bare.is_empty() {
            return Err(ApiError::invalid(
                "bad_words",
                "bad_words cannot contain a string without any tokens.",
            ));
        }
        let spaced = encode(&format!(" {word}"))?;
        if spaced.len() == bare.len() && spaced.first() != bare.first() {
            sequences.push(spaced);
        }
        sequences.push(bare);
    }
    if sequences.len() > limits.max_bad_words {
        let (count, most) = (sequences.len(), limits.max_bad_words);
        let message = format!("bad_words make {count} token sequences; at most {most} are allowed.");
        return Err(ApiError::invalid("bad_words", message));
    }
    Ok(sequences)
}

/// The request's fault, or that of the model's files.
pub(super) fn text_error(error: &TextError) -> ApiError {
    if error.is_bad_request() {
        ApiError::bad_request(error.to_string())
    } else {
        ApiError::internal(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn whatever_a_template_may_print_is_work() {
        let long = "x".repeat(10_000);
        let message = |message: Value| ChatInput { messages: vec![message], ..ChatInput::default() };
        let arguments = json!([{"function": {"name": "f", "arguments": {"list": [1, long]}}}]);
        for chat in [
            message(json!({"role": "user", "content": long})),
            message(json!({"role": "assistant", "content": "", "reasoning_content": long})),
            message(json!({"role": "assistant", "content": "", "tool_calls": arguments})),
            ChatInput { tools: vec![json!({"function": {"description": long}})], ..ChatInput::default() },
            ChatInput { documents: vec![json!({ long.clone(): 1 })], ..ChatInput::default() },
            ChatInput {
                template_kwargs: [("x".to_owned(), json!([long]))].into_iter().collect(),
                ..ChatInput::default()
            },
        ] {
            let bytes = chat_bytes(&chat);
            assert!((10_000..10_200).contains(&bytes), "{bytes}");
        }
    }
}
