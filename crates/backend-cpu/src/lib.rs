//! The CPU backend: kernels for several x86 feature levels (and portable ones for everything else), chosen at run
//! time, on a thread pool of its own.
//!
//! Three properties hold at every level and for every number of threads:
//!
//! * **Batch invariance, bit for bit.** An output element is accumulated in an order that depends on the shape of
//!   the weight (or on positions in the sequence, for attention) and never on the other rows of the batch.
//! * **No allocation in the steady step.** Scratch memory grows to the largest batch seen and stays.
//! * **An idle server uses no CPU.** Workers spin for some tens of microseconds and then park.
//!
//! `MILLRACE_CPU=portable|avx2|avx512|avx512_bf16|amx` caps the level.

// Kernels walk several arrays in step by the same register index.
#![allow(clippy::needless_range_loop)]

mod activations;
mod attend;
mod attention;
mod backend;
pub mod bandwidth;
mod elementwise;
mod kv;
mod layer_norm;
mod level;
mod linear;
mod pack;
pub mod peak;
mod pool;
mod pooling;
mod probe;
mod region;
mod rope;
mod sample;
mod shared;
mod simd;
mod threads;
#[cfg(target_arch = "x86_64")]
mod tile;

pub use backend::CpuBackend;
pub use level::Level;
pub use pool::{Pool, TaskPanicked};
pub use probe::{LevelReport, report};
pub use threads::default_threads;
