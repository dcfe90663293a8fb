//! MCP servers and their calls.

use millrace_mcp::{CALL_SECONDS_BUCKETS, ServerState, ServerStatus};

use super::{histogram::Snapshot, text::TextWriter};

/// Writes what became of the servers' calls.
pub(super) fn write(writer: &mut TextWriter, servers: &[ServerStatus]) {
    if servers.is_empty() {
        return;
    }
    writer.family("millrace:mcp_server_up", "gauge", "Whether the MCP server is connected.");
    for server in servers {
        let up = u8::from(server.state == ServerState::Ready);
        writer.sample("millrace:mcp_server_up", &[("server", &server.name)], up);
    }
    let name = "millrace:mcp_server_restarts_total";
    writer.family(name, "counter", "Attempts to connect to the MCP server after the first.");
    for server in servers {
        writer.sample(name, &[("server", &server.name)], server.restarts);
    }
    let name = "millrace:mcp_calls_total";
    writer.family(name, "counter", "Calls of the MCP server's tools, by how they ended.");
    for server in servers {
        let calls = &server.calls;
        let outcomes = [("ok", calls.ok), ("tool_error", calls.tool_errors), ("failed", calls.failed)];
        for (outcome, count) in outcomes {
            writer.sample(name, &[("server", &server.name), ("outcome", outcome)], count);
        }
    }
    let name = "millrace:mcp_call_seconds";
    writer.family(name, "histogram", "Time of calls of the MCP server's tools.");
    for server in servers {
        let snapshot = Snapshot {
            bounds: &CALL_SECONDS_BUCKETS,
            counts: server.calls.buckets.clone(),
            sum: server.calls.time.as_secs_f64(),
        };
        writer.histogram(name, &[("server", &server.name)], &snapshot);
    }
}
