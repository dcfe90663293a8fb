//! A constraint that begins where reasoning ends.

use millrace_types::{Constraint, ConstraintError, TokenId};

/// Leaves a model's reasoning alone and holds what follows it to another constraint.
#[derive(Debug, Clone)]
pub struct AfterReasoning {
    inner: Box<dyn Constraint>,
    open: TokenId,
    close: TokenId,
    /// Tokens that end an answer: not before there is one.
    ends: Vec<TokenId>,
    /// Line breaks, which models write between reasoning and answer.
    breaks: Vec<TokenId>,
    place: Place,
}

/// Line breaks after reasoning that are no part of the answer.
const MAX_BREAKS: u8 = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// At the beginning, where the model may choose to reason.
    Before,
    Inside,
    /// Behind it, where so many line breaks may still follow.
    Gap(u8),
    After,
}

impl AfterReasoning {
    /// Reasoning stands between the tokens `open` and `close`. It has begun if `inside`; else the first token tells. No
    /// token of `ends` comes in it. One or two tokens of `breaks` may follow on it before the answer begins.
    pub fn new(
        inner: Box<dyn Constraint>,
        (open, close): (TokenId, TokenId),
        ends: Vec<TokenId>,
        breaks: Vec<TokenId>,
        inside: bool,
    ) -> Self {
        Self { inner, open, close, ends, breaks, place: if inside { Place::Inside } else { Place::Before } }
    }
}

impl Constraint for AfterReasoning {
    fn commit(&mut self, token: TokenId) -> Result<(), ConstraintError> {
        match self.place {
            Place::Before if token == self.open => self.place = Place::Inside,
            Place::Inside if token == self.close => self.place = Place::Gap(MAX_BREAKS),
            Place::Inside => {}
            Place::Gap(left) if left > 0 && self.breaks.contains(&token) => self.place = Place::Gap(left - 1),
            Place::Before | Place::Gap(_) | Place::After => {
                self.place = Place::After;
                self.inner.commit(token)?;
            }
        }
        Ok(())
    }

    fn admit(&mut self, token: TokenId) -> Result<Option<bool>, ConstraintError> {
        match self.place {
            Place::After => self.inner.admit(token),
            Place::Inside if self.ends.contains(&token) => Ok(Some(false)),
            Place::Inside => self.commit(token).map(|()| Some(true)),
            Place::Before | Place::Gap(_) => Ok(None),
        }
    }

    fn fast_forward(&mut self, most: usize, out: &mut Vec<TokenId>) -> Result<(), ConstraintError> {
        if self.place == Place::After { self.inner.fast_forward(most, out) } else { Ok(()) }
    }

    fn mask(&mut self, mask: &mut [u32]) -> Result<(), ConstraintError> {
        let bit = |token: TokenId| (token as usize / 32, 1u32 << (token % 32));
        if self.place != Place::Inside {
            self.inner.mask(mask)?;
        }
        match self.place {
            Place::Before => {
                let (word, bit) = bit(self.open);
                mask.get_mut(word).into_iter().for_each(|word| *word |= bit);
            }
            Place::Inside => {
                mask.fill(u32::MAX);
                for (word, bit) in self.ends.iter().copied().map(bit) {
                    mask.get_mut(word).into_iter().for_each(|word| *word &= !bit);
                }
            }
            Place::Gap(1..) => {
                for (word, bit) in self.breaks.iter().copied().map(bit) {
                    mask.get_mut(word).into_iter().for_each(|word| *word |= bit);
                }
            }
            Place::Gap(0) | Place::After => {}
        }
        Ok(())
    }

    fn fork(&self) -> Box<dyn Constraint> {
        Box::new(self.clone())
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

    /// The masks along the way, and what the inner constraint saw in the end.
    fn way(inside: bool, tokens: &[TokenId]) -> (Vec<u32>, String) {
        let mut constraint = AfterReasoning::new(Box::new(Five::default()), (1, 2), vec![3], vec![4], inside);
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

    #[test]
    fn reasoning_is_free_but_must_lead_to_an_answer() {
        let (choice, free, five, gap) = (1 << 5 | 1 << 1, !(1 << 3), 1 << 5, 1 << 5 | 1 << 4);
        assert_eq!(way(false, &[1, 7, 2, 5]), (vec![choice, free, free, gap, five], "[5, 9]".into()));
        assert_eq!(way(true, &[7, 1, 2]), (vec![free, free, free, gap], "[9]".into()));
        assert_eq!(way(true, &[2, 4, 4, 5]), (vec![free, gap, gap, five, five], "[5, 9]".into()));
        assert_eq!(way(true, &[2, 4, 4, 4]), (vec![free, gap, gap, five], "[4]".into()));
        assert_eq!(way(false, &[5]), (vec![choice, five], "[5, 9]".into()));
    }

    #[test]
    fn nothing_is_forced_before_the_answer() {
        let mut constraint = AfterReasoning::new(Box::new(Five::default()), (1, 2), vec![3], vec![4], true);
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
