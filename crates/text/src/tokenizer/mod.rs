//! Text to token ids and back.

mod added;
mod decoder;
mod pieces;
mod whole;

use std::fmt;

use millrace_types::TokenId;
use serde_json::{Map, Value};
use tokenizers::Tokenizer as Inner;

use self::{added::Frame, decoder::DecodePlan, pieces::Pieces};
pub use whole::WholeText;

use crate::{TextError, TextFiles, detokenizer::DecodeState};

/// A model's tokenizer. Immutable; share it in an `Arc`.
pub struct Tokenizer {
    inner: Inner,
    frame: Option<Frame>,
    plan: DecodePlan,
    pieces: Pieces,
    /// See [`info`](Self::info).
    info: Map<String, Value>,
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokenizer").field("vocab_size", &self.vocab_size()).finish_non_exhaustive()
    }
}

impl Tokenizer {
    /// Builds the tokenizer out of a model's files.
    ///
    /// # Errors
    /// If `tokenizer.json` isn't valid, or decodes in a way that can't be done token by token.
    pub fn from_files(files: &TextFiles) -> Result<Self, TextError> {
        let invalid = |error| TextError::invalid("tokenizer.json", error);
        let mut inner = Inner::from_bytes(files.tokenizer_json()).map_err(invalid)?;
        // A truncation or padding left over from training must not shorten or lengthen prompts.
        inner.with_truncation(None).map_err(invalid)?;
        inner.with_padding(None);
        added::apply(&mut inner, files.config()).map_err(invalid)?;
        let frame = Frame::new(&inner, files.config());
        let plan = DecodePlan::new(inner.get_decoder())?;
        let pieces = Pieces::new(&inner, &plan);
        Ok(Self { inner, frame, plan, pieces, info: files.config().describe() })
    }

    /// What `tokenizer_config.json` says, without the chat template: class, special tokens, added tokens, lengths.
    pub fn info(&self) -> &Map<String, Value> {
        &self.info
    }

    /// Token ids of `text`. Names of special tokens in the text become those tokens, as in transformers.
    /// `add_special`: also what the model wants around a text (often a begin-of-text token); rendered chat
    /// templates bring their own, so they want `false`.
    ///
    /// # Errors
    /// If the tokenizer has no token for a part of the text and no unknown token either.
    pub fn encode(&self, text: &str, add_special: bool) -> Result<Vec<TokenId>, TextError> {
        let by_inner = add_special && self.frame.is_none();
        let encoding =
            self.inner.encode_fast(text, by_inner).map_err(|error| TextError::Encode(error.to_string()))?;
        let ids = encoding.get_ids().to_vec();
        Ok(match &self.frame {
            Some(frame) if add_special => frame.around(ids),
            _ => ids,
        })
    }

    /// Like [`encode`](Self::encode), with a limit. A text far beyond it is refused before any work is done: no
    /// token stands for more than [`max_token_bytes`](Self::max_token_bytes).
    ///
    /// # Errors
    /// [`TextError::TooLong`], and those of [`encode`](Self::encode).
    pub fn encode_within(
        &self,
        text: &str,
        add_special: bool,
        max_tokens: usize,
    ) -> Result<Vec<TokenId>, TextError> {
        let at_least = text.len() / self.max_token_bytes();
        if at_least > max_tokens {
            return Err(TextError::TooLong { at_least, limit: max_tokens });
        }
        let ids = self.encode(text, add_special)?;
        if ids.len() > max_tokens {
            return Err(TextError::TooLong { at_least: ids.len(), limit: max_tokens });
        }
        Ok(ids)
    }

    /// The text of `ids`. Ids that name no token are left out; bytes that are no UTF-8 become U+FFFD.
    /// `skip_special`: special tokens are left out, too.
    pub fn decode(&self, ids: &[TokenId], skip_special: bool) -> String {
        let mut text = String::new();
        let mut state = DecodeState::new(self);
        for id in ids.iter().filter(|id| self.shows(**id, skip_special)) {
            state.push(self, *id, &mut text);
        }
        state.finish(&mut text);
        text
    }

    /// One more than the highest token id, added tokens included.
    pub fn vocab_size(&self) -> usize {
        self.pieces.len()
    }

    /// The bytes of the longest token.
    pub fn max_token_bytes(&self) -> usize {
        self.pieces.longest().max(1)
    }

    /// The id of a token by its name in the vocabulary (such as `<|im_end|>`, or `Ġthe`).
    pub fn token_to_id(&self, token: &str) -> Option<TokenId> {
        self.inner.token_to_id(token)
    }

    /// The name of a token in the vocabulary.
    pub fn id_to_token(&self, id: TokenId) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// Whether this is a control token, which `skip_special` hides.
    pub fn is_special(&self, id: TokenId) -> bool {
        self.pieces.is_special(id)
    }

    /// The exact bytes that this token adds to a text that it doesn't start; they need not be whole characters.
    /// Empty for ids that name no token.
    pub fn token_bytes(&self, id: TokenId) -> &[u8] {
        self.pieces.bytes(id)
    }

    /// [`token_bytes`](Self::token_bytes) as text, for display; parts of characters become U+FFFD.
    pub fn token_text(&self, id: TokenId) -> String {
        String::from_utf8_lossy(self.token_bytes(id)).into_owned()
    }

    pub(crate) fn pieces(&self) -> &Pieces {
        &self.pieces
    }

    /// The bytes of a token that starts a text.
    pub(crate) fn first_bytes(&self, id: TokenId) -> Vec<u8> {
        pieces::raw_token(&self.inner, id).map_or_else(Vec::new, |token| self.plan.bytes(&token, true))
    }

    pub(crate) fn shows(&self, id: TokenId, skip_special: bool) -> bool {
        self.pieces.exists(id) && !(skip_special && self.pieces.is_special(id))
    }
}
