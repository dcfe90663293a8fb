//! Texts, and pairs of texts, for models that read them whole.

use millrace_types::TokenId;
use tokenizers::{
    Encoding, PostProcessor, TruncationDirection, TruncationParams, TruncationStrategy, truncate_encodings,
};

use super::Tokenizer;
use crate::TextError;

/// A text's tokens, or a pair's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WholeText {
    /// With what the model wants around a text and between two.
    pub tokens: Vec<TokenId>,
    /// Where the second text begins, if the tokenizer tells the two apart (by its token types).
    pub second: Option<usize>,
}

impl Tokenizer {
    /// Token ids of a text, or of a pair as cross-encoders read it. With `truncate`, what is beyond so many tokens is
    /// cut off the end of the longer text; the special tokens stay.
    ///
    /// # Errors
    /// If the tokenizer has no token for a part of a text and no unknown token either, or `truncate` leaves no room
    /// for the special tokens.
    pub fn encode_whole(
        &self,
        first: &str,
        second: Option<&str>,
        add_special: bool,
        truncate: Option<usize>,
    ) -> Result<WholeText, TextError> {
        let failed = |error: tokenizers::Error| TextError::Encode(error.to_string());
        let plain = |text: &str| self.inner.encode_fast(text, false).map_err(failed);
        let (mut first, mut second) = (plain(first)?, second.map(plain).transpose()?);
        // A configuration that adds nothing has nothing to say: the post-processor may end texts with a token of its
        // own, as that of Qwen3-Embedding does.
        let frame = self.frame.as_ref().filter(|frame| frame.len() > 0);
        if let Some(most) = truncate {
            let added = match (add_special, frame) {
                (false, _) => 0,
                (true, Some(frame)) => frame.len(),
                (true, None) => {
                    self.inner.get_post_processor().map_or(0, |rule| rule.added_tokens(second.is_some()))
                }
            };
            let room = most.checked_sub(added).ok_or_else(|| {
                TextError::Encode(format!("{most} tokens leave no room for {added} special tokens"))
            })?;
            let params = TruncationParams {
                max_length: room,
                strategy: TruncationStrategy::LongestFirst,
                stride: 0,
                direction: TruncationDirection::Right,
            };
            (first, second) = truncate_encodings(first, second, &params).map_err(failed)?;
        }
        if let (true, Some(frame)) = (add_special, frame) {
            let ids = |encoding: &Encoding| encoding.get_ids().to_vec();
            let both = [ids(&first), second.as_ref().map(ids).unwrap_or_default()].concat();
            return Ok(WholeText { tokens: frame.around(both), second: None });
        }
        let whole = self.inner.post_process(first, second, add_special).map_err(failed)?;
        let begins = whole.get_type_ids().iter().position(|kind| *kind == 1);
        Ok(WholeText { tokens: whole.get_ids().to_vec(), second: begins })
    }
}
