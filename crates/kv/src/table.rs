//! One sequence's blocks.

use std::collections::VecDeque;

use millrace_types::BlockId;

use crate::{NULL_BLOCK, OwnedBlock, SharedBlock};

/// The blocks of one sequence in order: block i holds the KV of tokens `i * block_size .. (i + 1) * block_size`.
///
/// First come those that no token will see any more, with [`NULL_BLOCK`] in their place, then the shared blocks, then the
/// writable ones. Hand the blocks back with [`BlockManager::release`](crate::BlockManager::release) before dropping a table
/// that is not empty.
#[derive(Debug, Default)]
pub struct BlockTable {
    skipped: usize,
    shared: VecDeque<SharedBlock>,
    owned: VecDeque<OwnedBlock>,
    /// The ids of the skipped ones, of `shared` and of `owned`: what a device wants to see.
    ids: Vec<BlockId>,
}

/// A block that leaves a table.
#[derive(Debug)]
#[must_use = "a dropped handle is a lost block"]
pub(crate) enum Taken {
    Shared(SharedBlock),
    Owned(OwnedBlock),
}

impl BlockTable {
    /// The physical blocks in order.
    pub fn ids(&self) -> &[BlockId] {
        &self.ids
    }

    /// Number of blocks, the skipped ones included.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there is no block.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// How many blocks, counted from the start, are no longer there.
    pub fn num_skipped(&self) -> usize {
        self.skipped
    }

    /// How many blocks, counted from the start, are skipped, or full, immutable and in the prefix index.
    pub fn num_sealed(&self) -> usize {
        self.skipped + self.shared.len()
    }

    /// Adds the places of blocks that no token will see; only to an empty table.
    pub(crate) fn push_skipped(&mut self, count: usize) {
        debug_assert!(self.is_empty(), "what is skipped comes first");
        self.ids.resize(count, NULL_BLOCK);
        self.skipped = count;
    }

    /// Adds a cached block; only before the first writable one.
    pub(crate) fn push_shared(&mut self, block: SharedBlock) {
        debug_assert!(self.owned.is_empty(), "a prefix hit comes before writable blocks");
        self.ids.push(block.id());
        self.shared.push_back(block);
    }

    /// Adds a writable block.
    pub(crate) fn push_owned(&mut self, block: OwnedBlock) {
        self.ids.push(block.id());
        self.owned.push_back(block);
    }

    /// Turns the first writable block into a shared one; nothing happens if there is none.
    pub(crate) fn seal_next(&mut self, seal: impl FnOnce(OwnedBlock) -> SharedBlock) {
        if let Some(block) = self.owned.pop_front() {
            self.shared.push_back(seal(block));
        }
    }

    /// Takes the first block that is there; its place stays.
    pub(crate) fn skip_next(&mut self) -> Option<Taken> {
        let shared = self.shared.pop_front().map(Taken::Shared);
        let block = shared.or_else(|| self.owned.pop_front().map(Taken::Owned))?;
        self.ids[self.skipped] = NULL_BLOCK;
        self.skipped += 1;
        Some(block)
    }

    /// Takes the last block. The table is empty when there is none.
    pub(crate) fn pop(&mut self) -> Option<Taken> {
        let owned = self.owned.pop_back().map(Taken::Owned);
        let block = owned.or_else(|| self.shared.pop_back().map(Taken::Shared));
        match block {
            Some(_) => self.ids.truncate(self.ids.len() - 1),
            None => {
                self.ids.clear();
                self.skipped = 0;
            }
        }
        block
    }
}
