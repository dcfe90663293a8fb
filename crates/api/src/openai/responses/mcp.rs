//! Tools of MCP servers: what a request says of them, and the items that tell of them.

use std::collections::{HashMap, HashSet};

use serde_json::{Value, json};

use super::{
    items::{needed, short},
    types::{Item, ItemStatus, McpApprovalRequest, McpApprovalResponse, McpCall, McpListTools},
};
use crate::{
    ApiError, Approval, ApprovedCall, Ask, RemoteServer, ServerChoice, ServerRule, ServerTools,
    error::shorten,
    fields::{Fields, invalid},
};

/// Rounds of calls in one answer.
const MAX_ROUNDS: usize = 16;

/// Names in a list of tools.
const MAX_NAMES: usize = 1024;

/// Bytes of the tools in one `mcp_list_tools` item, which only the client reads.
const MAX_LIST: usize = 1 << 20;

/// Headers that a request may give to a server.
const MAX_HEADERS: usize = 64;

/// Bytes of a URL or a header.
const MAX_TEXT: usize = 8192;

const NO_CONNECTORS: &str = "There are no connectors here. Give the server's `server_url`, or name one of this server's own \
                             MCP servers in `server_label`.";

const NO_SECRETS: &str = "What an MCP server of this server's own configuration gets stands there. Leave it out, or give the \
                          server's `server_url`.";

/// Reads a tool of the type `mcp`; gives also what the answer tells of it.
///
/// # Errors
/// A 400 with the path of what is at fault.
pub(super) fn read_tool(mut fields: Fields<'_>) -> Result<(ServerRule, Value), ApiError> {
    let label = needed(&mut fields, "server_label")?;
    let description = fields.str("server_description")?;
    for name in ["connector_id", "tunnel_id"] {
        fields.refuse(name, NO_CONNECTORS)?;
    }
    let remote = read_remote(&mut fields)?;
    fields
        .refuse("defer_loading", "There is no tool search here, so a deferred tool could never be used.")?;
    let (given_tools, given_approval) = (fields.get("allowed_tools"), fields.get("require_approval"));
    let tools =
        given_tools.map(|tools| read_filter(&fields.at("allowed_tools"), tools)).transpose()?.flatten();
    let ask = read_ask(&fields.at("require_approval"), given_approval)?;
    if fields.list("allowed_callers")?.is_some_and(|callers| !callers.iter().any(|caller| caller == "direct"))
    {
        return Err(invalid(&fields.at("allowed_callers"), "Only 'direct' calls exist here."));
    }
    fields.done()?;
    let echo = json!({
        "type": "mcp", "server_label": label, "server_description": description,
        "server_url": remote.as_ref().map(|remote| place_of(&remote.url)),
        "allowed_tools": given_tools, "require_approval": given_approval.cloned().unwrap_or_else(|| json!("always")),
        "headers": null,
    });
    Ok((ServerRule { server: label, tools, hidden: Vec::new(), ask, list: true, remote }, echo))
}

/// A server that the request brings: where it is, and what it gets.
fn read_remote(fields: &mut Fields<'_>) -> Result<Option<RemoteServer>, ApiError> {
    let Some(url) = fields.str("server_url")? else {
        for name in ["headers", "authorization"] {
            fields.refuse(name, NO_SECRETS)?;
        }
        return Ok(None);
    };
    let url = bounded(&fields.at("server_url"), url)?;
    let mut headers = Vec::new();
    let path = fields.at("headers");
    for (name, value) in fields.object("headers")?.into_iter().flatten() {
        let value = value.as_str().ok_or_else(|| invalid(&path, "Headers should be strings."))?;
        headers.push((bounded(&path, name)?, bounded(&path, value)?));
    }
    if headers.len() > MAX_HEADERS {
        return Err(invalid(
            &path,
            &format!("At most {MAX_HEADERS} headers are allowed, got {}.", headers.len()),
        ));
    }
    if let Some(token) = fields.str("authorization")? {
        if headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("authorization")) {
            let reason = "It is in `headers` too. Leave one of them out.";
            return Err(invalid(&fields.at("authorization"), reason));
        }
        let token = bounded(&fields.at("authorization"), token)?;
        headers.push(("Authorization".into(), format!("Bearer {token}")));
    }
    Ok(Some(RemoteServer { url, headers }))
}

fn bounded(path: &str, text: &str) -> Result<String, ApiError> {
    if text.is_empty() || text.len() > MAX_TEXT {
        return Err(invalid(path, &format!("Texts have 1 to {MAX_TEXT} bytes.")));
    }
    Ok(text.to_owned())
}

