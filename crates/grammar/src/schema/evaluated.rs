//! `unevaluatedProperties` and `unevaluatedItems`: the ways in which the keywords beside them can hold, and which
//! properties and items each of these ways looks at.

use serde_json::{Map, Value, json};

use super::{
    node::{Node, size},
    objects,
    reduce::Reducer,
    terms::{all, any, other_than},
};
use crate::GrammarError;

/// Ways of one place.
const MAX_WAYS: usize = 64;

/// References and parts that are followed.
const MAX_STEPS: usize = 12;

/// The keywords.
pub(super) const UNEVALUATED: [&str; 2] = ["unevaluatedProperties", "unevaluatedItems"];

/// Keywords whose subschemas apply to the same value.
const APPLICATORS: [&str; 12] = [
    "allOf",
    "anyOf",
    "oneOf",
    "if",
    "then",
    "else",
    "$ref",
    "$dynamicRef",
    "dependentSchemas",
    "dependencies",
    "not",
    "contains",
];

/// What must hold, and what is looked at then.
#[derive(Clone, Default)]
struct Way {
    parts: Vec<Value>,
    properties: Vec<String>,
    patterns: Vec<String>,
    /// All properties.
    open: bool,
    /// So many items from the first on.
    items: usize,
    /// All items.
    all_items: bool,
    /// Items like these, which `contains` looks at.
    matched: Vec<Value>,
}

impl Way {
    fn size(&self) -> usize {
        let names = self.properties.len() + self.patterns.len();
        1 + names + self.items + self.parts.iter().chain(&self.matched).map(size).sum::<usize>()
    }
}

/// A subschema with one of these keywords.
pub(super) fn hold<'r>(reducer: &mut Reducer<'r>, node: &Node<'r>) -> Result<Value, GrammarError> {
    let ways = ways(reducer, node, MAX_STEPS)?;
    Ok(any(ways.into_iter().map(|way| all(way.parts)).collect()))
}

/// The ways of a subschema, with its own `unevaluated…` applied to each.
fn ways<'r>(reducer: &mut Reducer<'r>, node: &Node<'r>, steps: usize) -> Result<Vec<Way>, GrammarError> {
    let fields = match node.value {
        Value::Object(fields) => fields,
        other => return Ok(vec![Way { parts: vec![other.clone()], ..Way::default() }]),
    };
    let Some(steps) = steps.checked_sub(1) else {
        return Err(reducer.fail("`unevaluatedProperties` or `unevaluatedItems` over a schema that refers to itself is not supported"));
    };
    let mut ways = vec![own(reducer, node, fields)?];
    for (keyword, value) in fields {
        let more = match keyword.as_str() {
            "allOf" => {
                for inner in reducer.list(node, keyword)? {
                    let inner = self::ways(reducer, &inner, steps)?;
                    ways = product(reducer, &ways, &inner)?;
                }
                continue;
            }
            "anyOf" => some_of(reducer, node, steps)?,
            "oneOf" => one_of(reducer, node, steps)?,
            "$ref" | "$dynamicRef" => match reducer.target(node, keyword)? {
                Some(target) => self::ways(reducer, &target, steps)?,
                None => continue,
            },
            "if" => condition(reducer, node, value, steps)?,
            "dependentSchemas" => {
                for (key, inner) in reducer.map(node, keyword)? {
                    let inner = dependent(reducer, key, &inner, steps)?;
                    ways = product(reducer, &ways, &inner)?;
                }
                continue;
            }
            _ => continue,
        };
        ways = product(reducer, &ways, &more)?;
    }
    apply(reducer, node, &mut ways)?;
    Ok(ways)
}

/// What the keywords say that look at properties and items themselves, and those that look at nothing.
fn own<'r>(
    reducer: &mut Reducer<'r>,
    node: &Node<'r>,
    fields: &'r Map<String, Value>,
) -> Result<Way, GrammarError> {
    let elsewhere = |keyword: &str| APPLICATORS.contains(&keyword) || UNEVALUATED.contains(&keyword);
    let mut parts = vec![reducer.hold_some(node, &|keyword| !elsewhere(keyword))?];
    for keyword in ["not", "contains", "dependencies"] {
        if fields.contains_key(keyword) {
            parts.push(reducer.hold_some(node, &|other| other == keyword || other.ends_with("Contains"))?);
        }
    }
    let matched = match fields.get("contains") {
        Some(value) => {
            let inner = reducer.below(node, value)?;
            vec![reducer.hold(&inner)?]
        }
        None => Vec::new(),
    };
    let keys = |keyword: &str| {
        fields.get(keyword).and_then(Value::as_object).into_iter().flatten().map(|(key, _)| key.clone())
    };
    let prefix =
        ["prefixItems", "items"].iter().filter_map(|key| fields.get(*key)?.as_array()).map(Vec::len).max();
    Ok(Way {
        parts,
        properties: keys("properties").collect(),
        patterns: keys("patternProperties").collect(),
        open: fields.contains_key("additionalProperties"),
        items: prefix.unwrap_or(0),
        all_items: fields.get("items").is_some_and(|items| !items.is_array())
            || (fields.contains_key("additionalItems") && prefix.is_some()),
        matched,
    })
}

