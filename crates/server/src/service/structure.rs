//! What an answer is held to: the request's format, calls that it must make, and strict tools, as one constraint.

use millrace_api::{ApiError, ChatInput, ErrorKind, Input, Structure, ToolChoice};
use millrace_grammar::{AfterReasoning, Expr, GrammarError, Source, Tag, Whitespace};
use millrace_parse::{CallShape, Start};
use millrace_types::{Constraint, TokenId};
use serde_json::{Value, json};

use super::reading::Reading;
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
enum Wish {
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
    if chat.is_some() && families.is_framed() && (structure.is_some() || wish != Wish::Nothing) {
        let family = families.tool().or(families.reasoning()).unwrap_or_default();
        let param = structure.map_or("tool_choice", |structure| &structure.param);
        let message = format!(
            "The answers of this model are framed in its own format ({family}), which can't be constrained yet. Leave \
             `{param}` out."
        );
        return Err(ApiError::invalid(param, message));
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
            let source = match &structure.source {
                Source::Json { schema, whitespace } => {
                    Expr::Json { schema: schema.clone(), whitespace: whitespace.clone() }
                }
                Source::Regex(pattern) => Expr::Regex(pattern.clone()),
                Source::Choice(texts) => Expr::Any(texts.iter().cloned().map(Expr::Literal).collect()),
                Source::Expr(expr) => expr.clone(),
                Source::Grammar(_) => {
                    let message = "A grammar can't be combined with `tools`; leave one of them out.";
                    return Err(ApiError::invalid(&structure.param, message));
                }
            };
            Ok(Some((Source::Expr(Expr::Any(vec![source, calls])), structure.param.clone())))
        }
        (None, Some(structure)) => Ok(Some((structure.source.clone(), structure.param.clone()))),
        (Some(chat), None) => {
            let param = if wish == Wish::Forced { "tool_choice" } else { "tools" };
            let calls = Calls::new(model, chat, param)?;
            let expr = if wish == Wish::Forced { calls.expr(1) } else { calls.among_text()? };
            Ok(Some((Source::Expr(expr), "tools".to_owned())))
        }
    }
}

/// Calls of a conversation's tools in a model's own format.
struct Calls<'a> {
    shape: &'a CallShape,
    /// Name and schema of each tool that may be called.
    tools: Vec<(&'a str, Value)>,
    most: Option<usize>,
    family: &'static str,
}

impl<'a> Calls<'a> {
    fn new(model: &ServedModel, chat: &'a ChatInput, param: &str) -> Result<Self, ApiError> {
        let families = model.parts.families;
        let family = families.tool().unwrap_or("none");
        let Some(shape) = shape(model) else {
            let message = format!(
                "Calls can't be held to a grammar in this model's tool-call format ({family}). Use `tool_choice` \"auto\" or \
                 \"none\" and no `strict` tools, or name another format with --tool-call-parser."
            );
            return Err(ApiError::invalid(param, message));
        };
        let strict = |name: &str| {
            chat.tool_choice != ToolChoice::Auto || chat.strict_tools.iter().any(|own| own == name)
        };
        let tools = chat.tools.iter().filter_map(|tool| {
            let function = &tool["function"];
            let name = function["name"].as_str()?;
            let wanted = !matches!(&chat.tool_choice, ToolChoice::Named(only) if only != name);
            wanted.then(|| (name, schema(&function["parameters"], strict(name))))
        });
        let most = (!chat.parallel_tool_calls).then_some(1);
        Ok(Self { shape, tools: tools.collect(), most, family })
    }

    /// So many calls at least, and nothing else.
    fn expr(&self, min: usize) -> Expr {
        let calls = self.repeated(self.one(self.shape.before), min);
        Expr::Seq(vec![literal(self.shape.begin), calls, literal(self.shape.end)])
    }

