//! A model's tokens, as grammars see them.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use llguidance::toktrie::{TokEnv, TokRxInfo, TokTrie, TokenizerEnv};
use millrace_types::TokenId;

use crate::GrammarError;

/// Longer tokens (there are some of a thousand spaces) are never chosen under a grammar: the trie has a limit.
const MAX_TOKEN_BYTES: usize = 512;

/// The tokens of one model.
pub struct Vocabulary {
    /// What each token adds to a text; empty for those that are no text.
    bytes: Vec<Vec<u8>>,
    special: Vec<(TokenId, String)>,
    ends: Vec<TokenId>,
    encode: Arc<Encode>,
}

/// Text to the tokens that the model's tokenizer would choose.
type Encode = dyn Fn(&str) -> Vec<TokenId> + Send + Sync;

impl fmt::Debug for Vocabulary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vocabulary").field("size", &self.size()).finish_non_exhaustive()
    }
}

impl Vocabulary {
    /// `bytes` has an entry for each id of the model, `special` the names of control tokens (whose bytes don't count),
    /// `ends` those that end an answer. `encode` is the model's tokenizer without anything added around the text; it
    /// makes the parts of an answer that are no choice of the model come in the tokens that the model knows them by.
    pub fn new(
        bytes: Vec<Vec<u8>>,
        special: Vec<(TokenId, String)>,
        ends: Vec<TokenId>,
        encode: impl Fn(&str) -> Vec<TokenId> + Send + Sync + 'static,
    ) -> Self {
        Self { bytes, special, ends, encode: Arc::new(encode) }
    }

    /// Number of token ids.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// The trie of all tokens with the tokenizer, and what else grammars have to know.
    pub(crate) fn into_parts(self) -> Result<(TokEnv, Names, Arc<[TokenId]>), GrammarError> {
        let fail = |reason: &str| GrammarError::Vocabulary(reason.to_owned());
        let Some(first_end) = self.ends.first().copied() else {
            return Err(fail("it has no token that ends an answer"));
        };
        let in_range = |id: &TokenId| (*id as usize) < self.size();
        let size = u32::try_from(self.size()).map_err(|_| fail("its vocabulary is too large"))?;
        let ends: Vec<TokenId> = self.ends.iter().copied().filter(in_range).collect();
        if ends.is_empty() {
            return Err(fail("the token that ends an answer is not in its vocabulary"));
        }
        let special: Vec<_> =
            self.special.into_iter().filter(|(id, _)| (*id as usize) < self.bytes.len()).collect();
        let mut words = self.bytes;
        words.iter_mut().filter(|word| word.len() > MAX_TOKEN_BYTES).for_each(Vec::clear);
        // As text, an end would be mistaken for one.
        ends.iter().for_each(|id| words[*id as usize].clear());
        for (id, name) in &special {
            words[*id as usize] = [&[TokTrie::SPECIAL_TOKEN_MARKER], name.as_bytes()].concat();
        }
        let build = || TokTrie::from(&TokRxInfo::new(size, first_end), &words).with_eos_tokens(&ends);
        let trie = catch_unwind(AssertUnwindSafe(build))
            .map_err(|_| fail("its vocabulary can't be put into a trie"))?;
        let environment = Arc::new(Environment { trie, encode: self.encode });
        Ok((environment, Names(special), ends.into()))
    }
}

/// Control tokens by name.
#[derive(Debug)]
pub(crate) struct Names(Vec<(TokenId, String)>);

impl Names {
    /// The text cut at the names of control tokens.
    pub(crate) fn split<'a>(&self, text: &'a str) -> Vec<Piece<'a>> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((at, name, id)) = self.first_special(rest) {
            if at > 0 {
                pieces.push(Piece::Text(&rest[..at]));
            }
            pieces.push(Piece::Token(id));
            rest = &rest[at + name.len()..];
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest));
        }
        pieces
    }

    /// The first name in a text, the longest if several begin there.
    fn first_special(&self, text: &str) -> Option<(usize, &str, TokenId)> {
        let names = self.0.iter().filter(|(_, name)| !name.is_empty());
        let found = names.filter_map(|(id, name)| Some((text.find(name.as_str())?, name.as_str(), *id)));
        found.min_by_key(|(at, name, _)| (*at, usize::MAX - name.len()))
    }
}

/// A piece of a text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    Text(&'a str),
    Token(TokenId),
}

struct Environment {
    trie: TokTrie,
    encode: Arc<Encode>,
}

impl TokenizerEnv for Environment {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        if let Ok(text) = std::str::from_utf8(bytes) {
            let tokens = (self.encode)(text);
            // Some tokenizers add a space, fold what they read, or see control tokens in it.
            if tokens.iter().all(|id| (*id as usize) < self.trie.vocab_size())
                && self.trie.decode_raw(&tokens) == bytes
            {
                return tokens;
            }
        }
        self.trie.greedy_tokenize(bytes)
    }
}
