//! Kernels for grouped integers.
//!
//! Per group of 32 input features, the dot product of weights and quantized activations is exact in int32; it then
//! becomes a float and is added as `fma(dot, weight scale · activation scale, acc)`, groups in order. Weights with
//! biases add `fma(bias, activation scale · Σq, acc)` after it. So all levels with a fused multiply-add agree to the
//! bit, whichever instructions make the dot product.

use std::ops::Range;

use millrace_backend::GROUP;

use super::{Job, Output, PREFETCH_BYTES, Rows};
use crate::activations::QuantGroup;
use crate::pack::{IntPanels, group_bytes};
use crate::simd::{LANES, Simd, prefetch};

/// Rows that a kernel holds in registers.
const MAX_ROWS: usize = 6;
/// Bytes of a vector, and four-column steps of a group.
const VECTOR: usize = 64;
const STEPS: usize = GROUP / 4;

/// `FOUR`: 4-bit weights, else 8-bit. `AFFINE`: explicit biases, else a zero point that is already in
/// [`QuantGroup::start`].
pub(crate) struct IntJob<'a, const FOUR: bool, const AFFINE: bool> {
    q: &'a [[u8; VECTOR]],
    scales: &'a [[f32; LANES]],
    biases: &'a [[f32; LANES]],
    /// Groups of 32 columns in a panel.
    groups: usize,
    /// Of those, how many share a scale.
    per_scale: usize,
    x: &'a [QuantGroup],
    out: Output<'a>,
}

/// One panel's part of a job.
#[derive(Clone, Copy)]
pub(crate) struct IntPanel<'a> {
    /// `[groups]` groups of [`IntJob::VECTORS`] vectors.
    pub(crate) q: &'a [[u8; VECTOR]],
    pub(crate) scales: &'a [[f32; LANES]],
    pub(crate) biases: &'a [[f32; LANES]],
}

impl<'a, const FOUR: bool, const AFFINE: bool> IntJob<'a, FOUR, AFFINE> {
    /// Vectors of a group.
    pub(crate) const VECTORS: usize = if FOUR { STEPS / 2 } else { STEPS };

    pub(crate) fn new(int: &'a IntPanels, groups: usize, x: &'a [QuantGroup], out: Output<'a>) -> Self {
        debug_assert_eq!(group_bytes(int.bits), Self::VECTORS * VECTOR);
        Self {
            q: int.q.as_chunks().0,
            scales: int.scales.as_chunks().0,
            biases: int.biases.as_ref().map_or(&[], |b| b.as_chunks().0),
            groups,
            per_scale: int.group / GROUP,
            x,
            out,
        }
    }

