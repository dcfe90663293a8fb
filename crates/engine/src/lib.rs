//! The engine: one thread that owns everything it changes and talks through channels.
//!
//! [`EngineHandle`] is the only way in; [`start`] makes one from a loaded model. Behind it, each step is
//! `plan → run → commit`: the scheduler plans, the runner lays the plan out as one ragged batch and executes it,
//! and the ledger closes what has ended.

mod advance;
mod config;
mod core;
mod handle;
mod inspect;
mod ledger;
mod masks;
mod runner;
mod sampling;
mod start;
mod stats;

pub use config::{EngineConfig, EngineError};
pub use handle::{
    Command, EngineHandle, EngineInfo, EnginePort, Reservation, ResponseStream, SubmitError, SubmitOptions,
    channel,
};
pub use inspect::{Inspection, RequestState};
pub use millrace_sched::{BACKGROUND, Policy};
pub use start::{Engine, start};
pub use stats::{EngineStats, ITERATION_TOKEN_BUCKETS, MASK_SECONDS_BUCKETS};
