//! A constraint that begins where reasoning ends.

use std::sync::Arc;

use millrace_types::{Constraint, ConstraintError, Follow, TokenId};

/// Leaves a model's reasoning alone and holds what follows it to another constraint.
#[derive(Debug, Clone)]
pub struct AfterReasoning {
    inner: Box<dyn Constraint>,
    follow: Box<dyn Follow>,
    tokens: Arc<ReasoningTokens>,
    place: Place,
}

/// What a model's vocabulary has for reasoning, and around it.
#[derive(Debug, Clone, Default)]
pub struct ReasoningTokens {
    /// Begin it, in order.
    pub open: Vec<TokenId>,
    /// End an answer: not before there is one.
    pub ends: Vec<TokenId>,
    /// Line breaks, of which one or two may stand between reasoning and answer.
    pub breaks: Vec<TokenId>,
}

/// Line breaks after reasoning that are no part of the answer.
const MAX_BREAKS: u8 = 2;

#[derive(Debug, Clone)]
enum Place {
    /// At the beginning, where the model may choose to reason.
    Before,
    /// Behind so many of the tokens that begin reasoning. The answer may begin with the same text: then `answer` is where
    /// that is.
    Opening {
        count: usize,
        answer: Option<Box<dyn Constraint>>,
    },
    Inside,
    /// Behind it, where so many line breaks may still follow.
    Gap(u8),
    After,
}

impl AfterReasoning {
    /// `follow` tells where reasoning is. The prompt has begun it, or the answer may begin with all of `tokens.open`.
    pub fn new(inner: Box<dyn Constraint>, follow: Box<dyn Follow>, tokens: Arc<ReasoningTokens>) -> Self {
        let place = if follow.inside() { Place::Inside } else { Place::Before };
        Self { inner, follow, tokens, place }
    }

    /// Where a token leads that is the next of those that begin reasoning.
    fn open(&self, token: TokenId, count: usize, answer: Option<&dyn Constraint>) -> Option<Place> {
        if self.tokens.open.get(count) != Some(&token) {
            return None;
        }
        if count + 1 == self.tokens.open.len() {
            return Some(Place::Inside);
        }
        let mut answer = answer.map(Constraint::fork);
        let fits = answer.as_mut().is_some_and(|answer| answer.commit(token).is_ok());
        Some(Place::Opening { count: count + 1, answer: answer.filter(|_| fits) })
    }

    /// The first token of the answer, or the first that makes clear that it is one.
    fn begin(&mut self, token: TokenId) -> Result<(), ConstraintError> {
        match std::mem::replace(&mut self.place, Place::After) {
            Place::Opening { answer: Some(answer), .. } => self.inner = answer,
            Place::Opening { answer: None, .. } => {
                return Err(ConstraintError("The answer begins to reason and goes on otherwise.".to_owned()));
            }
            Place::Before | Place::Inside | Place::Gap(_) | Place::After => {}
        }
        self.inner.commit(token)
    }
}

impl Constraint for AfterReasoning {
    fn commit(&mut self, token: TokenId) -> Result<(), ConstraintError> {
        let opened = match &self.place {
            Place::Before => self.open(token, 0, Some(&*self.inner)),
            Place::Opening { count, answer } => self.open(token, *count, answer.as_deref()),
            Place::Inside => {
                self.follow.append(token);
                let inside = self.follow.inside();
                Some(if inside { Place::Inside } else { Place::Gap(MAX_BREAKS) })
            }
            Place::Gap(left) if *left > 0 && self.tokens.breaks.contains(&token) => {
                Some(Place::Gap(left - 1))
            }
            Place::Gap(_) => None,
            Place::After => return self.inner.commit(token),
        };
        let Some(place) = opened else { return self.begin(token) };
        if matches!(place, Place::Inside) && !self.follow.inside() {
            self.tokens.open.iter().for_each(|token| self.follow.append(*token));
        }
        self.place = place;
        Ok(())
    }

    fn admit(&mut self, token: TokenId) -> Result<Option<bool>, ConstraintError> {
        match self.place {
            Place::After => self.inner.admit(token),
            Place::Inside if self.tokens.ends.contains(&token) || self.follow.overruns(token) => {
                Ok(Some(false))
            }
            Place::Inside => self.commit(token).map(|()| Some(true)),
            Place::Before | Place::Opening { .. } | Place::Gap(_) => Ok(None),
        }
    }

    fn fast_forward(&mut self, most: usize, out: &mut Vec<TokenId>) -> Result<(), ConstraintError> {
        if matches!(self.place, Place::After) { self.inner.fast_forward(most, out) } else { Ok(()) }
    }

    fn mask(&mut self, mask: &mut [u32]) -> Result<(), ConstraintError> {
        match &mut self.place {
            Place::Before => {
                self.inner.mask(mask)?;
                allow(self.tokens.open.get(..1), mask);
            }
            Place::Opening { count, answer } => {
                mask.fill(0);
                if let Some(answer) = answer {
                    answer.mask(mask)?;
                }
                allow(self.tokens.open.get(*count..=*count), mask);
            }
            Place::Inside => {
                mask.fill(u32::MAX);
                for token in &self.tokens.ends {
                    mask.get_mut(*token as usize / 32)
                        .into_iter()
                        .for_each(|word| *word &= !(1 << (token % 32)));
                }
                self.follow.forbid_overruns(mask);
            }
            Place::Gap(left) => {
                self.inner.mask(mask)?;
                if *left > 0 {
                    allow(Some(&self.tokens.breaks), mask);
                }
            }
            Place::After => self.inner.mask(mask)?,
        }
        Ok(())
    }

    fn fork(&self) -> Box<dyn Constraint> {
        Box::new(self.clone())
    }
}

