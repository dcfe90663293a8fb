//! The request's tools, as far as a parser needs them: names, and the types of their parameters.

use std::collections::HashMap;

use serde_json::Value;

use crate::ParseError;

/// How many schema nodes are looked at for one parameter; references may form cycles.
const MAX_NODES: usize = 256;

/// JSON types that a value may have; none set means that nothing is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Kinds(u8);

impl Kinds {
    pub(crate) const STRING: Self = Self(1);
    pub(crate) const NUMBER: Self = Self(2);
    pub(crate) const BOOLEAN: Self = Self(4);
    pub(crate) const NULL: Self = Self(8);
    pub(crate) const CONTAINER: Self = Self(16);
    /// Whatever JSON says.
    pub(crate) const ANY_BUT_STRING: Self = Self(2 | 4 | 8 | 16);

    pub(crate) fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub(crate) fn is_unknown(self) -> bool {
        self.0 == 0
    }

    /// Only these.
    pub(crate) fn is_within(self, others: Self) -> bool {
        self.0 & !others.0 == 0
    }

    /// Both.
    pub(crate) const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Strings and nothing else.
    pub(crate) fn is_string(self) -> bool {
        self == Self::STRING
    }

    fn add(&mut self, other: Self) {
        self.0 |= other.0;
    }

    fn of(value: &Value) -> Self {
        match value {
            Value::Null => Self::NULL,
            Value::Bool(_) => Self::BOOLEAN,
            Value::Number(_) => Self::NUMBER,
            Value::String(_) => Self::STRING,
            Value::Array(_) | Value::Object(_) => Self::CONTAINER,
        }
    }

    fn named(name: &str) -> Self {
        match name {
            "string" => Self::STRING,
            "number" | "integer" => Self::NUMBER,
            "boolean" => Self::BOOLEAN,
            "null" => Self::NULL,
            "object" | "array" => Self::CONTAINER,
            _ => Self::default(),
        }
    }
}

/// The functions that a request offers.
#[derive(Debug, Clone, Default)]
pub struct Tools {
    tools: HashMap<String, Vec<(String, Kinds)>>,
}

impl Tools {
    /// No tools known: every name may be a call.
    pub fn unknown() -> Self {
        Self::default()
    }

    /// Reads the `tools` of a request: OpenAI's `{"type": "function", "function": {"name", "parameters"}}`, the flat
    /// form of its Responses API, and Anthropic's with `input_schema`. Other types of tools are passed over.
    ///
    /// # Errors
    ///
    /// If `tools` is neither null nor an array of objects.
    pub fn from_json(tools: &Value) -> Result<Self, ParseError> {
        match tools {
            Value::Null => Ok(Self::default()),
            Value::Array(list) => Self::from_list(list),
            _ => Err(ParseError::BadTool { index: 0, reason: "the tools must be an array" }),
        }
    }

    /// [`Self::from_json`] of an array.
    ///
    /// # Errors
    ///
    /// If one of them isn't an object.
    pub fn from_list(list: &[Value]) -> Result<Self, ParseError> {
        let mut read = Self::default();
        for (index, tool) in list.iter().enumerate() {
            if !tool.is_object() {
                return Err(ParseError::BadTool { index, reason: "it must be an object" });
            }
            let function = tool.get("function").unwrap_or(tool);
            let schema = function.get("parameters").or_else(|| function.get("input_schema"));
            if let Some(name) = function.get("name").and_then(Value::as_str) {
                read.add(name, schema.unwrap_or(&Value::Null));
            }
        }
        Ok(read)
    }

    /// Adds a function with the JSON schema of its parameters.
    pub fn add(&mut self, name: &str, schema: &Value) {
        let properties = schema.get("properties").and_then(Value::as_object);
        let parameters =
            properties.into_iter().flatten().map(|(key, node)| (key.clone(), kinds_of(node, schema)));
        self.tools.insert(name.to_owned(), parameters.collect());
    }