    pub(crate) fn panel(&self, panel: usize) -> IntPanel<'a> {
        let scales = self.groups / self.per_scale;
        let constants = panel * scales..(panel + 1) * scales;
        IntPanel {
            q: &self.q[panel * self.groups * Self::VECTORS..][..self.groups * Self::VECTORS],
            scales: &self.scales[constants.clone()],
            biases: if AFFINE { &self.biases[constants] } else { &[] },
        }
    }

    pub(crate) fn groups(&self) -> usize {
        self.groups
    }
    pub(crate) fn per_scale(&self) -> usize {
        self.per_scale
    }
    pub(crate) fn x(&self) -> &'a [QuantGroup] {
        self.x
    }
    pub(crate) fn out(&self) -> &Output<'a> {
        &self.out
    }

    /// Adds a group's integer sum to an output.
    #[inline(always)]
    pub(crate) fn accumulate<S: Simd>(
        s: S,
        acc: S::V,
        dot: S::I,
        x: &QuantGroup,
        scale: S::V,
        bias: S::V,
    ) -> S::V {
        let acc = s.fma(s.to_f32(dot), s.mul(scale, s.splat(x.scale)), acc);
        if AFFINE { s.fma(bias, s.splat(x.bias_factor), acc) } else { acc }
    }

    /// The integer sums of a group for M rows × P panels, whose vectors are in `q`.
    #[inline(always)]
    fn dots<S: Simd, const M: usize, const P: usize>(
        s: S,
        q: &[&[[u8; VECTOR]]; P],
        x: &[&QuantGroup; M],
    ) -> [[S::I; P]; M] {
        let mut dots = [[s.splat_i32(0); P]; M];
        for m in 0..M {
            dots[m] = [s.splat_i32(x[m].start); P];
        }
        for j in 0..Self::VECTORS {
            // Step j, and with nibbles step j + 4 too.
            let mut low = [s.bytes(&q[0][j]); P];
            let mut high = low;
            for p in 0..P {
                if FOUR {
                    (low[p], high[p]) = s.nibbles(&q[p][j]);
                } else {
                    low[p] = s.bytes(&q[p][j]);
                }
            }
            for m in 0..M {
                for p in 0..P {
                    dots[m][p] = s.dot4(dots[m][p], low[p], x[m].q[j]);
                }
            }
            if FOUR {
                for m in 0..M {
                    for p in 0..P {
                        dots[m][p] = s.dot4(dots[m][p], high[p], x[m].q[j + STEPS / 2]);
                    }
                }
            }
        }
        dots
    }

    /// M rows × P panels; rows from `at.count` on repeat the last one and are not stored.
    #[inline(always)]
    fn tile<S: Simd, const M: usize, const P: usize>(&self, s: S, at: Rows, panel: usize) {
        let Rows { row, count, first } = at;
        let mut x = [self.x; M];
        for (m, x) in x.iter_mut().enumerate() {
            *x = &self.x[(row + m.min(count - 1)) * self.groups..][..self.groups];
        }
        let mut weights = [self.panel(panel); P];
        for (p, weights) in weights.iter_mut().enumerate() {
            *weights = self.panel(panel + p);
        }
        let mut acc = [[s.splat(0.0); P]; M];
        // The first rows bring the weights from memory. (Enough long streams are found by the hardware.)
        let ahead = first && (FOUR || M > 2);
        let (mut constant, mut next) = (0, self.per_scale);
        for group in 0..self.groups {
            if group == next {
                constant += 1;
                next += self.per_scale;
            }
            let (mut scale, mut bias) = ([s.splat(0.0); P], [s.splat(0.0); P]);
            let mut q = [weights[0].q; P];
            for p in 0..P {
                scale[p] = s.load(&weights[p].scales[constant]);
                if AFFINE {
                    bias[p] = s.load(&weights[p].biases[constant]);
                }
                q[p] = &weights[p].q[group * Self::VECTORS..][..Self::VECTORS];
                if ahead {
                    for vector in q[p] {
                        prefetch(vector, PREFETCH_BYTES);
                    }
                }
            }
            let mut here = [&x[0][group]; M];
            for m in 0..M {
                here[m] = &x[m][group];
            }
            let dots = Self::dots::<S, M, P>(s, &q, &here);
            for m in 0..M {
                for p in 0..P {
                    acc[m][p] = Self::accumulate(s, acc[m][p], dots[m][p], here[m], scale[p], bias[p]);
                }
            }
        }
        for (m, acc) in acc.iter().enumerate().take(count) {
            for (p, acc) in acc.iter().enumerate() {
                self.out.store(s, row + m, panel + p, *acc);
            }
        }
    }

    /// M rows (of which `at.count` exist) × some panels.
    #[inline(always)]
    fn block<S: Simd, const M: usize>(&self, s: S, at: Rows, panels: Range<usize>) {
        let mut panel = panels.start;
        // One or two rows of bytes: more panels at a time keep more of memory busy.
        while M <= 2 && !FOUR && panel + 4 <= panels.end {
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
}

impl<S: Simd, const FOUR: bool, const AFFINE: bool> Job<S> for IntJob<'_, FOUR, AFFINE> {
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
