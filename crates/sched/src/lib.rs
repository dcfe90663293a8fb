//! The scheduler: decides which tokens of which sequences the next step computes, and in which KV blocks.
//!
//! It is a pure planner: no I/O, no clock, no tensors; equal calls give equal plans. There is no prefill phase and
//! no decode phase: every sequence has tokens, and some of them are computed; a step hands out a token budget so
//! that computed catches up. Chunked prefill, prefix hits, preemption and several tokens per step all follow.
//!
//! ```
//! use millrace_sched::{Scheduler, SchedulerConfig, SeqInit};
//! use millrace_types::RequestId;
//!
//! # fn main() -> Result<(), millrace_sched::SchedError> {
//! let mut sched = Scheduler::new(SchedulerConfig { num_blocks: 64, ..SchedulerConfig::default() })?;
//! sched.add(SeqInit { id: RequestId(1), prompt: vec![7, 8, 9], max_tokens: 2, ..SeqInit::default() })?;
//! while sched.has_unfinished() {
//!     sched.plan();
//!     // A runner would compute this batch; here every sampled token is 5.
//!     let done: Vec<_> = sched.batch().map(|seq| (seq.id, seq.samples)).collect();
//!     for (id, samples) in done {
//!         sched.commit(id, if samples { &[5] } else { &[] });
//!         if sched.tokens(id).is_some_and(|tokens| tokens.len() == 5) {
//!             sched.finish(id);
//!         }
//!     }
//! }
//! # Ok(())
//! # }
//! ```

mod config;
mod error;
mod plan;
mod planner;
mod queue;
mod scheduler;
mod seq;
mod sharing;

pub use config::{Policy, SchedulerConfig};
pub use error::SchedError;
pub use plan::{Admitted, Plan, PlannedSeq, ScheduledSeq};
pub use scheduler::{SchedStats, Scheduler};
pub use seq::{BACKGROUND, SeqInfo, SeqInit};

pub use millrace_kv::PrefixKeys;
