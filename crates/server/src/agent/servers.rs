//! The MCP servers of one request: the operator's, and those that the request brings with it.

use std::{sync::Arc, time::Duration};

use millrace_api::{ApiError, ServerRule, ServerTools};
use millrace_mcp::{
    Manager, McpConfig, McpError, McpLimits, ServerSpec, ServerState, ServerStatus, Tool, ToolOutput,
};
use serde_json::{Map, Value};

use super::choose::no_servers;
use crate::{RequestUrls, http::App};

/// Servers that one request may bring.
const MOST_SERVERS: usize = 8;

/// Time in which a server of a request must have greeted and listed its tools.
const STARTUP: Duration = Duration::from_secs(15);

/// Reaches them; those of the request are left when the last of its copies is dropped.
#[derive(Clone)]
pub(super) struct Servers {
    app: Arc<App>,
    own: Option<Arc<Manager>>,
}

impl Servers {
    /// Connects to the servers that the request brings.
    ///
    /// # Errors
    /// A 400 if there are no servers at all, if one of the request's can't be used, or if the operator forbids them.
    pub(super) async fn of(app: &Arc<App>, wanted: &ServerTools) -> Result<Self, ApiError> {
        let brought: Vec<&ServerRule> = wanted.rules.iter().filter(|rule| rule.remote.is_some()).collect();
        if brought.is_empty() {
            return if app.mcp.is_some() {
                Ok(Self { app: app.clone(), own: None })
            } else {
                Err(no_servers())
            };
        }
        let specs = specs(app, &brought)?;
        let limits = McpLimits { startup: STARTUP, ..McpLimits::default() };
        let manager = Manager::start(McpConfig { servers: specs }, limits);
        manager.settled().await;
        if let Some(server) = manager.servers().into_iter().find(|server| server.state != ServerState::Ready)
        {
            let reason = server.error.unwrap_or_else(|| "it did not get ready".into());
            let message = format!("The MCP server `{}` can't be used: {reason}.", shown(&server.name));
            return Err(ApiError::invalid(SERVERS, message));
        }
        Ok(Self { app: app.clone(), own: Some(Arc::new(manager)) })
    }

    /// All that are known.
    pub(super) fn servers(&self) -> Vec<ServerStatus> {
        self.managers().flat_map(Manager::servers).collect()
    }

    /// The tools that can be called now.
    pub(super) fn tools(&self) -> Vec<Tool> {
        self.managers().flat_map(Manager::tools).collect()
    }

    /// Calls a tool by its full name.
    ///
    /// # Errors
    /// As [`Manager::call`].
    pub(super) async fn call(
        &self,
        name: &str,
        arguments: Map<String, Value>,
    ) -> Result<ToolOutput, McpError> {
        let has = |manager: &&Manager| manager.tools().iter().any(|tool| tool.name == name);
        match self.managers().find(has).or(self.app.mcp.as_ref()) {
            Some(manager) => manager.call(name, arguments).await,
            None => Err(McpError::UnknownTool { name: shown(name) }),
        }
    }

    /// The request's own come first: no name of the operator's can stand in their way, because both would be refused.
    fn managers(&self) -> impl Iterator<Item = &Manager> {
        self.own.as_deref().into_iter().chain(self.app.mcp.as_ref())
    }
}

/// The field at fault.
const SERVERS: &str = "tools";

/// The servers that a request brings, checked.
fn specs(app: &App, brought: &[&ServerRule]) -> Result<Vec<ServerSpec>, ApiError> {
    let refused = |message: String| ApiError::invalid(SERVERS, message);
    if app.config.mcp_request_urls == RequestUrls::None {
        let message = "This server reaches no MCP servers that requests bring; its operator would have to start it with \
                       --mcp-request-urls public.";
        return Err(refused(message.into()));
    }
    if brought.len() > MOST_SERVERS {
        return Err(refused(format!(
            "A request may bring {MOST_SERVERS} MCP servers, not {}.",
            brought.len()
        )));
    }
    let taken = app.mcp.as_ref().map(Manager::servers).unwrap_or_default();
    let mut specs: Vec<ServerSpec> = Vec::new();
    for rule in brought {
        let name = &rule.server;
        if taken.iter().any(|server| server.name == *name) || specs.iter().any(|spec| spec.name == *name) {
            let message = format!("There is another MCP server `{}`. Give yours another name.", shown(name));
            return Err(refused(message));
        }
        let Some(remote) = &rule.remote else { continue };
        let private = app.config.mcp_request_urls == RequestUrls::Any;
        let spec = ServerSpec::remote(name, remote.url.clone(), remote.headers.iter().cloned(), private);
        specs.push(spec.map_err(|error| refused(error.to_string()))?);
    }
    Ok(specs)
}

fn shown(name: &str) -> String {
    name.chars().take(100).collect()
}
