//! How a tool's parameters are written by families that write each on its own. What is said here is the reverse of how
//! the parsers read values: text that fits it is read back as a value that fits the schema.

use serde_json::{Map, Value, json};

use crate::ParseError;
use crate::scalar::scalar;
use crate::shape::ValueShape;
use crate::tools::{Kinds, kinds_of};

/// References that lead to references.
const MAX_HOPS: usize = 16;

/// Keywords that say nothing about what is valid.
const ANNOTATIONS: &[&str] = &[
    "title",
    "description",
    "default",
    "example",
    "examples",
    "deprecated",
    "readOnly",
    "writeOnly",
    "$comment",
    "$schema",
    "$id",
];

/// The parameters of one tool.
#[derive(Debug, Clone, PartialEq)]
pub enum Parameters {
    /// These, in this order.
    Listed(Vec<Parameter>),
    /// Whatever the model likes.
    Any,
}

/// A parameter.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// Its name: letters, digits, `_`, `-`, `.`, `$`.
    pub name: String,
    /// It must be there.
    pub required: bool,
    /// What may stand for its value.
    pub written: Written,
}

/// How a value is written.
#[derive(Debug, Clone, PartialEq)]
pub enum Written {
    /// A string without quotes, or between the family's own.
    Text {
        /// What it must match somewhere, as a JSON Schema has it.
        pattern: Option<String>,
        /// A format of JSON Schema that it must have.
        format: Option<String>,
        /// Fewest characters.
        min: usize,
        /// Most characters.
        max: Option<usize>,
        /// `null`, which is no text, will do as well.
        nullable: bool,
    },
    /// One of these values.
    Choice(Vec<Value>),
    /// JSON that validates against this schema. No strings, unless the family writes them as JSON does.
    Json(Value),
}

/// How the parameters of a schema are written with these values.
///
/// # Errors
/// The schema says more about the parameters than can be told of one at a time, or a string can't be told from another
/// value.
pub fn parameters(schema: &Value, values: ValueShape) -> Result<Parameters, ParseError> {
    let fields = match schema {
        Value::Null => return Ok(Parameters::Listed(Vec::new())),
        Value::Object(fields) => fields,
        _ => return Err(unwritable("the schema is no object")),
    };
    let known = ["type", "properties", "required", "additionalProperties", "$defs", "definitions", "strict"];
    only(fields, &known, "the parameters together")?;
    if fields.get("type").is_some_and(|kind| kind != "object") {
        return Err(unwritable("arguments are always an object"));
    }
    let required: Vec<&str> = fields
        .get("required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let empty = Map::new();
    let properties = fields.get("properties").and_then(Value::as_object).unwrap_or(&empty);
    if let Some(name) = required.iter().find(|name| !properties.contains_key(**name)) {
        return Err(unwritable(&format!("`{name}` is required and not among its `properties`")));
    }
    let others = fields.get("additionalProperties");
    let open = others.is_none_or(|others| *others == Value::Bool(true) || *others == json!({}));
    if properties.is_empty() && open {
        return Ok(Parameters::Any);
    }
    let one = |(name, node): (&String, &Value)| {
        let written = Writer { root: schema, values, name }.written(node)?;
        check_name(name, values)?;
        Ok(Parameter { name: name.clone(), required: required.contains(&name.as_str()), written })
    };
    properties.iter().map(one).collect::<Result<_, _>>().map(Parameters::Listed)
}

fn unwritable(reason: &str) -> ParseError {
    ParseError::Unwritable(reason.to_owned())
}

/// Refuses a keyword beside those that are understood.
fn only(fields: &Map<String, Value>, known: &[&str], what: &str) -> Result<(), ParseError> {
    let other =
        fields.keys().find(|key| !known.contains(&key.as_str()) && !ANNOTATIONS.contains(&key.as_str()));
    match other {
        Some(key) => Err(unwritable(&format!("`{key}` can't be held to for {what}"))),
        None => Ok(()),
    }
}

/// Names stand in markup, and Python has rules for them.
fn check_name(name: &str, values: ValueShape) -> Result<(), ParseError> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let python = matches!(values, ValueShape::Python);
    let plain = name.chars().all(|c| word(c) || (!python && matches!(c, '-' | '.' | '$')));
    let begins = !python || name.starts_with(|c: char| c == '_' || c.is_ascii_alphabetic());
    if plain && begins && (1..=128).contains(&name.len()) {
        return Ok(());
    }
    Err(unwritable(&format!("`{name}` can't be the name of a parameter")))
}

/// Looks at one parameter.
struct Writer<'a> {
    root: &'a Value,
    values: ValueShape,
    name: &'a str,
}

