//! What `tokenizer_config.json` adds to `tokenizer.json`.

use millrace_types::TokenId;
use tokenizers::{AddedToken, Tokenizer as Inner};

use crate::files::TokenizerConfig;

/// Adds the tokens that only the configuration knows, and gives those that both know the configuration's flags,
/// as transformers does.
pub(super) fn apply(inner: &mut Inner, config: &TokenizerConfig) -> tokenizers::Result<()> {
    let known = inner.get_added_tokens_decoder();
    let changed = config.added_tokens().filter(|(id, token)| known.get(id) != Some(token));
    let changed: Vec<AddedToken> = changed.map(|(_, token)| token).collect();
    inner.add_tokens(changed)?;

    // A special token that has no row in the vocabulary would get an id that the model has no embedding for.
    let names = config.special_tokens().map(|(_, name)| name).chain(config.additional_special_tokens());
    let special: Vec<AddedToken> = names
        .filter(|name| inner.token_to_id(name).is_some() && !is_added(inner, name))
        .map(|name| AddedToken::from(name, true))
        .collect();
    inner.add_special_tokens(special)?;
    Ok(())
}

fn is_added(inner: &Inner, name: &str) -> bool {
    inner.get_added_vocabulary().get_vocab().contains_key(name)
}

/// The tokens around a text where the configuration says so itself; it then overrules the post-processor of
/// `tokenizer.json`.
pub(super) struct Frame {
    before: Option<TokenId>,
    after: Option<TokenId>,
}

impl Frame {
    pub(super) fn new(inner: &Inner, config: &TokenizerConfig) -> Option<Self> {
        let (add_bos, add_eos) = (config.add_bos_token, config.add_eos_token);
        if add_bos.is_none() && add_eos.is_none() {
            return None;
        }
        let id = |wanted: Option<bool>, name: &str| {
            wanted.filter(|wanted| *wanted)?;
            inner.token_to_id(config.special_token(name)?)
        };
        Some(Self { before: id(add_bos, "bos_token"), after: id(add_eos, "eos_token") })
    }

    /// Tokens around a text.
    pub(super) fn len(&self) -> usize {
        self.before.iter().chain(&self.after).count()
    }

    pub(super) fn around(&self, ids: Vec<TokenId>) -> Vec<TokenId> {
        self.before.into_iter().chain(ids).chain(self.after).collect()
    }
}
