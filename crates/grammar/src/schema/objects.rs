//! `oneOf`, `dependent…` and `propertyNames` in other words.

use serde_json::{Map, Value, json};

use super::{
    apart,
    deny::without,
    formats,
    node::{Node, size},
    reduce::Reducer,
    regular::{self, Opposite},
    terms::{all, any, both, other_than},
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
    let mut patterns: Vec<(String, bool)> = Vec::new();
    let mut lengths = (0, None);
    for (keyword, value) in fields {
        match keyword.as_str() {
            "type" if value == "string" => {}
            "pattern" => patterns.extend(value.as_str().map(|pattern| (pattern.to_owned(), true))),
            "format" => match value.as_str().and_then(formats::pattern) {
                Some(found) => patterns.push((found.to_owned(), true)),
                None => return Err(refused(keyword)),
            },
            "not" => match opposite_name(value) {
                Some(pattern) => patterns.push((pattern.to_owned(), false)),
                None => return Err(refused(keyword)),
            },
            "minLength" => lengths.0 = node.count(keyword).unwrap_or(0),
            "maxLength" => lengths.1 = node.count(keyword),
            "$comment" | "title" | "description" | "examples" | "default" => {}
            _ => return Err(refused(keyword)),
        }
    }
    if lengths != (0, None) {
        let most = lengths.1.map(|most| most.to_string()).unwrap_or_default();
        patterns.push((format!(r"^[\x00-\x{{10FFFF}}]{{{},{most}}}$", lengths.0), true));
    }
    let pattern = match patterns.as_slice() {
        [] => return Ok(None),
        [(pattern, true)] => Some(pattern.clone()),
        several => {
            let several: Vec<(&str, bool)> =
                several.iter().map(|(pattern, matches)| (&**pattern, *matches)).collect();
            let joined = regular::joined(&several, Opposite::Safe);
            joined.map_err(|_| refused("pattern` beside others, or its opposite,"))?
        }
    };
    let allowed: Map<String, Value> = pattern.into_iter().map(|pattern| (pattern, json!(true))).collect();
    Ok(Some(json!({"patternProperties": allowed, "additionalProperties": false})))
}

/// The pattern that names must not match, if that is all that is said of them.
fn opposite_name(denied: &Value) -> Option<&str> {
    let fields = denied.as_object()?;
    let known = |keyword: &String| keyword == "pattern" || keyword == "type";
    let only = fields.keys().all(known) && fields.get("type").is_none_or(|kind| kind == "string");
    fields.get("pattern").filter(|_| only)?.as_str()
}

/// Leaves out patterns of names that may have any value, where other names may too: the compiler wants patterns that
/// exclude each other.
pub(super) fn drop_idle(patterns: &mut Map<String, Value>, additional: Option<&Value>) {
    if patterns.len() > 1 && additional.is_none_or(|additional| additional == &Value::Bool(true)) {
        patterns.retain(|_, held| held != &Value::Bool(true));
    }
}

/// Most patterns that are split: there may be twice as many parts with each.
const MOST_SPLIT: usize = 6;

/// Patterns of names that exclude each other, in place of some that don't: the names that match one and not another, and
/// those that match several, whose values must be what all of these say.
pub(super) fn split(
    reducer: &mut Reducer<'_>,
    patterns: Map<String, Value>,
) -> Result<Map<String, Value>, GrammarError> {
    let list: Vec<(&String, &Value)> = patterns.iter().collect();
    if list.len() > MOST_SPLIT || !overlap(&list) {
        return Ok(patterns);
    }
    let mut parts = Map::new();
    for chosen in 1..1usize << list.len() {
        let is_chosen = |index: usize| chosen >> index & 1 == 1;
        let names: Vec<(&str, bool)> = list
            .iter()
            .enumerate()
            .map(|(index, (pattern, _))| (pattern.as_str(), is_chosen(index)))
            .collect();
        // What can't be split is left to the compiler, which refuses patterns that overlap.
        let Ok(joined) = regular::joined(&names, Opposite::Exact) else { return Ok(patterns) };
        let Some(pattern) = joined else { continue };
        let held = list
            .iter()
            .enumerate()
            .filter(|(index, _)| is_chosen(*index))
            .map(|(_, (_, held))| (*held).clone());
        let held = all(held.collect());
        reducer.spend(size(&held) + pattern.len() / 32)?;
        parts.insert(pattern, held);
    }
    Ok(parts)
}

/// Whether two patterns have a name in common, as far as can be told.
fn overlap(list: &[(&String, &Value)]) -> bool {
    let mut pairs = list
        .iter()
        .enumerate()
        .flat_map(|(index, first)| list[index + 1..].iter().map(move |other| (first, other)));
    pairs.any(|((first, _), (other, _))| {
        matches!(regular::joined(&[(first, true), (other, true)], Opposite::Exact), Ok(Some(_)))
    })
}
