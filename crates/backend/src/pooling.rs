//! What models that read whole texts need: their attention, and one row for each sequence.

use std::ops::Range;

/// Which rows of its sequence a query row sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mask {
    /// Itself and those before it.
    Causal,
    /// All of them.
    Bidirectional,
}

/// The positions that the query at `position` of a sequence of `len` tokens sees. A window of w reaches to distances
/// below w, back and, where the mask allows it, forth.
pub fn visible(mask: Mask, window: Option<usize>, position: usize, len: usize) -> Range<usize> {
    let window = window.unwrap_or(len);
    let end = match mask {
        Mask::Causal => position + 1,
        Mask::Bidirectional => position.saturating_add(window).min(len),
    };
    (position + 1).saturating_sub(window)..end
}

/// How the rows of a sequence become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pool {
    /// The first row (the `[CLS]` token of BERT).
    First,
    /// The last row.
    Last,
    /// Their mean.
    Mean,
    /// Their sum, divided by the square root of their number.
    MeanSqrtLen,
    /// The largest value of each column.
    Max,
}

/// Which row of a table belongs to a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowIndex {
    /// `batch.positions[t]`.
    Positions,
    /// `batch.token_types[t]`.
    TokenTypes,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_reach_as_far_as_they_say() {
        let all = |mask, window| (0..5).map(|p| visible(mask, window, p, 5)).collect::<Vec<_>>();
        assert_eq!(all(Mask::Causal, None), [0..1, 0..2, 0..3, 0..4, 0..5]);
        assert_eq!(all(Mask::Causal, Some(2)), [0..1, 0..2, 1..3, 2..4, 3..5]);
        assert_eq!(all(Mask::Bidirectional, None), [0..5, 0..5, 0..5, 0..5, 0..5]);
        assert_eq!(all(Mask::Bidirectional, Some(2)), [0..2, 0..3, 1..4, 2..5, 3..5]);
    }
}
