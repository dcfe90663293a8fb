//! The fixed set of physical blocks, who holds them, and in which order free ones are reused.

use millrace_types::BlockId;

use crate::{BlockHash, KvError, index::PrefixIndex, rings::Rings};

/// Block 0: never handed out, never cached. Stands in tables for blocks that are no longer needed, and is where
/// padded rows may write.
pub const NULL_BLOCK: BlockId = BlockId(0);

/// A writable block with exactly one owner. Give it back with [`BlockPool::free_owned`] or make it shared with
/// [`BlockPool::seal`]; a dropped handle is a lost block.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a dropped handle is a lost block"]
pub struct OwnedBlock(BlockId);

/// A reference to a full, immutable block in the prefix index. Give it back with [`BlockPool::free_shared`].
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a dropped handle is a lost reference"]
pub struct SharedBlock(BlockId);

impl OwnedBlock {
    /// The physical block.
    pub fn id(&self) -> BlockId {
        self.0
    }
}

impl SharedBlock {
    /// The physical block.
    pub fn id(&self) -> BlockId {
        self.0
    }
}

/// All blocks of a KV cache.
///
/// Free blocks form a queue: taken from the front; a block without a hash returns to the front (its content is
/// worthless), one with a hash to the back. So cached content is evicted least recently freed first, and stays
/// in the index, ready to be [shared](Self::share) again, until its block is taken.
#[derive(Debug)]
pub struct BlockPool {
    blocks: Vec<Block>,
    /// Node `blocks.len()` is the sentinel of the free queue.
    free: Rings,
    num_free: usize,
    index: PrefixIndex,
}

#[derive(Debug, Clone, Default)]
struct Block {
    /// Handles out there; 0 means that the block is on the free queue.
    refs: u32,
    /// Set while the block is in the index.
    hash: Option<BlockHash>,
}

#[expect(clippy::needless_pass_by_value, reason = "consuming a handle is what ends its owner's rights")]
impl BlockPool {
    /// A pool of `num_blocks` blocks, block 0 included; they are first taken in ascending order.
    ///
    /// # Errors
    /// [`KvError::NumBlocks`] outside `2..u32::MAX`.
    pub fn new(num_blocks: usize) -> Result<Self, KvError> {
        let sentinel = u32::try_from(num_blocks)
            .ok()
            .filter(|n| (2..u32::MAX).contains(n))
            .ok_or(KvError::NumBlocks(num_blocks))?;
        let mut free = Rings::new(sentinel + 1);
        for block in 1..sentinel {
            free.insert_before(block, sentinel);
        }
        Ok(Self {
            blocks: vec![Block::default(); num_blocks],
            free,
            num_free: num_blocks - 1,
            index: PrefixIndex::new(sentinel),
        })
    }

    /// Blocks that can be handed out at all (the null block cannot).
    pub fn capacity(&self) -> usize {
        self.blocks.len() - 1
    }

    /// Blocks on the free queue, cached ones included.
    pub fn num_free(&self) -> usize {
        self.num_free
    }

    /// Blocks that somebody holds.
    pub fn num_used(&self) -> usize {
        self.capacity() - self.num_free
    }

    /// Different contents that a lookup can find.
    pub fn num_cached(&self) -> usize {
        self.index.len()
    }

    /// The block that answers for `hash`, if there is one.
    pub fn find(&self, hash: &BlockHash) -> Option<BlockId> {
        self.index.get(hash)
    }

    /// Whether nobody holds the block.
    pub fn is_free(&self, block: BlockId) -> bool {
        self.blocks.get(block.0 as usize).is_some_and(|b| b.refs == 0) && block != NULL_BLOCK
    }

    /// Takes the block at the front of the free queue and evicts what it held.
    pub fn take(&mut self) -> Option<OwnedBlock> {
        let id = BlockId(self.free.next(self.sentinel()));
        if id.0 == self.sentinel() {
            return None;
        }
        self.leave_queue(id);
        let block = &mut self.blocks[id.0 as usize];
        block.refs = 1;
        if let Some(hash) = block.hash.take() {
            self.index.remove(&hash, id);
        }
        Some(OwnedBlock(id))
    }

    /// Publishes a full block under the name of its content; nobody may write to it from now on.
    pub fn seal(&mut self, block: OwnedBlock, hash: BlockHash) -> SharedBlock {
        let OwnedBlock(id) = block;
        self.blocks[id.0 as usize].hash = Some(hash);
        self.index.insert(hash, id);
        SharedBlock(id)
    }

    /// One more reference to the block that answers for `hash`; takes it off the free queue if it is there.
    pub fn share(&mut self, hash: &BlockHash) -> Option<SharedBlock> {
        let id = self.find(hash)?;
        if self.is_free(id) {
            self.leave_queue(id);
        }
        self.blocks[id.0 as usize].refs += 1;
        Some(SharedBlock(id))
    }

    /// Gives a writable block back, to the front of the free queue.
    pub fn free_owned(&mut self, block: OwnedBlock) {
        let OwnedBlock(id) = block;
        self.blocks[id.0 as usize].refs = 0;
        let front = self.free.next(self.sentinel());
        self.enter_queue(id, front);
    }

    /// Gives a reference back; with the last one the block goes to the back of the free queue.
    pub fn free_shared(&mut self, block: SharedBlock) {
        let SharedBlock(id) = block;
        let refs = &mut self.blocks[id.0 as usize].refs;
        *refs -= 1;
        if *refs == 0 {
            self.enter_queue(id, self.sentinel());
        }
    }

    /// Forgets all cached content, if nobody holds a block; the free queue keeps its order. Returns whether it did.
    pub fn reset_cache(&mut self) -> bool {
        if self.num_used() > 0 {
            return false;
        }
        for (id, block) in (0..).zip(&mut self.blocks) {
            if let Some(hash) = block.hash.take() {
                self.index.remove(&hash, BlockId(id));
            }
        }
        true
    }

    /// Forgets the cached content of all blocks that nobody holds; says how many there were. They stay where they are
    /// in the free queue.
    pub fn drop_unused(&mut self) -> usize {
        let mut dropped = 0;
        for (id, block) in (0..).zip(&mut self.blocks) {
            if block.refs == 0
                && let Some(hash) = block.hash.take()
            {
                self.index.remove(&hash, BlockId(id));
                dropped += 1;
            }
        }
        dropped
    }

    /// The free queue, front first.
    #[cfg(test)]
    pub(crate) fn free_queue(&self) -> Vec<u32> {
        let end = self.sentinel();
        std::iter::successors(Some(self.free.next(end)), |block| Some(self.free.next(*block)))
            .take_while(|block| *block != end)
            .collect()
    }

    fn sentinel(&self) -> u32 {
        self.blocks.len() as u32
    }

    fn leave_queue(&mut self, id: BlockId) {
        self.free.unlink(id.0);
        self.num_free -= 1;
    }

    fn enter_queue(&mut self, id: BlockId, before: u32) {
        self.free.insert_before(id.0, before);
        self.num_free += 1;
    }
}
