//! A sequence's constraint, and whether its next token is sampled with a mask.
//!
//! A greedy sequence may do without a mask, where computing it would keep the model waiting: its most likely token is
//! shown to the constraint, which takes most tokens of a model that knows the format. Only if it doesn't, its mask is
//! computed and the row sampled once more. That gives the same token: where the most likely one of all is allowed, it is
//! the most likely one of those that are.

use std::time::Duration;

use millrace_types::{Constraint, ConstraintError, TokenId};

/// A sequence's constraint and what it says about the next token.
#[derive(Debug)]
pub(crate) struct Constrained {
    constraint: Box<dyn Constraint>,
    /// Valid if [`State::Masked`]; ⌈vocabulary / 32⌉ words.
    mask: Vec<u32>,
    state: State,
    trust: Trust,
    /// Time spent on the next token so far.
    pub(crate) took: Duration,
}

/// How the next token comes about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// With a mask, which isn't there yet.
    Unknown,
    /// With the mask that is there.
    Masked,
    /// Without one.
    Tried,
}

impl Constrained {
    pub(crate) fn new(constraint: Box<dyn Constraint>, vocab_size: usize) -> Self {
        let mask = vec![0; vocab_size.div_ceil(32)];
        Self { constraint, mask, state: State::Unknown, trust: Trust::new(), took: Duration::ZERO }
    }

    /// Whether it is known how the next token is sampled.
    pub(crate) fn is_ready(&self) -> bool {
        self.state != State::Unknown
    }

    /// Whether the next token is sampled without a mask.
    pub(crate) fn is_tried(&self) -> bool {
        self.state == State::Tried
    }

    /// Decides whether the next token is sampled without a mask, if that `may` be.
    pub(crate) fn choose(&mut self, may: bool) {
        self.state = if may && self.trust.next() { State::Tried } else { State::Unknown };
    }

    /// Which tokens may come next.
    pub(crate) fn mask(&self) -> &[u32] {
        &self.mask
    }

    /// How long it took to the mask, or to do without, since this was asked before.
    pub(crate) fn take_time(&mut self) -> Duration {
        std::mem::take(&mut self.took)
    }

    /// Takes a token and says which ones follow; `None` if it may not come, and then the mask is there.
    pub(crate) fn advance(&mut self, after: After) -> Result<Option<Vec<TokenId>>, ConstraintError> {
        if self.state == State::Tried {
            if !self.admit(after)? {
                return Ok(None);
            }
        } else {
            self.constraint.commit(after.token)?;
        }
        self.choose(after.may_try);
        let mut forced = Vec::new();
        if after.most_forced > 0 {
            self.constraint.fast_forward(after.most_forced, &mut forced)?;
        }
        Ok(Some(forced))
    }

    /// Takes a token that was sampled without a mask, if the mask would have allowed it.
    fn admit(&mut self, after: After) -> Result<bool, ConstraintError> {
        let token = after.token;
        let mut admitted = self.constraint.admit(token)?;
        if admitted != Some(true) {
            self.renew_mask()?;
        }
        if admitted.is_none()
            && self.mask.get(token as usize / 32).is_some_and(|word| word >> (token % 32) & 1 == 1)
        {
            if !after.ends {
                self.constraint.commit(token)?;
            }
            admitted = Some(true);
        }
        let admitted = admitted == Some(true);
        self.trust.note(admitted);
        Ok(admitted)
    }

    pub(crate) fn renew_mask(&mut self) -> Result<(), ConstraintError> {
        self.constraint.mask(&mut self.mask)?;
        self.state = State::Masked;
        Ok(())
    }
}

/// Whether it is worth a try to sample without a mask: a token that is refused costs about two masks, so that tries are worth
/// it where two in three succeed. Pauses come of refusals that follow each other.
#[derive(Debug)]
struct Trust {
    /// Tokens that get a mask before the next try.
    pause: u8,
    /// The pause behind the next refusal.
    next_pause: u8,
}

impl Trust {
    /// One try in so many tokens at least.
    const MOST: u8 = 64;

    fn new() -> Self {
        Self { pause: 0, next_pause: 0 }
    }

    /// Whether the next token is tried.
    fn next(&mut self) -> bool {
        let tried = self.pause == 0;
        self.pause = self.pause.saturating_sub(1);
        tried
    }

    /// What became of a try.
    fn note(&mut self, admitted: bool) {
        if admitted {
            self.next_pause /= 2;
        } else {
            self.pause = self.next_pause;
            self.next_pause = (2 * self.next_pause + 1).min(Self::MOST);
        }
    }
}

/// A sampled token, and what is to be known behind it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct After {
    pub(crate) token: TokenId,
    /// How many tokens may follow it without being sampled.
    pub(crate) most_forced: usize,
    /// Whether the next one may be sampled without a mask.
    pub(crate) may_try: bool,
    /// It ends the sequence: nothing comes next.
    pub(crate) ends: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_make_tries_rare_and_successes_frequent() {
        let mut trust = Trust::new();
        let mut tries = |admitted: bool, tokens: usize| {
            let tried = |_: &usize| {
                let tried = trust.next();
                if tried {
                    trust.note(admitted);
                }
                tried
            };
            (0..tokens).filter(tried).count()
        };
        assert!(tries(false, 640) <= 16);
        assert!(tries(true, 640) >= 640 - 64);
        assert_eq!(tries(true, 100), 100);
        assert_eq!(tries(false, 4), 3);
    }
}
