//! Which tools a request gets, and what the model's names for them mean.

use std::collections::{HashMap, HashSet};

use millrace_api::{
    ApiError, ChatInput, ErrorKind, Limits, ListedTool, ServerCallNews, ServerChoice, ServerTools, ToolChoice,
};
use millrace_mcp::{ServerState, Tool};
use serde_json::{Value, json};

use super::servers::Servers;

/// Seconds after which a server that is down may be back.
const RETRY: u32 = 2;

/// The server's tools of one request, by the names that the model may use for them.
#[derive(Debug, Default)]
pub(super) struct Chosen {
    by_name: HashMap<String, Tool>,
    /// Full names of those whose calls wait for the client.
    asking: HashSet<String>,
    /// What the client is told of them.
    lists: Vec<ServerCallNews>,
}

impl Chosen {
    /// The tool that the model means: by its full name, or by its own where only one tool has it. Small models leave
    /// the prefix out.
    pub(super) fn find(&self, name: &str) -> Option<&Tool> {
        self.by_name.get(name)
    }

    /// The tool of this server that it knows by this name.
    pub(super) fn of_server(&self, server: &str, own_name: &str) -> Option<&Tool> {
        self.by_name.values().find(|tool| tool.server == server && tool.own_name == own_name)
    }

    /// Whether a call of this tool waits for the client.
    pub(super) fn asks(&self, tool: &Tool) -> bool {
        self.asking.contains(&tool.name)
    }

    /// What the client is told first.
    pub(super) fn take_lists(&mut self) -> Vec<ServerCallNews> {
        std::mem::take(&mut self.lists)
    }
}

/// Chooses the tools and adds them to those that the model sees.
///
/// # Errors
/// A 400 that names the field, or a 503 if a server is down.
pub(super) fn choose(
    servers: &Servers,
    wanted: &ServerTools,
    chat: &mut ChatInput,
    limits: &Limits,
) -> Result<Chosen, ApiError> {
    check_servers(servers, wanted)?;
    let of_servers = |tool: &Tool| wanted.servers.as_ref().is_none_or(|names| names.contains(&tool.server));
    let offers = |tool: &Tool| of_servers(tool) && wanted.offers(&tool.server, &tool.own_name);
    let offered: Vec<Tool> = servers.tools().into_iter().filter(offers).collect();
    check_rules(&offered, wanted)?;
    let tools = match &wanted.tools {
        None => offered,
        Some(names) => pick(&offered, names)?,
    };
    if chat.tools.len() + tools.len() > limits.max_tools {
        let message = format!(
            "The request has {} tools with those of its MCP servers; at most {} are allowed. Choose some with \
             `mcp.tools`.",
            chat.tools.len() + tools.len(),
            limits.max_tools
        );
        return Err(ApiError::invalid("mcp", message));
    }
    let client: HashSet<String> = chat.tools.iter().filter_map(function_name).map(str::to_owned).collect();
    if let Some(tool) = tools.iter().find(|tool| client.contains(&tool.name)) {
        let message = format!("`tools` and the MCP servers both have a tool `{}`. Rename yours.", tool.name);
        return Err(ApiError::invalid("tools", message));
    }
    if chat.tools.is_empty() && !tools.is_empty() && chat.tool_choice == ToolChoice::None {
        // Without tools of its own, a request's choice is "none".
        chat.tool_choice = ToolChoice::Auto;
    }
    if let Some(choice) = &wanted.choice {
        chat.tool_choice = forced(&tools, choice, !chat.tools.is_empty())?;
    }
    chat.tools.extend(tools.iter().map(definition));
    let asking = tools.iter().filter(|tool| wanted.asks(&tool.server, &tool.own_name));
    let (asking, lists) = (asking.map(|tool| tool.name.clone()).collect(), lists(&tools, wanted));
    Ok(Chosen { asking, lists, ..names(tools, &client) })
}