    /// Text, and calls wherever the model wants them.
    fn among_text(&self) -> Result<Expr, ApiError> {
        let CallShape { marker, begin, before, end, .. } = *self.shape;
        if marker.is_empty() {
            let message = format!(
                "`strict` tools need a tool-call format that marks calls, which this model's ({}) doesn't. Set `tool_choice` \
                 to \"required\", or leave `strict` out.",
                self.family
            );
            return Err(ApiError::invalid("tools", message));
        }
        let behind = |text: &'static str| text.strip_prefix(marker).unwrap_or(text);
        // With a frame around all calls there is one tag, otherwise each call is one.
        let (rest, max) = if begin.is_empty() {
            (self.one(behind(before)), self.most)
        } else {
            let calls = self.repeated(self.one(before), 1);
            (Expr::Seq(vec![literal(behind(begin)), calls, literal(end)]), Some(1))
        };
        Ok(Expr::Free { tags: vec![Tag { trigger: marker.into(), rest }], min: 0, max })
    }

    fn repeated(&self, item: Expr, min: usize) -> Expr {
        Expr::Repeat { item: Box::new(item), separator: self.shape.separator.into(), min, max: self.most }
    }

    fn one(&self, before: &str) -> Expr {
        let tool = |(name, schema): &(&str, Value)| {
            let arguments = Expr::Json { schema: schema.clone(), whitespace: Whitespace::Flexible };
            Expr::Seq(vec![literal(&[name, self.shape.between].concat()), arguments])
        };
        let tools = Expr::Any(self.tools.iter().map(tool).collect());
        Expr::Seq(vec![literal(before), tools, literal(self.shape.after)])
    }
}

fn literal(text: &str) -> Expr {
    Expr::Literal(text.to_owned())
}

/// A tool's schema; of one that isn't strict only that its arguments are an object. No parameters are an empty object.
fn schema(parameters: &Value, strict: bool) -> Value {
    match parameters {
        _ if !strict => json!({"type": "object"}),
        Value::Null => json!({"type": "object", "properties": {}, "additionalProperties": false}),
        parameters => parameters.clone(),
    }
}

/// The form in which the model writes calls: of those of its family, the first whose brackets are tokens of its own.
fn shape(model: &ServedModel) -> Option<&'static CallShape> {
    let shapes = model.parts.families.call_shapes();
    let knows = |text: &str| {
        let in_brackets = text.starts_with('[') && text.ends_with(']') && text.len() > 2;
        !in_brackets || model.parts.tokenizer.token_to_id(text).is_some()
    };
    shapes.iter().find(|shape| shape.texts().into_iter().all(knows)).or(shapes.last())
}

/// Lets the model reason before it obeys, if it may.
///
/// # Errors
/// A 400 if the prompt has opened reasoning whose end can't be told from its tokens.
pub(super) fn after_reasoning(
    model: &ServedModel,
    inner: Box<dyn Constraint>,
    reading: Option<&Reading>,
) -> Result<Box<dyn Constraint>, ApiError> {
    let Some(reading) = reading.filter(|reading| reading.may_reason()) else { return Ok(inner) };
    let inside = reading.start() == Start::Reasoning;
    let Some(marks) = reading.mark_tokens(model) else {
        if inside {
            let message = "This model reasons first, and ends its reasoning with no token of its own, so that its answer \
                           can't be constrained. Turn reasoning off.";
            return Err(ApiError::bad_request(message));
        }
        return Ok(inner);
    };
    let tokenizer = &model.parts.tokenizer;
    let ids = (0..model.engine.info().vocab_size).filter_map(|id| TokenId::try_from(id).ok());
    let is_break = |id: &TokenId| {
        let bytes = tokenizer.token_bytes(*id);
        !bytes.is_empty()
            && bytes.len() <= 2
            && bytes.iter().all(|byte| *byte == b'\n')
            && !tokenizer.is_special(*id)
    };
    let breaks = ids.filter(is_break).collect();
    let ends = model.parts.eos_token_ids.clone();
    Ok(Box::new(AfterReasoning::new(inner, marks, ends, breaks, inside)))
}
