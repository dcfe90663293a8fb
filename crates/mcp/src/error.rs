//! What can go wrong.

use std::{path::PathBuf, time::Duration};

/// A configuration that can't be used, or a call that has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum McpError {
    /// The file can't be read.
    #[error("the MCP configuration {path} cannot be read: {reason}", path = .path.display())]
    File {
        /// Where it should be.
        path: PathBuf,
        /// The system's reason.
        reason: String,
    },
    /// The file says something that isn't understood or isn't allowed.
    #[error("the MCP configuration is wrong at `{place}`: {problem}")]
    Config {
        /// The path of the field.
        place: String,
        /// What is wrong and what to do.
        problem: String,
    },
    /// A connection could not be made, or did not last.
    #[error("MCP server `{server}`: {reason}")]
    Connection {
        /// Its name in the configuration.
        server: String,
        /// What happened.
        reason: String,
    },
    /// No server has such a tool.
    #[error("there is no MCP tool `{name}`; GET /v1/mcp/tools lists those that there are")]
    UnknownTool {
        /// As it was asked for, shortened.
        name: String,
    },
    /// No server has such a name.
    #[error("there is no MCP server `{name}`; GET /v1/mcp/servers lists those that there are")]
    UnknownServer {
        /// As it was asked for, shortened.
        name: String,
    },
    /// The tool's server is down at the moment.
    #[error("MCP server `{server}` is not ready ({state}); try again later")]
    NotReady {
        /// Its name in the configuration.
        server: String,
        /// What it is doing instead.
        state: &'static str,
    },
    /// No answer in time. The server was told to give up.
    #[error("MCP server `{server}` did not answer within {limit:?}")]
    Timeout {
        /// Its name in the configuration.
        server: String,
        /// The server's `timeout`.
        limit: Duration,
    },
    /// The server went away during the call.
    #[error("MCP server `{server}` ended before it answered")]
    Lost {
        /// Its name in the configuration.
        server: String,
    },
    /// The server answered with an error instead of a result.
    #[error("MCP server `{server}` refused the call: {reason}")]
    Refused {
        /// Its name in the configuration.
        server: String,
        /// In its own words, shortened, without secrets.
        reason: String,
    },
}

/// `text` in at most `most` characters.
pub(crate) fn shorten(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
