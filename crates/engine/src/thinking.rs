//! The bound on a sequence's reasoning: follows its tokens, and says what has to come once the bound is reached.

use millrace_types::{ThinkingLimit, TokenId};

/// Where a sequence with a limit on its reasoning is.
#[derive(Debug)]
pub(crate) struct Thinking {
    limit: ThinkingLimit,
    /// Tokens that reasoning may still have.
    left: usize,
    /// On the way out: behind so many of the closing tokens.
    leaving: Option<usize>,
}

/// What the limit says about the next token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next<'a> {
    /// Nothing.
    Free,
    /// It is this one, whatever else the request wants.
    Only(TokenId),
    /// It is one of these, as far as the answer's format allows any of them.
    OneOf(&'a [TokenId]),
}

impl Thinking {
    pub(crate) fn new(limit: ThinkingLimit) -> Self {
        Self { left: limit.budget, leaving: None, limit }
    }

    /// What may come next.
    pub(crate) fn next(&self) -> Next<'_> {
        let Some(index) = self.way_out() else { return Next::Free };
        self.limit.close.get(index).map_or(Next::OneOf(&self.limit.then), |token| Next::Only(*token))
    }

    /// Notes the next token of the sequence.
    pub(crate) fn append(&mut self, token: TokenId) {
        let forced = self.next() == Next::Only(token);
        let behind = self.way_out().filter(|_| forced).map(|index| index + 1);
        // A format may put other tokens behind the first one that was forced; then it knows the way.
        let end = self.limit.close.len() + usize::from(!self.limit.then.is_empty());
        self.leaving = behind.filter(|index| *index < end);
        let was_inside = self.limit.follow.inside();
        self.limit.follow.append(token);
        if was_inside && self.limit.follow.inside() && !forced {
            self.left = self.left.saturating_sub(1);
        }
    }

    /// How many of the closing tokens have come, if they must; all of them, if a choice is what remains.
    fn way_out(&self) -> Option<usize> {
        self.leaving.or_else(|| (self.limit.follow.inside() && self.left == 0).then_some(0))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use millrace_types::Follow;

    use super::*;

    /// Reasoning stands between these tokens.
    #[derive(Debug, Clone)]
    pub(crate) struct Between {
        pub(crate) open: &'static [TokenId],
        pub(crate) close: &'static [TokenId],
        pub(crate) inside: bool,
        /// The tokens so far, as far as they are part of a mark.
        pub(crate) seen: Vec<TokenId>,
    }

    impl Follow for Between {
        fn append(&mut self, token: TokenId) {
            self.seen.push(token);
            if self.seen.ends_with(if self.inside { self.close } else { self.open }) {
                self.inside = !self.inside;
                self.seen.clear();
            }
        }
        fn inside(&self) -> bool {
            self.inside
        }
        fn overruns(&self, _: TokenId) -> bool {
            false
        }
        fn forbid_overruns(&self, _: &mut [u32]) {}
        fn fork(&self) -> Box<dyn Follow> {
            Box::new(self.clone())
        }
    }

    /// What is said behind each token; the first thing said is at the beginning.
    fn way<'a>(thinking: &'a mut Thinking, tokens: &[TokenId]) -> Next<'a> {
        tokens.iter().for_each(|token| thinking.append(*token));
        thinking.next()
    }

    fn tags(budget: usize, inside: bool) -> Thinking {
        let follow = Box::new(Between { open: &[3], close: &[33], inside, seen: vec![] });
        Thinking::new(ThinkingLimit { budget, follow, close: vec![33], then: vec![] })
    }

    #[test]
    fn reasoning_between_two_tokens() {
        // Opened by the model, opened by the prompt, not at all, closed in time, and opened again.
        for (budget, inside, tokens, closes) in [
            (2, false, &[3, 8][..], false),
            (2, false, &[3, 8, 8], true),
            (1, true, &[], false),
            (1, true, &[8], true),
            (0, true, &[], true),
            (0, false, &[8, 8], false),
            (0, false, &[8, 3], true),
            (2, false, &[3, 8, 33, 8, 8, 8], false),
            (2, false, &[3, 8, 33, 3, 8], true),
            (0, true, &[33, 8], false),
        ] {
            let expected = if closes { Next::Only(33) } else { Next::Free };
            assert_eq!(way(&mut tags(budget, inside), tokens), expected, "{budget} {inside} {tokens:?}");
        }
    }

    /// Marks of several tokens, and a choice behind them.
    fn words(then: &[TokenId]) -> Thinking {
        let follow = Box::new(Between { open: &[1, 2, 3], close: &[4, 5], inside: false, seen: vec![] });
        Thinking::new(ThinkingLimit { budget: 2, follow, close: vec![10, 4, 5], then: then.to_vec() })
    }

    #[test]
    fn reasoning_between_words_is_led_out_of() {
        let mut thinking = words(&[6, 7]);
        assert_eq!(way(&mut thinking, &[1, 2, 3, 9]), Next::Free);
        assert_eq!(way(&mut thinking, &[9]), Next::Only(10));
        assert_eq!(way(&mut thinking, &[10]), Next::Only(4));
        assert_eq!(way(&mut thinking, &[4]), Next::Only(5));
        assert_eq!(way(&mut thinking, &[5]), Next::OneOf(&[6, 7]));
        assert_eq!(way(&mut thinking, &[6, 3, 9, 9, 9]), Next::Free);
        // What is opened again has nothing left.
        assert_eq!(way(&mut thinking, &[1, 2, 3]), Next::Only(10));
        assert_eq!(way(&mut words(&[]), &[1, 2, 3, 9, 9, 10, 4, 5]), Next::Free);
        // The model closes it itself.
        assert_eq!(way(&mut words(&[6]), &[1, 2, 3, 4, 5, 9, 9]), Next::Free);
    }

    #[test]
    fn a_format_may_lead_out_by_another_way() {
        assert_eq!(way(&mut words(&[6]), &[1, 2, 3, 9, 9, 4, 5, 8]), Next::Free);
        assert_eq!(way(&mut words(&[6]), &[1, 2, 3, 9, 9, 10, 8]), Next::Only(10));
    }
}
