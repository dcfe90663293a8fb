//! `mcp_servers`, and what `tools` says of them: servers whose tools run in the middle of an answer.
//!
//! Two versions of the beta are read: `tool_configuration` in the server, and `mcp_toolset` among the tools.

use serde_json::Value;

use super::fields::{Fields, invalid};
use crate::{ApiError, Approval, Ask, RemoteServer, ServerRule, ServerTools, error::shorten};

/// Rounds of calls in one answer.
const MAX_ROUNDS: usize = 16;

/// Servers of a request.
const MAX_SERVERS: usize = 20;

/// Names in a list of tools.
const MAX_NAMES: usize = 1024;

/// Bytes of a URL or a token.
const MAX_TEXT: usize = 8192;

/// Reads `mcp_servers`.
///
/// # Errors
/// A 400 with the path of the server at fault.
pub(super) fn read_servers(servers: &[Value]) -> Result<Vec<ServerRule>, ApiError> {
    if servers.len() > MAX_SERVERS {
        let message = format!("At most {MAX_SERVERS} servers are allowed, got {}.", servers.len());
        return Err(invalid("mcp_servers", &message));
    }
    let mut rules: Vec<ServerRule> = Vec::new();
    for (index, server) in servers.iter().enumerate() {
        let fields = Fields::new(format!("mcp_servers.{index}"), server)?;
        let path = fields.at("name");
        let Some(rule) = read_server(fields)? else { continue };
        if rules.iter().any(|known| known.server == rule.server) {
            return Err(invalid(&path, "Names of MCP servers must be unique."));
        }
        rules.push(rule);
    }
    Ok(rules)
}

/// A server; `None` if its tools are turned off. Without a `url` it is one of this server's own.
fn read_server(mut fields: Fields<'_>) -> Result<Option<ServerRule>, ApiError> {
    fields.one_of("type", &["url"])?;
    let server = fields.need_str("name")?.to_owned();
    let token = fields.str("authorization_token")?;
    let remote = match fields.str("url")? {
        Some(url) => {
            let too_long = [Some(url), token].iter().flatten().any(|text| text.len() > MAX_TEXT);
            if url.is_empty() || too_long {
                return Err(invalid(
                    &fields.at("url"),
                    &format!("URLs and tokens have 1 to {MAX_TEXT} bytes."),
                ));
            }
            let header = token.map(|token| ("Authorization".to_owned(), format!("Bearer {token}")));
            Some(RemoteServer { url: url.to_owned(), headers: header.into_iter().collect() })
        }
        None if token.is_some() => {
            let reason = "What an MCP server of this server's own configuration gets stands there. Leave it out, or give the \
                          server's `url`.";
            return Err(invalid(&fields.at("authorization_token"), reason));
        }
        None => None,
    };
    let (mut enabled, mut tools) = (true, None);
    if let Some(value) = fields.get("tool_configuration") {
        let mut inner = Fields::new(fields.at("tool_configuration"), value)?;
        enabled = inner.bool("enabled")?.unwrap_or(true);
        let path = inner.at("allowed_tools");
        tools = inner.list("allowed_tools")?.map(|names| read_names(&path, names)).transpose()?;
        inner.done()?;
    }
    fields.done()?;
    Ok(enabled.then(|| ServerRule {
        server,
        tools,
        hidden: Vec::new(),
        ask: Ask::Never,
        list: false,
        remote,
    }))
}

fn read_names(path: &str, names: &[Value]) -> Result<Vec<String>, ApiError> {
    if names.len() > MAX_NAMES {
        return Err(invalid(path, &format!("At most {MAX_NAMES} names are allowed, got {}.", names.len())));
    }
    let names: Option<Vec<String>> = names.iter().map(|name| name.as_str().map(str::to_owned)).collect();
    names.ok_or_else(|| invalid(path, "Names should be strings."))
}

/// Takes the toolsets out of `tools` and into the rules of their servers; gives the other tools with their places.
///
/// # Errors
/// A 400 with the path of the toolset at fault.
pub(super) fn take_toolsets<'a>(
    tools: &'a [Value],
    rules: &mut [ServerRule],
) -> Result<Vec<(usize, &'a Value)>, ApiError> {
    let mut others = Vec::with_capacity(tools.len());
    for (index, tool) in tools.iter().enumerate() {
        if tool["type"] == "mcp_toolset" {
            read_toolset(Fields::new(format!("tools.{index}"), tool)?, rules)?;
        } else {
            others.push((index, tool));
        }
    }
    Ok(others)
}

