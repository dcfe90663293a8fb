//! The bound on a sequence's reasoning: follows its tokens, and says what has to come once the bound is reached.

use millrace_types::{ThinkingLimit, TokenId};

/// Where a sequence with a limit on its reasoning is.
#[derive(Debug)]
pub(crate) struct Thinking {
    limit: ThinkingLimit,
    /// Tokens that reasoning may still have.
    left: usize,
    opening: Opening,
    place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Outside,
    Inside,
    /// On the way out, behind so many of the closing tokens.
    Leaving(usize),
    /// Behind all of them.
    Choosing,
}

/// How far reasoning is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Opening {
    /// Not at all.
    Closed,
    /// Its name is to follow.
    Unnamed,
    /// More of its name may follow.
    Named,
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
        let place = if limit.inside { Place::Inside } else { Place::Outside };
        Self { left: limit.budget, opening: Opening::Closed, place, limit }
    }

    /// What may come next.
    pub(crate) fn next(&self) -> Next<'_> {
        let close = |index: usize| self.limit.close.get(index).map_or(Next::Free, |token| Next::Only(*token));
        match self.place {
            Place::Inside if self.left == 0 => close(0),
            Place::Leaving(index) => close(index),
            Place::Choosing => Next::OneOf(&self.limit.then),
            Place::Inside | Place::Outside => Next::Free,
        }
    }

    /// Notes the next token of the sequence.
    pub(crate) fn append(&mut self, token: TokenId) {
        let forced = self.next() == Next::Only(token);
        self.place = match self.place {
            Place::Inside if forced => self.behind(1),
            Place::Leaving(index) if forced => self.behind(index + 1),
            Place::Inside if !self.limit.exits.contains(&token) => {
                self.left = self.left.saturating_sub(1);
                Place::Inside
            }
            // A format may put other tokens behind the first one that was forced; then it knows the way.
            Place::Inside | Place::Leaving(_) | Place::Choosing | Place::Outside => Place::Outside,
        };
        if self.place != Place::Inside {
            self.follow_opening(token);
        }
    }

    /// Behind so many closing tokens.
    fn behind(&self, count: usize) -> Place {
        match count {
            _ if count < self.limit.close.len() => Place::Leaving(count),
            _ if self.limit.then.is_empty() => Place::Outside,
            _ => Place::Choosing,
        }
    }

    fn follow_opening(&mut self, token: TokenId) {
        let ThinkingLimit { open, name, begin, .. } = &self.limit;
        let is_name = name.contains(&token);
        self.opening = match self.opening {
            _ if token == *open && name.is_empty() => Opening::Named,
            _ if token == *open => Opening::Unnamed,
            Opening::Unnamed | Opening::Named if is_name => Opening::Named,
            Opening::Named if *begin == Some(token) => Opening::Named,
            _ => Opening::Closed,
        };
        let complete = self.opening == Opening::Named && begin.is_none_or(|begin| begin == token);
        if complete && self.place == Place::Outside {
            (self.opening, self.place) = (Opening::Closed, Place::Inside);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said behind each token; the first thing said is at the beginning.
    fn way<'a>(thinking: &'a mut Thinking, tokens: &[TokenId]) -> Next<'a> {
        tokens.iter().for_each(|token| thinking.append(*token));
        thinking.next()
    }

    fn tags(budget: usize, inside: bool) -> Thinking {
        Thinking::new(ThinkingLimit {
            budget,
            open: 3,
            close: vec![33],
            exits: vec![33],
            inside,
            ..ThinkingLimit::default()
        })
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

    /// Messages as harmony frames them: 1 a channel, 2 and 20 its name, 3 the message, 4 its end, 5 the next one's start.
    fn frames(then: &[TokenId]) -> Thinking {
        Thinking::new(ThinkingLimit {
            budget: 2,
            open: 1,
            name: vec![2, 20],
            begin: Some(3),
            close: vec![4, 5, 1],
            exits: vec![4, 5, 1],
            then: then.to_vec(),
            inside: false,
        })
    }

    #[test]
    fn reasoning_in_frames_is_led_out_of() {
        let mut thinking = frames(&[6, 7]);
        assert_eq!(way(&mut thinking, &[1, 2]), Next::Free);
        assert_eq!(way(&mut thinking, &[3, 9]), Next::Free);
        assert_eq!(way(&mut thinking, &[9]), Next::Only(4));
        assert_eq!(way(&mut thinking, &[4]), Next::Only(5));
        assert_eq!(way(&mut thinking, &[5]), Next::Only(1));
        assert_eq!(way(&mut thinking, &[1]), Next::OneOf(&[6, 7]));
        assert_eq!(way(&mut thinking, &[6, 3, 9, 9, 9]), Next::Free);
        // What is opened again has nothing left.
        assert_eq!(way(&mut thinking, &[4, 5, 1, 2, 3]), Next::Only(4));
        assert_eq!(way(&mut frames(&[]), &[1, 2, 3, 9, 9, 4, 5, 1]), Next::Free);
    }

    #[test]
    fn what_only_looks_like_reasoning_is_none() {
        for tokens in [
            &[1, 6, 3, 9, 9, 9][..],
            &[2, 3, 9, 9, 9],
            &[1, 3, 9, 9],
            &[1, 2, 9, 3, 9, 9],
            &[1, 2, 3, 9, 5, 9, 9],
        ] {
            assert_eq!(way(&mut frames(&[6]), tokens), Next::Free, "{tokens:?}");
        }
        for tokens in [&[1, 1, 2, 3, 9, 9][..], &[1, 2, 3, 9, 1, 2, 3, 9], &[1, 20, 2, 3, 9, 9]] {
            assert_eq!(way(&mut frames(&[6]), tokens), Next::Only(4), "{tokens:?}");
        }
    }

    #[test]
    fn a_name_alone_may_begin_reasoning() {
        let limit = ThinkingLimit {
            open: 1,
            name: vec![2],
            close: vec![4],
            exits: vec![4],
            ..ThinkingLimit::default()
        };
        assert_eq!(way(&mut Thinking::new(limit.clone()), &[1, 2]), Next::Only(4));
        assert_eq!(way(&mut Thinking::new(limit), &[1, 3, 2]), Next::Free);
    }

    #[test]
    fn a_format_may_lead_out_by_another_way() {
        assert_eq!(way(&mut frames(&[6]), &[1, 2, 3, 9, 9, 4, 8]), Next::Free);
    }
}
