//! Tokens to text, one at a time.

use std::sync::Arc;

use millrace_types::TokenId;

use crate::{Tokenizer, utf8::Utf8Stream};

/// Turns a stream of tokens into a stream of text; constant work per token.
///
/// A character is released with the token that completes it. For any tokens, the concatenated results of
/// [`push`](Self::push) and [`finish`](Self::finish) equal [`Tokenizer::decode`] of all of them.
#[derive(Debug, Clone)]
pub struct Detokenizer {
    tokenizer: Arc<Tokenizer>,
    skip_special: bool,
    /// Special tokens that are shown all the same; sorted.
    visible: Arc<[TokenId]>,
    state: DecodeState,
}

impl Detokenizer {
    /// For text that starts here. `skip_special`: special tokens leave no trace in the text.
    pub fn new(tokenizer: Arc<Tokenizer>, skip_special: bool) -> Self {
        let state = DecodeState::new(&tokenizer);
        Self { tokenizer, skip_special, visible: Arc::default(), state }
    }

    /// Shows some special tokens in spite of `skip_special`: those that a reader of the text looks for.
    /// `visible` has to be sorted.
    #[must_use]
    pub fn showing(self, visible: Arc<[TokenId]>) -> Self {
        debug_assert!(visible.is_sorted(), "a binary search needs order");
        Self { visible, ..self }
    }

    /// For text that goes on after `prompt`: a leading space of the first token is a real one and stays, and a
    /// character that the prompt begins is completed here.
    pub fn after_prompt(tokenizer: Arc<Tokenizer>, skip_special: bool, prompt: &[TokenId]) -> Self {
        let mut detokenizer = Self::new(tokenizer, skip_special);
        // A character has at most 4 bytes, so it can't reach back further than 4 tokens that have any bytes.
        let tail = prompt.len().saturating_sub(PROMPT_TAIL);
        if prompt[..tail].iter().any(|token| detokenizer.shows(*token)) {
            detokenizer.state.go_on();
        }
        for token in &prompt[tail..] {
            detokenizer.push(*token);
        }
        detokenizer
    }

    /// The text that `token` makes certain; often empty in the middle of a character.
    pub fn push(&mut self, token: TokenId) -> String {
        let mut text = String::new();
        if self.shows(token) {
            self.state.push(&self.tokenizer, token, &mut text);
        }
        text
    }

    /// Ends the text: an incomplete character becomes U+FFFD.
    pub fn finish(&mut self) -> String {
        let mut text = String::new();
        self.state.finish(&mut text);
        text
    }

    fn shows(&self, token: TokenId) -> bool {
        let skip_special = self.skip_special && self.visible.binary_search(&token).is_err();
        self.tokenizer.shows(token, skip_special)
    }
}

const PROMPT_TAIL: usize = 8;

/// What decoding must remember from one token to the next; [`Tokenizer::decode`] uses the same.
#[derive(Debug, Clone)]
pub(crate) struct DecodeState {
    bytes: Utf8Stream,
    /// Whether a token was decoded already (the first one loses the space that encoding put before it).
    started: bool,
    /// Spaces to remove at the very start of the text.
    strip: usize,
}

impl DecodeState {
    pub(crate) fn new(tokenizer: &Tokenizer) -> Self {
        Self { bytes: Utf8Stream::default(), started: false, strip: tokenizer.pieces().strip_start() }
    }

    /// Says that text came before.
    fn go_on(&mut self) {
        self.started = true;
        self.strip = 0;
    }

    /// Appends the text that `token` makes certain. The caller has dropped tokens that aren't to be shown.
    pub(crate) fn push(&mut self, tokenizer: &Tokenizer, token: TokenId, out: &mut String) {
        let pieces = tokenizer.pieces();
        let start = out.len();
        if self.started {
            self.bytes.push(pieces.bytes(token), out);
        } else {
            self.started = true;
            self.bytes.push(&tokenizer.first_bytes(token), out);
        }
        if self.strip > 0 && out.len() > start {
            self.strip_from(start, pieces.strip_char(), out);
        }
    }

    pub(crate) fn finish(&mut self, out: &mut String) {
        self.bytes.finish(out);
    }

    fn strip_from(&mut self, start: usize, strip_char: char, out: &mut String) {
        let leading = out[start..].chars().take_while(|c| *c == strip_char).take(self.strip).count();
        let reached_text = start + leading * strip_char.len_utf8() < out.len();
        out.replace_range(start..start + leading * strip_char.len_utf8(), "");
        self.strip = if reached_text { 0 } else { self.strip - leading };
    }
}
