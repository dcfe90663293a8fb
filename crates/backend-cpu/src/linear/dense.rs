//! Kernels for f32, f16 and bf16 weights.
//!
//! Input features are taken two by two, in order, into one accumulator per output: a fused multiply-add for each
//! (widened weights, float32 activations), or one `vdpbf16ps` for both (bf16 weights and activations).

use std::ops::Range;

use bytemuck::cast_ref;

use super::{Job, Output, PREFETCH_BYTES, Rows};
use crate::pack::Packed;
use crate::simd::{Bf16Dot, LANES, Simd, prefetch};

/// Rows that a kernel holds in registers.
const MAX_ROWS: usize = 8;
/// Two input features of sixteen outputs.
const PAIR: usize = 2 * LANES;

/// How a weight type is multiplied.
pub(crate) trait Weights: Copy + Send + Sync {
    /// Element in memory.
    type Stored: Copy + Sync;
    /// Activation.
    type Input: Copy + Sync;
}

/// Weights that are widened to float32 and meet float32 activations.
pub(crate) trait WideWeights: Weights<Input = f32> {
    /// The first and the second input feature.
    fn widen<S: Simd>(s: S, w: &[Self::Stored; PAIR]) -> (S::V, S::V);
}

/// float32.
#[derive(Clone, Copy)]
pub(crate) struct F32Wide;
/// IEEE half precision.
#[derive(Clone, Copy)]
pub(crate) struct F16Wide;
/// bf16 where there is no instruction for it.
#[derive(Clone, Copy)]
pub(crate) struct Bf16Wide;
/// bf16 with `vdpbf16ps`.
#[derive(Clone, Copy)]
pub(crate) struct Bf16Pairs;

impl Weights for F32Wide {
    type Stored = f32;
    type Input = f32;
}
impl Weights for F16Wide {
    type Stored = u16;
    type Input = f32;
}
impl Weights for Bf16Wide {
    type Stored = u16;
    type Input = f32;
}
impl Weights for Bf16Pairs {
    type Stored = u16;
    type Input = u16;
}

impl WideWeights for F32Wide {
    #[inline(always)]
    fn widen<S: Simd>(s: S, w: &[f32; PAIR]) -> (S::V, S::V) {
        let [first, second]: &[[f32; LANES]; 2] = cast_ref(w);
        (s.load(first), s.load(second))
    }
}
impl WideWeights for F16Wide {
    #[inline(always)]
    fn widen<S: Simd>(s: S, w: &[u16; PAIR]) -> (S::V, S::V) {
        let [first, second]: &[[u16; LANES]; 2] = cast_ref(w);
        (s.load_f16(first), s.load_f16(second))
    }
}
impl WideWeights for Bf16Wide {
    #[inline(always)]
    fn widen<S: Simd>(s: S, w: &[u16; PAIR]) -> (S::V, S::V) {
        s.load_bf16_pairs(w)
    }
}

/// What a kernel does with a pair of input features.
pub(crate) trait Multiply<S: Simd>: Weights {
    /// Weights in registers.
    type Ready: Copy;
    fn ready(s: S, w: &[Self::Stored; PAIR]) -> Self::Ready;
    /// acc + w₀·x₀ + w₁·x₁.
    fn multiply(s: S, acc: S::V, w: Self::Ready, x: [Self::Input; 2]) -> S::V;
}

impl<S: Simd, W: WideWeights> Multiply<S> for W {
    type Ready = (S::V, S::V);
    #[inline(always)]
    fn ready(s: S, w: &[Self::Stored; PAIR]) -> Self::Ready {
        W::widen(s, w)
    }
    #[inline(always)]
    fn multiply(s: S, acc: S::V, w: Self::Ready, x: [f32; 2]) -> S::V {
        let acc = s.fma(w.0, s.splat(x[0]), acc);
        s.fma(w.1, s.splat(x[1]), acc)
    }
}

