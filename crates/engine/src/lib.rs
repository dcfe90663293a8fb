//! The engine: one thread that owns everything it changes and talks through channels.
//!
//! [`EngineHandle`] is the only way in; [`start`] makes one from a loaded model. Behind it, each step is
//! `plan → run → commit`: the scheduler plans, the runner lays the plan out as one ragged batch and executes it,
//! and the ledger closes what has ended. Models that read whole texts have a simpler way of working within the same loop,
//! behind the same handle ([`start_pooling`]).

mod advance;
mod config;
mod constrained;
mod generation;
mod handle;
mod inbox;
mod inspect;
mod ledger;
mod masks;
mod pooling;
mod runner;
mod sampling;
mod start;
mod stats;
mod thinking;
mod work;

pub use config::{EngineConfig, EngineError};
pub use handle::{
    Command, EngineHandle, EngineInfo, EnginePort, PoolingInfo, Reservation, ResponseStream, SubmitError,
    SubmitOptions, channel,
};
pub use inspect::{Inspection, RequestState};
pub use millrace_model::spec::encoder::{Labels, Matryoshka, PoolingTask, ScoreScale};
pub use millrace_sched::{BACKGROUND, Policy};
pub use pooling::{PoolingConfig, start_pooling};
pub use start::{Engine, start};
pub use stats::{EngineStats, ITERATION_TOKEN_BUCKETS, MASK_SECONDS_BUCKETS};