/// A URL as far as answers tell it: what follows the host may be a key.
fn place_of(url: &str) -> &str {
    let host = url.find("://").map_or(0, |at| at + 3);
    url[host..].find(['/', '?', '#']).map_or(url, |end| &url[..host + end])
}

/// A list of names, or an object with one.
fn read_filter(path: &str, value: &Value) -> Result<Option<Vec<String>>, ApiError> {
    let names = match value {
        Value::Array(names) => names,
        Value::Object(_) => {
            let mut fields = Fields::new(path.to_owned(), value)?;
            let reason = "What a tool may change is not known to this server. Name the tools.";
            fields.refuse("read_only", reason)?;
            let names = fields.list("tool_names")?;
            fields.done()?;
            match names {
                Some(names) => names,
                None => return Ok(None),
            }
        }
        _ => return Err(invalid(path, "Input should be a list of names, or an object with `tool_names`.")),
    };
    if names.len() > MAX_NAMES {
        return Err(invalid(path, &format!("At most {MAX_NAMES} names are allowed, got {}.", names.len())));
    }
    let name = |name: &Value| name.as_str().map(str::to_owned);
    let names: Option<Vec<String>> = names.iter().map(name).collect();
    names.map(Some).ok_or_else(|| invalid(path, "Names should be strings."))
}

/// Left out, everything waits for the client.
fn read_ask(path: &str, value: Option<&Value>) -> Result<Ask, ApiError> {
    let Some(value) = value else { return Ok(Ask::Always) };
    match value {
        Value::String(word) if word == "always" => Ok(Ask::Always),
        Value::String(word) if word == "never" => Ok(Ask::Never),
        Value::Object(_) => {
            let mut fields = Fields::new(path.to_owned(), value)?;
            let mut read = |name: &'static str| {
                let path = fields.at(name);
                fields.get(name).map(|value| read_filter(&path, value)).transpose().map(Option::flatten)
            };
            let (always, never) = (read("always")?, read("never")?);
            fields.done()?;
            match (always, never) {
                (Some(always), None) => Ok(Ask::Only(always)),
                (None, Some(never)) => Ok(Ask::AllBut(never)),
                (None, None) => Ok(Ask::Always),
                (Some(always), Some(never)) if always.iter().any(|name| never.contains(name)) => {
                    Err(invalid(path, "A tool can't be both in `always` and in `never`."))
                }
                // What is in neither list waits, as if nothing were said.
                (Some(_), Some(never)) => Ok(Ask::AllBut(never)),
            }
        }
        _ => Err(invalid(path, "Input should be 'always', 'never' or an object with lists of tools.")),
    }
}

pub(super) fn read_list(fields: &mut Fields<'_>, id: String) -> Result<McpListTools, ApiError> {
    let server_label = needed(fields, "server_label")?;
    let tools = fields.list("tools")?.unwrap_or_default();
    if tools.iter().map(|tool| tool.to_string().len()).sum::<usize>() > MAX_LIST {
        return Err(invalid(&fields.at("tools"), &format!("The tools have more than {MAX_LIST} bytes.")));
    }
    let error = fields.str("error")?.map(str::to_owned);
    Ok(McpListTools { id, server_label, tools: tools.to_vec(), error })
}

pub(super) fn read_call(fields: &mut Fields<'_>, id: String) -> Result<McpCall, ApiError> {
    let text = |text: Option<&str>| text.map(str::to_owned);
    let status =
        match fields.one_of("status", &["in_progress", "completed", "incomplete", "calling", "failed"])? {
            Some("in_progress" | "calling") => ItemStatus::InProgress,
            Some("incomplete") => ItemStatus::Incomplete,
            Some("failed") => ItemStatus::Failed,
            _ => ItemStatus::Completed,
        };
    Ok(McpCall {
        id,
        status,
        server_label: needed(fields, "server_label")?,
        name: needed(fields, "name")?,
        arguments: fields.need_str("arguments")?.to_owned(),
        output: text(fields.str("output")?),
        error: text(fields.str("error")?),
        approval_request_id: short(fields, "approval_request_id")?,
    })
}

pub(super) fn read_request(fields: &mut Fields<'_>, id: String) -> Result<McpApprovalRequest, ApiError> {
    Ok(McpApprovalRequest {
        id,
        server_label: needed(fields, "server_label")?,
        name: needed(fields, "name")?,
        arguments: fields.need_str("arguments")?.to_owned(),
    })
}

