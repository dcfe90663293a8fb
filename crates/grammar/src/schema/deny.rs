//! What does not validate against a subschema.
//!
//! A schema is the conjunction of its keywords, so its opposite is a list of alternatives, one or more for each keyword.
//! A keyword without an opposite among the compiler's adds none: fewer values are left then, and never too many.

use serde_json::{Map, Value, json};

use super::{
    formats, lists,
    node::{Node, size},
    reduce::Reducer,
    regular::{self, Opposite},
    terms::{all, any, both, other_than},
};
use crate::GrammarError;

/// Keywords that are refused if they have no opposite, even among others that have one.
fn is_told(keyword: &str) -> bool {
    matches!(keyword, "pattern" | "format")
}

/// Alternatives, and a keyword that has none.
#[derive(Default)]
struct Ways {
    found: Vec<Value>,
    skipped: Option<String>,
}

impl<'r> Reducer<'r> {
    /// Alternatives, each of which makes a value fail; none if nothing fails.
    ///
    /// # Errors
    /// A keyword has no opposite that can be held to, and it is the only one, or it is a pattern.
    pub(super) fn deny(&mut self, node: &Node<'r>) -> Result<Vec<Value>, GrammarError> {
        self.enter()?;
        let ways = match node.value {
            Value::Bool(true) => Ok(Vec::new()),
            Value::Bool(false) => Ok(vec![Value::Bool(true)]),
            Value::Object(fields) => self.deny_fields(node, fields),
            _ => Err(self.fail("a schema in it is neither an object nor a boolean")),
        };
        self.leave();
        ways
    }

    fn deny_fields(
        &mut self,
        node: &Node<'r>,
        fields: &'r Map<String, Value>,
    ) -> Result<Vec<Value>, GrammarError> {
        let mut ways = Ways::default();
        for (keyword, value) in fields {
            self.deny_keyword(node, keyword, value, &mut ways)?;
        }
        ways.found.retain(|way| way != &Value::Bool(false));
        match ways.skipped {
            Some(keyword) if ways.found.is_empty() || is_told(&keyword) => Err(self.fail(format!(
                "the opposite of `{keyword}` (under `not`, `if` or `oneOf`) is not supported"
            ))),
            _ => Ok(ways.found),
        }
    }

