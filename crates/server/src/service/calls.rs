//! Calls of a conversation's tools as a format, in the way in which a model's family writes them.

use millrace_api::{ApiError, ChatInput, ToolChoice};
use millrace_grammar::{Expr, Tag, TextRules, Whitespace, regex_escape};
use millrace_parse::{
    ArgumentsShape, CallId, CallShape, CallSigns, Families, MemberShape, Parameter, Parameters, ValueShape,
    Written, parameters,
};
use serde_json::{Value, json};

use super::text_rules::{format_pattern, schema_pattern};
use crate::ServedModel;

/// Names of parameters that no schema lists.
const ANY_NAME: &str = "[A-Za-z_][A-Za-z0-9_]{0,63}";

/// Calls of a conversation's tools.
#[derive(Debug)]
pub(super) struct Calls {
    shape: &'static CallShape,
    /// Each tool that may be called: its name, and its arguments.
    tools: Vec<(String, Expr)>,
    most: Option<usize>,
    signs: CallSigns,
}

impl Calls {
    /// # Errors
    /// A 400 that names the family, or the tool, whose calls can't be held to a grammar.
    pub(super) fn new(model: &ServedModel, chat: &ChatInput, param: &str) -> Result<Self, ApiError> {
        let families = &model.parts.families;
        match shape(families, |text| model.parts.tokenizer.token_to_id(text).is_some()) {
            Some(shape) => Self::in_shape(shape, families, chat),
            None => {
                let family = families.tool().unwrap_or("none");
                let message = format!(
                    "Calls can't be held to a grammar in this model's tool-call format ({family}). Use `tool_choice` \"auto\" or \
                     \"none\" and no `strict` tools, or name another format with --tool-call-parser."
                );
                Err(ApiError::invalid(param, message))
            }
        }
    }

    fn in_shape(shape: &'static CallShape, families: &Families, chat: &ChatInput) -> Result<Self, ApiError> {
        let one = |(name, schema): (&str, Value)| match arguments(shape, &schema) {
            Ok(arguments) => Ok((name.to_owned(), arguments)),
            Err(reason) => Err(ApiError::invalid(
                "tools",
                format!("The tool `{name}` can't be forced or strict: {reason}."),
            )),
        };
        Ok(Self {
            shape,
            tools: wanted(chat).map(one).collect::<Result<_, _>>()?,
            most: (!chat.parallel_tool_calls).then_some(1),
            signs: families.call_signs(),
        })
    }

    /// So many calls at least, and nothing else.
    pub(super) fn expr(&self, min: usize) -> Expr {
        let calls = self.repeated(self.one(self.shape.before), min);
        Expr::Seq(vec![literal(self.shape.begin), calls, literal(self.shape.end)])
    }

    /// Text, and calls wherever the model wants them. The text has nothing that is read as a call too.
    pub(super) fn among_text(&self) -> Expr {
        let CallShape { marker, begin, before, between, after, .. } = *self.shape;
        let opening = format!("{begin}{before}");
        let behind = |trigger: &str| {
            let rest = opening.strip_prefix(trigger).unwrap_or(&opening);
            self.tag(trigger.to_owned(), self.one(rest))
        };
        let tags = match (marker, before.rfind(':')) {
            // Of what begins like text, as much as tells a call from other JSON: its first key.
            ("", Some(key)) => vec![behind(&opening[..begin.len() + key])],
            // Or the name of a tool.
            ("", None) => {
                let tag = |(name, arguments): &(String, Expr)| {
                    let first = Expr::Seq(vec![arguments.clone(), literal(after)]);
                    self.tag(format!("{opening}{name}{between}"), first)
                };
                self.tools.iter().map(tag).collect()
            }
            _ => vec![behind(marker)],
        };
        // With a frame around all calls there is one tag, otherwise each call is one.
        let max = if begin.is_empty() { self.most } else { Some(1) };
        Expr::Free { tags, min: 0, max, rules: self.rules() }
    }

    /// A call behind a text that begins it, and those that stand in its frame.
    fn tag(&self, trigger: String, first: Expr) -> Tag {
        let CallShape { begin, before, separator, end, .. } = *self.shape;
        let more = self.most.map(|most| most - 1);
        if begin.is_empty() || more == Some(0) {
            return Tag { trigger, rest: Expr::Seq(vec![first, literal(end)]) };
        }
        let item = Box::new(Expr::Seq(vec![literal(separator), self.one(before)]));
        let more = Expr::Repeat { item, separator: String::new(), min: 0, max: more };
        Tag { trigger, rest: Expr::Seq(vec![first, more, literal(end)]) }
    }

