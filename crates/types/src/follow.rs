//! Where an answer's reasoning begins and ends, as the engine sees it: tokens, no text.

use std::fmt;

use crate::TokenId;

/// Follows the tokens of one answer, and knows whether they are reasoning. Cheap enough for the engine's thread: a token
/// costs some nanoseconds.
pub trait Follow: Send + Sync + fmt::Debug {
    /// Takes the next token.
    fn append(&mut self, token: TokenId);

    /// Whether the next token goes on with reasoning. A mark counts once it is whole.
    fn inside(&self) -> bool;

    /// Whether `token` would end reasoning and begin the answer in one: marks that are plain text may end in the middle of a
    /// token.
    fn overruns(&self, token: TokenId) -> bool;

    /// Clears the bits of tokens that [`overrun`](Self::overruns). Bit t % 32 of word t / 32 is token t.
    fn forbid_overruns(&self, mask: &mut [u32]);

    /// The same place, independent from here on.
    fn fork(&self) -> Box<dyn Follow>;
}

impl Clone for Box<dyn Follow> {
    fn clone(&self) -> Self {
        self.fork()
    }
}
