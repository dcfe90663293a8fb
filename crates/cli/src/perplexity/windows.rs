//! A text as token windows that don't overlap.

use anyhow::{Result, ensure};
use millrace_text::Tokenizer;
use millrace_types::TokenId;

/// The windows of one text.
#[derive(Debug)]
pub(super) struct Windows {
    /// What the tokenizer puts before every text; each window begins with it.
    head: Vec<TokenId>,
    tokens: Vec<TokenId>,
    size: usize,
}

impl Windows {
    /// Cuts `text` into windows of `size` tokens, at least 2. Ids must be below `vocab`.
    pub(super) fn new(tokenizer: &Tokenizer, text: &str, size: usize, vocab: usize) -> Result<Self> {
        let tokens = tokenizer.encode(text, false)?;
        let windows = Self { head: head(tokenizer)?, tokens, size };
        ensure!(windows.head.len() < size, "a window of {size} tokens has no room for text; raise --window");
        let beyond = windows.head.iter().chain(&windows.tokens).find(|id| **id as usize >= vocab);
        if let Some(id) = beyond {
            anyhow::bail!(
                "the tokenizer makes token {id}, but the model has only {vocab}; check --tokenizer"
            );
        }
        Ok(windows)
    }

    /// Head and text of each window. A last window with nothing to predict is left out.
    pub(super) fn iter(&self) -> impl Iterator<Item = Vec<TokenId>> {
        let windows = self.tokens.chunks(self.size - self.head.len()).map(|text| [&self.head, text].concat());
        windows.filter(|window| window.len() > 1)
    }

    /// Tokens per window.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.iter().count()
    }

    /// Tokens that the model reads.
    pub(super) fn computed(&self) -> usize {
        self.iter().map(|window| window.len()).sum()
    }

    /// Tokens that the model predicts: all but the first of each window.
    pub(super) fn scored(&self) -> usize {
        self.computed() - self.count()
    }
}

/// The tokens before a text's own.
fn head(tokenizer: &Tokenizer) -> Result<Vec<TokenId>> {
    let mut with = tokenizer.encode("a", true)?;
    let bare = tokenizer.encode("a", false)?;
    let at = with.windows(bare.len().max(1)).position(|part| part == bare).unwrap_or(0);
    with.truncate(at);
    Ok(with)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn windows(head: &[TokenId], tokens: usize, size: usize) -> Windows {
        Windows { head: head.to_vec(), tokens: (10..10 + tokens as TokenId).collect(), size }
    }

    #[test]
    fn every_token_is_in_one_window() {
        let cut = windows(&[], 7, 3);
        assert_eq!(cut.iter().collect::<Vec<_>>(), [vec![10, 11, 12], vec![13, 14, 15]]);
        assert_eq!((cut.count(), cut.computed(), cut.scored()), (2, 6, 4));
        let cut = windows(&[1], 5, 3);
        assert_eq!(cut.iter().collect::<Vec<_>>(), [vec![1, 10, 11], vec![1, 12, 13], vec![1, 14]]);
        assert_eq!((cut.count(), cut.computed(), cut.scored()), (3, 8, 5));
        assert_eq!(windows(&[], 1, 3).scored(), 0);
        assert_eq!(windows(&[1], 0, 3).scored(), 0);
    }
}
