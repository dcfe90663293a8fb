//! MCP servers and their tools.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Request, State},
};
use millrace_api::{ApiError, ErrorKind};
use millrace_mcp::{Manager, McpError};
use serde_json::{Map, Value, json};

use crate::http::{App, body, reply::Failure};

/// Seconds after which a server that is down may be back.
const RETRY: u32 = 2;

/// `GET /v1/mcp/servers`.
pub(crate) async fn mcp_servers(State(app): State<Arc<App>>) -> Result<Json<Value>, Failure> {
    let servers = manager(&app)?.servers().into_iter().map(|server| {
        json!({
            "name": server.name,
            "state": server.state.as_str(),
            "transport": server.transport,
            "tools_count": server.tools,
            "restarts": server.restarts,
            "error": server.error,
        })
    });
    Ok(Json(json!({"servers": servers.collect::<Vec<_>>()})))
}

/// `GET /v1/mcp/tools`.
pub(crate) async fn mcp_tools(State(app): State<Arc<App>>) -> Result<Json<Value>, Failure> {
    let tools = manager(&app)?.tools().into_iter().map(|tool| {
        json!({
            "name": tool.name,
            "description": tool.description,
            "server": tool.server,
            "parameters": &*tool.parameters,
        })
    });
    let tools: Vec<Value> = tools.collect();
    Ok(Json(json!({"count": tools.len(), "tools": tools})))
}

/// `POST /v1/mcp/execute` with `{"tool_name": …, "arguments": {…}}`: runs one tool. An error of the tool's own is an
/// answer; a server that is down, or that gives no answer, is an error.
pub(crate) async fn mcp_execute(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Json<Value>, Failure> {
    let manager = manager(&app)?;
    let (name, arguments) = body::read(&app, request, parse).await?;
    let output = manager.call(&name, arguments).await.map_err(|error| refusal(&error))?;
    let error_message = output.is_error.then(|| output.text.clone());
    Ok(Json(json!({
        "tool_name": name,
        "content": output.text,
        "is_error": output.is_error,
        "error_message": error_message,
    })))
}

fn parse(body: &Value) -> Result<(String, Map<String, Value>), ApiError> {
    let name = body.get("tool_name").or_else(|| body.get("name")).and_then(Value::as_str);
    let name = name.ok_or_else(|| {
        ApiError::invalid(
            "tool_name",
            "`tool_name` is required: one of the names that GET /v1/mcp/tools lists.",
        )
    })?;
    let arguments = match body.get("arguments") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(arguments)) => arguments.clone(),
        // As models write them.
        Some(Value::String(text)) => serde_json::from_str(text).map_err(|_| no_object())?,
        Some(_) => return Err(no_object()),
    };
    Ok((name.to_owned(), arguments))
}

fn no_object() -> ApiError {
    ApiError::invalid("arguments", "`arguments` must be a JSON object.")
}

fn manager(app: &App) -> Result<&Manager, ApiError> {
    let missing = "This server runs no MCP servers; start it with --mcp-config.";
    app.mcp.as_ref().ok_or_else(|| ApiError::new(ErrorKind::Unavailable, missing))
}

fn refusal(error: &McpError) -> ApiError {
    // Messages of this API are sentences.
    let text = error.to_string();
    let mut letters = text.chars();
    let text: String =
        letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).chain(['.']).collect();
    match error {
        McpError::UnknownTool { .. } => {
            ApiError { param: Some("tool_name".into()), ..ApiError::new(ErrorKind::NotFound, text) }
        }
        McpError::Timeout { .. } => ApiError::new(ErrorKind::Timeout, text),
        McpError::Refused { .. } => ApiError::invalid("arguments", text),
        _ => ApiError::unavailable(text, RETRY),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_come_in_any_form() {
        for (body, name, count) in [
            (json!({"tool_name": "a__b"}), "a__b", 0),
            (json!({"name": "a__b", "arguments": {"x": 1}}), "a__b", 1),
            (json!({"tool_name": "a__b", "arguments": "{\"x\": 1, \"y\": 2}"}), "a__b", 2),
        ] {
            let (found, arguments) = parse(&body).unwrap();
            assert_eq!((found.as_str(), arguments.len()), (name, count), "{body}");
        }
        for (body, field) in [
            (json!({}), "tool_name"),
            (json!({"tool_name": 1}), "tool_name"),
            (json!({"tool_name": "a", "arguments": []}), "arguments"),
            (json!({"tool_name": "a", "arguments": "[]"}), "arguments"),
        ] {
            assert_eq!(parse(&body).unwrap_err().param.as_deref(), Some(field), "{body}");
        }
    }

    #[test]
    fn errors_are_sentences_with_a_status() {
        let error = refusal(&McpError::UnknownTool { name: "x".into() });
        assert!(error.message.starts_with("There is no MCP tool `x`"), "{error}");
        assert_eq!((error.kind.status(), error.message.ends_with('.')), (404, true));
        let error = refusal(&McpError::NotReady { server: "s".into(), state: "error" });
        assert_eq!((error.kind.status(), error.retry_after), (503, Some(RETRY)));
    }
}
