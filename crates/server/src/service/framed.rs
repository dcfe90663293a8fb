//! Answers in the harmony format, which frames all that a model writes: reasoning, text and calls are messages with a
//! header each. A format has to say all of them.

use millrace_api::{ApiError, ChatInput, Structure};
use millrace_grammar::{Expr, Source};

use super::{
    calls::{json, literal, wanted},
    structure::{Wish, part},
};

/// Messages of reasoning, or to the user, before the answer or a call.
const MOST_BEFORE: usize = 8;

/// How the next message begins.
const NEXT: &str = "<|end|><|start|>assistant";

/// How a message of reasoning begins.
pub(super) const OPEN: &str = "<|channel|>analysis<|message|>";

/// What leads out of reasoning: to the answer, or, if calls may come instead, to the choice [`then`].
pub(super) fn close(may_call: bool) -> &'static str {
    if may_call {
        "<|end|><|start|>assistant<|channel|>"
    } else {
        "<|end|><|start|>assistant<|channel|>final<|message|>"
    }
}

/// What goes on behind it.
pub(super) fn then(may_call: bool) -> &'static [&'static str] {
    if may_call { &["final", "commentary"] } else { &[] }
}

/// What is compiled, and the field that asked for it.
///
/// # Errors
/// A 400 for what can't be said in frames: an answer that is begun, a grammar, a format and a forced call.
pub(super) fn source(
    chat: &ChatInput,
    wish: Wish,
    structure: Option<&Structure>,
) -> Result<Option<(Source, String)>, ApiError> {
    if structure.is_none() && wish == Wish::Nothing {
        return Ok(None);
    }
    let param = structure.map_or("tool_choice", |structure| &structure.param);
    if chat.open_text().is_some() {
        let message =
            "An answer of this model that is begun can't be constrained. End with a user's message.";
        return Err(ApiError::invalid(param, message));
    }
    if structure.is_some() && wish == Wish::Forced {
        let message = "You can only either use constraints for structured outputs or tools, not both.";
        return Err(ApiError::invalid("tool_choice", message));
    }
    let mut last = Vec::new();
    if let Some(structure) = structure {
        last.push(message("<|channel|>final<|message|>", part(structure)?));
    } else if wish == Wish::Strict {
        last.push(message("<|channel|>final<|message|>", Expr::Regex(r"(.|\n)*".to_owned())));
    }
    if chat.may_call() {
        last.push(call(chat));
    }
    // Who is promised nothing but a format, or a call, is told nothing else.
    let talks = wish == Wish::Strict && structure.is_none();
    let channels: &[&str] = if talks { &["analysis", "commentary"] } else { &["analysis"] };
    let before = channels.iter().map(|channel| {
        let text = Expr::Text { patterns: Vec::new(), without: Vec::new(), end: NEXT.to_owned() };
        message(&format!("<|channel|>{channel}<|message|>"), text)
    });
    let before = Expr::Repeat {
        item: Box::new(Expr::Any(before.collect())),
        separator: String::new(),
        min: 0,
        max: Some(MOST_BEFORE),
    };
    let whole = Expr::Seq(vec![before, Expr::Any(last)]);
    let param = structure.map_or("tools", |structure| &structure.param);
    Ok(Some((Source::Expr(whole), param.to_owned())))
}

fn message(header: &str, content: Expr) -> Expr {
    Expr::Seq(vec![literal(header), content])
}

/// One call. The token behind it ends the answer.
fn call(chat: &ChatInput) -> Expr {
    let one = |(name, schema)| {
        let header = format!("<|channel|>commentary to=functions.{name} <|constrain|>json<|message|>");
        message(&header, json(&schema))
    };
    Expr::Any(wanted(chat).map(one).collect())
}
