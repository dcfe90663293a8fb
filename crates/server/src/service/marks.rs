//! The tokens that reasoning begins and ends with, in one model's vocabulary.

use millrace_parse::Families;
use millrace_types::{ThinkingLimit, TokenId};

use super::framed;
use crate::ServedModel;

/// Brackets of marks that are tokens.
const BRACKETS: [(char, char); 3] = [('<', '>'), ('[', ']'), ('◁', '▷')];

/// What reasoning stands between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Marks {
    /// What begins it: a token of its own, and perhaps a word.
    pub(super) open: &'static str,
    /// The token that then follows, if there is one.
    pub(super) begin: Option<&'static str>,
    /// What leads out of it.
    pub(super) close: &'static str,
    /// What ends it besides.
    pub(super) exits: &'static [&'static str],
    /// If there are any: one of these goes on behind `close`.
    pub(super) then: &'static [&'static str],
}

/// The tokens between which reasoning stands: of a family's pairs, the first that the model has both of.
pub(super) fn pair(
    families: &Families,
    token: impl Fn(&str) -> Option<TokenId>,
) -> Option<(TokenId, TokenId)> {
    families.reasoning_marks().find_map(|(open, close)| token(open).zip(token(close)))
}

/// Where reasoning begins and how it can be brought to an end, as a limit of 0 tokens; `None` if one of its marks doesn't
/// begin with a token of its own. `may_call`: calls may come behind it.
pub(super) fn limit(model: &ServedModel, families: &Families, may_call: bool) -> Option<ThinkingLimit> {
    let vocabulary = Known(model);
    if families.is_framed() {
        return vocabulary.limit(framed::marks(may_call));
    }
    let mut pairs = families.reasoning_marks();
    pairs
        .find_map(|(open, close)| vocabulary.limit(Marks { open, begin: None, close, exits: &[], then: &[] }))
}

/// A model's vocabulary.
struct Known<'a>(&'a ServedModel);

impl Known<'_> {
    fn limit(&self, marks: Marks) -> Option<ThinkingLimit> {
        let (open, word) = self.head(marks.open)?;
        let begin = match marks.begin {
            Some(begin) => Some(self.token(begin)?),
            None => None,
        };
        let close = self.tokens(marks.close)?;
        let exits =
            marks.exits.iter().filter_map(|mark| self.token(mark)).chain(close.first().copied()).collect();
        // A word may be several tokens, of which the first decides.
        let first = |word: &&str| self.encode(word)?.first().copied();
        let then = marks.then.iter().map(first).collect::<Option<_>>()?;
        Some(ThinkingLimit {
            budget: 0,
            open,
            name: self.spelling(word),
            begin,
            close,
            exits,
            then,
            inside: false,
        })
    }

    /// The token of its own that a mark begins with, so that it doesn't depend on what stands before it; and the rest.
    fn head(&self, mark: &'static str) -> Option<(TokenId, &'static str)> {
        BRACKETS.into_iter().find_map(|(begin, end)| {
            let end_at = mark.starts_with(begin).then(|| mark.find(end)).flatten()?;
            let (first, rest) = mark.split_at(end_at + end.len_utf8());
            Some((self.token(first)?, rest))
        })
    }

    /// The tokens of a mark that begins with one of its own.
    fn tokens(&self, mark: &'static str) -> Option<Vec<TokenId>> {
        let (first, _) = self.head(mark)?;
        let tokens = self.encode(mark)?;
        (tokens.first() == Some(&first)).then_some(tokens)
    }

    /// All tokens that can be part of a word: models don't always spell it the same way.
    fn spelling(&self, word: &str) -> Vec<TokenId> {
        let is_part = |token: &TokenId| {
            let text = std::str::from_utf8(self.0.parts.tokenizer.token_bytes(*token));
            text.is_ok_and(|text| !text.is_empty() && word.contains(text))
        };
        let all = (0..self.0.engine.info().vocab_size).filter_map(|id| TokenId::try_from(id).ok());
        if word.is_empty() { Vec::new() } else { all.filter(is_part).collect() }
    }

    fn encode(&self, text: &str) -> Option<Vec<TokenId>> {
        let tokens = self.0.parts.tokenizer.encode(text, false).ok()?;
        tokens.iter().all(|token| self.has(*token)).then_some(tokens)
    }

    fn token(&self, text: &str) -> Option<TokenId> {
        self.0.parts.tokenizer.token_to_id(text).filter(|token| self.has(*token))
    }

    fn has(&self, token: TokenId) -> bool {
        (token as usize) < self.0.engine.info().vocab_size
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_of_one_pair() {
        let families = Families::named(None, Some("mistral")).unwrap();
        let marks = |known: &[&str]| {
            let token = |text: &str| known.iter().position(|known| *known == text);
            pair(&families, |text| token(text).and_then(|at| TokenId::try_from(at).ok()))
        };
        assert_eq!(marks(&["[THINK]", "[/THINK]", "<think>", "</think>"]), Some((0, 1)));
        assert_eq!(marks(&["<think>", "</think>"]), Some((0, 1)));
        assert_eq!(marks(&["[THINK]", "<think>", "</think>"]), Some((1, 2)));
        assert_eq!(marks(&["[/THINK]", "<think>"]), None);
        assert_eq!(pair(&Families::default(), |_| Some(1)), None);
    }
}
