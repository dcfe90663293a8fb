//! 4-bit weights as signed bytes, with one scale per output and pass instead of one per group.
//!
//! A weight scale · q + bias becomes the nearest multiple of its pass's scale, which is the largest weight that the
//! pass's groups can hold, divided by 127: about as far from it as an eighth or a sixteenth of what its four bits had
//! cost. The integers are (q · factor + offset) / 256 with a factor and an offset of 16 bits for each group.

use std::ops::Range;

use millrace_backend::GROUP;

use super::product::Bytes;
use super::weights::Weights;
use crate::activations::BYTE_COLS;
use crate::linear::int::IntWeights;
use crate::pack::Line;
use crate::simd::{Bf16Dot, LANES, LINE, prefetch};

/// The largest byte.
const MOST: f32 = 127.0;
/// The largest nibble.
const LAST: f32 = 15.0;
/// Lines of a group of nibbles.
const VECTORS: usize = GROUP / 8;
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

    /// The block of a panel's group, and which of its groups that is.
    #[inline(always)]
    fn block(&self, panel: usize, group: usize) -> (&'a [Line], usize) {
        (self.weights.block(panel, group >> self.block_shift), group & (self.weights.per_block - 1))
    }

    /// Scale and bias of a panel's group.
    #[inline(always)]
    fn constants<S: Bf16Dot>(&self, s: S, panel: usize, group: usize) -> (S::V, S::V) {
        let (block, first) = self.block(panel, group);
        self.weights.scale_and_bias(s, block, self.weights.scale_of(first))
    }
}

impl<const AFFINE: bool> Weights for ByteWeights<'_, AFFINE> {
    type Product = Bytes;
    const IN_PLACE: bool = false;

    #[inline(always)]
    fn scale<S: Bf16Dot>(&self, s: S, panel: usize, cols: Range<usize>) -> (S::V, S::V) {
        let per_scale = GROUP << self.shift;
        let zero = s.splat(0.0);
        let mut most = zero;
        for group in (cols.start / per_scale..cols.end.div_ceil(per_scale)).map(|scale| scale << self.shift) {
            let (scale, bias) = self.constants(s, panel, group);
            let last = s.fma(scale, s.splat(LAST), bias);
            most = s.max(s.max(bias, s.sub(zero, bias)), most);
            most = s.max(s.max(last, s.sub(zero, last)), most);
        }
        let scale = s.mul(most, s.splat(1.0 / MOST));
        let inverse = s.div(s.splat(FRACTION), scale);
        (scale, s.select_ge(scale, s.splat(f32::MIN_POSITIVE), inverse, zero))
    }

    #[inline(always)]
    fn make<S: Bf16Dot>(
        &self,
        s: S,
        panel: usize,
        group: usize,
        stride: usize,
        factor: &[f32; LANES],
        out: &mut [u16],
    ) {
        let (block, first) = self.block(panel, group);
        let (scale, bias) = self.weights.scale_and_bias(s, block, self.weights.scale_of(first));
        let inverse = s.load(factor);
        let factor = s.words(s.mul(scale, inverse));
        // Half a unit more, since the fraction is cut off.
        let offset = s.words(s.fma(bias, inverse, s.splat(FRACTION / 2.0)));
        let ahead = stride * self.weights.panel_bytes();
        if first == 0 {
            self.weights.ask_for_constants(block, ahead);
        }
        let out: &mut [[u8; LINE]] = bytemuck::cast_slice_mut(out);
        let (low, high) = out.split_at_mut(VECTORS);
        for ((line, low), high) in block.as_chunks::<VECTORS>().0[first].iter().zip(low).zip(high) {
            prefetch(line, ahead);
            let nibbles = s.nibbles(bytemuck::cast_ref(line));
            s.store_bytes(s.requantize(nibbles.0, factor, offset), low);
            s.store_bytes(s.requantize(nibbles.1, factor, offset), high);
        }
    }
}
