//! The configuration: `{"mcpServers": {NAME: {…}}}`, as other tools have it.

mod expand;
mod file;

use std::{path::PathBuf, time::Duration};

use reqwest::Url;

use crate::{Secret, secret::Redactor};

/// All servers of a configuration, in its order.
#[derive(Debug, Clone, Default)]
pub struct McpConfig {
    /// Names are unique.
    pub servers: Vec<ServerSpec>,
}

/// One server.
#[derive(Debug, Clone)]
pub struct ServerSpec {
    /// The key in the configuration.
    pub name: String,
    /// How to reach it.
    pub endpoint: Endpoint,
    /// Time for one call, if it has its own.
    pub timeout: Option<Duration>,
    /// Whether it stays down.
    pub disabled: bool,
    /// The tools that may be used, by their own names; `None` allows all.
    pub allowed_tools: Option<Vec<String>>,
    /// Knows the secrets of this server.
    pub(crate) redactor: Redactor,
}

/// How to reach a server.
#[derive(Debug, Clone)]
pub enum Endpoint {
    /// A child process, over its standard streams.
    Stdio(StdioSpec),
    /// Streamable HTTP.
    Http(RemoteSpec),
    /// The older transport: a stream of events down, single requests up.
    Sse(RemoteSpec),
}

/// A child process.
#[derive(Debug, Clone)]
pub struct StdioSpec {
    /// A full path, or a name that the rules allow.
    pub command: String,
    /// Its arguments; they may hold secrets.
    pub args: Vec<Secret>,
    /// Variables beside the few that it inherits.
    pub env: Vec<(String, Secret)>,
    /// Its working directory; ours if there is none.
    pub cwd: Option<PathBuf>,
}

/// A server behind a URL.
#[derive(Clone)]
pub struct RemoteSpec {
    /// `http` or `https`, without user or password. Its path and query may hold secrets.
    pub url: Url,
    /// Headers of every request.
    pub headers: Vec<(http::HeaderName, http::HeaderValue)>,
    /// Whether it may be on this machine or a private network.
    pub allow_private: bool,
}

impl Endpoint {
    /// The transport's name: `stdio`, `http` or `sse`.
    pub fn transport(&self) -> &'static str {
        match self {
            Self::Stdio(_) => "stdio",
            Self::Http(_) => "http",
            Self::Sse(_) => "sse",
        }
    }
}

impl std::fmt::Debug for RemoteSpec {
    /// The place alone: path, query and headers may hold secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RemoteSpec")
            .field("url", &self.url.origin().ascii_serialization())
            .field("headers", &self.headers.len())
            .field("allow_private", &self.allow_private)
            .finish()
    }
}
