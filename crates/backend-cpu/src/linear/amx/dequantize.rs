//! Grouped integers as bf16 tiles: each weight is scale · q + bias, rounded once to float32 and once to bf16.

use std::ops::Range;

use millrace_backend::GROUP;

use super::gemm::Weights;
use crate::level::Isa;
use crate::linear::int::IntJob;
use crate::simd::{Bf16Dot, Bf16Kernel, LANES};

/// Elements of a pair vector: two input features of sixteen outputs.
const PAIR: usize = 2 * LANES;

impl<const FOUR: bool, const AFFINE: bool> Weights for IntJob<'_, FOUR, AFFINE> {
    const IN_PLACE: bool = false;

    fn tiles<'a>(&'a self, isa: Isa, panel: usize, cols: Range<usize>, room: &'a mut [u16]) -> &'a [u16] {
        let out = &mut room[..cols.len() * LANES];
        isa.run_bf16(Dequantize { job: self, panel, groups: cols.start / GROUP..cols.end / GROUP, out });
        out
    }
}

struct Dequantize<'a, const FOUR: bool, const AFFINE: bool> {
    job: &'a IntJob<'a, FOUR, AFFINE>,
    panel: usize,
    groups: Range<usize>,
    /// `[groups]` tiles.
    out: &'a mut [u16],
}

impl<const FOUR: bool, const AFFINE: bool> Bf16Kernel for Dequantize<'_, FOUR, AFFINE> {
    type Out = ();
    #[inline(always)]
    fn run<S: Bf16Dot>(self, s: S) {
        let vectors = IntJob::<FOUR, AFFINE>::VECTORS;
        let q = self.job.panel(self.panel)[self.groups.start * vectors..].chunks_exact(vectors);
        let tiles = self.out.as_chunks_mut::<PAIR>().0.chunks_exact_mut(GROUP / 2);
        for ((group, q), tile) in self.groups.zip(q).zip(tiles) {
            let (scale, bias) = self.job.constants(s, self.panel, group / self.job.per_scale());
            let zero = s.splat(-(if FOUR { 8.0 } else { 128.0 }));
            let bias = if AFFINE { bias } else { s.mul(scale, zero) };
            for (step, bytes) in q.iter().enumerate() {
                if FOUR {
                    let (low, high) = s.nibbles(bytes);
                    write(s, low, scale, bias, &mut tile[2 * step..]);
                    write(s, high, scale, bias, &mut tile[2 * (step + GROUP / 8)..]);
                } else {
                    write(s, s.bytes(bytes), scale, bias, &mut tile[2 * step..]);
                }
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
