//! Sequences that start alike and arrive together (n samples of a prompt, a burst behind one system prompt).
//!
//! A block can be reused only once it is computed, so requests admitted in one step would each compute the same
//! prefix. If a running sequence is about to compute most of what a waiting one needs, the latter waits for it.

use millrace_kv::{BlockHash, BlockManager};

use crate::seq::Seq;

/// Whether a running neighbour will compute at least half of what `seq` would otherwise have to. For less than
/// that (often just the first tokens of a chat template) a step's delay costs more than it saves.
pub(crate) fn worth_waiting<'a>(
    seq: &Seq,
    mut running: impl Iterator<Item = &'a Seq>,
    kv: &BlockManager,
) -> bool {
    let len = seq.tokens.len();
    let block_size = kv.config().block_size;
    let reusable = seq.chain.hashes().len().min((len - 1) / block_size);
    let wanted = &seq.chain.hashes()[..reusable];
    running.any(|neighbour| {
        let done = neighbour.computed / block_size;
        let shared = common_prefix(wanted, neighbour.chain.hashes());
        let gain = shared.saturating_sub(done) * block_size;
        gain > 0 && 2 * gain >= len - done * block_size && kv.pool().find(&wanted[shared - 1]).is_none()
    })
}

/// Number of equal hashes at the start. Hashes are chained: once they differ they stay different.
fn common_prefix(a: &[BlockHash], b: &[BlockHash]) -> usize {
    let (mut equal, mut end) = (0, a.len().min(b.len()));
    while equal < end {
        let middle = equal + (end - equal) / 2;
        if a[middle] == b[middle] {
            equal = middle + 1;
        } else {
            end = middle;
        }
    }
    equal
}