pub(super) fn read_response(fields: &mut Fields<'_>, id: String) -> Result<McpApprovalResponse, ApiError> {
    fields.need("approve")?;
    Ok(McpApprovalResponse {
        id,
        approval_request_id: needed(fields, "approval_request_id")?,
        approve: fields.bool("approve")?.unwrap_or(false),
        reason: fields.str("reason")?.map(str::to_owned),
    })
}

/// What a conversation says about calls that wait, or waited, for the client.
pub(super) struct Approvals<'a> {
    responses: HashMap<&'a str, &'a McpApprovalResponse>,
    /// Requests whose call was run in an earlier answer.
    done: HashSet<&'a str>,
}

impl<'a> Approvals<'a> {
    pub(super) fn of(items: &'a [Item]) -> Self {
        let (mut responses, mut done) = (HashMap::new(), HashSet::new());
        for item in items {
            match item {
                Item::McpApprovalResponse(response) => {
                    responses.insert(response.approval_request_id.as_str(), response);
                }
                Item::McpCall(call) => done.extend(call.approval_request_id.as_deref()),
                _ => {}
            }
        }
        Self { responses, done }
    }

    /// The client's word about a request whose call wasn't run yet.
    pub(super) fn word(&self, request: &McpApprovalRequest) -> Option<&'a McpApprovalResponse> {
        self.responses.get(request.id.as_str()).copied().filter(|_| !self.done.contains(request.id.as_str()))
    }

    /// The calls that are to be run now.
    fn approved(&self, items: &[Item]) -> Vec<ApprovedCall> {
        let requests = items.iter().filter_map(|item| match item {
            Item::McpApprovalRequest(request) => Some(request),
            _ => None,
        });
        let approved = requests.filter(|request| self.word(request).is_some_and(|word| word.approve));
        let call = |request: &McpApprovalRequest| ApprovedCall {
            id: request.id.clone(),
            server: request.server_label.clone(),
            name: request.name.clone(),
            arguments: request.arguments.clone(),
        };
        approved.map(call).collect()
    }
}

/// Checks that each approval has its request, and that its server is still offered.
///
/// # Errors
/// A 400 that names what is missing.
pub(super) fn check_approvals(items: &[Item], rules: &[ServerRule]) -> Result<(), ApiError> {
    let mut known = HashSet::new();
    for item in items {
        match item {
            Item::McpApprovalRequest(request) => drop(known.insert(request.id.as_str())),
            Item::McpApprovalResponse(response) if !known.contains(response.approval_request_id.as_str()) => {
                let id = shorten(&response.approval_request_id, 80);
                let message = format!("There is no mcp_approval_request with the id '{id}'.");
                return Err(invalid("input", &message));
            }
            _ => {}
        }
    }
    for call in Approvals::of(items).approved(items) {
        if !rules.iter().any(|rule| rule.server == call.server) {
            let label = shorten(&call.server, 80);
            let message =
                format!("A call of the MCP server '{label}' is approved, but `tools` doesn't offer it.");
            return Err(invalid("tools", &message));
        }
    }
    Ok(())
}

