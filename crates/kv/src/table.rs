//! One sequence's blocks.

use std::collections::VecDeque;

use millrace_types::BlockId;

use crate::{OwnedBlock, SharedBlock};

/// The blocks of one sequence in order: block i holds the KV of tokens `i * block_size .. (i + 1) * block_size`.
///
/// The shared blocks come first, the writable ones after them. Hand the blocks back with
/// [`BlockManager::release`](crate::BlockManager::release) before dropping a table that is not empty.
#[derive(Debug, Default)]
pub struct BlockTable {
    shared: Vec<SharedBlock>,
    owned: VecDeque<OwnedBlock>,
    /// The ids of `shared`, then of `owned`: what a device wants to see.
    ids: Vec<BlockId>,
}

impl BlockTable {
    /// The physical blocks in order.
    pub fn ids(&self) -> &[BlockId] {
        &self.ids
    }

    /// Number of blocks.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there is no block.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// How many blocks, counted from the start, are full, immutable and in the prefix index.
    pub fn num_shared(&self) -> usize {
        self.shared.len()
    }

    /// Adds a cached block; only before the first writable one.
    pub(crate) fn push_shared(&mut self, block: SharedBlock) {
        debug_assert!(self.owned.is_empty(), "a prefix hit comes before writable blocks");
        self.ids.push(block.id());
        self.shared.push(block);
    }

    /// Adds a writable block.
    pub(crate) fn push_owned(&mut self, block: OwnedBlock) {
        self.ids.push(block.id());
        self.owned.push_back(block);
    }

    /// Turns the first writable block into a shared one; nothing happens if there is none.
    pub(crate) fn seal_next(&mut self, seal: impl FnOnce(OwnedBlock) -> SharedBlock) {
        if let Some(block) = self.owned.pop_front() {
            self.shared.push(seal(block));
        }
    }

    /// Takes the last writable block.
    pub(crate) fn pop_owned(&mut self) -> Option<OwnedBlock> {
        let block = self.owned.pop_back()?;
        self.ids.pop();
        Some(block)
    }

    /// Takes the last shared block; only when no writable one is left.
    pub(crate) fn pop_shared(&mut self) -> Option<SharedBlock> {
        debug_assert!(self.owned.is_empty(), "tables are taken apart from the end");
        let block = self.shared.pop()?;
        self.ids.pop();
        Some(block)
    }
}
