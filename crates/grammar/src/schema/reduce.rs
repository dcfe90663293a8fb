//! Schemas in fewer words: keywords that the compiler doesn't know become ones that it knows.
//!
//! A schema is rewritten so that it allows no more than before, and as a rule the same. What it denies (`not`, `else`,
//! the other branches of `oneOf`) is pushed inwards, down to keywords that have an opposite; what depends on something
//! (`if`, `dependent…`, `contains`, `unevaluated…`) becomes alternatives. What has no such form is refused by name.

use std::collections::HashMap;

use referencing::{Draft, Registry};
use serde_json::{Map, Value, json};

use super::{
    evaluated::{self, UNEVALUATED},
    formats, lists,
    node::{Node, size, whole},
    objects,
    terms::{any, both, join},
    walk,
};
use crate::{GrammarError, source::unusable};

/// Values in the result, and those that were only on the way to it. What is denied or depends is written several times, so
/// nesting multiplies.
const MAX_NODES: usize = 100_000;

/// Levels of rewriting; a schema has 64, and a reference leads down again.
const MAX_LEVEL: usize = 256;

/// A schema's name for itself if it has none.
const OWN_NAME: &str = "json-schema:///";

/// Schemas of schemas, which the registry knows by itself.
const META_SCHEMAS: &str = "//json-schema.org/";

const TOO_LARGE: &str = "written without `not`, `if`, `oneOf` and the like it becomes too large";

const NEVER_FETCHED: &str =
    "a reference names another document, and those are never fetched; put it into `$defs`";

/// Keywords that make rewriting necessary.
const NEEDING: [&str; 17] = [
    "not",
    "if",
    "then",
    "else",
    "oneOf",
    "dependentRequired",
    "dependentSchemas",
    "dependencies",
    "propertyNames",
    "contains",
    "minContains",
    "maxContains",
    "uniqueItems",
    "unevaluatedProperties",
    "unevaluatedItems",
    "$dynamicRef",
    "$dynamicAnchor",
];

/// Keywords that count; drafts allow `2.0`.
const COUNTS: [&str; 6] =
    ["minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"];

/// Keywords that are taken over.
const KEPT: [&str; 10] = [
    "type",
    "const",
    "enum",
    "pattern",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "required",
];

/// A checked schema as the compiler understands it.
///
/// # Errors
/// It has what can't be said in other words, or too much of it.
pub(crate) fn reduce(what: &'static str, schema: &Value) -> Result<Value, GrammarError> {
    let mut needed = false;
    walk(schema, &mut |node| {
        needed |= NEEDING.iter().any(|keyword| node.get(keyword).is_some())
            || COUNTS.iter().any(|keyword| node.get(keyword).is_some_and(Value::is_f64))
            || node
                .get("patternProperties")
                .and_then(Value::as_object)
                .is_some_and(|patterns| patterns.len() > 1)
            || node.get("$ref").and_then(Value::as_str).is_some_and(|name| !name.starts_with('#'))
            || node.get("format").and_then(Value::as_str).and_then(formats::pattern).is_some();
        Ok(())
    })?;
    if !needed {
        return Ok(schema.clone());
    }
    let draft = Draft::default().detect(schema).unwrap_or_default();
    let resource = draft.create_resource(schema.clone());
    let name = resource.id().unwrap_or(OWN_NAME).to_owned();
    let fail = |error| reference_error(what, &error);
    let registry = Registry::options().draft(draft).build([(&name, resource)]).map_err(fail)?;
    let resolver = registry.try_resolver(&name).map_err(fail)?;
    let root = resolver.lookup("").map_err(fail)?;
    let node = Node { value: root.contents(), at: root.resolver().clone(), draft };
    Reducer::new(what, schema).run(&node)
}

fn reference_error(what: &'static str, error: &referencing::Error) -> GrammarError {
    match error {
        referencing::Error::Unretrievable { .. } => unusable(what, NEVER_FETCHED),
        other => unusable(what, other.to_string()),
    }
}

/// Rewrites one schema.
pub(super) struct Reducer<'r> {
    pub(super) what: &'static str,
    /// What references lead to, by their new names; filled at the end.
    names: HashMap<usize, String>,
    waiting: Vec<(String, Node<'r>)>,
    /// References that are being denied: one that leads back to itself has no end.
    pub(super) denying: Vec<usize>,
    /// How often each `$dynamicAnchor` is there.
    dynamic: HashMap<String, usize>,
    nodes: usize,
    level: usize,
}

impl<'r> Reducer<'r> {
    fn new(what: &'static str, schema: &Value) -> Self {
        let mut dynamic = HashMap::new();
        // Nothing fails here.
        let _ = walk(schema, &mut |node| {
            if let Some(name) = node.get("$dynamicAnchor").and_then(Value::as_str) {
                *dynamic.entry(name.to_owned()).or_insert(0) += 1;
            }
            Ok(())
        });
        Self {
            what,
            names: HashMap::new(),
            waiting: Vec::new(),
            denying: Vec::new(),
            dynamic,
            nodes: 0,
            level: 0,
        }
    }