impl Writer<'_> {
    fn written(&self, node: &Value) -> Result<Written, ParseError> {
        let node = self.target(node);
        let kinds = kinds_of(node, self.root);
        if matches!(self.values, ValueShape::Python) {
            return self.json(node);
        }
        if kinds.is_unknown() {
            // Parsers take what has no type for text, and so it had better be allowed to be any.
            return match node {
                Value::Bool(true) => Ok(ANY_TEXT),
                Value::Object(fields) => self.only(fields, &[]).map(|()| ANY_TEXT),
                _ => Err(unwritable(&format!("nothing is valid for `{}`", self.name))),
            };
        }
        if !kinds.has(Kinds::STRING) {
            return self.json(node);
        }
        let Value::Object(fields) = node else { return Err(self.mixed()) };
        if fields.contains_key("enum") || fields.contains_key("const") {
            return self.choice(fields, kinds);
        }
        if !kinds.is_within(Kinds::STRING.and(Kinds::NULL)) {
            return Err(self.mixed());
        }
        for key in ["anyOf", "oneOf", "allOf"] {
            if let Some(list) = fields.get(key).and_then(Value::as_array) {
                self.only(fields, &[key])?;
                return self.joined(list, kinds);
            }
        }
        self.text(fields, kinds)
    }

    /// Follows references.
    fn target<'a>(&'a self, node: &'a Value) -> &'a Value {
        let mut node = node;
        for _ in 0..MAX_HOPS {
            let Value::Object(fields) = node else { break };
            let Some(target) = fields.get("$ref").and_then(Value::as_str) else { break };
            let alone = fields.keys().all(|key| key == "$ref" || ANNOTATIONS.contains(&key.as_str()));
            let pointer = target.strip_prefix('#').filter(|_| alone);
            let Some(next) = pointer.and_then(|pointer| self.root.pointer(pointer)) else { break };
            node = next;
        }
        node
    }

    /// JSON for a part of the whole schema, with the definitions that it may refer to.
    fn json(&self, node: &Value) -> Result<Written, ParseError> {
        let Value::Object(fields) = node else { return Ok(Written::Json(node.clone())) };
        let mut fields = fields.clone();
        for key in ["$defs", "definitions"] {
            if let Some(definitions) = self.root.get(key) {
                if fields.get(key).is_some_and(|own| own != definitions) {
                    return Err(unwritable(&format!("`{}` has `{key}` of its own", self.name)));
                }
                fields.insert(key.to_owned(), definitions.clone());
            }
        }
        let schema = Value::Object(fields);
        if leads_elsewhere(&schema) {
            let reason = format!("a `$ref` for `{}` leads to something outside of `$defs`", self.name);
            return Err(unwritable(&reason));
        }
        Ok(Written::Json(schema))
    }

    fn choice(&self, fields: &Map<String, Value>, kinds: Kinds) -> Result<Written, ParseError> {
        self.only(fields, &["enum", "const", "type", "nullable"])?;
        let list = match (fields.get("enum").and_then(Value::as_array), fields.get("const")) {
            (Some(list), None) => list.clone(),
            (None, Some(only)) => vec![only.clone()],
            _ => return Err(self.mixed()),
        };
        self.readable(&list, kinds)?;
        Ok(Written::Choice(list))
    }

    /// Checks that plain text for each of the values is read as this value.
    fn readable(&self, list: &[Value], kinds: Kinds) -> Result<(), ParseError> {
        let ValueShape::Plain(never) = self.values else { return Ok(()) };
        let read_back = |value: &Value| {
            let Some(text) = value.as_str() else {
                return !matches!(value, Value::Array(_) | Value::Object(_));
            };
            let is_same = kinds.is_string()
                || serde_json::from_str::<Value>(&scalar(text, kinds)).is_ok_and(|read| read == *value);
            is_same && !never.iter().any(|mark| text.contains(mark)) && !text.contains('\n')
        };
        match list.iter().find(|value| !read_back(value)) {
            Some(value) => Err(unwritable(&format!("the value {value} of `{}` can't be written", self.name))),
            None => Ok(()),
        }
    }

    /// Alternatives of which one may be null, or a single one.
    fn joined(&self, list: &[Value], kinds: Kinds) -> Result<Written, ParseError> {
        let is_null =
            |node: &&Value| kinds_of(node, self.root).is_within(Kinds::NULL) && node.get("type").is_some();
        let others: Vec<&Value> = list.iter().filter(|node| !is_null(node)).collect();
        let nullable = others.len() < list.len();
        let [only] = others.as_slice() else { return Err(self.mixed()) };
        match self.written(only)? {
            Written::Text { pattern, format, min, max, .. } => {
                Ok(Written::Text { pattern, format, min, max, nullable })
            }
            Written::Choice(mut values) if nullable => {
                values.push(Value::Null);
                self.readable(&values, kinds)?;
                Ok(Written::Choice(values))
            }
            choice => Ok(choice),
        }
    }

    fn text(&self, fields: &Map<String, Value>, kinds: Kinds) -> Result<Written, ParseError> {
        self.only(fields, &["type", "nullable", "pattern", "format", "minLength", "maxLength"])?;
        let word = |key: &str| fields.get(key).and_then(Value::as_str).map(str::to_owned);
        let count =
            |key: &str| fields.get(key).and_then(Value::as_u64).and_then(|count| usize::try_from(count).ok());
        Ok(Written::Text {
            pattern: word("pattern"),
            format: word("format"),
            min: count("minLength").unwrap_or(0),
            max: count("maxLength"),
            nullable: kinds.has(Kinds::NULL),
        })
    }

    fn only(&self, fields: &Map<String, Value>, known: &[&str]) -> Result<(), ParseError> {
        only(fields, known, &format!("`{}`", self.name))
    }

    fn mixed(&self) -> ParseError {
        unwritable(&format!("`{}` may be a string or something else, which can't be told apart", self.name))
    }
}

