//! `oneOf`, `dependent…` and `propertyNames` in other words.

use serde_json::{Map, Value, json};

use super::{
    apart,
    deny::without,
    formats,
    reduce::{Node, Reducer, all, any, both, other_than},
};
use crate::GrammarError;

/// `oneOf` as alternatives that exclude each other. Branches are told apart by their types or values, or by a property
/// of theirs, which has to be there then; else each is held to the opposite of the others.
pub(super) fn one_of<'r>(reducer: &mut Reducer<'r>, node: &Node<'r>) -> Result<Value, GrammarError> {
    let branches = reducer.list(node, "oneOf")?;
    let mut ways = Vec::new();
    for (index, branch) in branches.iter().enumerate() {
        let mut parts = vec![reducer.hold(branch)?];
        let mut keys: Vec<String> = Vec::new();
        for other in branches.iter().enumerate().filter(|(other, _)| *other != index).map(|(_, other)| other)
        {
            if apart::surely(reducer, branch, other)? {
                continue;
            }
            match apart::key(reducer, branch, other)? {
                Some(key) => keys.push(key),
                None => parts.push(any(reducer.deny(other)?)),
            }
        }
        keys.sort_unstable();
        keys.dedup();
        if !keys.is_empty() {
            parts.push(json!({"type": "object", "required": keys}));
        }
        ways.push(all(parts));
    }
    Ok(any(ways))
}

/// `dependentRequired`, `dependentSchemas`, and `dependencies`, which are both: for each property, objects without it, or
/// with it and what it wants.
pub(super) fn dependent<'r>(
    reducer: &mut Reducer<'r>,
    node: &Node<'r>,
    keyword: &str,
) -> Result<Vec<Value>, GrammarError> {
    let wants = node.get(keyword).and_then(Value::as_object);
    let Some(wants) = wants else { return Err(reducer.fail(format!("`{keyword}` must be an object"))) };
    let mut parts = Vec::new();
    for (key, wants) in wants {
        let held = match wants {
            Value::Array(names) => {
                let names = names.iter().filter(|name| name.as_str() != Some(key));
                json!({"type": "object", "required": std::iter::once(&json!(key)).chain(names).collect::<Vec<_>>()})
            }
            schema => {
                let inner = reducer.below(node, schema)?;
                both(json!({"type": "object", "required": [key]}), reducer.hold(&inner)?)
            }
        };
        parts.push(any(vec![other_than(&["object"]), without(key), held]));
    }
    Ok(parts)
}

/// `propertyNames`: names that are listed, or that have a pattern.
pub(super) fn names<'r>(reducer: &mut Reducer<'r>, node: &Node<'r>) -> Result<Option<Value>, GrammarError> {
    let fields = match node.value {
        Value::Bool(true) => return Ok(None),
        Value::Object(fields) => fields,
        _ => return Ok(Some(json!({"additionalProperties": false}))),
    };
    if let Some(names) = apart::values(reducer, node)? {
        let properties: Map<String, Value> =
            names.iter().filter_map(Value::as_str).map(|name| (name.to_owned(), json!(true))).collect();
        return Ok(Some(json!({"properties": properties, "additionalProperties": false})));
    }
    let refused = |keyword: &str| reducer.fail(format!("`{keyword}` in `propertyNames` is not supported"));
    let (mut pattern, mut lengths) = (None, (0, None));
    for (keyword, value) in fields {
        match keyword.as_str() {
            "type" if value == "string" => {}
            "pattern" if pattern.is_none() => pattern = value.as_str().map(str::to_owned),
            "format" if pattern.is_none() => match value.as_str().and_then(formats::pattern) {
                Some(found) => pattern = Some(found.to_owned()),
                None => return Err(refused(keyword)),
            },
            "minLength" => lengths.0 = node.count(keyword).unwrap_or(0),
            "maxLength" => lengths.1 = node.count(keyword),
            "$comment" | "title" | "description" | "examples" | "default" => {}
            _ => return Err(refused(keyword)),
        }
    }
    let pattern = match (pattern, lengths) {
        (Some(pattern), (0, None)) => pattern,
        (None, (0, None)) => return Ok(None),
        (None, (least, most)) => {
            let most = most.map(|most| most.to_string()).unwrap_or_default();
            format!("^(?s:.){{{least},{most}}}$")
        }
        (Some(_), _) => return Err(refused("minLength` or `maxLength` beside a pattern")),
    };
    Ok(Some(json!({"patternProperties": {pattern: true}, "additionalProperties": false})))
}

/// Leaves out patterns of names that may have any value, where other names may too: the compiler wants patterns that
/// exclude each other.
pub(super) fn drop_idle(patterns: &mut Map<String, Value>, additional: Option<&Value>) {
    if patterns.len() > 1 && additional.is_none_or(|additional| additional == &Value::Bool(true)) {
        patterns.retain(|_, held| held != &Value::Bool(true));
    }
}