    fn run(mut self, root: &Node<'r>) -> Result<Value, GrammarError> {
        let reduced = self.hold(root)?;
        let mut definitions = Map::new();
        while let Some((name, node)) = self.waiting.pop() {
            definitions.insert(name, self.hold(&node)?);
        }
        let mut fields = match reduced {
            Value::Object(fields) => fields,
            Value::Bool(false) => return Err(self.fail("nothing validates against it")),
            _ => Map::new(),
        };
        if !definitions.is_empty() {
            fields.insert("$defs".into(), Value::Object(definitions));
        }
        Ok(Value::Object(fields))
    }

    pub(super) fn fail(&self, reason: impl Into<String>) -> GrammarError {
        unusable(self.what, reason)
    }

    /// A subschema that stands in another.
    pub(super) fn below(&self, node: &Node<'r>, value: &'r Value) -> Result<Node<'r>, GrammarError> {
        let at = node.at.in_subresource(node.draft.create_resource_ref(value));
        let at = at.map_err(|error| reference_error(self.what, &error))?;
        Ok(Node { value, at, draft: node.draft })
    }

    /// The subschemas of a list.
    pub(super) fn list(&self, node: &Node<'r>, keyword: &str) -> Result<Vec<Node<'r>>, GrammarError> {
        match node.get(keyword) {
            None => Ok(Vec::new()),
            Some(Value::Array(list)) => list.iter().map(|value| self.below(node, value)).collect(),
            Some(_) => Err(self.fail(format!("`{keyword}` must be a list"))),
        }
    }

    /// The subschemas of an object.
    pub(super) fn map(
        &self,
        node: &Node<'r>,
        keyword: &str,
    ) -> Result<Vec<(&'r str, Node<'r>)>, GrammarError> {
        match node.get(keyword) {
            None => Ok(Vec::new()),
            Some(Value::Object(map)) => {
                map.iter().map(|(key, value)| Ok((key.as_str(), self.below(node, value)?))).collect()
            }
            Some(_) => Err(self.fail(format!("`{keyword}` must be an object"))),
        }
    }

    /// What `$ref` or `$dynamicRef` leads to.
    pub(super) fn target(&self, node: &Node<'r>, keyword: &str) -> Result<Option<Node<'r>>, GrammarError> {
        let Some(name) = node.get(keyword) else { return Ok(None) };
        let name = name.as_str().ok_or_else(|| self.fail(format!("`{keyword}` must be a string")))?;
        let fragment = name.rsplit_once('#').map_or("", |(_, fragment)| fragment);
        if keyword == "$dynamicRef" && self.dynamic.get(fragment).is_some_and(|count| *count > 1) {
            return Err(self
                .fail("`$dynamicRef` with more than one `$dynamicAnchor` to choose from is not supported"));
        }
        let found = node.at.lookup(name).map_err(|error| reference_error(self.what, &error))?;
        let (value, at, draft) = found.into_inner();
        if at.base_uri().as_str().contains(META_SCHEMAS) {
            return Err(unusable(self.what, NEVER_FETCHED));
        }
        Ok(Some(Node { value, at, draft }))
    }

    /// Counts work, and stops what goes on and on.
    pub(super) fn enter(&mut self) -> Result<(), GrammarError> {
        self.level += 1;
        if self.level > MAX_LEVEL {
            return Err(self.fail(TOO_LARGE));
        }
        self.spend(1)
    }

    /// Counts values that are about to be written.
    pub(super) fn spend(&mut self, nodes: usize) -> Result<(), GrammarError> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes > MAX_NODES { Err(self.fail(TOO_LARGE)) } else { Ok(()) }
    }

    /// Counts a value that is about to be written once more.
    pub(super) fn copy(&mut self, value: &Value) -> Result<Value, GrammarError> {
        self.spend(size(value))?;
        Ok(value.clone())
    }

    pub(super) fn leave(&mut self) {
        self.level -= 1;
    }

    /// What validates against a subschema, in the compiler's words.
    pub(super) fn hold(&mut self, node: &Node<'r>) -> Result<Value, GrammarError> {
        self.enter()?;
        let held = match node.value {
            Value::Bool(_) => Ok(node.value.clone()),
            Value::Object(fields) if UNEVALUATED.iter().any(|keyword| fields.contains_key(*keyword)) => {
                evaluated::hold(self, node)
            }
            Value::Object(fields) => self.hold_fields(node, fields, &|_| true),
            _ => Err(self.fail("a schema in it is neither an object nor a boolean")),
        };
        self.leave();
        held
    }

    /// The same for some of the keywords.
    pub(super) fn hold_some(
        &mut self,
        node: &Node<'r>,
        chosen: &dyn Fn(&str) -> bool,
    ) -> Result<Value, GrammarError> {
        match node.value {
            Value::Object(fields) => self.hold_fields(node, fields, chosen),
            value => Ok(value.clone()),
        }
    }

    fn hold_fields(
        &mut self,
        node: &Node<'r>,
        fields: &'r Map<String, Value>,
        chosen: &dyn Fn(&str) -> bool,
    ) -> Result<Value, GrammarError> {
        let mut out = Map::new();
        let mut also = Vec::new();
        for (keyword, value) in fields.iter().filter(|(keyword, _)| chosen(keyword)) {
            let keyword = keyword.as_str();
            match keyword {
                "properties" | "patternProperties" => {
                    let mut held = Map::new();
                    for (key, inner) in self.map(node, keyword)? {
                        held.insert(key.to_owned(), self.hold(&inner)?);
                    }
                    if keyword == "patternProperties" {
                        objects::drop_idle(&mut held, fields.get("additionalProperties"));
                        held = objects::split(self, held)?;
                    }
                    out.insert(keyword.into(), Value::Object(held));
                }
                "items" if value.is_array() => {
                    drop(out.insert("prefixItems".into(), self.hold_list(node, keyword)?));
                }
                "additionalItems" if fields.get("items").is_some_and(Value::is_array) => {
                    let inner = self.below(node, value)?;
                    out.insert("items".into(), self.hold(&inner)?);
                }
                "additionalProperties" | "items" => {
                    let inner = self.below(node, value)?;
                    out.insert(keyword.into(), self.hold(&inner)?);
                }
                "prefixItems" | "allOf" | "anyOf" => {
                    drop(out.insert(keyword.into(), self.hold_list(node, keyword)?));
                }
                "$ref" => drop(out.insert("$ref".into(), self.hold_reference(node, keyword)?)),
                "$dynamicRef" => also.push(json!({"$ref": self.hold_reference(node, keyword)?})),
                "oneOf" => also.push(objects::one_of(self, node)?),
                "not" => {
                    let inner = self.below(node, value)?;
                    also.push(any(self.deny(&inner)?));
                }
                "if" => also.extend(self.condition(node)?),
                "dependentRequired" | "dependentSchemas" | "dependencies" => {
                    also.extend(objects::dependent(self, node, keyword)?);
                }
                "propertyNames" => also.extend(objects::names(self, &self.below(node, value)?)?),
                "contains" => also.extend(lists::contains(self, node)?),
                "uniqueItems" if value == &json!(true) => also.extend(lists::unique(self, node)?),
                "format" => match value.as_str().and_then(formats::pattern) {
                    Some(pattern) => also.push(json!({"pattern": pattern})),
                    None => drop(out.insert(keyword.into(), value.clone())),
                },
                _ if COUNTS.contains(&keyword) => {
                    out.insert(keyword.into(), whole(value).map_or_else(|| value.clone(), Value::from));
                }
                _ if KEPT.contains(&keyword) => drop(out.insert(keyword.into(), self.copy(value)?)),
                // Said by another keyword, or nothing without one.
                "then" | "else" | "minContains" | "maxContains" | "uniqueItems" | "additionalItems" => {}
                "$recursiveRef" => return Err(self.fail(format!("`{keyword}` is not supported"))),
                _ => {}
            }
        }
        Ok(join(out, also))
    }

    fn hold_list(&mut self, node: &Node<'r>, keyword: &str) -> Result<Value, GrammarError> {
        let list = self.list(node, keyword)?;
        list.iter().map(|inner| self.hold(inner)).collect::<Result<Vec<_>, _>>().map(Value::Array)
    }

    fn hold_reference(&mut self, node: &Node<'r>, keyword: &str) -> Result<Value, GrammarError> {
        // The keyword is there.
        let Some(target) = self.target(node, keyword)? else { return Ok(Value::Null) };
        let number = self.names.len();
        let name = self.names.entry(target.address()).or_insert_with(|| {
            let name = format!("{number}");
            self.waiting.push((name.clone(), target));
            name
        });
        Ok(format!("#/$defs/{name}").into())
    }

    /// `if`, `then`, `else`.
    fn condition(&mut self, node: &Node<'r>) -> Result<Option<Value>, GrammarError> {
        let Some(condition) = node.get("if").filter(|_| node.get("then").or(node.get("else")).is_some())
        else {
            return Ok(None);
        };
        let condition = self.below(node, condition)?;
        let mut ways = vec![both(self.hold(&condition)?, self.hold_or_any(node, "then")?)];
        let otherwise = self.hold_or_any(node, "else")?;
        if otherwise != Value::Bool(false) {
            ways.push(both(any(self.deny(&condition)?), otherwise));
        }
        Ok(Some(any(ways)))
    }

    pub(super) fn hold_or_any(&mut self, node: &Node<'r>, keyword: &str) -> Result<Value, GrammarError> {
        match node.get(keyword) {
            Some(value) => {
                let inner = self.below(node, value)?;
                self.hold(&inner)
            }
            None => Ok(Value::Bool(true)),
        }
    }

    /// Whether a reference is being denied already.
    pub(super) fn denies(&mut self, target: &Node<'r>) -> bool {
        self.denying.contains(&target.address()) || {
            self.denying.push(target.address());
            false
        }
    }
}
