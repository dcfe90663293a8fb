//! The server: a [`Service`] that turns requests into event streams, and HTTP around it.
//!
//! [`Service`] knows no HTTP: it renders the template, tokenizes, checks lengths, submits to the engine, turns tokens
//! back into text and watches for stop strings. The terminal chat runs on it in process, over the same path as
//! every HTTP client. [`router`] puts vendor adapters, middleware and server-sent events around it;
//! [`serve`] runs the router until it is told to stop.

mod agent;
mod completions;
mod config;
mod documents;
mod error;
mod files;
mod formats;
mod http;
mod jobs;
mod keys;
mod listen;
mod metrics;
mod model;
mod process;
mod registry;
mod responses;
mod service;
mod shutdown;
mod store;

pub use config::{RequestUrls, ServerConfig};
pub use error::ServerError;
pub use files::FileStore;
pub use http::{App, Extras, check, router};
pub use keys::KeysFile;
pub use listen::{Listener, Tls, bind, serve};
pub use metrics::ModelMetrics;
pub use model::{ModelParts, ServedModel};
pub use registry::{
    Abilities, Lease, LoadError, LoadedModel, MemoryNeed, ModelDetails, ModelEntry, ModelKind, ModelPlan,
    ModelReport, ModelSource, ModelState, Registry, Residence, Stop,
};
pub use service::{Generation, Service};
pub use shutdown::{interrupts, stop_signals};
pub use store::{Store, StoreConfig};
