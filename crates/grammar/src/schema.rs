//! What is refused before the compiler sees a schema: what it would skip, and what could keep it busy for ever.

use std::collections::HashSet;

use serde_json::Value;

use crate::{GrammarError, source::unusable};

/// Nested arrays and objects.
const MAX_DEPTH: usize = 64;

/// Ways in which alternatives of one place can be combined: the compiler makes the product of what `allOf` joins.
const MAX_COMBINATIONS: u64 = 4096;

/// Keywords of drafts that the compiler takes for annotations, although they constrain.
const SKIPPED: [&str; 2] = ["$dynamicRef", "$recursiveRef"];

/// The compiler's own options.
const OPTIONS: &str = "x-guidance";

/// Keywords whose value is a schema, a list of schemas, or an object of schemas.
const SCHEMAS: [&str; 14] = [
    "additionalItems",
    "additionalProperties",
    "allOf",
    "anyOf",
    "contains",
    "else",
    "if",
    "items",
    "not",
    "oneOf",
    "prefixItems",
    "propertyNames",
    "then",
    "unevaluatedProperties",
];
const SCHEMA_MAPS: [&str; 5] =
    ["$defs", "definitions", "dependentSchemas", "patternProperties", "properties"];

/// Checks a schema.
///
/// # Errors
/// It isn't one, it is too deep or too branched, or it has what would not be obeyed.
pub(crate) fn check(what: &'static str, schema: &Value) -> Result<(), GrammarError> {
    match schema {
        Value::Object(_) | Value::Bool(true) => {}
        Value::Bool(false) => return Err(unusable(what, "nothing validates against `false`")),
        _ => return Err(unusable(what, "it must be an object")),
    }
    if is_deeper(schema, MAX_DEPTH) {
        let size = MAX_DEPTH + 1;
        return Err(GrammarError::TooLarge { what, size, unit: "levels or more", most: MAX_DEPTH });
    }
    let identifiers = identifiers(schema);
    walk(schema, &mut |node| check_node(what, schema, node, &identifiers))
}

fn check_node(
    what: &'static str,
    root: &Value,
    node: &Value,
    identifiers: &HashSet<&str>,
) -> Result<(), GrammarError> {
    if node.get(OPTIONS).is_some() {
        return Err(unusable(what, format!("`{OPTIONS}` is not available")));
    }
    if let Some(keyword) = SKIPPED.iter().find(|keyword| node.get(keyword).is_some()) {
        return Err(unusable(what, format!("`{keyword}` is not supported")));
    }
    if let Some(target) = node.get("$ref").and_then(Value::as_str)
        && target.contains("://")
        && !identifiers.contains(target.split('#').next().unwrap_or(target))
    {
        return Err(unusable(
            what,
            "`$ref` names another document, and those are never fetched; put it into `$defs`",
        ));
    }
    let ways = combinations(root, node, 0);
    if ways > MAX_COMBINATIONS {
        let most = MAX_COMBINATIONS as usize;
        let size = usize::try_from(ways).unwrap_or(usize::MAX);
        return Err(GrammarError::TooLarge {
            what,
            size,
            unit: "combinations of alternatives in one place",
            most,
        });
    }
    Ok(())
}

/// How many alternatives a place has once everything that applies to it is joined; an upper bound.
fn combinations(root: &Value, node: &Value, level: usize) -> u64 {
    // References may go round in circles; a chain of so many costs nothing more.
    if level > 16 {
        return 1;
    }
    let list = |key: &str| node.get(key).and_then(Value::as_array).into_iter().flatten();
    let below = |node: &Value| combinations(root, node, level + 1);
    let mut ways: u64 = 1;
    for key in ["anyOf", "oneOf"] {
        let sum = list(key).fold(0u64, |sum, node| sum.saturating_add(below(node)));
        ways = ways.saturating_mul(sum.max(1));
    }
    ways = list("allOf").fold(ways, |ways, node| ways.saturating_mul(below(node)));
    let target = node.get("$ref").and_then(Value::as_str).and_then(|target| target.strip_prefix('#'));
    // On its own, a reference is compiled apart and not joined with anything.
    let joined = node.as_object().is_some_and(|fields| fields.len() > 1);
    match target.filter(|_| joined).and_then(|pointer| root.pointer(pointer)) {
        Some(target) => ways.saturating_mul(below(target)),
        None => ways,
    }
}

/// The names that subschemas give themselves.
fn identifiers(schema: &Value) -> HashSet<&str> {
    let mut found = HashSet::new();
    // Nothing fails here.
    let _ = walk(schema, &mut |node| {
        found.extend(
            ["$id", "id"].iter().filter_map(|key| node.get(key)?.as_str()).map(|id| id.trim_end_matches('#')),
        );
        Ok(())
    });
    found
}

/// Visits a schema and all schemas in it. Its depth is bounded.
fn walk<'a>(
    node: &'a Value,
    visit: &mut impl FnMut(&'a Value) -> Result<(), GrammarError>,
) -> Result<(), GrammarError> {
    let Value::Object(fields) = node else { return Ok(()) };
    visit(node)?;
    for (key, value) in fields {
        if SCHEMA_MAPS.contains(&key.as_str()) {
            value.as_object().into_iter().flatten().try_for_each(|(_, node)| walk(node, visit))?;
        } else if SCHEMAS.contains(&key.as_str()) {
            match value {
                Value::Array(list) => list.iter().try_for_each(|node| walk(node, visit))?,
                node => walk(node, visit)?,
            }
        }
    }
    Ok(())
}

/// Whether arrays and objects nest in more than so many levels.
pub fn is_deeper(value: &Value, levels: usize) -> bool {
    let inner = |value: &Value| levels == 0 || is_deeper(value, levels - 1);
    match value {
        Value::Array(list) => levels == 0 || list.iter().any(inner),
        Value::Object(fields) => levels == 0 || fields.values().any(inner),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused(schema: &Value) -> String {
        check("The JSON schema", schema).unwrap_err().to_string()
    }

    #[test]
    fn what_would_be_skipped_is_refused() {
        let inner = |node: Value| json!({"type": "object", "properties": {"a": {"items": node}}});
        for (node, word) in [
            (json!({"$dynamicRef": "#x"}), "$dynamicRef"),
            (json!({"x-guidance": {"lenient": true}}), "x-guidance"),
            (json!({"$ref": "https://example.org/schema.json"}), "never fetched"),
        ] {
            let message = refused(&inner(node));
            assert!(message.contains(word), "{message}");
        }
        // Values are no schemas.
        check("", &json!({"enum": [{"$dynamicRef": 1}], "properties": {"$dynamicRef": {"type": "null"}}}))
            .unwrap();
        let own = json!({"$defs": {"a": {"$id": "https://example.org/a"}}, "$ref": "https://example.org/a"});
        check("", &own).unwrap();
    }

    #[test]
    fn depth_and_branches_are_bounded() {
        let deep = (0..70).fold(json!({}), |inner, _| json!({"items": inner}));
        assert!(refused(&deep).contains("levels"));
        let choice: Vec<Value> = (0..10).map(|n| json!({"const": n})).collect();
        let product = |n: usize| json!({"allOf": vec![json!({"anyOf": choice}); n]});
        check("", &product(3)).unwrap();
        assert!(refused(&product(30)).contains("combinations"));
        let circle = json!({"$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}, {"type": "null"}]}}, "$ref": "#/$defs/a"});
        check("", &circle).unwrap();
        assert!(refused(&json!(false)).contains("nothing validates"));
        assert!(refused(&json!([])).contains("must be an object"));
    }
}