impl<S: Bf16Dot> Multiply<S> for Bf16Pairs {
    type Ready = S::B;
    #[inline(always)]
    fn ready(s: S, w: &[u16; PAIR]) -> S::B {
        s.bytes(cast_ref(w))
    }
    #[inline(always)]
    fn multiply(s: S, acc: S::V, w: S::B, x: [u16; 2]) -> S::V {
        s.dot_bf16(acc, w, x)
    }
}

/// Weights, converted activations and the place for results.
pub(crate) struct DenseJob<'a, W: Weights> {
    weights: &'a [[W::Stored; PAIR]],
    /// Pairs of input features in a panel, padding included.
    panel_pairs: usize,
    x: &'a [[W::Input; 2]],
    /// Pairs of input features in a row of `x`.
    pairs: usize,
    out: Output<'a>,
}

impl<'a, W: Weights> DenseJob<'a, W> {
    pub(crate) fn new(
        weights: &'a [W::Stored],
        packed: &Packed,
        x: &'a [[W::Input; 2]],
        pairs: usize,
        out: Output<'a>,
    ) -> Self {
        Self { weights: weights.as_chunks().0, panel_pairs: packed.k / 2, x, pairs, out }
    }

    /// M rows (of which `at.count` exist) × some panels.
    #[inline(always)]
    fn block<S: Simd, const M: usize>(&self, s: S, at: Rows, panels: Range<usize>)
    where
        W: Multiply<S>,
    {
        let mut panel = panels.start;
        // Few rows leave registers for more panels, which hides the latency of the accumulation.
        while M <= 2 && panel + 4 <= panels.end {
            self.tile::<S, M, 4>(s, at, panel);
            panel += 4;
        }
        while panel + 2 <= panels.end {
            self.tile::<S, M, 2>(s, at, panel);
            panel += 2;
        }
        if panel < panels.end {
            self.tile::<S, M, 1>(s, at, panel);
        }
    }

    /// M rows × P panels in registers; rows from `at.count` on repeat the last one and are not stored.
    #[inline(always)]
    fn tile<S: Simd, const M: usize, const P: usize>(&self, s: S, at: Rows, panel: usize)
    where
        W: Multiply<S>,
    {
        let Rows { row, count, .. } = at;
        // The first rows bring the weights from memory. (Enough long streams are found by the hardware.)
        let ahead = at.is_first() && M > 2;
        let mut x = [self.x; M];
        for (m, x) in x.iter_mut().enumerate() {
            *x = &self.x[(row + m.min(count - 1)) * self.pairs..][..self.pairs];
        }
        let mut w = [self.weights; P];
        for (p, w) in w.iter_mut().enumerate() {
            *w = &self.weights[(panel + p) * self.panel_pairs..][..self.pairs];
        }
        for m in 0..count.min(M) {
            (0..P).for_each(|p| self.out.prefetch(row + m, panel + p));
        }
        let mut acc = [[s.splat(0.0); P]; M];
        for i in 0..self.pairs {
            if ahead {
                for p in 0..P {
                    prefetch(&w[p][i], PREFETCH_BYTES);
                }
            }
            let mut ready = [W::ready(s, &w[0][i]); P];
            for p in 1..P {
                ready[p] = W::ready(s, &w[p][i]);
            }
            for m in 0..M {
                for p in 0..P {
                    acc[m][p] = W::multiply(s, acc[m][p], ready[p], x[m][i]);
                }
            }
        }
        for (m, acc) in acc.iter().enumerate().take(count) {
            for (p, acc) in acc.iter().enumerate() {
                self.out.store(s, row + m, panel + p, *acc);
            }
        }
    }
}

impl<S: Simd, W: Multiply<S>> Job<S> for DenseJob<'_, W> {
    #[inline(always)]
    fn rows(&self, s: S, rows: Range<usize>, panels: Range<usize>) {
        for at in Rows::cut(rows, MAX_ROWS) {
            match at.count {
                1 => self.block::<S, 1>(s, at, panels.clone()),
                2 => self.block::<S, 2>(s, at, panels.clone()),
                3 | 4 => self.block::<S, 4>(s, at, panels.clone()),
                _ => self.block::<S, MAX_ROWS>(s, at, panels.clone()),
            }
        }
    }
}
