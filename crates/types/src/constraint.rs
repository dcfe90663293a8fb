//! What an answer has to obey beyond its sampling parameters, as the engine sees it: tokens and bit masks, no grammar.

use std::fmt;

use crate::TokenId;

/// Says which tokens may come next, given those that came so far. One per sequence.
///
/// The engine calls [`commit`](Self::commit) for each token in order, and [`mask`](Self::mask) before the next one
/// is sampled; or it samples without a mask, and asks whether the token is one that it may [`admit`](Self::admit). All may take a while (up to milliseconds for hard grammars), and run on any thread, one at a time. A
/// preempted sequence keeps its constraint: its tokens are computed again, not sampled again.
pub trait Constraint: Send + Sync + fmt::Debug {
    /// Notes that `token` was appended to the output.
    ///
    /// # Errors
    /// The token isn't allowed here, or the constraint can't go on.
    fn commit(&mut self, token: TokenId) -> Result<(), ConstraintError>;

    /// Whether `token` may come next, if that can be told for less than a [`mask`](Self::mask) takes. `true`: it may, and
    /// is committed. `false`: it may not, and nothing has changed. `None`: only the mask tells.
    ///
    /// # Errors
    /// The constraint can't go on.
    fn admit(&mut self, token: TokenId) -> Result<Option<bool>, ConstraintError> {
        let _ = token;
        Ok(None)
    }

    /// Adds the tokens that are the only way to go on from here to `out`, at most `most`, in order. They count as
    /// committed. None if there is a choice, or no way to know.
    ///
    /// # Errors
    /// The constraint can't go on.
    fn fast_forward(&mut self, most: usize, out: &mut Vec<TokenId>) -> Result<(), ConstraintError>;

    /// Writes which tokens may come next: bit t % 32 of word t / 32, in ⌈vocabulary / 32⌉ words. A token that ends the
    /// sequence has its bit when the output may end here; it is the only one when the output must.
    ///
    /// # Errors
    /// The constraint can't go on.
    fn mask(&mut self, mask: &mut [u32]) -> Result<(), ConstraintError>;

    /// The same constraint in the same state, independent from here on.
    fn fork(&self) -> Box<dyn Constraint>;
}

impl Clone for Box<dyn Constraint> {
    fn clone(&self) -> Self {
        self.fork()
    }
}

/// Why a constraint can't go on: a sentence for the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConstraintError(pub String);

impl fmt::Display for ConstraintError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConstraintError {}
