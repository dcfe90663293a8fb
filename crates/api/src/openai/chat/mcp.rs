//! The extension `mcp`: tools that the server runs itself.

use serde::{Deserialize, Serialize};

use crate::{ApiError, Approval, ServerCall, ServerCallNews, ServerTools};

const DEFAULT_ROUNDS: i64 = 8;
const MOST_ROUNDS: i64 = 64;

/// `mcp` of a request.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct McpBody {
    servers: Option<Vec<String>>,
    tools: Option<Vec<String>>,
    max_rounds: Option<crate::Int>,
    require_approval: Option<String>,
}

impl McpBody {
    /// In its neutral form.
    ///
    /// # Errors
    /// A 400 that names the field.
    pub(super) fn to_server_tools(&self) -> Result<ServerTools, ApiError> {
        let rounds = self.max_rounds.map_or(DEFAULT_ROUNDS, |rounds| rounds.0);
        if !(1..=MOST_ROUNDS).contains(&rounds) {
            let message = format!("`mcp.max_rounds` must be between 1 and {MOST_ROUNDS}, got {rounds}.");
            return Err(ApiError::invalid("mcp.max_rounds", message));
        }
        let approval = match self.require_approval.as_deref() {
            None | Some("never") => Approval::Never,
            Some("always") => Approval::Always,
            Some(_) => {
                let message = "`mcp.require_approval` must be \"never\" or \"always\".";
                return Err(ApiError::invalid("mcp.require_approval", message));
            }
        };
        Ok(ServerTools {
            servers: self.servers.clone(),
            tools: self.tools.clone(),
            max_rounds: usize::try_from(rounds).unwrap_or(1),
            max_calls: None,
            approval,
            rules: Vec::new(),
            approved: Vec::new(),
            choice: None,
        })
    }
}

/// An entry of `mcp_calls`, in a message or in a chunk.
#[derive(Debug, Default, Serialize)]
pub(super) struct McpCallBody {
    /// Only in chunks.
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    arguments: Option<String>,
    /// `in_progress` with the first news of a call, `completed` or `failed` with its result.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<String>,
}

impl McpCallBody {
    /// News as a chunk has them, if it has them; clients put together what has the same index.
    pub(super) fn of_news(news: ServerCallNews) -> Option<Self> {
        Some(match news {
            ServerCallNews::Listed { .. } | ServerCallNews::Complete { .. } => return None,
            ServerCallNews::Begin { index, id, server, name, .. } => Self {
                index: Some(index),
                id: Some(id),
                server: Some(server),
                name: Some(name),
                status: Some("in_progress"),
                ..Self::default()
            },
            ServerCallNews::Arguments { index, delta } => {
                Self { index: Some(index), arguments: Some(delta), ..Self::default() }
            }
            ServerCallNews::Result { index, output, is_error } => Self {
                index: Some(index),
                status: Some(status(is_error)),
                output: Some(output),
                ..Self::default()
            },
        })
    }
}

/// A whole call as a message has it.
impl From<ServerCall> for McpCallBody {
    fn from(call: ServerCall) -> Self {
        Self {
            index: None,
            id: Some(call.id),
            server: Some(call.server),
            name: Some(call.name),
            arguments: Some(call.arguments),
            status: Some(if call.output.is_some() { status(call.is_error) } else { "failed" }),
            output: call.output,
        }
    }
}

fn status(is_error: bool) -> &'static str {
    if is_error { "failed" } else { "completed" }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::read;

    fn parse(body: &serde_json::Value) -> Result<ServerTools, ApiError> {
        read::<McpBody>(body)?.to_server_tools()
    }

    #[test]
    fn what_is_left_out_has_a_default() {
        let tools = parse(&json!({})).unwrap();
        assert_eq!(
            (tools.servers, tools.tools, tools.max_rounds, tools.approval),
            (None, None, 8, Approval::Never)
        );
        let tools = parse(&json!({"servers": ["a"], "max_rounds": 1, "require_approval": "always"})).unwrap();
        assert_eq!((tools.max_rounds, tools.approval), (1, Approval::Always));
    }

    #[test]
    fn what_is_wrong_is_refused() {
        for (body, field) in [
            (json!({"max_rounds": 0}), "mcp.max_rounds"),
            (json!({"max_rounds": 1000}), "mcp.max_rounds"),
            (json!({"require_approval": "sometimes"}), "mcp.require_approval"),
            (json!({"servers": "a"}), "servers"),
            (json!({"server": []}), "server"),
        ] {
            assert_eq!(parse(&body).unwrap_err().param.as_deref(), Some(field), "{body}");
        }
    }

    #[test]
    fn news_put_together_are_the_call() {
        let mut calls = Vec::new();
        for news in [
            ServerCallNews::Begin {
                index: 0,
                id: "c".into(),
                server: "s".into(),
                name: "s__t".into(),
                own_name: "t".into(),
                approval: crate::CallApproval::NotNeeded,
            },
            ServerCallNews::Arguments { index: 0, delta: "{\"a\"".into() },
            ServerCallNews::Arguments { index: 0, delta: ":1}".into() },
            ServerCallNews::Arguments { index: 7, delta: "lost".into() },
            ServerCallNews::Result { index: 0, output: "2".into(), is_error: false },
        ] {
            ServerCall::note(&mut calls, news, 3);
        }
        let body = serde_json::to_value(McpCallBody::from(calls.remove(0))).unwrap();
        let whole = json!({
            "id": "c", "server": "s", "name": "s__t", "arguments": "{\"a\":1}", "status": "completed", "output": "2",
        });
        assert_eq!(body, whole);
    }
}
