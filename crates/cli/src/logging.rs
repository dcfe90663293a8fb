//! Where log lines go: standard error, so that answers on standard output stay clean.

use std::io::IsTerminal;

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::{EnvFilter, fmt};

use crate::args::{LogFormat, LogLevel};

/// The MCP library writes whole messages and URLs into its log, which may hold secrets. What matters of them is in
/// our own lines.
const QUIET: &str = "rmcp=off";

/// Starts logging at `level` in `format`. `RUST_LOG` refines it, in the syntax of tracing's `EnvFilter`.
pub(crate) fn init(level: LogLevel, format: LogFormat) {
    let default = match level {
        LogLevel::Off => LevelFilter::OFF,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let wanted = std::env::var(EnvFilter::DEFAULT_ENV).unwrap_or_default();
    // A default directive would count only if there were no others.
    let filter = EnvFilter::builder().parse_lossy(format!("{default},{QUIET},{wanted}"));
    let lines = fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => lines.json().flatten_event(true).with_ansi(false).init(),
    }
}
