//! All servers of a configuration.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use serde_json::{Map, Value};
use tokio::{sync::watch, task::JoinSet};

use crate::{
    McpConfig, McpError, McpLimits, ServerSpec, ServerState, ServerStatus, Tool, ToolOutput, counts::Outcome,
    error::shorten, names, server::Server, session::Connector, tools::Offer,
};

/// Runs the servers of a configuration and passes calls on. Dropping it stops them; [`stop`](Self::stop) does it in
/// good order.
pub struct Manager {
    servers: Vec<Arc<Server>>,
    stop: watch::Sender<bool>,
    tasks: Mutex<JoinSet<()>>,
}

impl Manager {
    /// Starts a task for each server; returns at once. Call it inside a Tokio runtime.
    pub fn start(config: McpConfig, limits: McpLimits) -> Self {
        let limits = Arc::new(limits);
        let server = |spec: ServerSpec| {
            let spec = Arc::new(spec);
            let connector = Connector { spec: spec.clone(), limits: limits.clone() };
            Server::new(spec, limits.clone(), Box::new(connector))
        };
        Self::over(config.servers.into_iter().map(server))
    }

    /// The same with servers that are made already.
    pub(crate) fn over(servers: impl IntoIterator<Item = Server>) -> Self {
        let servers: Vec<Arc<Server>> = servers.into_iter().map(Arc::new).collect();
        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        for server in &servers {
            let (server, stopped) = (server.clone(), stopped.clone());
            tasks.spawn(async move { server.run(stopped).await });
        }
        Self { servers, stop, tasks: Mutex::new(tasks) }
    }

    /// All servers, in the configuration's order.
    pub fn servers(&self) -> Vec<ServerStatus> {
        self.servers.iter().map(|server| server.status()).collect()
    }

    /// The tools that can be called now, by server and in the servers' order.
    pub fn tools(&self) -> Vec<Tool> {
        self.known()
            .into_iter()
            .filter_map(|(tool, state)| (state == ServerState::Ready).then_some(tool))
            .collect()
    }

    /// Calls a tool by its full name. Dropping the future cancels the call.
    ///
    /// # Errors
    /// If there is no such tool, its server is down, or it gives no result in time.
    pub async fn call(&self, name: &str, arguments: Map<String, Value>) -> Result<ToolOutput, McpError> {
        let known = self.known();
        let unknown = || McpError::UnknownTool { name: shorten(name, 100) };
        let (tool, _) = known.into_iter().find(|(tool, _)| tool.name == name).ok_or_else(unknown)?;
        let server =
            self.servers.iter().find(|server| server.spec.name == tool.server).ok_or_else(unknown)?;
        let begin = Instant::now();
        let result = server.call(&tool.own_name, arguments).await;
        let took = begin.elapsed();
        let outcome = match &result {
            Ok(output) if output.is_error => Outcome::ToolError,
            Ok(_) => Outcome::Ok,
            Err(_) => Outcome::Failed,
        };
        server.counts.note(outcome, took);
        // Names and sizes: contents are the users' own.
        match &result {
            Ok(output) => {
                let (bytes, is_error) = (output.text.len(), output.is_error);
                tracing::info!("MCP tool `{name}` returned {bytes} bytes in {took:?} (error: {is_error})");
            }
            Err(error) => tracing::warn!("MCP tool `{name}` failed after {took:?}: {error}"),
        }
        result
    }

    /// Waits until each server is ready, or has failed or been disabled: until the first look at them is worth it.
    pub async fn settled(&self) {
        for server in &self.servers {
            // The sender lives as long as the server.
            let _ = server.now().wait_for(|now| now.state != ServerState::Connecting).await;
        }
    }

    /// Ends all connections and child processes, and waits until they are gone.
    pub async fn stop(&self) {
        self.stop.send_replace(true);
        let mut tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        while tasks.join_next().await.is_some() {}
    }

    /// One of the servers.
    #[cfg(test)]
    pub(crate) fn server(&self, index: usize) -> &Server {
        &self.servers[index]
    }

    /// The tools of all servers, those that are down too: a name must not change its meaning when a server goes.
    fn known(&self) -> Vec<(Tool, ServerState)> {
        let offers: Vec<(&str, ServerState, Arc<[Offer]>)> = self
            .servers
            .iter()
            .map(|server| {
                let now = server.now();
                let now = now.borrow();
                (server.spec.name.as_str(), now.state, now.offers.clone())
            })
            .collect();
        let flat = || {
            offers.iter().flat_map(|(server, state, offers)| offers.iter().map(move |o| (*server, *state, o)))
        };
        let own: Vec<(&str, &str)> = flat().map(|(server, _, offer)| (server, offer.name.as_str())).collect();
        let tool = |((server, state, offer), name): ((&str, ServerState, &Offer), String)| {
            let tool = Tool {
                name,
                server: server.to_owned(),
                own_name: offer.name.clone(),
                description: offer.description.clone(),
                parameters: offer.parameters.clone(),
            };
            (tool, state)
        };
        flat().zip(names::assign(&own)).map(tool).collect()
    }
}

impl std::fmt::Debug for Manager {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.servers()).finish()
    }
}
