//! Random schemas, random answers: every answer validates, and a fresh constraint allows every token of it.
#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use millrace_types::TokenId;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// A random schema of what [`validates`] knows.
fn random_schema(random: &mut Random, depth: usize) -> Value {
    match random.below(if depth == 0 { 6 } else { 9 }) {
        0 => json!({"type": "boolean"}),
        1 => {
            let low = random.below(2000) as i64 - 1000;
            json!({"type": "integer", "minimum": low, "maximum": low + random.below(500) as i64})
        }
        2 => {
            let min = random.below(3);
            json!({"type": "string", "minLength": min, "maxLength": min + random.below(8)})
        }
        3 => json!({"enum": ["a", "a\"b", 3, null, ["x"], {"y": 1.5}]}),
        4 => json!({"const": {"k": [random.below(9), "ü\n"]}}),
        5 => json!({"type": ["null", "number"], "minimum": -5, "maximum": 5}),
        6 => {
            let min = random.below(2);
            json!({"type": "array", "items": random_schema(random, depth - 1), "minItems": min, "maxItems": min + random.below(3)})
        }
        7 => json!({"anyOf": [random_schema(random, depth - 1), {"type": "null"}]}),
        _ => {
            let names = ["id", "name", "naïve", "a b", "x\"y"];
            let properties: Map<String, Value> = names
                .iter()
                .take(1 + random.below(5))
                .map(|name| ((*name).into(), random_schema(random, depth - 1)))
                .collect();
            let required: Vec<String> = properties.keys().filter(|_| random.below(2) == 0).cloned().collect();
            json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
        }
    }
}

/// Validation of the keywords above, written from the specification.
fn validates(schema: &Value, value: &Value) -> bool {
    let number = |key: &str| schema.get(key).and_then(Value::as_i64);
    let within = |count: usize, min: &str, max: &str| {
        number(min).is_none_or(|min| count as i64 >= min) && number(max).is_none_or(|max| count as i64 <= max)
    };
    if let Some(list) = schema.get("enum") {
        return list.as_array().unwrap().contains(value);
    }
    if let Some(expected) = schema.get("const") {
        return value == expected;
    }
    if let Some(list) = schema.get("anyOf") {
        return list.as_array().unwrap().iter().any(|schema| validates(schema, value));
    }
    match schema["type"].as_str() {
        Some("boolean") => value.is_boolean(),
        Some("integer") => {
            value.as_i64().is_some_and(|v| v >= number("minimum").unwrap() && v <= number("maximum").unwrap())
        }
        Some("string") => value.as_str().is_some_and(|v| within(v.chars().count(), "minLength", "maxLength")),
        Some("array") => value.as_array().is_some_and(|list| {
            within(list.len(), "minItems", "maxItems")
                && list.iter().all(|item| validates(&schema["items"], item))
        }),
        Some("object") => value.as_object().is_some_and(|fields| {
            let required = schema["required"].as_array().unwrap();
            required.iter().all(|name| fields.contains_key(name.as_str().unwrap()))
                && fields.iter().all(|(name, value)| {
                    schema["properties"].get(name).is_some_and(|schema| validates(schema, value))
                })
        }),
        _ => value.is_null() || value.as_f64().is_some_and(|v| (-5.0..=5.0).contains(&v)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn answers_validate_and_are_allowed_anew(seed in any::<u64>()) {
        let mut random = Random(seed);
        let schema_value = random_schema(&mut random, 2);
        let source = schema(schema_value.clone());
        if let Some(tokens) = random_answer(&source, seed ^ 1, 40, 600) {
            let answer = text(&tokens);
            let value: Value = serde_json::from_str(&answer).map_err(|e| TestCaseError::fail(format!("{answer}: {e}")))?;
            prop_assert!(validates(&schema_value, &value), "{} by {}", answer, schema_value);
            prop_assert!(accepts_tokens(&source, &tokens), "{} by {}", answer, schema_value);
        }
    }

    /// What is admitted without a mask is what the mask allows.
    #[test]
    fn admitted_is_what_the_mask_allows(seed in any::<u64>()) {
        let source = schema(random_schema(&mut Random(seed), 2));
        let answer = random_answer(&source, seed ^ 1, 30, 60).unwrap_or_default();
        let mut constraint = start(&source).unwrap();
        for token in answer {
            let mask = mask(&mut *constraint);
            for other in 0..SIZE as TokenId {
                let admitted = constraint.fork().admit(other).unwrap();
                prop_assert!(admitted.is_none_or(|admitted| admitted == is_set(&mask, other)), "{} by {:?}", other, source);
            }
            constraint.commit(token).unwrap();
        }
    }

    /// Forks are independent: each goes its own way from the same place.
    #[test]
    fn forks_go_their_own_ways(seed in any::<u64>()) {
        let source = schema(json!({"type": "array", "items": {"type": "integer"}}));
        let mut first = start(&source).unwrap();
        for token in encode("[1") {
            first.commit(token).unwrap();
        }
        let mut second = first.fork();
        let expected = mask(&mut *second.fork());
        let mut random = Random(seed);
        for _ in 0..random.below(6) {
            first.commit(u32::from(b'0') + random.below(10) as u32).unwrap();
        }
        first.commit(u32::from(b']')).unwrap();
        prop_assert_eq!(mask(&mut *second), expected);
        prop_assert!(is_set(&mask(&mut *first), EOS));
    }
}
