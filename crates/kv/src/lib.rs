//! Bookkeeping of the paged KV cache: which physical block holds which tokens, and which of them can be reused.
//!
//! The tensors live in a backend; this crate only hands out [`BlockId`](millrace_types::BlockId)s. One thread owns
//! it, so everything is plain `&mut` and nothing is locked.
//!
//! - [`BlockManager`] is the front door: prefix lookup, allocation, sealing, release.
//! - [`BlockTable`] lists one sequence's blocks: behind those that have left a sliding window the [`SharedBlock`]s (full, immutable, in the prefix index),
//!   then the [`OwnedBlock`]s (writable, exactly one owner). A block changes from owned to shared only by
//!   [`BlockPool::seal`], and both handles can be neither cloned nor made outside the pool.
//! - [`HashChain`] names the content of full blocks; the names are stable across processes, so that lower tiers
//!   (host memory, disk, remote) can hold the same blocks under the same names.

mod chain;
mod error;
mod hash;
mod index;
mod manager;
mod pool;
mod rings;
mod table;
#[cfg(test)]
mod tests;

pub use chain::HashChain;
pub use error::KvError;
pub use hash::{BlockHash, MediaKey, PrefixKeys};
pub use manager::{BlockManager, KvConfig, PrefixHit, PrefixStats, Slots};
pub use pool::{BlockPool, NULL_BLOCK, OwnedBlock, SharedBlock};
pub use table::BlockTable;
