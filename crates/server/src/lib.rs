//! The server: a [`Service`] that turns requests into event streams, and HTTP around it.
//!
//! [`Service`] knows no HTTP: it renders the template, tokenizes, checks lengths, submits to the engine, turns tokens
//! back into text and watches for stop strings. The terminal chat runs on it in process, over the same path as
//! every HTTP client. [`router`] puts vendor adapters, middleware and server-sent events around it;
//! [`serve`] runs the router until it is told to stop.

mod config;
mod error;
mod formats;
mod http;
mod keys;
mod listen;
mod metrics;
mod model;
mod process;
mod service;
mod shutdown;

pub use config::ServerConfig;
pub use error::ServerError;
pub use http::{App, check, router};
pub use keys::KeysFile;
pub use listen::{Listener, Tls, bind, serve};
pub use metrics::ModelMetrics;
pub use model::{ModelParts, Registry, ServedModel};
pub use service::{Generation, Service};
pub use shutdown::{interrupts, stop_signals};
