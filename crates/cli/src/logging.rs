//! Where log lines go: standard error, so that answers on standard output stay clean.

use std::io::IsTerminal;

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::{EnvFilter, fmt};

use crate::args::LogLevel;

/// Starts logging at `level`. `RUST_LOG` refines it, in the syntax of tracing's `EnvFilter`.
pub(crate) fn init(level: LogLevel) {
    let default = match level {
        LogLevel::Off => LevelFilter::OFF,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let filter = EnvFilter::builder().with_default_directive(default.into()).from_env_lossy();
    let ansi = std::io::stderr().is_terminal();
    fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(ansi).init();
}
