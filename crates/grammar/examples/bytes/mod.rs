//! Grammars over the bytes of a text, for the examples.

use millrace_grammar::{Grammars, Vocabulary};
use millrace_types::{Constraint, ConstraintError, TokenId};

/// Tokens are bytes; this one ends an answer.
pub(crate) const END: TokenId = 256;

/// Grammars of such answers.
pub(crate) fn grammars() -> Grammars {
    Grammars::new(|| {
        let bytes = (0..=u8::MAX).map(|byte| vec![byte]).chain([Vec::new()]).collect();
        let encode = |text: &str| text.bytes().map(TokenId::from).collect();
        Vocabulary::new(bytes, Vec::new(), vec![END], encode)
    })
}

/// What may come next, as bits.
///
/// # Errors
/// The answer can't go on.
pub(crate) fn mask(constraint: &mut dyn Constraint) -> Result<[u32; 9], ConstraintError> {
    let mut mask = [0u32; 9];
    constraint.mask(&mut mask).map(|()| mask)
}

/// Whether a mask has a token.
pub(crate) fn has(mask: [u32; 9], token: TokenId) -> bool {
    mask[token as usize / 32] >> (token % 32) & 1 == 1
}
