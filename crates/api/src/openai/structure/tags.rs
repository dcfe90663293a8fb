//! Structural tags: text with marked parts that have a format, as vLLM takes them. Older clients send `structures` and
//! `triggers`, newer ones a tree of formats.

use millrace_grammar::{Expr, Tag, TextRules, Whitespace};
use serde_json::{Value, json};

use crate::{ApiError, error::shorten};

/// Nested formats.
const MAX_DEPTH: usize = 32;

/// Reads one, as an object or as its text.
///
/// # Errors
/// A 400 for what can't be read, or isn't supported.
pub(super) fn read(param: &str, value: &Value, whitespace: &Whitespace) -> Result<Expr, ApiError> {
    let reader = Reader { param, whitespace };
    let parsed;
    let value = match value {
        Value::String(text) => {
            parsed = serde_json::from_str::<Value>(text)
                .map_err(|error| reader.wrong(&format!("is not valid JSON: {error}")))?;
            &parsed
        }
        value => value,
    };
    if let Some(format) = value.get("format").filter(|format| !format.is_null()) {
        return reader.format(format, 0);
    }
    let structures = reader.list(value, "structures")?;
    // The older form is the newer one in other words.
    let tag = |structure: &Value| {
        let content = json!({"type": "json_schema", "json_schema": structure.get("schema")});
        json!({"begin": structure.get("begin"), "content": content, "end": structure.get("end")})
    };
    let tags: Vec<Value> = structures.iter().map(tag).collect();
    reader.format(&json!({"type": "triggered_tags", "triggers": value.get("triggers"), "tags": tags}), 0)
}

struct Reader<'a> {
    param: &'a str,
    whitespace: &'a Whitespace,
}

impl Reader<'_> {
    fn format(&self, format: &Value, depth: usize) -> Result<Expr, ApiError> {
        if depth > MAX_DEPTH {
            return Err(self.wrong(&format!("is nested too deeply: at most {MAX_DEPTH} levels are allowed")));
        }
        let all = |name| -> Result<Vec<Expr>, ApiError> {
            self.list(format, name)?.iter().map(|part| self.format(part, depth + 1)).collect()
        };
        Ok(match self.text(format, "type")? {
            "const_string" => Expr::Literal(self.text(format, "value")?.to_owned()),
            "json_schema" => {
                let schema = format.get("json_schema").filter(|schema| !schema.is_null());
                let schema =
                    schema.cloned().ok_or_else(|| self.wrong("has a format without its `json_schema`"))?;
                Expr::Json { schema, whitespace: self.whitespace.clone() }
            }
            "regex" => Expr::Regex(self.text(format, "pattern")?.to_owned()),
            "sequence" => Expr::Seq(all("elements")?),
            "or" => Expr::Any(all("elements")?),
            "tag" => self.tag(format, depth)?,
            "triggered_tags" => self.triggered(format, depth)?,
            "tags_with_separator" => {
                let tags = self.list(format, "tags")?.iter().map(|tag| self.tag(tag, depth));
                let (min, max) = bounds(format);
                Expr::Repeat {
                    item: Box::new(Expr::Any(tags.collect::<Result<_, _>>()?)),
                    separator: self.text(format, "separator")?.to_owned(),
                    min,
                    max,
                }
            }
            other => {
                let other = shorten(other, 60);
                return Err(self.wrong(&format!(
                    "has a format of the type '{other}'; known are 'const_string', 'json_schema', 'regex', 'sequence', \
                     'or', 'tag', 'triggered_tags' and 'tags_with_separator'"
                )));
            }
        })
    }

    fn tag(&self, tag: &Value, depth: usize) -> Result<Expr, ApiError> {
        let (begin, content, end) = self.tag_parts(tag, depth)?;
        Ok(Expr::Seq(vec![Expr::Literal(begin.to_owned()), content, end]))
    }

    fn tag_parts<'v>(&self, tag: &'v Value, depth: usize) -> Result<(&'v str, Expr, Expr), ApiError> {
        let content = tag.get("content").unwrap_or(&Value::Null);
        // Newer clients may send several ends.
        let end = match tag.get("end") {
            Some(Value::Array(ends)) if !ends.is_empty() => {
                let ends = ends.iter().map(|end| end.as_str().map(|end| Expr::Literal(end.to_owned())));
                Expr::Any(
                    ends.collect::<Option<_>>()
                        .ok_or_else(|| self.wrong("has an `end` that is no string"))?,
                )
            }
            _ => Expr::Literal(self.text(tag, "end")?.to_owned()),
        };
        Ok((self.text(tag, "begin")?, self.format(content, depth + 1)?, end))
    }

    fn triggered(&self, format: &Value, depth: usize) -> Result<Expr, ApiError> {
        let triggers = self.list(format, "triggers")?;
        let triggers: Option<Vec<&str>> = triggers.iter().map(Value::as_str).collect();
        let triggers = triggers.ok_or_else(|| self.wrong("has a trigger that is no string"))?;
        // The tags of one trigger are alternatives behind it.
        let mut groups: Vec<(&str, Vec<Expr>)> =
            triggers.into_iter().map(|trigger| (trigger, Vec::new())).collect();
        for tag in self.list(format, "tags")? {
            let (begin, content, end) = self.tag_parts(tag, depth)?;
            let group =
                groups.iter_mut().find_map(|(trigger, group)| Some((begin.strip_prefix(*trigger)?, group)));
            let Some((rest, group)) = group else {
                return Err(self.wrong(&format!("has no trigger for the tag '{}'", shorten(begin, 60))));
            };
            group.push(Expr::Seq(vec![Expr::Literal(rest.to_owned()), content, end]));
        }
        groups.retain(|(_, group)| !group.is_empty());
        let tags = groups
            .into_iter()
            .map(|(trigger, group)| Tag { trigger: trigger.into(), rest: Expr::Any(group) });
        let (min, max) = bounds(format);
        Ok(Expr::Free { tags: tags.collect(), min, max, rules: TextRules::default() })
    }

    fn text<'v>(&self, value: &'v Value, name: &str) -> Result<&'v str, ApiError> {
        let text = value.get(name).and_then(Value::as_str);
        text.ok_or_else(|| self.wrong(&format!("has a part without its `{name}`, which must be a string")))
    }

    fn list<'v>(&self, value: &'v Value, name: &str) -> Result<&'v [Value], ApiError> {
        let list = value.get(name).and_then(Value::as_array).filter(|list| !list.is_empty());
        list.map(Vec::as_slice).ok_or_else(|| {
            self.wrong(&format!("has a part without its `{name}`, which must be a list that isn't empty"))
        })
    }

    fn wrong(&self, what: &str) -> ApiError {
        ApiError::invalid(self.param, format!("`{}` {what}.", self.param))
    }
}

/// How many tags there are to be.
fn bounds(format: &Value) -> (usize, Option<usize>) {
    let on = |name: &str| format.get(name) == Some(&Value::Bool(true));
    (usize::from(on("at_least_one")), on("stop_after_first").then_some(1))
}
