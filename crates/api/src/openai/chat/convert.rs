//! Chat bodies to the neutral request; collected answers to chat completions.

use serde_json::Value;

use super::{
    TemplateBody, chat_input,
    mcp::{McpBody, McpCallBody},
    stream::ChatEncoder,
    types::{
        ChatBody, ChatCompletion, Choice, FunctionBody, Logprobs, Message, Reasoning, TokenLogprob,
        ToolCallBody, TopLogprob,
    },
};
use crate::{
    ApiError, Collected, GenerationOptions, GenerationRequest, Input, Limits, MaxTokensDefault, ReplyHead,
    Scored, Structure, TokenText, ToolCall, ToolChoice,
    openai::{
        Call, UsageBody,
        body::{CommonBody, TokenFormat},
        reply,
        stream::UsagePlan,
    },
};

/// Everything that doesn't need the model is checked here.
pub(super) fn to_call(
    common: &CommonBody,
    own: &ChatBody,
    template: TemplateBody,
    structure: Option<Structure>,
    limits: &Limits,
) -> Result<Call, ApiError> {
    let options = GenerationOptions {
        logprobs: own.logprobs(),
        logprobs_name: "top_logprobs",
        max_tokens_default: MaxTokensDefault::RestOfContext,
        // A conversation's echo is the text that it continues, not the rendered prompt.
        echo: false,
        structure,
        ..common.options()?
    };
    options.validate(limits)?;
    let encoder = ChatEncoder {
        tokens: common.token_format(),
        usage: UsagePlan::new(common),
        logprobs: options.logprobs.is_some(),
        prompt_logprobs: options.prompt_logprobs.is_some(),
        reasoning: own.include_reasoning.unwrap_or(true),
        choices: Vec::new(),
    };
    // Who forbids all calls forbids these too.
    let forbidden = template.tool_choice.as_ref().is_some_and(|choice| choice == "none");
    let mut chat = chat_input(template, limits)?;
    let mcp = own.mcp.as_ref().filter(|_| !forbidden);
    chat.server_tools = mcp.map(McpBody::to_server_tools).transpose()?;
    chat.echo = common.echo.unwrap_or(false);
    if chat.echo && !chat.continue_final_message {
        let message = "`echo` gives back the message that is continued: it needs `continue_final_message`.";
        return Err(ApiError::invalid("echo", message));
    }
    let forced = matches!(chat.tool_choice, ToolChoice::Required | ToolChoice::Named(_));
    if options.structure.is_some() && forced {
        let message = "You can only either use constraints for structured outputs or tools, not both.";
        return Err(ApiError::invalid("tool_choice", message));
    }
    let input = Input::Chat(Box::new(chat));
    let request = GenerationRequest { model: common.model.clone(), input, options };
    Ok(Call { request, encoder: Box::new(encoder), stream: common.streams(), ignored: Vec::new() })
}

/// A whole answer.
pub(super) fn to_completion<'a>(
    encoder: &ChatEncoder,
    head: &'a ReplyHead,
    mut answer: Collected,
) -> ChatCompletion<'a> {
    let reasoning_tokens = answer.choices.iter().map(|choice| choice.reasoning_tokens).sum();
    let usage = UsageBody::from(&answer.usage).with_reasoning(reasoning_tokens);
    let prompt_logprobs = answer.choices.first_mut().and_then(|choice| choice.prompt_logprobs.take());
    let choices = answer.choices.into_iter().enumerate().map(|(index, choice)| Choice {
        index,
        finish_reason: reply::chat_finish_reason(&choice.end, choice.has_call()),
        stop_reason: reply::stop_reason(&choice.end),
        logprobs: encoder.logprobs.then(|| to_logprobs(&choice.logprobs, encoder.tokens)),
        token_ids: encoder.tokens.ids.then_some(choice.token_ids),
        message: Message {
            role: "assistant",
            content: Some(choice.text).filter(|text| !text.is_empty() || choice.tool_calls.is_empty()),
            refusal: None,
            reasoning: Reasoning::of(choice.reasoning).filter(|_| encoder.reasoning),
            tool_calls: choice.tool_calls.into_iter().map(to_tool_call).collect(),
            mcp_calls: choice.server_calls.into_iter().map(McpCallBody::from).collect(),
        },
    });
    ChatCompletion {
        id: &head.id,
        object: "chat.completion",
        created: head.created,
        model: &head.model,
        choices: choices.collect(),
        usage,
        prompt_logprobs: prompt_logprobs
            .filter(|_| encoder.prompt_logprobs)
            .map(|positions| reply::prompt_logprobs(&positions)),
        prompt_token_ids: prompt_token_ids(encoder.tokens, &answer.start),
    }
}

fn to_tool_call(call: ToolCall) -> ToolCallBody {
    ToolCallBody {
        index: None,
        id: Some(call.id),
        kind: Some("function"),
        function: FunctionBody { name: Some(call.name), arguments: call.arguments },
    }
}

/// The prompt's ids, if they were asked for.
pub(super) fn prompt_token_ids(tokens: TokenFormat, start: &crate::Start) -> Option<Vec<u32>> {
    start.prompts.first().filter(|_| tokens.ids).map(|ids| ids.to_vec())
}

/// `logprobs` of some tokens.
pub(super) fn to_logprobs(scored: &[Scored], format: TokenFormat) -> Logprobs {
    Logprobs { content: token_logprobs(scored, format).collect() }
}

/// The tokens that have a probability, with it.
pub(in crate::openai) fn token_logprobs(
    scored: &[Scored],
    format: TokenFormat,
) -> impl Iterator<Item = TokenLogprob> {
    scored.iter().filter_map(move |s| {
        Some(TokenLogprob {
            token: format.name(&s.token),
            logprob: reply::shown_logprob(s.logprob?),
            bytes: s.token.bytes.clone(),
            top_logprobs: s.top.iter().map(|(token, logprob)| to_top(token, *logprob, format)).collect(),
        })
    })
}

fn to_top(token: &TokenText, logprob: f32, format: TokenFormat) -> TopLogprob {
    TopLogprob {
        token: format.name(token),
        logprob: reply::shown_logprob(logprob),
        bytes: token.bytes.clone(),
    }
}

/// An answer as JSON.
pub(super) fn to_value(completion: &ChatCompletion<'_>) -> Value {
    serde_json::to_value(completion).unwrap_or_default()
}
