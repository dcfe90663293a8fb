//! The running result of an item's rows: maximum, sum of weights, weighted sum of values.

use crate::simd::{LANES, Simd, math::exp2};

/// A maximum that no score is below; finite, so that differences are never NaN.
pub(super) const LOWEST: f32 = f32::MIN;

/// Views into one array.
pub(super) struct State<'a> {
    /// `[rows]`.
    pub(super) max: &'a mut [f32],
    /// `[rows]`.
    pub(super) sum: &'a mut [f32],
    /// Sixteen elements at a time: `[rows][⌈dim / 16⌉]`.
    pub(super) values: &'a mut [[f32; LANES]],
}

impl<'a> State<'a> {
    /// Floats that a state of so many rows needs.
    pub(super) fn size(dim: usize, rows: usize) -> usize {
        scalars(rows) + rows * dim.next_multiple_of(LANES)
    }

    /// A view of `memory`, [`State::size`] long; contents stay.
    #[inline(always)]
    pub(super) fn new(memory: &'a mut [f32], rows: usize) -> Self {
        let (scalars, values) = memory.split_at_mut(scalars(rows));
        let (max, sum) = scalars.split_at_mut(rows);
        Self { max, sum: &mut sum[..rows], values: values.as_chunks_mut().0 }
    }

    /// No keys yet.
    #[inline(always)]
    pub(super) fn clear(&mut self) {
        self.max.fill(LOWEST);
        self.sum.fill(0.0);
        self.values.fill([0.0; LANES]);
    }

    /// Vectors of a row.
    #[inline(always)]
    fn vectors(&self) -> usize {
        self.values.len() / self.max.len()
    }

    /// Adds the keys of a later state to the first `rows` rows.
    #[inline(always)]
    pub(super) fn merge<S: Simd>(&mut self, s: S, later: &State<'_>, rows: usize) {
        self.merge_parts(s, later.max, later.sum, later.values, rows);
    }

    /// The same for a state of as many rows in plain memory.
    #[inline(always)]
    pub(super) fn merge_raw<S: Simd>(&mut self, s: S, later: &[f32], rows: usize) {
        let capacity = self.max.len();
        let (scalars, values) = later.split_at(scalars(capacity));
        let (max, sum) = scalars.split_at(capacity);
        self.merge_parts(s, max, sum, values.as_chunks().0, rows);
    }

    #[inline(always)]
    fn merge_parts<S: Simd>(&mut self, s: S, max: &[f32], sum: &[f32], values: &[[f32; LANES]], rows: usize) {
        let vectors = self.vectors();
        for row in 0..rows {
            let new = if max[row] > self.max[row] { max[row] } else { self.max[row] };
            let old_factor = exp2(s, s.splat(self.max[row] - new));
            let factor = exp2(s, s.splat(max[row] - new));
            self.max[row] = new;
            let sums = s.mul(s.splat(self.sum[row]), old_factor);
            self.sum[row] = s.first(s.fma(s.splat(sum[row]), factor, sums));
            let own = &mut self.values[row * vectors..][..vectors];
            for (own, value) in own.iter_mut().zip(&values[row * vectors..]) {
                let kept = s.mul(s.load(own), old_factor);
                s.store(s.fma(s.load(value), factor, kept), own);
            }
        }
    }

    /// A row's weighted mean of values.
    #[inline(always)]
    pub(super) fn normalised<S: Simd>(&self, s: S, row: usize, out: &mut [f32]) {
        let sum = s.splat(self.sum[row]);
        let vectors = self.vectors();
        let (full, rest) = out.as_chunks_mut::<LANES>();
        let values = &self.values[row * vectors..][..vectors];
        for (out, value) in full.iter_mut().zip(values) {
            s.store(s.div(s.load(value), sum), out);
        }
        if !rest.is_empty() {
            s.store_partial(s.div(s.load(&values[vectors - 1]), sum), rest);
        }
    }
}

/// Floats before the values: maxima and sums, padded to a vector.
fn scalars(rows: usize) -> usize {
    (2 * rows).next_multiple_of(LANES)
}
