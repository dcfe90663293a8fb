//! Tools as servers offer them, and as they are passed on.

use std::sync::Arc;

use rmcp::model;
use serde_json::{Map, Value};

use crate::{McpLimits, ServerSpec, error::shorten};

/// Longest name of a tool that is believed.
const LONGEST_NAME: usize = 256;

/// A tool of a server that is up.
#[derive(Debug, Clone, PartialEq)]
pub struct Tool {
    /// The name to call it by: at most 64 of `A-Z a-z 0-9 _ -`, unique among all servers.
    pub name: String,
    /// Its server, as the configuration names it.
    pub server: String,
    /// Its own name, as the server knows it.
    pub own_name: String,
    /// What it does, in the server's words; may have been cut.
    pub description: String,
    /// The JSON Schema of its arguments.
    pub parameters: Arc<Map<String, Value>>,
}

/// A tool without the name that all servers' tools together decide.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Offer {
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) parameters: Arc<Map<String, Value>>,
}

/// Gathers the pages of a list.
#[derive(Debug)]
pub(crate) struct Offers<'a> {
    spec: &'a ServerSpec,
    limits: &'a McpLimits,
    taken: Vec<Offer>,
    left_out: usize,
}

impl<'a> Offers<'a> {
    pub(crate) fn new(spec: &'a ServerSpec, limits: &'a McpLimits) -> Self {
        Self { spec, limits, taken: Vec::new(), left_out: 0 }
    }

    /// Takes a page; whether there is room for more.
    pub(crate) fn add(&mut self, page: Vec<model::Tool>) -> bool {
        for tool in page {
            let allowed = self
                .spec
                .allowed_tools
                .as_ref()
                .is_none_or(|list| list.iter().any(|name| *name == tool.name));
            if !allowed || self.taken.iter().any(|taken| taken.name == tool.name) {
                continue;
            }
            match self.problem(&tool) {
                None => self.taken.push(self.offer(tool)),
                Some(problem) => {
                    self.left_out += 1;
                    let (server, name) = (&self.spec.name, shorten(&tool.name, 64));
                    tracing::warn!("MCP server `{server}`: the tool `{name}` is left out: {problem}");
                }
            }
        }
        // A server may offer bad ones without end, too.
        self.taken.len() + self.left_out < self.limits.tools
    }

    /// All that can be used, in the server's order.
    pub(crate) fn finish(self) -> Vec<Offer> {
        let server = &self.spec.name;
        for name in self.spec.allowed_tools.iter().flatten() {
            if !self.taken.iter().any(|tool| tool.name == *name) {
                tracing::warn!(
                    "MCP server `{server}` has no tool `{}`, which its `allowedTools` name",
                    shorten(name, 64)
                );
            }
        }
        self.taken
    }

    fn problem(&self, tool: &model::Tool) -> Option<&'static str> {
        let McpLimits { tools, schema_bytes, schema_depth, .. } = *self.limits;
        let schema = &tool.input_schema;
        if self.taken.len() >= tools {
            Some("the server has too many tools; choose some with `allowedTools`")
        } else if tool.name.is_empty() || tool.name.len() > LONGEST_NAME {
            Some("its name is empty or too long")
        } else if schema.values().any(|value| depth(value) >= schema_depth) {
            Some("its schema is nested too deeply")
        } else if serde_json::to_string(schema.as_ref()).map_or(usize::MAX, |text| text.len()) > schema_bytes
        {
            Some("its schema is too large")
        } else {
            None
        }
    }

    fn offer(&self, tool: model::Tool) -> Offer {
        let description = tool.description.as_deref().or(tool.title.as_deref()).unwrap_or_default();
        Offer {
            description: shorten(description, self.limits.description_chars),
            name: tool.name.into_owned(),
            parameters: tool.input_schema,
        }
    }
}

/// Levels of arrays and objects. The parser of messages has bounded them already, so this may recurse.
fn depth(value: &Value) -> usize {
    match value {
        Value::Array(list) => 1 + list.iter().map(depth).max().unwrap_or(0),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{Endpoint, StdioSpec};

    fn spec(allowed: Option<&[&str]>) -> ServerSpec {
        ServerSpec {
            name: "s".into(),
            endpoint: Endpoint::Stdio(StdioSpec {
                command: "x".into(),
                args: vec![],
                env: vec![],
                cwd: None,
            }),
            timeout: None,
            disabled: false,
            allowed_tools: allowed.map(|names| names.iter().map(|name| (*name).to_owned()).collect()),
            redactor: crate::secret::Redactor::default(),
        }
    }

    fn tool(name: &str, schema: Value) -> model::Tool {
        let Value::Object(schema) = schema else { panic!("{schema}") };
        model::Tool::new(name.to_owned(), "d".repeat(9000), Arc::new(schema))
    }

    fn names(offers: Offers<'_>) -> Vec<String> {
        offers.finish().into_iter().map(|offer| offer.name).collect()
    }

    #[test]
    fn what_is_too_much_is_left_out() {
        let mut deep = json!({"type": "object"});
        for _ in 0..40 {
            deep = json!({ "properties": deep });
        }
        let (spec, limits) = (spec(None), McpLimits::default());
        let mut offers = Offers::new(&spec, &limits);
        let more = offers.add(vec![
            tool("good", json!({"type": "object"})),
            tool("good", json!({"type": "object", "x": 1})),
            tool("", json!({})),
            tool(&"n".repeat(300), json!({})),
            tool("deep", deep),
            tool("large", json!({"x": "y".repeat(1 << 17)})),
        ]);
        assert!(more);
        let taken = offers.finish();
        assert_eq!(taken.len(), 1);
        assert_eq!(taken[0].parameters.len(), 1);
        assert_eq!(taken[0].description.chars().count(), limits.description_chars + 1);
    }

    #[test]
    fn an_endless_list_ends() {
        let (spec, limits) = (spec(None), McpLimits { tools: 3, ..McpLimits::default() });
        let mut offers = Offers::new(&spec, &limits);
        let mut pages = 0;
        while offers.add(vec![tool(&format!("t{pages}"), json!({})), tool("", json!({}))]) {
            pages += 1;
        }
        assert_eq!(names(offers), ["t0", "t1"]);
    }

    #[test]
    fn only_allowed_tools_are_taken() {
        let (spec, limits) = (spec(Some(&["b", "missing"])), McpLimits::default());
        let mut offers = Offers::new(&spec, &limits);
        offers.add(["a", "b", "c"].map(|name| tool(name, json!({}))).into());
        assert_eq!(names(offers), ["b"]);
    }
}