/// Both: each way of one with each of the other.
fn product(reducer: &mut Reducer<'_>, a: &[Way], b: &[Way]) -> Result<Vec<Way>, GrammarError> {
    if a.len() * b.len() > MAX_WAYS {
        return Err(reducer
            .fail("there are too many alternatives beside `unevaluatedProperties` or `unevaluatedItems`"));
    }
    let weight = |ways: &[Way]| ways.iter().map(Way::size).sum::<usize>();
    reducer.spend(weight(a).saturating_mul(b.len()).saturating_add(weight(b).saturating_mul(a.len())))?;
    let join = |a: &Way, b: &Way| {
        let mut joined = a.clone();
        joined.parts.extend(b.parts.iter().cloned());
        joined.properties.extend(b.properties.iter().cloned());
        joined.patterns.extend(b.patterns.iter().cloned());
        joined.open |= b.open;
        joined.items = joined.items.max(b.items);
        joined.all_items |= b.all_items;
        joined.matched.extend(b.matched.iter().cloned());
        joined
    };
    Ok(a.iter().flat_map(|a| b.iter().map(move |b| join(a, b))).collect())
}

/// `anyOf`: each set of branches. Others may hold as well, but what they look at doesn't count then.
fn some_of<'r>(reducer: &mut Reducer<'r>, node: &Node<'r>, steps: usize) -> Result<Vec<Way>, GrammarError> {
    let branches = reducer.list(node, "anyOf")?;
    let branches = branches.iter().map(|inner| ways(reducer, inner, steps)).collect::<Result<Vec<_>, _>>()?;
    let mut found: Vec<Way> = branches.iter().flatten().cloned().collect();
    if branches.len() <= 4 {
        for chosen in 1..1usize << branches.len() {
            if chosen.count_ones() < 2 {
                continue;
            }
            let mut together = vec![Way::default()];
            for (_, branch) in branches.iter().enumerate().filter(|(index, _)| chosen >> index & 1 == 1) {
                together = product(reducer, &together, branch)?;
            }
            found.extend(together);
        }
    }
    Ok(found)
}

/// `oneOf`: each branch, and that it is the only one.
fn one_of<'r>(reducer: &mut Reducer<'r>, node: &Node<'r>, steps: usize) -> Result<Vec<Way>, GrammarError> {
    let only = Way { parts: vec![objects::one_of(reducer, node)?], ..Way::default() };
    let mut found = Vec::new();
    for branch in reducer.list(node, "oneOf")? {
        let branch = ways(reducer, &branch, steps)?;
        found.extend(product(reducer, std::slice::from_ref(&only), &branch)?);
    }
    Ok(found)
}

fn condition<'r>(
    reducer: &mut Reducer<'r>,
    node: &Node<'r>,
    value: &'r Value,
    steps: usize,
) -> Result<Vec<Way>, GrammarError> {
    let condition = reducer.below(node, value)?;
    let part = |reducer: &mut Reducer<'r>, keyword: &str| match node.get(keyword) {
        Some(value) => {
            let inner = reducer.below(node, value)?;
            ways(reducer, &inner, steps)
        }
        None => Ok(vec![Way::default()]),
    };
    let yes = ways(reducer, &condition, steps)?;
    let then = part(reducer, "then")?;
    let mut found = product(reducer, &yes, &then)?;
    let denied = Way { parts: vec![any(reducer.deny(&condition)?)], ..Way::default() };
    let otherwise = part(reducer, "else")?;
    found.extend(product(reducer, &[denied], &otherwise)?);
    Ok(found)
}

fn dependent<'r>(
    reducer: &mut Reducer<'r>,
    key: &str,
    inner: &Node<'r>,
    steps: usize,
) -> Result<Vec<Way>, GrammarError> {
    let there = Way { parts: vec![json!({"type": "object", "required": [key]})], ..Way::default() };
    let inner = ways(reducer, inner, steps)?;
    let mut found = product(reducer, &[there], &inner)?;
    let absent = any(vec![other_than(&["object"]), super::deny::without(key)]);
    found.push(Way { parts: vec![absent], ..Way::default() });
    Ok(found)
}

/// Says what the rest must be, that no way has looked at.
fn apply<'r>(reducer: &mut Reducer<'r>, node: &Node<'r>, ways: &mut [Way]) -> Result<(), GrammarError> {
    if node.get("unevaluatedProperties").is_some() {
        let rest = reducer.hold_or_any(node, "unevaluatedProperties")?;
        for way in ways.iter_mut().filter(|way| !way.open) {
            way.parts.push(rest_of_properties(way, &rest));
            way.open = true;
        }
    }
    if node.get("unevaluatedItems").is_some() {
        let rest = reducer.hold_or_any(node, "unevaluatedItems")?;
        for way in ways.iter_mut().filter(|way| !way.all_items) {
            let before = vec![json!(true); way.items];
            let fitting = way.matched.iter().chain([&rest]).cloned().collect();
            way.parts.push(json!({"prefixItems": before, "items": any(fitting)}));
            way.all_items = true;
        }
    }
    Ok(())
}

fn rest_of_properties(way: &Way, rest: &Value) -> Value {
    let any_value =
        |names: &[String]| names.iter().map(|name| (name.clone(), json!(true))).collect::<Map<_, _>>();
    let mut fields = Map::new();
    fields.insert("properties".into(), Value::Object(any_value(&way.properties)));
    if !way.patterns.is_empty() {
        fields.insert("patternProperties".into(), Value::Object(any_value(&way.patterns)));
    }
    fields.insert("additionalProperties".into(), rest.clone());
    Value::Object(fields)
}
