//! What an answer is held to: the request's format, calls that it must make, and strict tools, as one constraint.

use millrace_api::{ApiError, ChatInput, ErrorKind, Input, Structure, ToolChoice};
use millrace_grammar::{AfterReasoning, Expr, GrammarError, Source};
use millrace_parse::Start;
use millrace_types::Constraint;

use super::{calls::Calls, framed, reading::Reading};
use crate::ServedModel;

/// Seconds after which a client may try again when too many grammars are being compiled.
const RETRY_BUSY: u32 = 5;

/// Whether an answer may need a constraint.
pub(super) fn is_constrained(input: &Input, structure: Option<&Structure>) -> bool {
    structure.is_some() || matches!(input, Input::Chat(chat) if Wish::of(chat, true) != Wish::Nothing)
}

/// The constraint of a request's answers, before they are told what reasoning comes first; compiled, or from the cache.
///
/// # Errors
/// A 400 for a format that can't be held to, or calls that can't be forced in the model's own format.
pub(super) fn constraint(
    model: &ServedModel,
    input: &Input,
    structure: Option<&Structure>,
) -> Result<Option<Box<dyn Constraint>>, ApiError> {
    let chat = match input {
        Input::Chat(chat) => Some(&**chat),
        Input::Prompts { .. } => None,
    };
    let Some((source, param)) = source(model, chat, structure)? else { return Ok(None) };
    let found = model.grammars.get(&source);
    if let Ok(found) = &found {
        model.metrics.grammar(found.compiled_in);
    }
    let grammar = found.map_err(|error| refusal(&error, &param))?.grammar;
    Ok(Some(grammar.start()))
}

fn refusal(error: &GrammarError, param: &str) -> ApiError {
    match error {
        GrammarError::Busy => ApiError::unavailable(error.to_string(), RETRY_BUSY),
        _ => ApiError {
            param: Some(param.to_owned()),
            ..ApiError::new(ErrorKind::BadRequest, error.to_string())
        },
    }
}

/// What the tools of a conversation want.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    Nothing,
    /// Calls of strict tools have to fit, if there are any.
    Strict,
    /// There must be a call.
    Forced,
}

impl Wish {
    /// `reads_calls`: of a model whose calls are text to this server, none can break the promise of `strict`.
    fn of(chat: &ChatInput, reads_calls: bool) -> Self {
        match chat.tool_choice {
            ToolChoice::Required | ToolChoice::Named(_) => Self::Forced,
            ToolChoice::Auto if reads_calls && !chat.strict_tools.is_empty() => Self::Strict,
            ToolChoice::Auto | ToolChoice::None => Self::Nothing,
        }
    }
}

/// What is compiled, and the field that asked for it.
fn source(
    model: &ServedModel,
    chat: Option<&ChatInput>,
    structure: Option<&Structure>,
) -> Result<Option<(Source, String)>, ApiError> {
    let families = model.parts.families;
    let wish = chat.map_or(Wish::Nothing, |chat| Wish::of(chat, families.tool().is_some()));
    if let Some(chat) = chat.filter(|_| families.is_framed()) {
        return framed::source(chat, wish, structure);
    }
    match (chat.filter(|chat| chat.may_call()), structure) {
        (_, None) if wish == Wish::Nothing => Ok(None),
        (None, None) => Ok(None),
        (Some(_), Some(_)) if wish == Wish::Forced => {
            let message = "You can only either use constraints for structured outputs or tools, not both.";
            Err(ApiError::invalid("tool_choice", message))
        }
        // The format or calls, as the model likes.
        (Some(chat), Some(structure)) => {
            let calls = Calls::new(model, chat, "tools")?.expr(1);
            let source = part(structure)?;
            Ok(Some((Source::Expr(Expr::Any(vec![source, calls])), structure.param.clone())))
        }
        (None, Some(structure)) => Ok(Some((structure.source.clone(), structure.param.clone()))),
        (Some(chat), None) => {
            let param = if wish == Wish::Forced { "tool_choice" } else { "tools" };
            let calls = Calls::new(model, chat, param)?;
            let expr = if wish == Wish::Forced { calls.expr(1) } else { calls.among_text() };
            Ok(Some((Source::Expr(expr), "tools".to_owned())))
        }
    }
}

/// A format as a part of a larger one.
///
/// # Errors
/// A 400 for a grammar, which has rules of its own.
pub(super) fn part(structure: &Structure) -> Result<Expr, ApiError> {
    Ok(match &structure.source {
        Source::Json { schema, whitespace } => {
            Expr::Json { schema: schema.clone(), whitespace: whitespace.clone() }
        }
        Source::Regex(pattern) => Expr::Regex(pattern.clone()),
        Source::Choice(texts) => Expr::Any(texts.iter().cloned().map(Expr::Literal).collect()),
        Source::Expr(expr) => expr.clone(),
        Source::Grammar(_) => {
            let message = "A grammar can't be combined with `tools`, or with a model that frames its answers; use \
                           another format, or leave the tools out.";
            return Err(ApiError::invalid(&structure.param, message));
        }
    })
}

/// Lets the model reason before it obeys, if it may.
///
/// # Errors
/// A 400 if the prompt has opened reasoning whose end can't be told from its tokens.
pub(super) fn after_reasoning(
    inner: Box<dyn Constraint>,
    reading: Option<&Reading>,
) -> Result<Box<dyn Constraint>, ApiError> {
    let free = |reading: &&Reading| reading.may_reason() && !reading.is_framed();
    let Some(reading) = reading.filter(free) else { return Ok(inner) };
    match reading.marks() {
        Some(marks) => {
            let follow = reading.follow(marks);
            Ok(Box::new(AfterReasoning::new(inner, follow, marks.tokens.clone())))
        }
        None if reading.start() == Start::Reasoning => {
            let message = "This model reasons first, and its vocabulary can't write what ends its reasoning, so that its \
                           answer can't be constrained. Turn reasoning off.";
            Err(ApiError::bad_request(message))
        }
        None => Ok(inner),
    }
}
