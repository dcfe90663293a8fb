//! Whether two schemas surely have no value in common, from what is plain in them: types, lists of values, and
//! properties.

use serde_json::{Map, Value};

use super::{node::Node, reduce::Reducer};
use crate::GrammarError;

/// References and parts that are followed.
const MAX_STEPS: usize = 8;

/// What is plain about a subschema: a value of it has all of this.
#[derive(Default)]
struct Facts<'r> {
    /// Types; `None` is any.
    types: Option<Vec<&'r str>>,
    /// Values; `None` is any.
    values: Option<Vec<Value>>,
    properties: Vec<(&'r str, Node<'r>)>,
    /// All other properties are refused.
    closed: bool,
    required: Vec<&'r str>,
    /// Nothing validates.
    empty: bool,
}

/// Whether nothing validates against both.
pub(super) fn surely<'r>(reducer: &Reducer<'r>, a: &Node<'r>, b: &Node<'r>) -> Result<bool, GrammarError> {
    apart(reducer, a, b, MAX_STEPS)
}

/// A property that tells two kinds of objects apart, if it is there.
pub(super) fn key<'r>(
    reducer: &Reducer<'r>,
    a: &Node<'r>,
    b: &Node<'r>,
) -> Result<Option<String>, GrammarError> {
    let (a, b) = (facts(reducer, a, MAX_STEPS)?, facts(reducer, b, MAX_STEPS)?);
    if [&a, &b].iter().any(|facts| facts.types.as_deref() != Some(&["object"])) {
        return Ok(None);
    }
    for (name, inner) in &a.properties {
        for (_, other) in b.properties.iter().filter(|(other, _)| other == name) {
            if apart(reducer, inner, other, MAX_STEPS)? {
                return Ok(Some((*name).to_owned()));
            }
        }
    }
    Ok(None)
}

/// The values of a subschema, if they are few and plain.
pub(super) fn values<'r>(reducer: &Reducer<'r>, node: &Node<'r>) -> Result<Option<Vec<Value>>, GrammarError> {
    let facts = facts(reducer, node, MAX_STEPS)?;
    if facts.empty {
        return Ok(Some(Vec::new()));
    }
    let fits =
        |value: &Value| facts.types.as_ref().is_none_or(|types| types.iter().any(|name| is_of(value, name)));
    match (&facts.values, facts.types.as_deref()) {
        (Some(values), _) => Ok(Some(values.iter().filter(|value| fits(value)).cloned().collect())),
        (None, Some(["boolean"])) => Ok(Some(vec![Value::Bool(false), Value::Bool(true)])),
        (None, Some(["null"])) => Ok(Some(vec![Value::Null])),
        _ => Ok(None),
    }
}

/// As JSON Schema compares: numbers by what they are, objects in any order.
pub(super) fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| equal(a, b)))
        }
        _ => a == b,
    }
}

fn apart<'r>(reducer: &Reducer<'r>, a: &Node<'r>, b: &Node<'r>, steps: usize) -> Result<bool, GrammarError> {
    let Some(steps) = steps.checked_sub(1) else { return Ok(false) };
    // A choice is apart from something if all that there is to choose from is.
    for (choice, other) in [(a, b), (b, a)] {
        for keyword in ["anyOf", "oneOf"] {
            let branches = reducer.list(choice, keyword)?;
            let mut far = !branches.is_empty();
            for branch in &branches {
                far = far && apart(reducer, branch, other, steps)?;
            }
            if far {
                return Ok(true);
            }
        }
    }
    let (a, b) = (facts(reducer, a, steps)?, facts(reducer, b, steps)?);
    Ok(a.empty
        || b.empty
        || types_apart(&a, &b)
        || values_apart(&a, &b)
        || objects_apart(reducer, &a, &b, steps)?)
}

fn types_apart(a: &Facts<'_>, b: &Facts<'_>) -> bool {
    let meet = |a: &str, b: &str| a == b || (is_number(a) && is_number(b));
    match (&a.types, &b.types) {
        (Some(a), Some(b)) => !a.iter().any(|a| b.iter().any(|b| meet(a, b))),
        _ => false,
    }
}