/// Sets the bits of these tokens.
fn allow(tokens: Option<&[TokenId]>, mask: &mut [u32]) {
    for token in tokens.into_iter().flatten() {
        mask.get_mut(*token as usize / 32).into_iter().for_each(|word| *word |= 1 << (token % 32));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Allows token 5 and remembers what it saw.
    #[derive(Debug, Clone, Default)]
    struct Five(Vec<TokenId>);

    impl Constraint for Five {
        fn commit(&mut self, token: TokenId) -> Result<(), ConstraintError> {
            self.0.push(token);
            if token == 5 { Ok(()) } else { Err(ConstraintError(format!("{:?}", self.0))) }
        }
        fn fast_forward(&mut self, _: usize, out: &mut Vec<TokenId>) -> Result<(), ConstraintError> {
            out.push(5);
            Ok(())
        }
        fn mask(&mut self, mask: &mut [u32]) -> Result<(), ConstraintError> {
            mask.fill(0);
            mask[0] = 1 << 5;
            Ok(())
        }
        fn fork(&self) -> Box<dyn Constraint> {
            Box::new(self.clone())
        }
    }

    /// Reasoning stands between some tokens and token 2; token 8 is one that ends it and goes on.
    #[derive(Debug, Clone)]
    struct UpToTwo {
        open: Vec<TokenId>,
        seen: Vec<TokenId>,
        inside: bool,
    }

    impl Follow for UpToTwo {
        fn append(&mut self, token: TokenId) {
            self.seen.push(token);
            self.inside = if self.inside { token != 2 } else { self.seen.ends_with(&self.open) };
        }
        fn inside(&self) -> bool {
            self.inside
        }
        fn overruns(&self, token: TokenId) -> bool {
            token == 8
        }
        fn forbid_overruns(&self, mask: &mut [u32]) {
            mask[0] &= !(1 << 8);
        }
        fn fork(&self) -> Box<dyn Follow> {
            Box::new(self.clone())
        }
    }

    fn after(open: &[TokenId], inside: bool) -> AfterReasoning {
        let follow = UpToTwo { open: open.to_vec(), seen: vec![], inside };
        let tokens = ReasoningTokens { open: open.to_vec(), ends: vec![3], breaks: vec![4] };
        AfterReasoning::new(Box::new(Five::default()), Box::new(follow), tokens.into())
    }

    /// The masks along the way, and what the inner constraint saw in the end.
    fn way(mut constraint: AfterReasoning, tokens: &[TokenId]) -> (Vec<u32>, String) {
        let mut masks = Vec::new();
        for token in tokens.iter().chain([&9]) {
            let mut mask = [0];
            constraint.fork().mask(&mut mask).unwrap();
            masks.push(mask[0]);
            if let Err(error) = constraint.commit(*token) {
                return (masks, error.to_string());
            }
        }
        (masks, String::new())
    }

    const FREE: u32 = !(1 << 3 | 1 << 8);
    const FIVE: u32 = 1 << 5;
    const GAP: u32 = 1 << 5 | 1 << 4;

    #[test]
    fn reasoning_is_free_but_must_lead_to_an_answer() {
        let choice = FIVE | 1 << 1;
        let outside = || after(&[1], false);
        let inside = || after(&[1], true);
        assert_eq!(way(outside(), &[1, 7, 2, 5]), (vec![choice, FREE, FREE, GAP, FIVE], "[5, 9]".into()));
        assert_eq!(way(inside(), &[7, 1, 2]), (vec![FREE, FREE, FREE, GAP], "[9]".into()));
        assert_eq!(way(inside(), &[2, 4, 4, 5]), (vec![FREE, GAP, GAP, FIVE, FIVE], "[5, 9]".into()));
        assert_eq!(way(inside(), &[2, 4, 4, 4]), (vec![FREE, GAP, GAP, FIVE], "[4]".into()));
        assert_eq!(way(outside(), &[5]), (vec![choice, FIVE], "[5, 9]".into()));
        let mut inside = inside();
        assert_eq!(
            (inside.admit(8), inside.admit(3), inside.admit(7)),
            (Ok(Some(false)), Ok(Some(false)), Ok(Some(true)))
        );
    }

    #[test]
    fn what_begins_reasoning_may_begin_the_answer_too() {
        // Five, seven, seven begins reasoning; five and five is an answer.
        let both = || after(&[5, 7, 7], false);
        let (seven, either) = (1 << 7, FIVE | 1 << 7);
        assert_eq!(way(both(), &[5, 7, 7, 6, 2, 5]).0, [FIVE, either, seven, FREE, FREE, GAP, FIVE]);
        assert_eq!(way(both(), &[5, 7, 7, 6, 2, 5]).1, "[5, 9]");
        assert_eq!(way(both(), &[5, 5]), (vec![FIVE, either, FIVE], "[5, 5, 9]".into()));
        let (masks, error) = way(both(), &[5, 7]);
        assert_eq!((masks.len(), error.starts_with("The answer begins to reason")), (3, true));
        assert_eq!(way(after(&[6, 7], false), &[5]).0, [FIVE | 1 << 6, FIVE]);
    }

    #[test]
    fn nothing_is_forced_before_the_answer() {
        let mut constraint = after(&[1], true);
        let mut forced = Vec::new();
        constraint.fast_forward(4, &mut forced).unwrap();
        assert!(forced.is_empty());
        constraint.commit(2).unwrap();
        constraint.fast_forward(4, &mut forced).unwrap();
        assert!(forced.is_empty());
        constraint.commit(5).unwrap();
        constraint.fast_forward(4, &mut forced).unwrap();
        assert_eq!(forced, [5]);
    }
}