const ANY_TEXT: Written = Written::Text { pattern: None, format: None, min: 0, max: None, nullable: false };

/// Whether a schema refers to anything but its definitions. Its depth is bounded.
fn leads_elsewhere(node: &Value) -> bool {
    match node {
        Value::Array(list) => list.iter().any(leads_elsewhere),
        Value::Object(fields) => {
            let target = fields.get("$ref").and_then(Value::as_str);
            target
                .is_some_and(|target| !["#/$defs/", "#/definitions/"].iter().any(|at| target.starts_with(at)))
                || fields.values().any(leads_elsewhere)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: ValueShape = ValueShape::Plain(&["</p>"]);

    fn one(node: &Value) -> Result<Written, String> {
        let schema = json!({"properties": {"x": node}, "$defs": {"word": {"type": "string"}, "n": {"type": "number"}}});
        match parameters(&schema, PLAIN) {
            Ok(Parameters::Listed(mut list)) => Ok(list.remove(0).written),
            Ok(Parameters::Any) => panic!("not listed"),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn strings_are_text_and_the_rest_is_json() {
        let text = |nullable| Written::Text { pattern: None, format: None, min: 0, max: None, nullable };
        for node in [json!({}), json!({"type": "string", "title": "X"}), json!({"$ref": "#/$defs/word"})] {
            assert_eq!(one(&node), Ok(text(false)), "{node}");
        }
        for node in [
            json!({"type": ["string", "null"]}),
            json!({"anyOf": [{"type": "string"}, {"type": "null"}], "default": null}),
        ] {
            assert_eq!(one(&node), Ok(text(true)), "{node}");
        }
        assert_eq!(one(&json!({"enum": ["a", null]})), Ok(Written::Choice(vec![json!("a"), Value::Null])));
        let Ok(Written::Json(schema)) = one(&json!({"type": "array", "items": {"$ref": "#/$defs/n"}})) else {
            panic!("no JSON")
        };
        assert_eq!(schema["$defs"]["n"]["type"], "number");
    }

    #[test]
    fn what_cannot_be_told_apart_is_named() {
        for (node, word) in [
            (json!({"type": ["string", "integer"]}), "`x` may be"),
            (json!({"enum": ["1", 1]}), "\"1\""),
            (json!({"enum": ["none", null]}), "\"none\""),
            (json!({"enum": ["a</p>"]}), "can't be written"),
            (json!({"type": "string", "not": {"const": "a"}}), "`not`"),
            (json!({"type": "array", "items": {"$ref": "#/properties/x"}}), "outside of `$defs`"),
            (json!(false), "nothing is valid"),
        ] {
            let error = one(&node).unwrap_err();
            assert!(error.contains(word), "{node}: {error}");
        }
        for (schema, word) in [
            (json!({"properties": {"a b": {}}}), "`a b`"),
            (json!({"minProperties": 1}), "`minProperties`"),
            (json!({"required": ["x"]}), "`x` is required"),
            (json!({"type": "array"}), "an object"),
        ] {
            let error = parameters(&schema, PLAIN).unwrap_err().to_string();
            assert!(error.contains(word), "{schema}: {error}");
        }
        assert_eq!(parameters(&json!({"type": "object"}), PLAIN), Ok(Parameters::Any));
        let closed = json!({"type": "object", "additionalProperties": false});
        assert_eq!(parameters(&closed, PLAIN), Ok(Parameters::Listed(Vec::new())));
    }
}
