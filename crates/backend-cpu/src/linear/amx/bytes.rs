//! 4-bit weights as signed bytes, with one scale per output and pass instead of one per group.
//!
//! A weight scale · q + bias becomes the nearest multiple of its pass's scale, which is the largest weight that the
//! pass's groups can hold, divided by 127: about as far from it as an eighth or a sixteenth of what its four bits had
//! cost. The integers are (q · factor + offset) / 256 with a factor and an offset of 16 bits for each group.

use std::ops::Range;

use millrace_backend::GROUP;

use super::product::Bytes;
use super::weights::{TILE, Weights};
use crate::activations::BYTE_COLS;
use crate::linear::int::IntWeights;
use crate::pack::Line;
use crate::simd::{Bf16Dot, LANES, prefetch};

/// The largest byte.
const MOST: f32 = 127.0;
/// The largest nibble.
const LAST: f32 = 15.0;
/// What factors and offsets are multiples of.
const FRACTION: f32 = 256.0;

/// 4-bit weights of which columns are whole tiles, and a power of two of [`GROUP`]s shares a scale.
pub(crate) struct ByteWeights<'a, const AFFINE: bool> {
    weights: &'a IntWeights<'a, true, AFFINE>,
    /// That power.
    shift: u32,
    /// The power of two of groups that a block has.
    block_shift: u32,
}

impl<'a, const AFFINE: bool> ByteWeights<'a, AFFINE> {
    /// `None` if they are others.
    pub(crate) fn new(weights: &'a IntWeights<'a, true, AFFINE>) -> Option<Self> {
        let fits = (weights.groups * GROUP).is_multiple_of(BYTE_COLS) && weights.per_scale.is_power_of_two();
        fits.then(|| Self {
            weights,
            shift: weights.per_scale.ilog2(),
            block_shift: weights.per_block.ilog2(),
        })
    }

    /// Scale number `index` of a panel and its bias.
    #[inline(always)]
    fn constants<S: Bf16Dot>(&self, s: S, panel: usize, index: usize) -> (S::V, S::V) {
        let group = index << self.shift;
        let block = self.weights.block(panel, group >> self.block_shift);
        let scale = self.weights.scale_of(group & (self.weights.per_block - 1));
        self.weights.scale_and_bias(s, block, scale)
    }
}

impl<const AFFINE: bool> Weights for ByteWeights<'_, AFFINE> {
    type Product = Bytes;
    const IN_PLACE: bool = false;

    #[inline(always)]
    fn scale<S: Bf16Dot>(&self, s: S, panel: usize, cols: Range<usize>) -> S::V {
        let per_scale = GROUP << self.shift;
        let zero = s.splat(0.0);
        let mut most = zero;
        for index in cols.start / per_scale..cols.end.div_ceil(per_scale) {
            let (scale, bias) = self.constants(s, panel, index);
            let last = s.fma(scale, s.splat(LAST), bias);
            most = s.max(s.max(bias, s.sub(zero, bias)), most);
            most = s.max(s.max(last, s.sub(zero, last)), most);
        }
        s.mul(most, s.splat(1.0 / MOST))
    }

    #[inline(always)]
    fn make<S: Bf16Dot>(
        &self,
        s: S,
        panel: usize,
        tile: usize,
        stride: usize,
        scale: &[f32; LANES],
        room: &mut [u16; TILE],
    ) {
        let zero = s.splat(0.0);
        let scale = s.load(scale);
        let inverse = s.select_ge(scale, s.splat(f32::MIN_POSITIVE), s.div(s.splat(FRACTION), scale), zero);
        let (mut factor, mut offset) = (s.words(zero), s.words(zero));
        let block = self.weights.block(panel, (2 * tile) >> self.block_shift);
        let first = (2 * tile) & (self.weights.per_block - 1);
        let q: &[[Line; 4]; 2] = &block.as_chunks().0[first..].as_chunks().0[0];
        let out: &mut [[[[u8; 64]; 4]; 2]; 2] = bytemuck::cast_mut(room);
        let ahead = stride * self.weights.panel_bytes();
        if first == 0 {
            self.weights.ask_for_constants(block, ahead);
        }
        for half in 0..2 {
            if half == 0 || self.shift == 0 {
                let index = (2 * tile + half) >> self.shift;
                let (scale, bias) = self.constants(s, panel, index);
                factor = s.words(s.mul(scale, inverse));
                // Half a unit more, since the fraction is cut off.
                offset = s.words(s.fma(bias, inverse, s.splat(FRACTION / 2.0)));
            }
            for step in 0..4 {
                prefetch(&q[half][step], ahead);
                let (low, high) = s.nibbles(bytemuck::cast_ref(&q[half][step]));
                s.store_bytes(s.requantize(low, factor, offset), &mut out[half][0][step]);
                s.store_bytes(s.requantize(high, factor, offset), &mut out[half][1][step]);
            }
        }
    }
}
