//! Text to tokens and tokens to bytes.

use std::{collections::HashSet, path::Path};

use millrace_types::TokenId;
use serde_json::Value;

use crate::{
    TextError,
    vocab::{Alphabet, TokenBytes},
};

/// A model's tokenizer: `tokenizer.json` for the work, `tokenizer_config.json` for the special tokens' roles.
///
/// The `tokenizers` crate is what every Hugging Face model's file is written for; it is used without its C
/// dependencies. Decoding is our own, from token bytes (see [`Detokenizer`](crate::Detokenizer)).
#[derive(Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    alphabet: Alphabet,
    bytes: TokenBytes,
    special: HashSet<TokenId>,
    vocab_size: usize,
    /// Contents of `tokenizer_config.json`; an empty object if there is none.
    config: Value,
}

impl Tokenizer {
    /// Reads `tokenizer.json` and, if there is one, `tokenizer_config.json` in a folder.
    ///
    /// # Errors
    /// A file is missing, unreadable or not a tokenizer.
    pub fn from_folder(folder: &Path) -> Result<Self, TextError> {
        let path = folder.join("tokenizer.json");
        let json = std::fs::read(&path).map_err(|e| unusable(&path.display().to_string(), e))?;
        let config = std::fs::read(folder.join("tokenizer_config.json")).ok();
        Self::from_bytes(&path.display().to_string(), &json, config.as_deref())
    }

    /// The same from the files' contents; `name` stands for `tokenizer.json` in messages.
    ///
    /// # Errors
    /// The contents are not a tokenizer.
    pub fn from_bytes(name: &str, json: &[u8], config: Option<&[u8]>) -> Result<Self, TextError> {
        let mut inner = tokenizers::Tokenizer::from_bytes(json).map_err(|e| unusable(name, e))?;
        // Checkpoints keep settings of their training here; a server must see the whole text.
        inner.with_truncation(None).map_err(|e| unusable(name, e))?;
        inner.with_padding(None);
        let raw: Value = serde_json::from_slice(json).map_err(|e| unusable(name, e))?;
        let alphabet = Alphabet::of(raw.get("decoder").unwrap_or(&Value::Null));
        let config = match config {
            Some(config) => {
                let file = name.replace("tokenizer.json", "tokenizer_config.json");
                serde_json::from_slice(config).map_err(|e| unusable(&file, e))?
            }
            None => Value::Object(serde_json::Map::new()),
        };
        let added = inner.get_added_tokens_decoder();
        let special = added.iter().filter(|(_, token)| token.special).map(|(id, _)| *id).collect();
        // Ids may have gaps; the largest one decides.
        let vocab_size = inner.get_vocab(true).into_values().max().map_or(0, |id| id as usize + 1);
        let mut bytes = TokenBytes::default();
        for id in 0..vocab_size as u32 {
            match (added.get(&id), inner.id_to_token(id)) {
                // The text of an added token is what it says, in every alphabet.
                (Some(token), _) => bytes.push(token.content.as_bytes()),
                (None, Some(piece)) => bytes.push(&alphabet.bytes(&piece)),
                (None, None) => bytes.push(&[]),
            }
        }
        Ok(Self { inner, alphabet, bytes, special, vocab_size, config })
    }

    /// Token ids of a text; `add_special` adds what the model's tokenizer puts around a text (such as a BOS).
    ///
    /// # Errors
    /// The tokenizer refused the text.
    pub fn encode(&self, text: &str, add_special: bool) -> Result<Vec<TokenId>, TextError> {
        let encoding = self.inner.encode_fast(text, add_special).map_err(|e| TextError::Encode(e.to_string()))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of tokens, as [`Detokenizer`](crate::Detokenizer) gives it from the start of a text.
    pub fn decode(self: &std::sync::Arc<Self>, tokens: &[TokenId], skip_special: bool) -> String {
        let mut detokenizer = crate::Detokenizer::from_start(self.clone(), skip_special);
        let mut text = String::new();
        for token in tokens {
            detokenizer.push(*token, &mut text);
        }
        detokenizer.finish(&mut text);
        text
    }

    /// One more than the largest token id, added tokens included. The model's output may be wider.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// The id of a piece or added token, written as in the vocabulary.
    pub fn token_to_id(&self, token: &str) -> Option<TokenId> {
        self.inner.token_to_id(token)
    }

    /// The piece as written in the vocabulary.
    pub fn id_to_token(&self, id: TokenId) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// Whether a token is marked as special (control tokens such as end-of-sequence).
    pub fn is_special(&self, id: TokenId) -> bool {
        self.special.contains(&id)
    }

    /// The exact bytes that a token stands for; part of a character, perhaps. Empty for ids out of range.
    pub fn token_bytes(&self, id: TokenId) -> &[u8] {
        self.bytes.get(id)
    }

    /// The bytes of one token as text, for display.
    pub fn token_text(&self, id: TokenId) -> String {
        String::from_utf8_lossy(self.token_bytes(id)).into_owned()
    }

    /// The text of a role such as `bos_token` in `tokenizer_config.json`.
    pub fn special_token(&self, role: &str) -> Option<&str> {
        let value = self.config.get(role)?;
        value.as_str().or_else(|| value.get("content")?.as_str())
    }

    /// `tokenizer_config.json`.
    pub fn config(&self) -> &Value {
        &self.config
    }

    /// Longest text worth encoding for `max_tokens` tokens: no token is longer than this many bytes in total.
    pub fn max_text_bytes(&self, max_tokens: usize) -> usize {
        let longest = (0..self.vocab_size as u32).map(|id| self.token_bytes(id).len()).max().unwrap_or(1);
        max_tokens.saturating_mul(longest.max(4))
    }

    pub(crate) fn strips_leading_space(&self) -> bool {
        self.alphabet == Alphabet::SentencePiece { strip: true }
    }
}

fn unusable(file: &str, reason: impl std::fmt::Display) -> TextError {
    TextError::Tokenizer { file: file.to_owned(), reason: reason.to_string() }
}