/// What the request wants of the server's tools; `None` if nothing.
pub(super) fn server_tools(
    rules: &[ServerRule],
    choice: Option<&ServerChoice>,
    items: &[Item],
    max_calls: Option<usize>,
) -> Option<ServerTools> {
    if rules.is_empty() {
        return None;
    }
    let is_listed = |server: &str| {
        items.iter().any(|item| matches!(item, Item::McpListTools(list) if list.server_label == server))
    };
    let rule = |rule: &ServerRule| ServerRule { list: !is_listed(&rule.server), ..rule.clone() };
    Some(ServerTools {
        servers: Some(rules.iter().map(|rule| rule.server.clone()).collect()),
        tools: None,
        max_rounds: MAX_ROUNDS,
        max_calls,
        approval: Approval::Never,
        rules: rules.iter().map(rule).collect(),
        approved: Approvals::of(items).approved(items),
        choice: choice.cloned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(tool: &Value) -> Result<ServerRule, String> {
        let fields = Fields::new("tools[0]".into(), tool).unwrap();
        let kind = |mut fields: Fields<'_>| {
            fields.need_str("type")?;
            read_tool(fields)
        };
        kind(fields).map(|(rule, _)| rule).map_err(|error| error.param.unwrap_or_default())
    }

    fn tool(extra: &Value) -> Value {
        let mut tool = json!({"type": "mcp", "server_label": "s"});
        tool.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        tool
    }

    #[test]
    fn rules_are_read_in_all_forms() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        for (extra, tools, ask) in [
            (json!({}), None, Ask::Always),
            (json!({"allowed_tools": null, "require_approval": null}), None, Ask::Always),
            (json!({"allowed_tools": ["a"], "require_approval": "never"}), Some(names(&["a"])), Ask::Never),
            (json!({"allowed_tools": {"tool_names": ["a"]}}), Some(names(&["a"])), Ask::Always),
            (json!({"require_approval": {"always": {"tool_names": ["a"]}}}), None, Ask::Only(names(&["a"]))),
            (json!({"require_approval": {"never": {"tool_names": ["a"]}}}), None, Ask::AllBut(names(&["a"]))),
            (
                json!({"require_approval": {"never": {"tool_names": ["a"]}, "always": {"tool_names": ["b"]}}}),
                None,
                Ask::AllBut(names(&["a"])),
            ),
        ] {
            let rule = read(&tool(&extra)).unwrap();
            assert_eq!((rule.tools, rule.ask, rule.list), (tools, ask, true), "{extra}");
        }
    }

    #[test]
    fn a_server_comes_with_the_request() {
        let url = "https://example.org/mcp?key=secret";
        let given = tool(&json!({"server_url": url, "headers": {"X-A": "b"}, "authorization": "token"}));
        let mut fields = Fields::new("tools[0]".into(), &given).unwrap();
        fields.need_str("type").unwrap();
        let (rule, echo) = read_tool(fields).unwrap();
        let remote = rule.remote.unwrap();
        assert_eq!(remote.url, url);
        let bearer = ("Authorization".to_owned(), "Bearer token".to_owned());
        assert_eq!(remote.headers, [("X-A".to_owned(), "b".to_owned()), bearer]);
        assert!(!format!("{remote:?}").contains("secret"));
        assert_eq!(echo["server_url"], "https://example.org");
        assert!(!echo.to_string().contains("token"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (tool, path) in [
            (json!({"type": "mcp"}), "tools[0].server_label"),
            (tool(&json!({"connector_id": "connector_x"})), "tools[0].connector_id"),
            (tool(&json!({"server_url": ""})), "tools[0].server_url"),
            (tool(&json!({"server_url": "https://a", "headers": {"a": 1}})), "tools[0].headers"),
            (
                tool(
                    &json!({"server_url": "https://a", "headers": {"authorization": "b"}, "authorization": "c"}),
                ),
                "tools[0].authorization",
            ),
            (tool(&json!({"authorization": "x"})), "tools[0].authorization"),
            (tool(&json!({"allowed_tools": 3})), "tools[0].allowed_tools"),
            (tool(&json!({"allowed_tools": [3]})), "tools[0].allowed_tools"),
            (tool(&json!({"allowed_tools": {"read_only": true}})), "tools[0].allowed_tools.read_only"),
            (tool(&json!({"require_approval": "perhaps"})), "tools[0].require_approval"),
            (tool(&json!({"other": 1})), "tools[0].other"),
        ] {
            assert_eq!(read(&tool), Err(path.to_owned()), "{tool}");
        }
    }

    #[test]
    fn a_call_is_approved_once() {
        let request = |id: &str| {
            let (server_label, name, arguments) = ("s".to_owned(), "t".to_owned(), "{}".to_owned());
            Item::McpApprovalRequest(McpApprovalRequest { id: id.to_owned(), server_label, name, arguments })
        };
        let word = |id: &str, approve| {
            let approval_request_id = id.to_owned();
            Item::McpApprovalResponse(McpApprovalResponse {
                id: String::new(),
                approval_request_id,
                approve,
                reason: None,
            })
        };
        let done = Item::McpCall(McpCall {
            id: "c".into(),
            status: ItemStatus::Completed,
            server_label: "s".into(),
            name: "t".into(),
            arguments: "{}".into(),
            output: Some("x".into()),
            error: None,
            approval_request_id: Some("a".into()),
        });
        let items = [
            request("a"),
            word("a", true),
            done,
            request("b"),
            word("b", false),
            request("c"),
            word("c", true),
        ];
        let approved: Vec<String> =
            Approvals::of(&items).approved(&items).into_iter().map(|call| call.id).collect();
        assert_eq!(approved, ["c"]);
        let rule = read(&tool(&json!({}))).unwrap();
        assert!(check_approvals(&items, std::slice::from_ref(&rule)).is_ok());
        let lost = check_approvals(&items, &[]).unwrap_err();
        assert_eq!(lost.param.as_deref(), Some("tools"));
        assert!(check_approvals(&[word("z", true)], &[rule]).unwrap_err().message.contains("'z'"));
    }
}
