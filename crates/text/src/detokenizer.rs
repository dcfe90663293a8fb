//! Incremental detokenization: constant work per token, never half a character.

use std::sync::Arc;

use millrace_types::TokenId;

use crate::Tokenizer;

/// Turns a stream of tokens into a stream of text. Bytes that may still become a character are held back.
#[derive(Debug, Clone)]
pub struct Detokenizer {
    tokenizer: Arc<Tokenizer>,
    skip_special: bool,
    /// The start of a character whose end has not arrived; at most 3 bytes.
    pending: Vec<u8>,
    /// The next byte is the first of the text, where SentencePiece puts a space that isn't there.
    strip_space: bool,
}

impl Detokenizer {
    /// Continues a text: the first token follows a prompt, so its leading space is real.
    pub fn new(tokenizer: Arc<Tokenizer>, skip_special: bool) -> Self {
        Self { tokenizer, skip_special, pending: Vec::new(), strip_space: false }
    }

    /// Starts a text: a leading space that only the encoding put there is removed.
    pub fn from_start(tokenizer: Arc<Tokenizer>, skip_special: bool) -> Self {
        let strip_space = tokenizer.strips_leading_space();
        Self { tokenizer, skip_special, pending: Vec::new(), strip_space }
    }

    /// Appends to `text` what is certain once `token` has arrived.
    pub fn push(&mut self, token: TokenId, text: &mut String) {
        if self.skip_special && self.tokenizer.is_special(token) {
            return;
        }
        let mut bytes = self.tokenizer.token_bytes(token);
        if self.strip_space && !bytes.is_empty() {
            self.strip_space = false;
            bytes = bytes.strip_prefix(b" ").unwrap_or(bytes);
        }
        self.pending.extend_from_slice(bytes);
        self.release(text);
    }

    /// Ends the text: what is still pending is not a character.
    pub fn finish(&mut self, text: &mut String) {
        if !self.pending.is_empty() {
            self.pending.clear();
            text.push(char::REPLACEMENT_CHARACTER);
        }
    }

    /// Moves complete characters out of `pending`; each maximal invalid part becomes one U+FFFD, as in
    /// [`String::from_utf8_lossy`].
    fn release(&mut self, text: &mut String) {
        let mut rest = self.pending.as_slice();
        loop {
            match std::str::from_utf8(rest) {
                Ok(valid) => {
                    text.push_str(valid);
                    self.pending.clear();
                    return;
                }
                Err(error) => {
                    let (valid, after) = rest.split_at(error.valid_up_to());
                    text.push_str(&String::from_utf8_lossy(valid));
                    let Some(invalid) = error.error_len() else {
                        let kept = after.len();
                        self.pending.drain(..self.pending.len() - kept);
                        return;
                    };
                    text.push(char::REPLACEMENT_CHARACTER);
                    rest = &after[invalid..];
                }
            }
        }
    }
}
