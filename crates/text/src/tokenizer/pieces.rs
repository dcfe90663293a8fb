//! The bytes of every token, in one table.

use millrace_types::TokenId;
use tokenizers::{Model, Tokenizer as Inner};

use super::decoder::DecodePlan;

const EXISTS: u8 = 1;
const SPECIAL: u8 = 2;

/// What each token adds to a text. Built once: decoding is then a matter of copying bytes.
pub(crate) struct Pieces {
    bytes: Vec<u8>,
    /// `bytes[ends[id - 1]..ends[id]]` belong to `id`.
    ends: Vec<u32>,
    flags: Vec<u8>,
    longest: usize,
    strip: Option<(char, usize)>,
}

impl Pieces {
    pub(super) fn new(inner: &Inner, plan: &DecodePlan) -> Self {
        // Ids may have holes, so the highest one counts, not their number. A hole of more than a few thousand can
        // only be a broken file; ids behind it are dropped.
        let mut ids: Vec<TokenId> = inner.get_vocab(true).into_values().collect();
        ids.sort_unstable();
        let limit = ids.len() + MAX_HOLES;
        let size = ids.iter().rev().map(|id| *id as usize + 1).find(|size| *size <= limit).unwrap_or(0);

        let mut table = Self {
            bytes: Vec::with_capacity(size * 8),
            ends: Vec::with_capacity(size),
            flags: Vec::with_capacity(size),
            longest: 0,
            strip: plan.strip_start(),
        };
        let added = inner.get_added_tokens_decoder();
        for id in 0..size as TokenId {
            let token = raw_token(inner, id);
            let special = added.get(&id).is_some_and(|token| token.special);
            table.add(token.map(|token| plan.bytes(&token, false)), special);
        }
        table
    }

    fn add(&mut self, piece: Option<Vec<u8>>, special: bool) {
        self.flags.push(if piece.is_some() { EXISTS } else { 0 } | if special { SPECIAL } else { 0 });
        let piece = piece.unwrap_or_default();
        self.longest = self.longest.max(piece.len());
        self.bytes.extend_from_slice(&piece);
        self.ends.push(self.bytes.len() as u32);
    }

    /// One more than the highest id.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Bytes of the longest token.
    pub(crate) fn longest(&self) -> usize {
        self.longest
    }

    pub(crate) fn bytes(&self, id: TokenId) -> &[u8] {
        let id = id as usize;
        let Some(end) = self.ends.get(id) else { return &[] };
        let start = if id == 0 { 0 } else { self.ends[id - 1] };
        &self.bytes[start as usize..*end as usize]
    }

    pub(crate) fn exists(&self, id: TokenId) -> bool {
        self.flag(id) & EXISTS != 0
    }

    pub(crate) fn is_special(&self, id: TokenId) -> bool {
        self.flag(id) & SPECIAL != 0
    }

    /// How many leading [`strip_char`](Self::strip_char)s a text loses.
    pub(crate) fn strip_start(&self) -> usize {
        self.strip.map_or(0, |(_, count)| count)
    }

    pub(crate) fn strip_char(&self) -> char {
        self.strip.map_or(' ', |(c, _)| c)
    }

    fn flag(&self, id: TokenId) -> u8 {
        self.flags.get(id as usize).copied().unwrap_or(0)
    }
}

const MAX_HOLES: usize = 1 << 16;

/// The token as the decoder sees it: added tokens in their normalized form, as in `tokenizers`' own `decode`.
pub(super) fn raw_token(inner: &Inner, id: TokenId) -> Option<String> {
    inner.get_added_vocabulary().simple_id_to_token(id).or_else(|| inner.get_model().id_to_token(id))
}