    /// What free text can't hold, because it would be read as a call.
    fn rules(&self) -> TextRules {
        let mut rules = TextRules::default();
        let marker = self.shape.marker;
        let other = |mark: &&&str| marker.is_empty() || !mark.contains(marker);
        rules.never.extend(self.signs.marks.iter().filter(other).map(|mark| regex_escape(mark)));
        if self.signs.objects {
            let keys = CallSigns::KEYS.join("|");
            // A key may be written with escapes.
            rules.never.push(format!(r#"\{{[\s,]*"(({keys})"|[^"\\]*\\)"#));
            rules.open.push(r#"\{[\s,]*"[^"]*"#.to_owned());
        }
        if self.signs.python {
            let names: Vec<String> = self.tools.iter().map(|(name, _)| regex_escape(name)).collect();
            rules.never.push(format!(r"\[\s*({})(\.call)?\s*\(", names.join("|")));
        }
        rules
    }

    fn repeated(&self, item: Expr, min: usize) -> Expr {
        Expr::Repeat { item: Box::new(item), separator: self.shape.separator.into(), min, max: self.most }
    }

    fn one(&self, before: &str) -> Expr {
        let CallShape { between, after, .. } = *self.shape;
        let id = |pattern: &str| Expr::Regex(pattern.to_owned());
        let (first, second) = match self.shape.id {
            CallId::None => (vec![], vec![]),
            CallId::BeforeName(pattern, then) => (vec![id(pattern), literal(then)], vec![]),
            CallId::AfterName(text, pattern) => (vec![], vec![literal(text), id(pattern)]),
        };
        let tool = |(name, arguments): &(String, Expr)| {
            let named = [vec![literal(name)], second.clone()].concat();
            Expr::Seq([named, vec![literal(between), arguments.clone()]].concat())
        };
        let tools = Expr::Any(self.tools.iter().map(tool).collect());
        Expr::Seq([vec![literal(before)], first, vec![tools, literal(after)]].concat())
    }
}

/// The tools that may be called, each with the schema that its arguments are held to.
pub(super) fn wanted(chat: &ChatInput) -> impl Iterator<Item = (&str, Value)> {
    let strict =
        |name: &str| chat.tool_choice != ToolChoice::Auto || chat.strict_tools.iter().any(|own| own == name);
    chat.tools.iter().filter_map(move |tool| {
        let function = &tool["function"];
        let name = function["name"].as_str()?;
        let wanted = !matches!(&chat.tool_choice, ToolChoice::Named(only) if only != name);
        wanted.then(|| (name, schema(&function["parameters"], strict(name))))
    })
}

/// A tool's schema; of one that isn't strict only that its arguments are an object. No parameters are an empty object.
fn schema(parameters: &Value, strict: bool) -> Value {
    match parameters {
        _ if !strict => json!({"type": "object"}),
        Value::Null => json!({"type": "object", "properties": {}, "additionalProperties": false}),
        parameters => parameters.clone(),
    }
}

pub(super) fn literal(text: &str) -> Expr {
    Expr::Literal(text.to_owned())
}

/// JSON for a schema.
pub(super) fn json(schema: &Value) -> Expr {
    Expr::Json { schema: schema.clone(), whitespace: Whitespace::Flexible }
}

/// The form in which a model writes calls: of those of its family, the first whose brackets are tokens of its own.
fn shape(families: &Families, is_token: impl Fn(&str) -> bool) -> Option<&'static CallShape> {
    let shapes = families.call_shapes();
    let within = |text: &str, open: &str, close: &str| {
        text.len() > open.len() + close.len() && text.starts_with(open) && text.ends_with(close)
    };
    let knows = |text: &str| (!within(text, "[", "]") && !within(text, "<|", "|>")) || is_token(text);
    shapes.iter().find(|shape| shape.texts().into_iter().all(knows)).or(shapes.last())
}

/// The arguments of one tool.
fn arguments(shape: &CallShape, schema: &Value) -> Result<Expr, String> {
    let ArgumentsShape::Members(form) = shape.arguments else { return Ok(json(schema)) };
    let listed = parameters(schema, form.values).map_err(|error| error.to_string())?;
    let Parameters::Listed(list) = listed else { return Ok(any_members(form)) };
    let item = |parameter: &Parameter| Ok((member(form, parameter)?, parameter.required));
    let items = list.iter().map(item).collect::<Result<_, String>>()?;
    Ok(Expr::Members { items, separator: form.separator.to_owned() })
}

/// A parameter with its name.
fn member(form: MemberShape, parameter: &Parameter) -> Result<Expr, String> {
    let name = literal(&parameter.name);
    let string = |value: Expr| vec![literal(form.between), value];
    let other = |value: Expr| vec![literal(form.between_others), value, literal(form.after)];
    let ways = match &parameter.written {
        Written::Json(schema) if form.values == ValueShape::Python => vec![other(python(schema))],
        Written::Json(schema) => vec![other(json(schema))],
        Written::Choice(values) => values
            .iter()
            .map(|value| match value.as_str() {
                Some(text) => string(quoted(form, literal(text))),
                None => other(literal(&value.to_string())),
            })
            .collect(),
        Written::Text { pattern, format, min, max, nullable } => {
            let mut patterns: Vec<String> = pattern.iter().map(|pattern| schema_pattern(pattern)).collect();
            if let Some(format) = format {
                let pattern = format_pattern(format)
                    .ok_or_else(|| format!("the format `{format}` isn't known for texts without quotes"))?;
                patterns.push(pattern);
            }
            if *min > 0 || max.is_some() {
                let max = max.map_or(String::new(), |max| max.to_string());
                patterns.push(format!(r"(.|\n){{{min},{max}}}"));
            }
            let null = nullable.then(|| other(literal("null")));
            [string(text(form, patterns))].into_iter().chain(null).collect()
        }
    };
    let way = |parts: Vec<Expr>| Expr::Seq(parts);
    Ok(Expr::Seq(vec![literal(form.before), name, Expr::Any(ways.into_iter().map(way).collect())]))
}

/// Parameters of any names.
fn any_members(form: MemberShape) -> Expr {
    let name = Expr::Regex(ANY_NAME.to_owned());
    let string = Expr::Seq(vec![literal(form.between), text(form, Vec::new())]);
    let other =
        |schema: &Value| Expr::Seq(vec![literal(form.between_others), json(schema), literal(form.after)]);
    let value = match form.values {
        ValueShape::Plain(_) => string,
        ValueShape::Quoted(_) => {
            let others = json!({"type": ["number", "boolean", "null", "array", "object"]});
            Expr::Any(vec![string, other(&others)])
        }
        ValueShape::Python => other(&json!({})),
    };
    let item = Box::new(Expr::Seq(vec![literal(form.before), name, value]));
    Expr::Repeat { item, separator: form.separator.to_owned(), min: 0, max: None }
}

/// JSON, or Python's words for what JSON calls `true`, `false` and `null`.
fn python(schema: &Value) -> Expr {
    let is_plain = ["enum", "const"].iter().all(|key| schema.get(key).is_none());
    let is = |name: &str| {
        let kind = &schema["type"];
        is_plain
            && (kind == name || kind.as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind == name)))
    };
    let words = [("boolean", "True"), ("boolean", "False"), ("null", "None")];
    let words = words.into_iter().filter(|(kind, _)| is(kind)).map(|(_, word)| literal(word));
    Expr::Any([json(schema)].into_iter().chain(words).collect())
}

/// A string that is one of a few, in the family's quotes, with what follows on it.
fn quoted(form: MemberShape, text: Expr) -> Expr {
    let quotes = match form.values {
        ValueShape::Quoted(quotes) => quotes,
        ValueShape::Plain(_) | ValueShape::Python => "",
    };
    Expr::Seq(vec![literal(quotes), text, literal(quotes), literal(form.after)])
}

/// A string, with what follows on it.
fn text(form: MemberShape, patterns: Vec<String>) -> Expr {
    let text = |without: &[&str], end: &str| Expr::Text {
        patterns,
        without: without.iter().map(|text| (*text).to_owned()).collect(),
        end: end.to_owned(),
    };
    match form.values {
        ValueShape::Quoted(quotes) => {
            Expr::Seq(vec![literal(quotes), text(&[quotes], quotes), literal(form.after)])
        }
        ValueShape::Plain(never) => text(never, form.after),
        ValueShape::Python => json(&json!({"type": "string"})),
    }
}

#[cfg(test)]
#[path = "calls_tests.rs"]
mod tests;
