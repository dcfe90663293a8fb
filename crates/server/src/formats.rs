//! What a model writes besides text, and what has to be kept of its tokens to find it.

use std::{collections::BTreeSet, sync::Arc};

use millrace_parse::{ArgumentsForm, Families, arguments_form};
use millrace_text::Tokenizer;
use millrace_types::TokenId;

use crate::service::marks::{Marks, Vocabulary};

/// The formats of one model, for requests with and without tools.
#[derive(Debug)]
pub(crate) struct Formats {
    with_tools: Format,
    without_tools: Format,
    /// Whether the template wants the arguments of earlier calls as JSON text instead of objects.
    pub(crate) text_arguments: bool,
}

/// What to look for in an answer.
#[derive(Debug, Clone)]
pub(crate) struct Format {
    pub(crate) families: Families,
    /// Special tokens that are part of its markup, in order: the parser needs them as text.
    pub(crate) markers: Arc<[TokenId]>,
    /// How its reasoning is told from its tokens, and brought to an end; `None` if it can't be.
    pub(crate) marks: Option<Marks>,
}

impl Formats {
    /// `ends` are tokens that end an answer: they are never text.
    pub(crate) fn new(families: Families, vocabulary: &Vocabulary<'_>) -> Self {
        let Vocabulary { tokenizer, template, ends, .. } = *vocabulary;
        let special: Vec<TokenId> = (0..tokenizer.vocab_size())
            .filter_map(|id| TokenId::try_from(id).ok())
            .filter(|id| tokenizer.is_special(*id) && !ends.contains(id))
            .collect();
        let format = |families: Families| Format {
            families,
            markers: markers(&families, tokenizer, &special),
            marks: Marks::new(&families, vocabulary, families.tool().is_some()),
        };
        Self {
            with_tools: format(families),
            without_tools: format(families.without_tools()),
            text_arguments: template
                .is_some_and(|template| arguments_form(template.source()) == ArgumentsForm::Text),
        }
    }

    /// The format for a request; `None` if its answers are text and nothing else.
    pub(crate) fn of(&self, may_call: bool) -> Option<&Format> {
        let format = if may_call { &self.with_tools } else { &self.without_tools };
        (!format.families.is_none()).then_some(format)
    }
}

/// The special tokens whose text is a marker or part of one.
fn markers(families: &Families, tokenizer: &Tokenizer, special: &[TokenId]) -> Arc<[TokenId]> {
    let texts = families.markers();
    let is_part = |id: &TokenId| {
        let text = tokenizer.token_text(*id);
        !text.is_empty() && texts.iter().any(|marker| marker.contains(&text))
    };
    special.iter().copied().filter(is_part).collect::<BTreeSet<_>>().into_iter().collect()
}
