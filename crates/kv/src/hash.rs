//! Names for the content of full blocks, stable across processes, machines and versions of this crate.
//!
//! # Format
//!
//! A block's name is the SHA-256 of these bytes, all integers little-endian:
//!
//! | bytes | content |
//! |---|---|
//! | 32 | name of the block before it; for the first block the root, SHA-256 of the ASCII text `millrace kv block v1` |
//! | 4 | number of tokens in the block, u32 |
//! | 4 each | the token ids, u32 |
//! | … | the extra keys, each as tag (u8), payload length (u32), payload |
//!
//! Extra keys, in this order and only if present:
//!
//! | tag | in which blocks | payload |
//! |---|---|---|
//! | 1 | every block | adapter name, UTF-8 |
//! | 2 | every block that overlaps the media item, in order of the items | 32-byte content hash, then the item's first token relative to the block's first token, i64 |
//! | 3 | the first block (the chain carries it on) | cache salt, UTF-8 |
//!
//! The name says nothing about the model, its precision or its KV layout: a store that outlives the process
//! must keep those apart itself.

use std::fmt;

use millrace_types::TokenId;
use sha2::{Digest, Sha256};

const ROOT_TEXT: &[u8] = b"millrace kv block v1";
const ADAPTER: u8 = 1;
const MEDIA: u8 = 2;
const SALT: u8 = 3;

/// The name of a full block's content and of everything before it (256 bits; see the module's format).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockHash(pub [u8; 32]);

impl BlockHash {
    /// The parent of every first block.
    pub fn root() -> Self {
        Self(Sha256::digest(ROOT_TEXT).into())
    }

    /// The name of the block that starts at token `start` of its sequence, holds `tokens` and follows `parent`.
    pub fn of_block(parent: &Self, tokens: &[TokenId], start: usize, keys: &PrefixKeys) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(parent.0);
        hasher.update(length(tokens.len()));
        for token in tokens {
            hasher.update(token.to_le_bytes());
        }
        keys.write(&mut hasher, start, tokens.len());
        Self(hasher.finalize().into())
    }
}

impl fmt::Display for BlockHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for BlockHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlockHash({self})")
    }
}

/// Everything besides the tokens that a sequence's KV depends on, or that must keep it apart from others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PrefixKeys {
    /// Name (and version) of the adapter that computes the sequence.
    pub adapter: Option<String>,
    /// Sequences with different salts never share a block.
    pub cache_salt: Option<String>,
    /// Media items whose embeddings stand in for tokens, in order of their position.
    pub media: Vec<MediaKey>,
}

/// A media item within a prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaKey {
    /// Hash of the item's content after preprocessing.
    pub content: [u8; 32],
    /// Index of its first placeholder token.
    pub start: usize,
    /// Number of its placeholder tokens.
    pub len: usize,
}

impl PrefixKeys {
    /// Feeds the extra keys of the block `start .. start + len`.
    fn write(&self, hasher: &mut Sha256, start: usize, len: usize) {
        if let Some(adapter) = &self.adapter {
            write_key(hasher, ADAPTER, &[adapter.as_bytes()]);
        }
        for item in &self.media {
            if item.start < start + len && start < item.start.saturating_add(item.len) {
                let offset = item.start as i64 - start as i64;
                write_key(hasher, MEDIA, &[&item.content, &offset.to_le_bytes()]);
            }
        }
        if let Some(salt) = self.cache_salt.as_ref().filter(|_| start == 0) {
            write_key(hasher, SALT, &[salt.as_bytes()]);
        }
    }
}

fn write_key(hasher: &mut Sha256, tag: u8, payload: &[&[u8]]) {
    hasher.update([tag]);
    hasher.update(length(payload.iter().map(|part| part.len()).sum()));
    for part in payload {
        hasher.update(part);
    }
}

/// Lengths are small (a block, a name); a value past u32 cannot be reached with checked inputs.
fn length(n: usize) -> [u8; 4] {
    u32::try_from(n).unwrap_or(u32::MAX).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    // Expected values computed with Python's hashlib from the format in the module's docs.
    #[test]
    fn names_are_byte_exact() {
        let root = BlockHash::root();
        assert_eq!(root.to_string(), "1e312754dafbb41515f730f48830fc5a6a65fe0cf8928e8eab854bc3c69c6fb2");
        let plain = BlockHash::of_block(&root, &[1, 2, 3, 70000], 0, &PrefixKeys::default());
        assert_eq!(plain.to_string(), "ff769285173dcd52ea9ef1d0e844b3e3ccfda7ba88567d4260c4cddc7318d5d7");
        let keys = PrefixKeys {
            adapter: Some("sql-v2".into()),
            cache_salt: Some("tenant-7".into()),
            media: vec![MediaKey { content: [0xab; 32], start: 2, len: 4 }],
        };
        let first = BlockHash::of_block(&root, &[1, 2, 3, 70000], 0, &keys);
        assert_eq!(first.to_string(), "51ea97c30a48bd8bacfc15d4c1e371cac3ebb1b185727a31ed1e8bc9139034df");
        let second = BlockHash::of_block(&first, &[5, 6, 7, 8], 4, &keys);
        assert_eq!(second.to_string(), "090321213e19be9fe57f3cbf45d793fd40a6e3159467ec772daa5b1fe5e78e99");
        let third = BlockHash::of_block(&second, &[9, 9, 9, 9], 8, &keys);
        assert_eq!(third.to_string(), "f3446b255be59ead23aeaff2cbcff4f7b3428bfb49cde5df92acf274cc51369b");
    }
}