/// What the model has to call. `others` is whether it has tools of the client's, too.
///
/// # Errors
/// A 400 if the tool isn't there, or if none is named and the model could call another server's.
fn forced(tools: &[Tool], choice: &ServerChoice, others: bool) -> Result<ToolChoice, ApiError> {
    let mut own = tools.iter().filter(|tool| tool.server == choice.server);
    let found = match &choice.tool {
        Some(name) => own.find(|tool| tool.own_name == *name),
        None => match (own.next(), own.next()) {
            (Some(only), None) => Some(only),
            (Some(_), Some(_)) if !others && tools.iter().all(|tool| tool.server == choice.server) => {
                return Ok(ToolChoice::Required);
            }
            (Some(_), Some(_)) => {
                let message = "Beside other tools, a choice of an MCP server with several tools has to name one of them.";
                return Err(ApiError::invalid("tool_choice.name", message));
            }
            (None, _) => None,
        },
    };
    found.map(|tool| ToolChoice::Named(tool.name.clone())).ok_or_else(|| {
        let message = "`tool_choice` names a tool that the MCP server doesn't have, or that `allowed_tools` leaves out.";
        ApiError::invalid("tool_choice", message)
    })
}

/// A rule that names a tool which isn't there is a mistake that its writer should see.
fn check_rules(offered: &[Tool], wanted: &ServerTools) -> Result<(), ApiError> {
    for rule in &wanted.rules {
        let is_there =
            |name: &String| offered.iter().any(|tool| tool.server == rule.server && tool.own_name == *name);
        if let Some(name) = rule.tools.iter().flatten().find(|name| !is_there(name)) {
            let shown: String = name.chars().take(100).collect();
            let message = format!(
                "`allowed_tools` names `{shown}`, which the MCP server `{}` doesn't have; GET /v1/mcp/tools lists its tools.",
                rule.server
            );
            return Err(ApiError::invalid("tools", message));
        }
    }
    Ok(())
}

fn lists(tools: &[Tool], wanted: &ServerTools) -> Vec<ServerCallNews> {
    let listed = |tool: &Tool| ListedTool {
        name: tool.own_name.clone(),
        description: tool.description.clone(),
        parameters: Value::Object((*tool.parameters).clone()),
    };
    let list = |server: &String| ServerCallNews::Listed {
        server: server.clone(),
        tools: tools.iter().filter(|tool| tool.server == *server).map(listed).collect(),
    };
    wanted.rules.iter().filter(|rule| rule.list).map(|rule| list(&rule.server)).collect()
}

fn check_servers(servers: &Servers, wanted: &ServerTools) -> Result<(), ApiError> {
    let param = if wanted.rules.is_empty() { "mcp.servers" } else { "tools" };
    let known = servers.servers();
    for name in wanted.servers.iter().flatten() {
        let Some(server) = known.iter().find(|server| server.name == *name) else {
            let shown: String = name.chars().take(100).collect();
            let message =
                format!("There is no MCP server `{shown}`; GET /v1/mcp/servers lists those there are.");
            return Err(ApiError::invalid(param, message));
        };
        if server.state != ServerState::Ready {
            let message = format!("The MCP server `{name}` is not ready ({}).", server.state.as_str());
            let error = ApiError::unavailable(message, RETRY);
            return Err(ApiError { param: Some(param.into()), ..error });
        }
    }
    Ok(())
}

/// The named ones of some tools.
fn pick(offered: &[Tool], names: &[String]) -> Result<Vec<Tool>, ApiError> {
    let mut picked: Vec<Tool> = Vec::new();
    for name in names {
        let mut found = offered.iter().filter(|tool| tool.name == *name);
        let mut by_own_name = offered.iter().filter(|tool| tool.own_name == *name);
        let tool = match (found.next(), by_own_name.next(), by_own_name.next()) {
            (Some(tool), ..) | (None, Some(tool), None) => tool,
            _ => {
                let shown: String = name.chars().take(100).collect();
                let message = format!(
                    "`mcp.tools` names `{shown}`, which is no tool of these MCP servers, or of several; GET \
                     /v1/mcp/tools lists the full names."
                );
                return Err(ApiError::invalid("mcp.tools", message));
            }
        };
        if !picked.iter().any(|known| known.name == tool.name) {
            picked.push(tool.clone());
        }
    }
    Ok(picked)
}

/// A tool in OpenAI's shape, which templates know.
fn definition(tool: &Tool) -> Value {
    json!({
        "type": "function",
        "function": {
            "name": tool.name,
            "description": tool.description,
            "parameters": &*tool.parameters,
        },
    })
}

