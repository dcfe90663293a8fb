//! How much a server may cost.

use std::time::Duration;

/// Bounds for every server. The defaults suit a machine that serves people.
#[derive(Debug, Clone)]
pub struct McpLimits {
    /// Time to connect, to greet and to list the tools; packages may have to be downloaded first.
    pub startup: Duration,
    /// Time for one call, unless the server's `timeout` says otherwise.
    pub call: Duration,
    /// Time to answer a ping after a call that timed out; else the server is started anew.
    pub ping: Duration,
    /// Calls that one server works on at a time; more wait.
    pub concurrent_calls: usize,
    /// Bytes of one message. A server that sends more is disconnected.
    pub message_bytes: usize,
    /// Bytes that a child process may write per second, on average; it waits when it has written more.
    pub bytes_per_second: usize,
    /// Bytes of one result's text; the rest is cut off, with a mark that says so.
    pub result_bytes: usize,
    /// Tools of one server; the rest is left out.
    pub tools: usize,
    /// Bytes of one tool's schema as JSON; a tool with more is left out.
    pub schema_bytes: usize,
    /// Nested arrays and objects in a schema; a tool with more is left out.
    pub schema_depth: usize,
    /// Characters of one tool's description; the rest is cut off.
    pub description_chars: usize,
    /// Pause after the first failure; it doubles with every further one.
    pub backoff_first: Duration,
    /// The longest pause.
    pub backoff_most: Duration,
    /// A server that was up for this long begins again with the first pause.
    pub healthy_after: Duration,
    /// Shortest time between two looks at a server's list of tools, however often it says that the list has changed.
    pub relist_pause: Duration,
    /// Time that a child process gets to end by itself, and again after it was told to.
    pub farewell: Duration,
}

impl Default for McpLimits {
    fn default() -> Self {
        Self {
            startup: Duration::from_secs(60),
            call: Duration::from_secs(30),
            ping: Duration::from_secs(5),
            concurrent_calls: 16,
            message_bytes: 8 << 20,
            bytes_per_second: 16 << 20,
            result_bytes: 64 << 10,
            tools: 256,
            schema_bytes: 64 << 10,
            schema_depth: 32,
            description_chars: 8192,
            backoff_first: Duration::from_secs(1),
            backoff_most: Duration::from_secs(60),
            healthy_after: Duration::from_secs(60),
            relist_pause: Duration::from_secs(1),
            farewell: Duration::from_secs(2),
        }
    }
}
