//! A small vocabulary, and answers written under a grammar.
#![allow(dead_code, clippy::unwrap_used)] // each test file uses its part; a panic is how a test fails

use millrace_grammar::{Expr, GrammarError, Grammars, Source, Vocabulary, Whitespace};
use millrace_types::{Constraint, TokenId};
use serde_json::Value;

/// Tokens above the 256 bytes.
const PIECES: [&str; 12] =
    ["{\"", "\":", "\",", "\"}", "true", "false", "null", "name", "arguments", ", ", "00", "<tool"];
pub(crate) const CALL: TokenId = 268;
pub(crate) const EOS: TokenId = 269;
pub(crate) const SIZE: usize = 270;

/// Greedy, which is what this tokenizer does.
pub(crate) fn encode(text: &str) -> Vec<TokenId> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.bytes().next() {
        let piece = PIECES.iter().enumerate().filter(|(_, piece)| rest.starts_with(**piece));
        match piece.max_by_key(|(_, piece)| piece.len()) {
            Some((index, piece)) => {
                tokens.push(256 + index as TokenId);
                rest = &rest[piece.len()..];
            }
            None => {
                let c = rest.chars().next().unwrap();
                tokens.extend(rest.bytes().take(c.len_utf8()).map(TokenId::from));
                let _ = first;
                rest = &rest[c.len_utf8()..];
            }
        }
    }
    tokens
}

pub(crate) fn bytes(token: TokenId) -> Vec<u8> {
    match token {
        0..256 => vec![token as u8],
        256..CALL => PIECES[token as usize - 256].as_bytes().to_vec(),
        CALL => b"<call>".to_vec(),
        _ => Vec::new(),
    }
}

pub(crate) fn text(tokens: &[TokenId]) -> String {
    String::from_utf8(tokens.iter().flat_map(|token| bytes(*token)).collect()).unwrap()
}

pub(crate) fn grammars() -> Grammars {
    Grammars::new(vocabulary)
}

fn vocabulary() -> Vocabulary {
    let words = (0..SIZE as TokenId).map(|id| if id >= CALL { Vec::new() } else { bytes(id) }).collect();
    let special = vec![(CALL, "<call>".to_owned()), (EOS, "<eos>".to_owned())];
    Vocabulary::new(words, special, vec![EOS], encode)
}

pub(crate) fn schema(schema: Value) -> Source {
    Source::Json { schema, whitespace: Whitespace::Flexible }
}

pub(crate) fn literal(text: &str) -> Expr {
    Expr::Literal(text.into())
}

pub(crate) fn start(source: &Source) -> Result<Box<dyn Constraint>, GrammarError> {
    grammars().get(source).map(|found| found.grammar.start())
}

pub(crate) fn mask(constraint: &mut dyn Constraint) -> Vec<u32> {
    let mut mask = vec![0; SIZE.div_ceil(32)];
    constraint.mask(&mut mask).unwrap();
    mask
}

pub(crate) fn is_set(mask: &[u32], token: TokenId) -> bool {
    mask[token as usize / 32] >> (token % 32) & 1 == 1
}

/// Whether a whole answer of these tokens is allowed.
pub(crate) fn accepts_tokens(source: &Source, tokens: &[TokenId]) -> bool {
    let mut constraint = start(source).unwrap();
    for token in tokens {
        if !is_set(&mask(&mut *constraint), *token) {
            return false;
        }
        constraint.commit(*token).unwrap();
    }
    is_set(&mask(&mut *constraint), EOS)
}

/// The same for a text, byte by byte except for control tokens: what a grammar forces it wants in the usual tokens, so
/// the usual ones are tried as well.
pub(crate) fn accepts(source: &Source, text: &str) -> bool {
    let parts: Vec<&str> = text.split("<call>").collect();
    let mut tokens = Vec::new();
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            tokens.push(CALL);
        }
        tokens.extend(encode(part));
    }
    accepts_tokens(source, &tokens)
}

/// A random answer: at each step any of the allowed tokens, by a generator seeded with `seed`. Prefers to end once it
/// has `soft` tokens; `None` if it didn't get to its end in `most`.
pub(crate) fn random_answer(source: &Source, seed: u64, soft: usize, most: usize) -> Option<Vec<TokenId>> {
    let mut constraint = start(source).unwrap();
    let mut random = Random(seed);
    let mut tokens = Vec::new();
    while tokens.len() < most {
        let mask = mask(&mut *constraint);
        let mut allowed: Vec<TokenId> = (0..SIZE as TokenId).filter(|token| is_set(&mask, *token)).collect();
        assert!(!allowed.is_empty());
        if is_set(&mask, EOS) && (allowed.len() == 1 || tokens.len() > soft) {
            return Some(tokens);
        }
        // What closes things is preferred late, and plain characters always: else strings are mostly escapes.
        if tokens.len() > soft {
            let closing: Vec<TokenId> = allowed
                .iter()
                .copied()
                .filter(|t| bytes(*t).iter().all(|b| b"\"]}".contains(b)) && *t != EOS)
                .collect();
            if !closing.is_empty() {
                allowed = closing;
            }
        }
        let token = allowed[random.below(allowed.len())];
        if token == EOS {
            return Some(tokens);
        }
        constraint.commit(token).unwrap();
        tokens.push(token);
        let before = tokens.len();
        constraint.fast_forward(random.below(4), &mut tokens).unwrap();
        assert!(tokens.len() - before < 4);
    }
    None
}

/// SplitMix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }
}
