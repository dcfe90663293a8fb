//! Where tiles of weights come from: memory, or grouped integers, each of which is scale · q + bias, rounded once to
//! float32 and once to bf16 (or, with 4 bits, made a byte: see [`super::bytes`]).

use std::ops::Range;

use super::product::{Bf16, Product};
use crate::activations::{TILE_COLS, TILE_ROWS};
use crate::linear::int::IntWeights;
use crate::simd::{Bf16Dot, LANES, prefetch};

/// Elements of a pair vector: two input features of sixteen outputs.
const PAIR: usize = 2 * LANES;
/// Elements of 16 bits of a tile; in bf16 `[16][16][2]`, thirty-two input features of sixteen outputs.
pub(super) const TILE: usize = TILE_ROWS * TILE_COLS;
/// Pair vectors in half a tile.
const HALF: usize = TILE / PAIR / 2;

/// Panels of weights, cut into tiles.
pub(crate) trait Weights: Sync {
    /// What the tiles hold.
    type Product: Product;
    /// Whether they lie in memory as tiles.
    const IN_PLACE: bool;
    /// Columns `cols` (whole tiles) of a panel, if they lie in memory as tiles.
    #[inline(always)]
    fn in_place(&self, _panel: usize, _cols: Range<usize>) -> Option<&[u16]> {
        None
    }
    /// What one stands for in a pass over these columns of a panel, and what [`make`](Self::make) multiplies them with.
    #[inline(always)]
    fn scale<S: Bf16Dot>(&self, s: S, _panel: usize, _cols: Range<usize>) -> (S::V, S::V) {
        (s.splat(1.0), s.splat(1.0))
    }
    /// Makes a [group](millrace_backend::GROUP) of columns of a panel, which are half a tile of bytes or a whole one of
    /// bf16, or brings them close if they lie in memory, and asks for the same of the panel that lies `stride` panels
    /// further on.
    fn make<S: Bf16Dot>(
        &self,
        s: S,
        panel: usize,
        group: usize,
        stride: usize,
        factor: &[f32; LANES],
        out: &mut [u16],
    );
}

/// bf16 panels.
pub(crate) struct Bf16Weights<'a> {
    /// `[panels][k / 32]` tiles.
    pub(crate) panels: &'a [u16],
    pub(crate) k: usize,
}

impl Weights for Bf16Weights<'_> {
    type Product = Bf16;
    const IN_PLACE: bool = true;

    #[inline(always)]
    fn in_place(&self, panel: usize, cols: Range<usize>) -> Option<&[u16]> {
        Some(&self.panels[(panel * self.k + cols.start) * LANES..][..cols.len() * LANES])
    }

    #[inline(always)]
    fn make<S: Bf16Dot>(&self, _: S, panel: usize, group: usize, _: usize, _: &[f32; LANES], _: &mut [u16]) {
        let tile = &self.panels[panel * self.k * LANES + group * TILE..][..TILE];
        tile.as_chunks::<PAIR>().0.iter().for_each(|line| prefetch(line, 0));
    }
}

impl<const FOUR: bool, const AFFINE: bool> Weights for IntWeights<'_, FOUR, AFFINE> {
    type Product = Bf16;
    const IN_PLACE: bool = false;

    #[inline(always)]
    fn make<S: Bf16Dot>(
        &self,
        s: S,
        panel: usize,
        group: usize,
        stride: usize,
        _: &[f32; LANES],
        out: &mut [u16],
    ) {
        let (number, first) = (group / self.per_block, group % self.per_block);
        let block = self.block(panel, number);
        let (scale, bias) = self.scale_and_bias(s, block, self.scale_of(first));
        if first == 0 {
            self.ask_for_constants(block, stride * self.panel_bytes());
        }
        let q = &block[first * Self::VECTORS..][..Self::VECTORS];
        let pairs = out.as_chunks_mut::<PAIR>().0;
        for (step, line) in q.iter().enumerate() {
            let bytes = bytemuck::cast_ref(line);
            prefetch(line, stride * self.panel_bytes());
            if FOUR {
                let (low, high) = s.nibbles(bytes);
                write(s, low, scale, bias, &mut pairs[2 * step..]);
                write(s, high, scale, bias, &mut pairs[HALF + 2 * step..]);
            } else {
                write(s, s.bytes(bytes), scale, bias, &mut pairs[2 * step..]);
            }
        }
    }
}

/// Four input features: two pair vectors.
#[inline(always)]
fn write<S: Bf16Dot>(s: S, bytes: S::B, scale: S::V, bias: S::V, out: &mut [[u16; PAIR]]) {
    let (first, second) = s.dequantize(bytes, scale, bias);
    s.store_bytes(first, bytemuck::cast_mut(&mut out[0]));
    s.store_bytes(second, bytemuck::cast_mut(&mut out[1]));
}
