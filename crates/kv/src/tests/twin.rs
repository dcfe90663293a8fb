//! What the pool should do, written with plain vectors and no thought for speed.

/// A pool whose blocks are named by contents of type `K`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TwinPool<K> {
    /// Free blocks, front first.
    pub(crate) queue: Vec<u32>,
    pub(crate) refs: Vec<u32>,
    /// Published blocks in order of publication.
    pub(crate) published: Vec<(K, u32)>,
}

impl<K: Clone + PartialEq> TwinPool<K> {
    pub(crate) fn new(num_blocks: u32) -> Self {
        Self { queue: (1..num_blocks).collect(), refs: vec![0; num_blocks as usize], published: Vec::new() }
    }

    pub(crate) fn find(&self, content: &K) -> Option<u32> {
        self.published.iter().find(|(other, _)| other == content).map(|(_, block)| *block)
    }

    pub(crate) fn num_cached(&self) -> usize {
        let contents = self.published.iter().map(|(content, _)| content);
        contents
            .enumerate()
            .filter(|(i, content)| self.published[..*i].iter().all(|(c, _)| c != *content))
            .count()
    }

    pub(crate) fn take(&mut self) -> Option<u32> {
        if self.queue.is_empty() {
            return None;
        }
        let block = self.queue.remove(0);
        self.published.retain(|(_, other)| *other != block);
        self.refs[block as usize] = 1;
        Some(block)
    }

    pub(crate) fn seal(&mut self, block: u32, content: K) {
        self.published.push((content, block));
    }

    pub(crate) fn share(&mut self, content: &K) -> Option<u32> {
        let block = self.find(content)?;
        self.queue.retain(|other| *other != block);
        self.refs[block as usize] += 1;
        Some(block)
    }

    pub(crate) fn free(&mut self, block: u32) {
        self.refs[block as usize] -= 1;
        if self.refs[block as usize] > 0 {
            return;
        }
        if self.published.iter().any(|(_, other)| *other == block) {
            self.queue.push(block);
        } else {
            self.queue.insert(0, block);
        }
    }

    pub(crate) fn drop_unused(&mut self) -> usize {
        let before = self.published.len();
        self.published.retain(|(_, block)| self.refs[*block as usize] > 0);
        before - self.published.len()
    }

    pub(crate) fn reset(&mut self) -> bool {
        let idle = self.refs.iter().all(|refs| *refs == 0);
        if idle {
            self.published.clear();
        }
        idle
    }
}