    fn deny_keyword(
        &mut self,
        node: &Node<'r>,
        keyword: &str,
        value: &'r Value,
        ways: &mut Ways,
    ) -> Result<(), GrammarError> {
        if matches!(keyword, "const" | "enum") {
            // Texts come as patterns, several times as long, and lists place by place.
            self.spend(8 * size(value))?;
        }
        let count = node.count(keyword);
        let found = &mut ways.found;
        match keyword {
            "type" => found.push(deny_type(value)),
            "const" => found.extend(except(std::slice::from_ref(value))),
            "enum" => found.extend(except(value.as_array().map(Vec::as_slice).unwrap_or_default())),
            "minimum" => found.push(json!({"type": "number", "exclusiveMaximum": value})),
            "maximum" => found.push(json!({"type": "number", "exclusiveMinimum": value})),
            "exclusiveMinimum" if value.is_number() => {
                found.push(json!({"type": "number", "maximum": value}));
            }
            "exclusiveMaximum" if value.is_number() => {
                found.push(json!({"type": "number", "minimum": value}));
            }
            "minLength" => found.extend(fewer("string", "maxLength", count)),
            "maxLength" => found.extend(more("string", "minLength", count)),
            "minItems" => found.extend(fewer("array", "maxItems", count)),
            "maxItems" => found.extend(more("array", "minItems", count)),
            "minProperties" => found.extend(fewer("object", "maxProperties", count)),
            "maxProperties" => found.extend(more("object", "minProperties", count)),
            "required" => found.extend(node.strings(keyword).map(without)),
            "properties" => {
                for (key, inner) in self.map(node, keyword)? {
                    let denied = any(self.deny(&inner)?);
                    if denied != Value::Bool(false) {
                        found.push(json!({"type": "object", "properties": {key: denied}, "required": [key]}));
                    }
                }
            }
            "items" | "prefixItems" => found.extend(lists::deny_items(self, node, keyword)?),
            "contains" => found.extend(lists::deny_contains(self, node)?),
            "allOf" => {
                for inner in self.list(node, keyword)? {
                    found.extend(self.deny(&inner)?);
                }
            }
            "anyOf" => {
                let denied = self.deny_each(&self.list(node, keyword)?)?;
                found.push(all(denied));
            }
            "oneOf" => found.extend(self.deny_one_of(node)?),
            "not" => {
                let inner = self.below(node, value)?;
                found.push(self.hold(&inner)?);
            }
            "if" => found.extend(self.deny_condition(node, value)?),
            "$ref" | "$dynamicRef" => found.extend(self.deny_reference(node, keyword)?),
            "dependentRequired" | "dependentSchemas" => {
                for (key, inner) in value.as_object().into_iter().flatten() {
                    found.extend(self.deny_dependency(node, key, inner)?);
                }
            }
            "pattern" | "format" => {
                let pattern = value.as_str();
                let pattern = if keyword == "format" { pattern.and_then(formats::wide) } else { pattern };
                let opposite = pattern.map(|pattern| regular::joined(&[(pattern, false)], Opposite::Safe));
                match opposite {
                    Some(Ok(opposite)) => {
                        let way = |pattern: String| json!({"type": "string", "pattern": pattern});
                        // It may be long.
                        found.extend(opposite.map(way));
                        self.spend(found.last().map_or(0, size))?;
                    }
                    Some(Err(_)) | None => ways.skipped = Some(keyword.to_owned()),
                }
            }
            // Without an opposite of their own.
            "uniqueItems" if value == &json!(false) => {}
            "additionalProperties" | "additionalItems" | "unevaluatedProperties" | "unevaluatedItems"
                if value == &json!(true) => {}
            "multipleOf"
            | "uniqueItems"
            | "additionalProperties"
            | "additionalItems"
            | "patternProperties"
            | "propertyNames"
            | "unevaluatedProperties"
            | "unevaluatedItems"
            | "dependencies"
                if !ways.skipped.as_deref().is_some_and(is_told) =>
            {
                // The one that matters most is told.
                ways.skipped = Some(keyword.to_owned());
            }
            _ => {}
        }
        Ok(())
    }