fn function_name(tool: &Value) -> Option<&str> {
    tool.pointer("/function/name")?.as_str()
}

fn names(tools: Vec<Tool>, client: &HashSet<String>) -> Chosen {
    let mut own_names: HashMap<String, usize> = HashMap::new();
    for tool in &tools {
        *own_names.entry(tool.own_name.clone()).or_default() += 1;
    }
    let mut by_name = HashMap::new();
    for tool in &tools {
        let clear = own_names.get(&tool.own_name) == Some(&1) && !client.contains(&tool.own_name);
        if clear {
            by_name.insert(tool.own_name.clone(), tool.clone());
        }
    }
    // Full names go over own ones that look the same.
    by_name.extend(tools.into_iter().map(|tool| (tool.name.clone(), tool)));
    Chosen { by_name, ..Chosen::default() }
}

/// A request for tools on a server that has none.
pub(super) fn no_servers() -> ApiError {
    let message = "This server runs no MCP servers; start it with --mcp-config, or leave `mcp` out.";
    ApiError { param: Some("mcp".into()), ..ApiError::new(ErrorKind::BadRequest, message) }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use super::*;

    fn tool(server: &str, own_name: &str) -> Tool {
        Tool {
            name: format!("{server}__{own_name}"),
            server: server.into(),
            own_name: own_name.into(),
            description: String::new(),
            parameters: Arc::default(),
        }
    }

    impl Chosen {
        /// The same, of which each waits for the client.
        pub(in crate::agent) fn asking(mut self) -> Self {
            self.asking = self.by_name.values().map(|tool| tool.name.clone()).collect();
            self
        }
    }

    /// One tool, `now` of the server `time`.
    pub(in crate::agent) fn chosen() -> Chosen {
        names(vec![tool("time", "now")], &HashSet::new())
    }

    #[test]
    fn own_names_count_where_they_are_clear() {
        let tools = vec![tool("a", "x"), tool("a", "y"), tool("b", "y"), tool("b", "z"), tool("b", "a__x")];
        let chosen = names(tools, &HashSet::from(["z".to_owned()]));
        let found = |name: &str| chosen.find(name).map(|tool| tool.name.clone());
        assert_eq!(found("x").as_deref(), Some("a__x"));
        assert_eq!(found("a__y").as_deref(), Some("a__y"));
        // Of two tools, of the client, and the full name of another tool.
        assert_eq!((found("y"), found("z"), found("a__x").as_deref()), (None, None, Some("a__x")));
        assert_eq!(found("other"), None);
    }

    #[test]
    fn a_choice_is_a_tool_or_a_server() {
        let tools = [tool("a", "x"), tool("b", "x"), tool("b", "y")];
        let choose = |server: &str, name: Option<&str>, tools: &[Tool], others| {
            let choice = ServerChoice { server: server.into(), tool: name.map(str::to_owned) };
            forced(tools, &choice, others).map_err(|error| error.param.unwrap())
        };
        let named = |name: &str| Ok(ToolChoice::Named(name.to_owned()));
        assert_eq!(choose("b", Some("y"), &tools, true), named("b__y"));
        assert_eq!(choose("a", None, &tools, true), named("a__x"));
        assert_eq!(choose("b", None, &tools[1..], false), Ok(ToolChoice::Required));
        assert_eq!(choose("b", None, &tools[1..], true), Err("tool_choice.name".into()));
        assert_eq!(choose("b", None, &tools, false), Err("tool_choice.name".into()));
        assert_eq!(choose("a", Some("y"), &tools, false), Err("tool_choice".into()));
    }

    #[test]
    fn tools_are_picked_by_either_name() {
        let offered = vec![tool("a", "x"), tool("a", "y"), tool("b", "y")];
        let pick = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            pick(&offered, &names).map(|tools| tools.into_iter().map(|tool| tool.name).collect::<Vec<_>>())
        };
        assert_eq!(pick(&["x", "b__y", "a__x"]).unwrap(), ["a__x", "b__y"]);
        for name in ["y", "nope"] {
            assert_eq!(pick(&[name]).unwrap_err().param.as_deref(), Some("mcp.tools"));
        }
    }
}
