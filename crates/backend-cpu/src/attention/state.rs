//! The running result of some query rows: maximum, sum of weights, weighted sum of values.

use super::MAX_ROWS;
use crate::simd::{LANES, Simd, math::exp};

/// A maximum that no score is below; finite, so that differences are never NaN.
const LOWEST: f32 = f32::MIN;

/// Views into one array: `max` `[8]`, `sum` `[8]`, `values` `[8][padded dim]`.
pub(super) struct State<'a> {
    pub(super) max: &'a mut [f32; MAX_ROWS],
    pub(super) sum: &'a mut [f32; MAX_ROWS],
    /// Sixteen elements at a time: `[8][padded dim / 16]`.
    pub(super) values: &'a mut [[f32; LANES]],
}

impl<'a> State<'a> {
    /// Floats that a state needs.
    pub(super) fn size(dim: usize) -> usize {
        2 * MAX_ROWS + MAX_ROWS * dim.next_multiple_of(LANES)
    }

    /// A view of `memory`, [`State::size`] long; contents stay.
    #[inline(always)]
    pub(super) fn new(memory: &'a mut [f32], dim: usize) -> Self {
        let (scalars, values) = memory[..Self::size(dim)].split_at_mut(2 * MAX_ROWS);
        let [max, sum] = match scalars.as_chunks_mut().0 {
            [max, sum] => [max, sum],
            _ => unreachable!("split at two rows of scalars"),
        };
        Self { max, sum, values: values.as_chunks_mut().0 }
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
    pub(super) fn vectors(&self) -> usize {
        self.values.len() / MAX_ROWS
    }

    /// Adds the keys of a later state to the first `rows` rows.
    #[inline(always)]
    pub(super) fn merge<S: Simd>(&mut self, s: S, later: &State<'_>, rows: usize) {
        self.merge_parts(s, later.max, later.sum, later.values, rows);
    }

    /// The same for a state in plain memory.
    #[inline(always)]
    pub(super) fn merge_raw<S: Simd>(&mut self, s: S, later: &[f32], rows: usize) {
        let (scalars, values) = later.split_at(2 * MAX_ROWS);
        let (max, sum) = scalars.split_at(MAX_ROWS);
        self.merge_parts(s, max, sum, values.as_chunks().0, rows);
    }

    #[inline(always)]
    fn merge_parts<S: Simd>(&mut self, s: S, max: &[f32], sum: &[f32], values: &[[f32; LANES]], rows: usize) {
        let vectors = self.vectors();
        for row in 0..rows {
            let new = if max[row] > self.max[row] { max[row] } else { self.max[row] };
            let old_factor = exp(s, s.splat(self.max[row] - new));
            let factor = exp(s, s.splat(max[row] - new));
            self.max[row] = new;
            let sums = s.mul(s.splat(self.sum[row]), old_factor);
            self.sum[row] = first(s, s.fma(s.splat(sum[row]), factor, sums));
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

/// The first lane.
#[inline(always)]
fn first<S: Simd>(s: S, v: S::V) -> f32 {
    let mut lanes = [0.0; LANES];
    s.store(v, &mut lanes);
    lanes[0]
}
