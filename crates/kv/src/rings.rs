//! Circular doubly linked lists over the numbers `0..n`, kept in one array: O(1) unlink from anywhere, no allocation.

/// Links of `n` nodes; every node is in exactly one ring, at first in a ring of its own.
#[derive(Debug)]
pub(crate) struct Rings {
    links: Vec<Link>,
}

#[derive(Debug, Clone, Copy)]
struct Link {
    prev: u32,
    next: u32,
}

impl Rings {
    /// `n` rings of one node each.
    pub(crate) fn new(n: u32) -> Self {
        Self { links: (0..n).map(|i| Link { prev: i, next: i }).collect() }
    }

    pub(crate) fn next(&self, node: u32) -> u32 {
        self.links[node as usize].next
    }

    /// Moves `node`, which must be alone, to the place before `at`.
    pub(crate) fn insert_before(&mut self, node: u32, at: u32) {
        debug_assert!(self.is_alone(node) && node != at, "node {node} is in another ring");
        let prev = self.links[at as usize].prev;
        self.links[node as usize] = Link { prev, next: at };
        self.links[prev as usize].next = node;
        self.links[at as usize].prev = node;
    }

    /// Takes `node` out of its ring; it is alone afterwards.
    pub(crate) fn unlink(&mut self, node: u32) {
        let Link { prev, next } = self.links[node as usize];
        self.links[prev as usize].next = next;
        self.links[next as usize].prev = prev;
        self.links[node as usize] = Link { prev: node, next: node };
    }

    pub(crate) fn is_alone(&self, node: u32) -> bool {
        self.next(node) == node
    }
}
