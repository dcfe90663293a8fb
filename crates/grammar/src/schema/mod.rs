//! What becomes of a schema before the compiler sees it: it is checked for what would be skipped and for what could keep
//! the compiler busy for ever, and rewritten if it has keywords that the compiler doesn't know.

mod apart;
mod deny;
mod evaluated;
mod formats;
mod lists;
mod node;
mod objects;
mod reduce;
mod regular;
mod terms;

use serde_json::Value;

use crate::{GrammarError, source::unusable};

/// Nested arrays and objects.
const MAX_DEPTH: usize = 64;

/// Ways in which alternatives of one place can be combined: the compiler makes the product of what `allOf` joins.
const MAX_COMBINATIONS: u64 = 4096;

/// Subschemas that are visited to count the combinations of one place.
const MAX_VISITS: usize = 20_000;

/// Keywords of drafts that the compiler takes for annotations, although they constrain.
const SKIPPED: [&str; 1] = ["$recursiveRef"];

/// The compiler's own options.
const OPTIONS: &str = "x-guidance";

/// Keywords whose value is a schema, a list of schemas, or an object of schemas.
const SCHEMAS: [&str; 15] = [
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
    "unevaluatedItems",
    "unevaluatedProperties",
];
const SCHEMA_MAPS: [&str; 6] =
    ["$defs", "definitions", "dependencies", "dependentSchemas", "patternProperties", "properties"];

/// The pattern of a `format`, anchored at both ends, where grammars have one of their own for it.
pub fn format_pattern(format: &str) -> Option<&'static str> {
    formats::pattern(format)
}

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
    walk(schema, &mut |node| check_node(what, schema, node))
}

/// A checked schema with none but the compiler's keywords.
///
/// # Errors
/// It has what can't be said with them, or it becomes too branched.
pub(crate) fn reduce(what: &'static str, schema: &Value) -> Result<Value, GrammarError> {
    let reduced = reduce::reduce(what, schema)?;
    walk(&reduced, &mut |node| check_branches(what, &reduced, node))?;
    Ok(reduced)
}

fn check_node(what: &'static str, root: &Value, node: &Value) -> Result<(), GrammarError> {
    if node.get(OPTIONS).is_some() {
        return Err(unusable(what, format!("`{OPTIONS}` is not available")));
    }
    if let Some(keyword) = SKIPPED.iter().find(|keyword| node.get(keyword).is_some()) {
        return Err(unusable(what, format!("`{keyword}` is not supported")));
    }
    check_branches(what, root, node)
}

fn check_branches(what: &'static str, root: &Value, node: &Value) -> Result<(), GrammarError> {
    let ways = combinations(root, node, 0, &mut { MAX_VISITS });
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

/// How many alternatives a place has once everything that applies to it is joined; an upper bound. What takes more than
/// `visits` to count has too many.
fn combinations(root: &Value, node: &Value, level: usize, visits: &mut usize) -> u64 {
    // References may go round in circles; a chain of so many costs nothing more.
    if level > 16 {
        return 1;
    }
    match visits.checked_sub(1) {
        Some(left) => *visits = left,
        None => return u64::MAX,
    }
    let list = |key: &str| node.get(key).and_then(Value::as_array).into_iter().flatten();
    let mut below = |node: &Value| combinations(root, node, level + 1, visits);
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
            (json!({"$recursiveRef": "#"}), "$recursiveRef"),
            (json!({"x-guidance": {"lenient": true}}), "x-guidance"),
        ] {
            let message = refused(&inner(node));
            assert!(message.contains(word), "{message}");
        }
        // Values are no schemas.
        check(
            "",
            &json!({"enum": [{"$recursiveRef": 1}], "properties": {"$recursiveRef": {"type": "null"}}}),
        )
        .unwrap();
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
        let branch = json!({"$ref": "#/$defs/a", "title": ""});
        let spiral = json!({"$defs": {"a": {"anyOf": vec![branch.clone(); 10]}}, "allOf": [branch]});
        assert!(refused(&spiral).contains("combinations"));
        assert!(refused(&json!(false)).contains("nothing validates"));
        assert!(refused(&json!([])).contains("must be an object"));
    }
}
