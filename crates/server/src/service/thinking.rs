//! How long a model may reason before it has to answer.

use millrace_api::{ApiError, GenerationOptions, Limits};
use millrace_types::ThinkingLimit;

use super::reading::Reading;

/// What request and server say about the reasoning of one answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ThinkingBounds {
    /// Tokens of reasoning; `None` is no limit.
    budget: Option<usize>,
    /// Tokens from the beginning of the answer to the end of reasoning, both marks included.
    until: Option<usize>,
    /// The request has to be refused if its budget can't be kept.
    must: bool,
}

impl ThinkingBounds {
    /// For an answer of at most `max_tokens`.
    pub(super) fn new(options: &GenerationOptions, limits: &Limits, max_tokens: usize) -> Self {
        // Below 0 there is no limit.
        let asked = options.thinking_token_budget.and_then(|budget| usize::try_from(budget).ok());
        let budget = match (asked, limits.max_thinking_tokens) {
            (Some(asked), Some(most)) => Some(asked.min(most)),
            (asked, most) => asked.or(most),
        };
        // Who names a budget, or says that there is none, needs no watchdog.
        let reserve = limits.answer_reserve.min(max_tokens / 2);
        let watched = reserve > 0 && options.thinking_token_budget.is_none();
        let must = asked.is_some() && !options.thinking_budget_is_a_wish;
        Self { budget, until: watched.then(|| max_tokens - reserve), must }
    }

    /// Tokens of reasoning between its marks, which are so many tokens of the answer.
    fn tokens(self, marks: usize) -> Option<usize> {
        let watched = self.until.map(|until| until.saturating_sub(marks));
        self.budget.into_iter().chain(watched).min()
    }
}

/// The limit on the reasoning of one answer, if there is one.
///
/// # Errors
/// A 400 if the request demands what can't be kept: for raw text, and for models without reasoning, or whose vocabulary
/// can't write what ends it.
pub(super) fn thinking_limit(
    bounds: ThinkingBounds,
    reading: Option<&Reading>,
) -> Result<Option<ThinkingLimit>, ApiError> {
    if bounds.tokens(0).is_none() {
        return Ok(None);
    }
    match reading.and_then(|reading| Some((reading, reading.marks()?))) {
        Some((reading, marks)) => {
            let follow = reading.follow(marks);
            let opening = if follow.inside() { 0 } else { marks.tokens.open.len() };
            let (close, then) = (marks.close.clone(), marks.then.clone());
            let around = opening + close.len() + usize::from(!then.is_empty());
            Ok(bounds.tokens(around).map(|budget| ThinkingLimit { budget, follow, close, then }))
        }
        None if !bounds.must => Ok(None),
        None => {
            let message = "`thinking_token_budget` can't be kept here: it needs a conversation with a model that reasons, \
                           and its reasoning parser. Leave it out.";
            Err(ApiError::invalid("thinking_token_budget", message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tightest_bound_counts_and_a_wish_is_never_refused() {
        let tokens = |asked, most, reserve, max_tokens| {
            let options = GenerationOptions { thinking_token_budget: asked, ..GenerationOptions::default() };
            let limits = Limits { max_thinking_tokens: most, answer_reserve: reserve, ..Limits::default() };
            let bounds = ThinkingBounds::new(&options, &limits, max_tokens);
            assert_eq!(bounds.must, asked.is_some_and(|asked| asked >= 0));
            (bounds.tokens(1), bounds.tokens(2))
        };
        assert_eq!(tokens(None, None, 0, 100), (None, None));
        assert_eq!(tokens(Some(-1), None, 20, 100), (None, None));
        assert_eq!(tokens(Some(-1), Some(30), 20, 100), (Some(30), Some(30)));
        assert_eq!(tokens(Some(50), Some(30), 20, 100), (Some(30), Some(30)));
        assert_eq!(tokens(Some(90), None, 20, 100), (Some(90), Some(90)));
        assert_eq!(tokens(None, None, 20, 100), (Some(79), Some(78)));
        assert_eq!(tokens(None, Some(30), 20, 100), (Some(30), Some(30)));
        // Half of the answer at most.
        assert_eq!(tokens(None, None, 90, 100), (Some(49), Some(48)));
        assert_eq!(tokens(None, None, 90, 1), (None, None));
        assert_eq!(tokens(None, None, 90, 2), (Some(0), Some(0)));
        let wish = GenerationOptions {
            thinking_token_budget: Some(5),
            thinking_budget_is_a_wish: true,
            ..GenerationOptions::default()
        };
        assert!(!ThinkingBounds::new(&wish, &Limits::default(), 9).must);
    }
}
