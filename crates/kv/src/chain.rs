//! The names of one sequence's full blocks, computed once and as the sequence grows.

use millrace_types::TokenId;

use crate::{BlockHash, PrefixKeys};

/// The chained hashes of a sequence's full blocks, in order.
#[derive(Debug, Clone)]
pub struct HashChain {
    block_size: usize,
    keys: PrefixKeys,
    hashes: Vec<BlockHash>,
}

impl HashChain {
    /// An empty chain for blocks of `block_size` tokens (at least 1).
    pub fn new(block_size: usize, keys: PrefixKeys) -> Self {
        debug_assert!(block_size > 0, "a block holds at least one token");
        Self { block_size, keys, hashes: Vec::new() }
    }

    /// Hashes the full blocks of `tokens` (the whole sequence from its start) that are not hashed yet.
    /// Tokens that were covered before must not have changed.
    pub fn extend(&mut self, tokens: &[TokenId]) {
        let done = self.hashes.len();
        let mut parent = self.hashes.last().copied().unwrap_or_else(BlockHash::root);
        for (i, block) in tokens.chunks_exact(self.block_size).enumerate().skip(done) {
            parent = BlockHash::of_block(&parent, block, i * self.block_size, &self.keys);
            self.hashes.push(parent);
        }
    }

    /// The hashes so far; entry i names tokens `0 .. (i + 1) * block_size`.
    pub fn hashes(&self) -> &[BlockHash] {
        &self.hashes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(tokens: &[TokenId], salt: Option<&str>) -> Vec<BlockHash> {
        let keys = PrefixKeys { cache_salt: salt.map(Into::into), ..PrefixKeys::default() };
        let mut chain = HashChain::new(4, keys);
        chain.extend(tokens);
        chain.hashes().to_vec()
    }

    #[test]
    fn growing_equals_hashing_at_once() {
        let tokens: Vec<TokenId> = (0..23).collect();
        let mut grown = HashChain::new(4, PrefixKeys::default());
        for end in 0..=tokens.len() {
            grown.extend(&tokens[..end]);
            assert_eq!(grown.hashes().len(), end / 4);
        }
        assert_eq!(grown.hashes(), chain(&tokens, None));
    }

    #[test]
    fn a_name_covers_everything_before_it() {
        let base = chain(&[1, 2, 3, 4, 5, 6, 7, 8], None);
        let other_start = chain(&[9, 2, 3, 4, 5, 6, 7, 8], None);
        let swapped = chain(&[5, 6, 7, 8, 1, 2, 3, 4], None);
        assert_ne!(base[1], other_start[1], "same block under another history");
        assert!(base.iter().all(|hash| !swapped.contains(hash)), "same blocks at other positions");
    }

    #[test]
    fn salts_part_the_whole_chain() {
        let tokens: Vec<TokenId> = (0..12).collect();
        let chains = [chain(&tokens, None), chain(&tokens, Some("a")), chain(&tokens, Some("b"))];
        for (i, j) in [(0, 1), (0, 2), (1, 2)] {
            assert!(chains[i].iter().zip(&chains[j]).all(|(a, b)| a != b));
        }
    }
}