    /// Whether a call of this name may be meant: it is offered, or nothing is known.
    pub(crate) fn may_call(&self, name: &str) -> bool {
        self.tools.is_empty() || self.tools.contains_key(name)
    }

    pub(crate) fn is_offered(&self, name: &str) -> bool {
        self.tools.contains_key(name)
    }

    /// The types of a parameter.
    pub(crate) fn kinds(&self, tool: &str, parameter: &str) -> Kinds {
        let found = self.parameters(tool).iter().find(|(key, _)| key == parameter);
        found.map(|(_, kinds)| *kinds).unwrap_or_default()
    }

    /// The parameters in the schema's order.
    pub(crate) fn parameters(&self, tool: &str) -> &[(String, Kinds)] {
        self.tools.get(tool).map(Vec::as_slice).unwrap_or_default()
    }
}

/// All types that a schema allows, through references and combinations.
pub(crate) fn kinds_of(node: &Value, root: &Value) -> Kinds {
    let mut kinds = Kinds::default();
    let mut open = vec![node];
    for _ in 0..MAX_NODES {
        let Some(node) = open.pop() else { break };
        let names = |value: &Value| value.as_str().map(Kinds::named).unwrap_or_default();
        match node.get("type") {
            Some(Value::Array(list)) => list.iter().for_each(|name| kinds.add(names(name))),
            Some(name) => kinds.add(names(name)),
            None => {
                if let Some(target) = node.get("$ref").and_then(Value::as_str) {
                    open.extend(target.strip_prefix('#').and_then(|pointer| root.pointer(pointer)));
                }
                for key in ["anyOf", "oneOf", "allOf"] {
                    open.extend(node.get(key).and_then(Value::as_array).into_iter().flatten());
                }
                let values = node.get("enum").and_then(Value::as_array).into_iter().flatten();
                values.chain(node.get("const")).for_each(|value| kinds.add(Kinds::of(value)));
            }
        }
        if node.get("nullable") == Some(&Value::Bool(true)) {
            kinds.add(Kinds::NULL);
        }
    }
    kinds
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn types_are_found_through_references_and_combinations() {
        let schema = json!({
            "properties": {
                "a": {"type": ["boolean", "null"]},
                "b": {"$ref": "#/$defs/count"},
                "c": {"anyOf": [{"type": "integer"}, {"enum": ["x", null]}]},
                "d": {"description": "anything"},
                "e": {"$ref": "#/$defs/loop"},
            },
            "$defs": {"count": {"type": "integer"}, "loop": {"anyOf": [{"$ref": "#/$defs/loop"}]}},
        });
        let mut tools = Tools::unknown();
        assert!(tools.may_call("g"));
        tools.add("f", &schema);
        assert!(tools.may_call("f") && !tools.may_call("g"));
        assert_eq!(tools.kinds("f", "a"), Kinds(4 | 8));
        assert_eq!(tools.kinds("f", "b"), Kinds::NUMBER);
        assert_eq!(tools.kinds("f", "c"), Kinds(1 | 2 | 8));
        for unknown in [tools.kinds("f", "d"), tools.kinds("f", "e"), tools.kinds("g", "a")] {
            assert!(unknown.is_unknown());
        }
        assert_eq!(tools.parameters("f").len(), 5);
    }

    #[test]
    fn all_vendors_forms_are_read() {
        let tools = json!([
            {"type": "function", "function": {"name": "a", "parameters": {"properties": {"x": {"type": "string"}}}}},
            {"type": "function", "name": "b"},
            {"name": "c", "input_schema": {"properties": {"x": {"type": "number"}}}},
            {"type": "web_search"},
        ]);
        let tools = Tools::from_json(&tools).unwrap();
        assert!(tools.kinds("a", "x").is_string());
        assert!(tools.is_offered("b"));
        assert_eq!(tools.kinds("c", "x"), Kinds::NUMBER);
        assert!(Tools::from_json(&json!({})).is_err());
        assert!(Tools::from_json(&json!([1])).unwrap_err().to_string().contains("tool 0"));
    }
}