fn values_apart(a: &Facts<'_>, b: &Facts<'_>) -> bool {
    let one_way = |a: &Facts<'_>, b: &Facts<'_>| {
        a.values.as_ref().is_some_and(|values| {
            values.iter().all(|value| {
                b.types.as_ref().is_some_and(|types| !types.iter().any(|name| is_of(value, name)))
                    || b.values.as_ref().is_some_and(|others| !others.iter().any(|other| equal(value, other)))
            })
        })
    };
    one_way(a, b) || one_way(b, a)
}

/// Objects that must have a property, but with nothing that both allow.
fn objects_apart<'r>(
    reducer: &Reducer<'r>,
    a: &Facts<'r>,
    b: &Facts<'r>,
    steps: usize,
) -> Result<bool, GrammarError> {
    // Other values than objects have no properties.
    if ![a, b].iter().any(|facts| facts.types.as_deref() == Some(&["object"])) {
        return Ok(false);
    }
    let of = |facts: &Facts<'r>, key: &str| {
        facts
            .properties
            .iter()
            .filter(|(name, _)| *name == key)
            .map(|(_, node)| node.clone())
            .collect::<Vec<_>>()
    };
    for key in a.required.iter().chain(&b.required) {
        let (first, second) = (of(a, key), of(b, key));
        if (a.closed && first.is_empty()) || (b.closed && second.is_empty()) {
            return Ok(true);
        }
        for inner in &first {
            for other in &second {
                if apart(reducer, inner, other, steps)? {
                    return Ok(true);
                }
            }
        }
    }
    Ok(false)
}

fn facts<'r>(reducer: &Reducer<'r>, node: &Node<'r>, steps: usize) -> Result<Facts<'r>, GrammarError> {
    let mut facts = Facts::default();
    gather(reducer, node, steps, &mut facts)?;
    Ok(facts)
}

/// Adds what holds for all values of a subschema.
fn gather<'r>(
    reducer: &Reducer<'r>,
    node: &Node<'r>,
    steps: usize,
    facts: &mut Facts<'r>,
) -> Result<(), GrammarError> {
    let fields: &Map<String, Value> = match node.value {
        Value::Object(fields) => fields,
        value => {
            facts.empty |= value == &Value::Bool(false);
            return Ok(());
        }
    };
    match fields.get("type") {
        Some(Value::String(name)) => narrow(&mut facts.types, vec![name.as_str()]),
        Some(Value::Array(names)) => {
            narrow(&mut facts.types, names.iter().filter_map(Value::as_str).collect());
        }
        _ => {}
    }
    let listed = [
        fields.get("const").map(std::slice::from_ref),
        fields.get("enum").and_then(Value::as_array).map(Vec::as_slice),
    ];
    for values in listed.into_iter().flatten() {
        facts.values = Some(match facts.values.take() {
            Some(known) => {
                known.into_iter().filter(|known| values.iter().any(|value| equal(known, value))).collect()
            }
            None => values.to_vec(),
        });
    }
    facts.properties.extend(reducer.map(node, "properties")?);
    facts.required.extend(node.strings("required"));
    // What it closes are the properties of this subschema, so others may only add to a closed list what it refuses.
    let own = fields.get("additionalProperties") == Some(&Value::Bool(false))
        && !fields.contains_key("patternProperties");
    if own && !facts.closed {
        let known = reducer.map(node, "properties")?;
        facts.properties.retain(|(name, _)| known.iter().any(|(own, _)| own == name));
        facts.closed = true;
    }
    let Some(steps) = steps.checked_sub(1) else { return Ok(()) };
    for inner in reducer.list(node, "allOf")? {
        gather(reducer, &inner, steps, facts)?;
    }
    for keyword in ["$ref", "$dynamicRef"] {
        if let Some(target) = reducer.target(node, keyword)? {
            gather(reducer, &target, steps, facts)?;
        }
    }
    Ok(())
}

/// Both lists of types.
fn narrow<'r>(types: &mut Option<Vec<&'r str>>, other: Vec<&'r str>) {
    let known = types.take();
    *types = Some(match known {
        None => other,
        Some(known) => {
            let both = known
                .iter()
                .filter(|name| other.contains(name) || (**name == "integer" && other.contains(&"number")));
            let whole = other
                .iter()
                .filter(|name| **name == "integer" && known.contains(&"number") && !known.contains(name));
            both.chain(whole).copied().collect()
        }
    });
}

fn is_number(name: &str) -> bool {
    matches!(name, "number" | "integer")
}

fn is_of(value: &Value, name: &str) -> bool {
    super::deny::type_of(value) == if name == "integer" { "number" } else { name }
}
