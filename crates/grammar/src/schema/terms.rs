//! Schemas put together from others.

use serde_json::{Map, Value, json};

/// All types, `integer` being a part of `number`.
const TYPES: [&str; 6] = ["null", "boolean", "number", "string", "array", "object"];

/// Fields and what else must hold, in this order: objects have their properties in the order in which they are named.
pub(super) fn join(fields: Map<String, Value>, mut also: Vec<Value>) -> Value {
    also.retain(|schema| schema != &Value::Bool(true));
    if also.is_empty() {
        return Value::Object(fields);
    }
    if fields.contains_key("allOf") {
        also.insert(0, Value::Object(fields));
        return json!({"allOf": also});
    }
    let mut fields = fields;
    fields.insert("allOf".into(), Value::Array(also));
    Value::Object(fields)
}

/// One of them, none if there is none.
pub(super) fn any(mut ways: Vec<Value>) -> Value {
    ways.retain(|way| way != &Value::Bool(false));
    match ways.len() {
        0 => Value::Bool(false),
        1 => ways.remove(0),
        _ => json!({"anyOf": ways}),
    }
}

/// All of them.
pub(super) fn all(mut parts: Vec<Value>) -> Value {
    if parts.contains(&Value::Bool(false)) {
        return Value::Bool(false);
    }
    parts.retain(|part| part != &Value::Bool(true));
    match parts.len() {
        0 => Value::Bool(true),
        1 => parts.remove(0),
        _ => json!({"allOf": parts}),
    }
}

/// Both of them.
pub(super) fn both(first: Value, second: Value) -> Value {
    all(vec![first, second])
}

/// Values of other types than these.
pub(super) fn other_than(types: &[&str]) -> Value {
    let others: Vec<&str> = TYPES.into_iter().filter(|name| !types.contains(name)).collect();
    if others.is_empty() { Value::Bool(false) } else { json!({"type": others}) }
}
