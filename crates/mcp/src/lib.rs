//! Tools of other programs, over the Model Context Protocol.
//!
//! A [`Manager`] keeps one task per server of a configuration: the task connects (a child process over its standard
//! streams, or HTTP), lists the tools, follows their changes, and connects anew after a failure, with growing pauses.
//! Callers see one list of [`Tool`]s with names of their own, and [`call`](Manager::call) them.
//!
//! Servers are not trusted. What they send is bounded in size, count and time; what they return is text for whoever
//! asked and is never run; and one that hangs, floods or dies costs nobody but its own callers. Secrets of the
//! configuration are taken out of whatever leaves this crate.

mod address;
mod backoff;
mod command;
mod config;
mod counts;
mod error;
mod inbound;
mod limits;
mod manager;
mod names;
mod output;
mod process;
mod remote;
mod secret;
mod server;
mod session;
mod sse;
mod stderr;
mod tools;

pub use command::CommandRules;
pub use config::{Endpoint, McpConfig, RemoteSpec, ServerSpec, StdioSpec};
pub use counts::{CALL_SECONDS_BUCKETS, CallStats};
pub use error::McpError;
pub use limits::McpLimits;
pub use manager::Manager;
pub use output::ToolOutput;
pub use secret::Secret;
pub use server::{ServerState, ServerStatus};
pub use tools::Tool;