fn read_toolset(mut fields: Fields<'_>, rules: &mut [ServerRule]) -> Result<(), ApiError> {
    fields.accept(&["type", "cache_control"]);
    let name = fields.need_str("mcp_server_name")?;
    let Some(rule) = rules.iter_mut().find(|rule| rule.server == name) else {
        let message = format!("There is no server '{}' in `mcp_servers`.", shorten(name, 60));
        return Err(invalid(&fields.at("mcp_server_name"), &message));
    };
    let default = match fields.get("default_config") {
        Some(value) => is_enabled(Fields::new(fields.at("default_config"), value)?)?,
        None => None,
    };
    let (mut on, mut off) = (Vec::new(), Vec::new());
    for (tool, value) in fields.object("configs")?.into_iter().flatten().take(MAX_NAMES) {
        let path = format!("{}.{}", fields.at("configs"), shorten(tool, 60));
        match is_enabled(Fields::new(path, value)?)?.or(default) {
            Some(false) => off.push(tool.clone()),
            _ => on.push(tool.clone()),
        }
    }
    fields.done()?;
    if default == Some(false) {
        rule.tools = Some(on);
    }
    rule.hidden = off;
    Ok(())
}

fn is_enabled(mut fields: Fields<'_>) -> Result<Option<bool>, ApiError> {
    let enabled = fields.bool("enabled")?;
    if fields.bool("defer_loading")? == Some(true) {
        let reason = "There is no tool search here, so a deferred tool could never be used.";
        return Err(invalid(&fields.at("defer_loading"), reason));
    }
    fields.done()?;
    Ok(enabled)
}

/// What the request wants of the server's tools; `None` if nothing.
pub(super) fn server_tools(rules: Vec<ServerRule>) -> Option<ServerTools> {
    (!rules.is_empty()).then(|| ServerTools {
        servers: Some(rules.iter().map(|rule| rule.server.clone()).collect()),
        tools: None,
        max_rounds: MAX_ROUNDS,
        max_calls: None,
        approval: Approval::Never,
        rules,
        approved: Vec::new(),
        choice: None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(servers: &Value, tools: &Value) -> Result<ServerTools, String> {
        let read = || {
            let mut rules = read_servers(servers.as_array().unwrap())?;
            let others = take_toolsets(tools.as_array().unwrap(), &mut rules)?;
            assert!(others.iter().all(|(index, tool)| tools[*index] == **tool));
            Ok(server_tools(rules).unwrap())
        };
        read().map_err(|error: ApiError| error.message)
    }

    #[test]
    fn servers_are_read_in_both_versions() {
        let url = "https://example.org/mcp";
        let old = json!([{"type": "url", "name": "a", "url": url, "authorization_token": "t",
                          "tool_configuration": {"enabled": true, "allowed_tools": ["x"]}}, {"name": "own"},
                         {"name": "off", "tool_configuration": {"enabled": false}}]);
        let wanted = read(&old, &json!([])).unwrap();
        assert_eq!(wanted.servers.as_deref().unwrap(), ["a", "own"]);
        let remote = wanted.rules[0].remote.as_ref().unwrap();
        assert_eq!((remote.url.as_str(), remote.headers[0].1.as_str()), (url, "Bearer t"));
        assert!(wanted.offers("a", "x") && !wanted.offers("a", "y") && wanted.offers("own", "y"));

        let servers = json!([{"type": "url", "name": "a", "url": url}]);
        let only = json!([{"name": "f"}, {"type": "mcp_toolset", "mcp_server_name": "a",
                           "default_config": {"enabled": false}, "configs": {"x": {"enabled": true}}}]);
        let wanted = read(&servers, &only).unwrap();
        assert!(wanted.offers("a", "x") && !wanted.offers("a", "y"));
        let without =
            json!([{"type": "mcp_toolset", "mcp_server_name": "a", "configs": {"x": {"enabled": false}}}]);
        let wanted = read(&servers, &without).unwrap();
        assert!(!wanted.offers("a", "x") && wanted.offers("a", "y"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (servers, tools, path) in [
            (json!([{"type": "stdio", "name": "a"}]), json!([]), "mcp_servers.0.type"),
            (json!([{"name": "a"}, {"name": "a"}]), json!([]), "mcp_servers.1.name"),
            (json!([{"name": "a", "authorization_token": "t"}]), json!([]), "authorization_token"),
            (
                json!([{"name": "a", "tool_configuration": {"allowed_tools": [1]}}]),
                json!([]),
                "allowed_tools",
            ),
            (
                json!([{"name": "a"}]),
                json!([{"type": "mcp_toolset", "mcp_server_name": "b"}]),
                "mcp_server_name",
            ),
        ] {
            let message = read(&servers, &tools).unwrap_err();
            assert!(message.contains(path), "{message}");
        }
    }
}
