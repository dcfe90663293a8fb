//! The prefix index: from a content hash to the blocks that hold it.

use std::collections::HashMap;

use millrace_types::BlockId;

use crate::{BlockHash, rings::Rings};

/// Blocks by content. Blocks with equal content are not merged (block tables only ever grow, which devices that
/// keep tables rely on); they form a ring, oldest first, and the oldest answers.
#[derive(Debug)]
pub(crate) struct PrefixIndex {
    oldest: HashMap<BlockHash, BlockId>,
    equals: Rings,
}

impl PrefixIndex {
    pub(crate) fn new(num_blocks: u32) -> Self {
        Self { oldest: HashMap::with_capacity(num_blocks as usize), equals: Rings::new(num_blocks) }
    }

    pub(crate) fn get(&self, hash: &BlockHash) -> Option<BlockId> {
        self.oldest.get(hash).copied()
    }

    /// Adds a block that is not in the index.
    pub(crate) fn insert(&mut self, hash: BlockHash, block: BlockId) {
        let oldest = *self.oldest.entry(hash).or_insert(block);
        if oldest != block {
            self.equals.insert_before(block.0, oldest.0);
        }
    }

    /// Removes a block that is in the index under `hash`.
    pub(crate) fn remove(&mut self, hash: &BlockHash, block: BlockId) {
        if self.get(hash) == Some(block) {
            if self.equals.is_alone(block.0) {
                self.oldest.remove(hash);
            } else {
                self.oldest.insert(*hash, BlockId(self.equals.next(block.0)));
            }
        }
        self.equals.unlink(block.0);
    }

    /// Number of different contents.
    pub(crate) fn len(&self) -> usize {
        self.oldest.len()
    }
}
