//! What can go wrong.

/// Errors of the block bookkeeping.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KvError {
    /// The pool has no room for this allocation now; nothing was changed.
    #[error("The KV cache needs {needed} more blocks and {free} are free; wait, or preempt a sequence.")]
    OutOfBlocks {
        /// Blocks that would have to leave the free list.
        needed: usize,
        /// Blocks on the free list that are not reserved.
        free: usize,
    },
    /// The pool cannot be built.
    #[error("A KV cache of {0} blocks is impossible; use between 2 and 4294967294 (block 0 is reserved).")]
    NumBlocks(usize),
    /// The block size is zero or too large to hash.
    #[error("A KV block of {0} tokens is impossible; use between 1 and 65536.")]
    BlockSize(usize),
}