    pub(super) fn deny_each(&mut self, list: &[Node<'r>]) -> Result<Vec<Value>, GrammarError> {
        list.iter().map(|inner| self.deny(inner).map(any)).collect()
    }

    /// None of them, or two.
    fn deny_one_of(&mut self, node: &Node<'r>) -> Result<Vec<Value>, GrammarError> {
        let list = self.list(node, "oneOf")?;
        let mut ways = vec![all(self.deny_each(&list)?)];
        let held = list.iter().map(|inner| self.hold(inner)).collect::<Result<Vec<_>, _>>()?;
        for (index, first) in held.iter().enumerate() {
            for second in held.iter().skip(index + 1) {
                ways.push(both(self.copy(first)?, self.copy(second)?));
            }
        }
        Ok(ways)
    }

    fn deny_condition(&mut self, node: &Node<'r>, condition: &'r Value) -> Result<Vec<Value>, GrammarError> {
        let condition = self.below(node, condition)?;
        let mut ways = Vec::new();
        if let Some(then) = node.get("then") {
            let then = self.below(node, then)?;
            ways.push(both(self.hold(&condition)?, any(self.deny(&then)?)));
        }
        if let Some(otherwise) = node.get("else") {
            let otherwise = self.below(node, otherwise)?;
            ways.push(both(any(self.deny(&condition)?), any(self.deny(&otherwise)?)));
        }
        Ok(ways)
    }

    fn deny_reference(&mut self, node: &Node<'r>, keyword: &str) -> Result<Vec<Value>, GrammarError> {
        let Some(target) = self.target(node, keyword)? else { return Ok(Vec::new()) };
        if self.denies(&target) {
            return Err(self.fail("the opposite of a schema that refers to itself is not supported"));
        }
        let denied = self.deny(&target);
        self.denying.pop();
        denied
    }

    fn deny_dependency(
        &mut self,
        node: &Node<'r>,
        key: &str,
        wants: &'r Value,
    ) -> Result<Vec<Value>, GrammarError> {
        let there = json!({"type": "object", "required": [key]});
        if let Value::Array(names) = wants {
            let missing = names.iter().filter_map(Value::as_str).map(without);
            return Ok(missing.map(|missing| both(there.clone(), missing)).collect());
        }
        let wants = self.below(node, wants)?;
        Ok(vec![both(there, any(self.deny(&wants)?))])
    }
}

/// Objects without a property.
pub(super) fn without(key: &str) -> Value {
    json!({"type": "object", "properties": {key: false}})
}

/// Fewer than `count`, by the keyword for the most.
fn fewer(name: &str, keyword: &str, count: Option<usize>) -> Option<Value> {
    let most = count?.checked_sub(1)?;
    Some(json!({"type": name, keyword: most}))
}

/// More than `count`, by the keyword for the least.
fn more(name: &str, keyword: &str, count: Option<usize>) -> Option<Value> {
    Some(json!({"type": name, keyword: count?.checked_add(1)?}))
}

fn deny_type(value: &Value) -> Value {
    let named = |value: &Value| match value.as_str() {
        // Numbers with a fraction have no keyword.
        Some("integer") => Some("number".to_owned()),
        name => name.map(str::to_owned),
    };
    let names: Vec<String> = match value {
        Value::Array(list) => list.iter().filter_map(named).collect(),
        one => named(one).into_iter().collect(),
    };
    other_than(&names.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Values that are none of these.
fn except(values: &[Value]) -> Vec<Value> {
    let of = |name: &str| values.iter().filter(move |value| type_of(value) == name).collect::<Vec<_>>();
    let names: Vec<&str> = values.iter().map(type_of).collect();
    let mut ways = vec![other_than(&names)];
    let strings: Vec<&str> = values.iter().filter_map(Value::as_str).collect();
    if !strings.is_empty() {
        ways.push(json!({"type": "string", "pattern": formats::except(&strings)}));
    }
    ways.extend(except_numbers(&of("number")));
    if let [one] = of("boolean").as_slice() {
        ways.push(json!({"const": **one == json!(false)}));
    }
    for name in ["array", "object"] {
        let listed = of(name);
        if !listed.is_empty() {
            let others = listed.iter().map(|value| any(unlike(value))).collect();
            ways.push(both(json!({"type": name}), all(others)));
        }
    }
    ways
}

/// The ranges between numbers.
fn except_numbers(numbers: &[&Value]) -> Vec<Value> {
    let mut numbers = numbers.to_vec();
    numbers.sort_by(|a, b| a.as_f64().partial_cmp(&b.as_f64()).unwrap_or(std::cmp::Ordering::Equal));
    let (Some(first), Some(last)) = (numbers.first(), numbers.last()) else { return Vec::new() };
    let mut ways = vec![json!({"type": "number", "exclusiveMaximum": first})];
    ways.extend(
        numbers
            .windows(2)
            .filter(|pair| pair[0].as_f64() != pair[1].as_f64())
            .map(|pair| json!({"type": "number", "exclusiveMinimum": pair[0], "exclusiveMaximum": pair[1]})),
    );
    ways.push(json!({"type": "number", "exclusiveMinimum": last}));
    ways
}

/// Items of a list that are looked at one by one.
const MAX_ITEMS: usize = 16;

/// Lists or objects that differ from one.
fn unlike(value: &Value) -> Vec<Value> {
    match value {
        Value::Array(items) => {
            let mut ways: Vec<Value> = fewer("array", "maxItems", Some(items.len())).into_iter().collect();
            ways.extend(more("array", "minItems", Some(items.len())));
            ways.extend(items.iter().take(MAX_ITEMS).enumerate().map(|(index, item)| {
                let mut prefix = vec![json!(true); index];
                prefix.push(any(except(std::slice::from_ref(item))));
                json!({"type": "array", "prefixItems": prefix, "minItems": index + 1})
            }));
            ways
        }
        Value::Object(fields) => {
            let keys: Vec<&String> = fields.keys().collect();
            let mut ways: Vec<Value> = keys.iter().map(|key| without(key)).collect();
            ways.extend(fields.iter().map(|(key, item)| {
                let other = any(except(std::slice::from_ref(item)));
                json!({"type": "object", "properties": {key: other}, "required": [key]})
            }));
            ways.push(json!({"type": "object", "required": keys, "minProperties": keys.len() + 1}));
            ways
        }
        _ => Vec::new(),
    }
}

/// The name of a value's type.
pub(super) fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
