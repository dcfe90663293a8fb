//! Kernels for grouped integers.
//!
//! Per run of input features that share a scale in weights and in activations (32 or 64,
//! [`activation_group`](millrace_backend::activation_group)), the dot product is exact in int32; it then becomes a float
//! and is added as `fma(dot, weight scale · activation scale, acc)`, runs in order. Weights with biases add
//! `fma(bias, activation scale · Σq, acc)` after it. So all levels with a fused multiply-add agree to the bit, whichever
//! instructions make the dot product.

use std::ops::Range;

use millrace_backend::GROUP;

use super::{Output, PANEL_STEP, PREFETCH_BYTES, Rows};
use crate::activations::QuantGroup;
use crate::level::{Isa, Level};
use crate::pack::{IntPanels, Vectors, group_bytes};
use crate::simd::{Kernel, LANES, Simd, prefetch, prefetch_far};

/// Up to this many rows wait for memory: one panel at a time is one stream, the fastest way to read.
const FEW_ROWS: usize = 8;
/// Rows that a kernel holds in registers, at most.
const MAX_ROWS: usize = 8;
/// The same if there are many: less unpacking and fewer loads against fewer sums that leave the registers.
const WIDE_ROWS: usize = 6;
/// Sums that are split in two at most: more hide the latency by their number.
const SPLIT_SUMS: usize = 4;
/// Bytes of a vector, and four-column steps of a group.
const VECTOR: usize = 64;
const STEPS: usize = GROUP / 4;

/// `FOUR`: 4-bit weights, else 8-bit. `AFFINE`: explicit biases, else a constant zero point.
pub(crate) struct IntWeights<'a, const FOUR: bool, const AFFINE: bool> {
    q: &'a [[u8; VECTOR]],
    scales: Vectors<'a>,
    /// Scales again if there are none.
    biases: Vectors<'a>,
    /// Groups of 32 columns in a panel.
    pub(crate) groups: usize,
    /// Of those, how many share a scale.
    pub(crate) per_scale: usize,
    /// Scales of a panel.
    per_panel: usize,
}

/// Without biases, the zero point is in [`QuantGroup::start`].
pub(crate) struct IntJob<'a, const FOUR: bool, const AFFINE: bool> {
    pub(crate) weights: IntWeights<'a, FOUR, AFFINE>,
    /// How many groups share a scale with the activations beside them; divides `per_scale`.
    shared: usize,
    x: &'a [QuantGroup],
    pub(crate) out: Output<'a>,
}

/// Panels that a kernel takes at a time, at most.
const MAX_PANELS: usize = 2;
/// How far in advance scales and biases are asked for where they are read directly.
const CONSTANTS_AHEAD: usize = 1 << 10;
/// Scales that are widened ahead of their use.
const WIDENED: usize = 16;

/// Scales and biases as floats: the kernels have no registers left for a choice of types.
struct Widened {
    scales: [[[f32; LANES]; WIDENED]; MAX_PANELS],
    biases: [[[f32; LANES]; WIDENED]; MAX_PANELS],
}

impl Widened {
    #[inline(always)]
    fn new() -> Self {
        let zeros = [[[0.0; LANES]; WIDENED]; MAX_PANELS];
        Self { scales: zeros, biases: zeros }
    }
}

/// Which weights are asked for to come from memory, while others are used.
#[derive(Clone, Copy)]
enum Ahead {
    Nothing,
    /// Those a bit ahead.
    All,
    /// This half of those of the next panels.
    Half(usize),
    /// This quarter of them.
    Quarter(usize),
}

/// From this many passes on, the first ones are so small a part of the work that they can wait.
const MANY_PASSES: usize = 12;

impl Ahead {
    /// Somebody has to bring the weights: the first rows, or where not too many passes share panels, each a part, so
    /// that memory works all the time.
    #[inline(always)]
    fn new(at: Rows, panels: usize) -> Self {
        match (at.passes, at.pass) {
            // One pass; known when the kernel is compiled.
            _ if panels == 1 => Self::All,
            (2, pass) => Self::Half(pass),
            (3, 2) => Self::Half(1),
            (3..MANY_PASSES, pass @ ..4) => Self::Quarter(pass),
            (..MANY_PASSES, 1..) => Self::Nothing,
            (_, 0) => Self::All,
            _ => Self::Nothing,
        }
    }
}

impl<'a, const FOUR: bool, const AFFINE: bool> IntWeights<'a, FOUR, AFFINE> {
    /// Vectors of a group.
    pub(crate) const VECTORS: usize = if FOUR { STEPS / 2 } else { STEPS };

    /// `groups` in a panel.
    pub(crate) fn new(int: &'a IntPanels, groups: usize) -> Self {
        debug_assert_eq!(group_bytes(int.bits), Self::VECTORS * VECTOR);
        Self {
            q: int.q.as_chunks().0,
            scales: int.scales.vectors(),
            biases: int.biases.as_ref().unwrap_or(&int.scales).vectors(),
            groups,
            per_scale: int.group / GROUP,
            per_panel: groups * GROUP / int.group,
        }
    }

    /// A panel's `[groups]` groups of [`IntWeights::VECTORS`] vectors.
    #[inline(always)]
    pub(crate) fn panel(&self, panel: usize) -> &'a [[u8; VECTOR]] {
        &self.q[panel * self.groups * Self::VECTORS..][..self.groups * Self::VECTORS]
    }

    /// Scale and bias number `index` of a panel (without biases, the latter means nothing).
    #[inline(always)]
    pub(crate) fn constants<S: Simd>(&self, s: S, panel: usize, index: usize) -> (S::V, S::V) {
        let at = panel * self.per_panel + index;
        let scale = self.scales.load(s, at);
        (scale, if AFFINE { self.biases.load(s, at) } else { scale })
    }

    /// Whether scales and biases are bf16.
    #[inline(always)]
    fn is_bf16(&self) -> bool {
        self.scales.as_bf16().is_some() && self.biases.as_bf16().is_some()
    }

    /// Widens scales (and biases) of P panels, and asks for as many more to come from memory if `ahead`.
    #[inline(always)]
    fn widen<S: Simd, const P: usize>(
        &self,
        s: S,
        panel: usize,
        scales: Range<usize>,
        ahead: bool,
        out: &mut Widened,
    ) {
        let count = scales.len();
        for p in 0..P {
            let first = (panel + p) * self.per_panel + scales.start;
            self.scales.widen(s, first, &mut out.scales[p][..count]);
            if AFFINE {
                self.biases.widen(s, first, &mut out.biases[p][..count]);
            }
            if ahead {
                self.scales.prefetch(first + count, count);
                if AFFINE {
                    self.biases.prefetch(first + count, count);
                }
            }
        }
    }

    /// Bytes between panels.
    #[inline(always)]
    pub(crate) fn panel_bytes(&self) -> usize {
        self.groups * Self::VECTORS * VECTOR
    }

    /// Asks for scale and bias number `index` of a panel, wherever that is.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    pub(crate) fn ask_for_constant(&self, panel: usize, index: usize) {
        self.scales.prefetch_one(panel * self.per_panel + index);
        if AFFINE {
            self.biases.prefetch_one(panel * self.per_panel + index);
        }
    }

    /// Asks for `count` vectors of a panel, wherever that is, to come into the second-level cache.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    pub(crate) fn ask_for_vectors(&self, panel: usize, first: usize, count: usize) {
        let first = panel * self.panel_bytes() + first * VECTOR;
        for vector in 0..count {
            prefetch_far(self.q.as_ptr(), first + vector * VECTOR);
        }
    }
}

impl<'a, const FOUR: bool, const AFFINE: bool> IntJob<'a, FOUR, AFFINE> {
    /// `groups` in a panel; x `[rows][groups]`.
    pub(crate) fn new(int: &'a IntPanels, groups: usize, x: &'a [QuantGroup], out: Output<'a>) -> Self {
        Self { weights: IntWeights::new(int, groups), shared: int.shared(), x, out }
    }

    /// Adds the integer sum of groups that share a scale to an output. `constants`: the weights' scale and bias;
    /// `of_x`: the activations' scale and bias factor.
    #[inline(always)]
    pub(crate) fn accumulate<S: Simd>(
        s: S,
        acc: S::V,
        dot: S::V,
        constants: (S::V, S::V),
        of_x: (f32, f32),
    ) -> S::V {
        let acc = s.fma(dot, s.mul(constants.0, s.splat(of_x.0)), acc);
        if AFFINE { s.fma(constants.1, s.splat(of_x.1), acc) } else { acc }
    }

    /// Asks for a part of the group that lies P panels behind this one.
    #[inline(always)]
    fn ask_for<const P: usize>(&self, q: &[[u8; VECTOR]], part: usize, parts: usize) {
        let count = IntWeights::<FOUR, AFFINE>::VECTORS / parts;
        for vector in &q[part * count..][..count] {
            prefetch(vector, P * self.weights.panel_bytes());
        }
    }

    /// The integer sums of `shared` groups from `group` on for M rows × P panels. Few sums get two accumulators each,
    /// which halves the latency; integer sums are exact in any order.
    #[inline(always)]
    fn dots<S: Simd, const M: usize, const P: usize>(
        &self,
        s: S,
        weights: &[&[[u8; VECTOR]]; P],
        x: &[&[QuantGroup]; M],
        group: usize,
        ahead: Ahead,
    ) -> [[S::I; P]; M] {
        let mut dots = [[s.splat_i32(0); P]; M];
        let mut others = dots;
        for m in 0..M {
            dots[m] = [s.splat_i32(x[m][group].start); P];
        }
        for group in group..group + self.shared {
            let mut q = *weights;
            for q in &mut q {
                *q = &q[group * IntWeights::<FOUR, AFFINE>::VECTORS..][..IntWeights::<FOUR, AFFINE>::VECTORS];
                match ahead {
                    Ahead::Nothing => {}
                    Ahead::All => q.iter().for_each(|vector| prefetch_far(vector, PREFETCH_BYTES)),
                    Ahead::Half(which) => self.ask_for::<P>(q, which, 2),
                    Ahead::Quarter(which) => self.ask_for::<P>(q, which, 4),
                }
            }
            let mut here = [&x[0][group].q; M];
            for m in 0..M {
                here[m] = &x[m][group].q;
            }
            if FOUR {
                add_group::<S, Nibbles, M, P>(s, &q, &here, &mut dots, &mut others);
            } else {
                add_group::<S, Bytes, M, P>(s, &q, &here, &mut dots, &mut others);
            }
        }
        if M * P <= SPLIT_SUMS {
            for m in 0..M {
                for p in 0..P {
                    dots[m][p] = s.add_i32(dots[m][p], others[m][p]);
                }
            }
        }
        dots
    }

    /// M rows × P panels; rows from `at.count` on repeat the last one and are not stored. `DIRECT`: constants are bf16
    /// and read where they lie.
    #[inline(always)]
    fn tile<S: Simd, const M: usize, const P: usize, const DIRECT: bool>(
        &self,
        s: S,
        at: Rows,
        panel: usize,
        constants: &mut Widened,
    ) {
        let Rows { row, count, .. } = at;
        let ahead = Ahead::new(at, P);
        let mut x = [self.x; M];
        for (m, x) in x.iter_mut().enumerate() {
            *x = &self.x[(row + m.min(count - 1)) * self.weights.groups..][..self.weights.groups];
        }
        let mut weights = [self.weights.panel(panel); P];
        for (p, weights) in weights.iter_mut().enumerate() {
            *weights = self.weights.panel(panel + p);
        }
        // Stores are done in order: those of widened constants must not wait for outputs that are far apart in memory.
        for m in 0..count.min(M) {
            (0..P).for_each(|p| self.out.prefetch(row + m, panel + p));
        }
        let mut acc = [[s.splat(0.0); P]; M];
        let scales = self.weights.per_panel;
        // Of these panels; empty unless the constants are bf16.
        let (mut direct_scales, mut direct_biases) =
            ([&[] as &[[u16; LANES]]; P], [&[] as &[[u16; LANES]]; P]);
        if DIRECT
            && let (Some(all), Some(biases)) = (self.weights.scales.as_bf16(), self.weights.biases.as_bf16())
        {
            for p in 0..P {
                direct_scales[p] = &all[(panel + p) * scales..][..scales];
                direct_biases[p] = &biases[(panel + p) * scales..][..scales];
            }
        }
        for start in (0..scales).step_by(WIDENED) {
            let end = (start + WIDENED).min(scales);
            if !DIRECT {
                self.weights.widen::<S, P>(s, panel, start..end, at.is_first(), constants);
            }
            let (mut index, mut next) = (0, (start + 1) * self.weights.per_scale);
            for group in (start * self.weights.per_scale..end * self.weights.per_scale).step_by(self.shared) {
                if group == next {
                    index += 1;
                    next += self.weights.per_scale;
                }
                let dots = self.dots::<S, M, P>(s, &weights, &x, group, ahead);
                if DIRECT && P == 1 {
                    prefetch(&direct_scales[0][start + index], CONSTANTS_AHEAD);
                    prefetch(&direct_biases[0][start + index], CONSTANTS_AHEAD);
                }
                for p in 0..P {
                    let (scale, bias) = if DIRECT {
                        let scale = s.load_bf16(&direct_scales[p][start + index]);
                        (scale, if AFFINE { s.load_bf16(&direct_biases[p][start + index]) } else { scale })
                    } else {
                        let scale = s.load(&constants.scales[p][index]);
                        (scale, if AFFINE { s.load(&constants.biases[p][index]) } else { scale })
                    };
                    for m in 0..M {
                        let of_x = (x[m][group].scale, x[m][group].bias_factor);
                        acc[m][p] = Self::accumulate(s, acc[m][p], s.to_f32(dots[m][p]), (scale, bias), of_x);
                    }
                }
            }
        }
        for (m, acc) in acc.iter().enumerate().take(count) {
            for (p, acc) in acc.iter().enumerate() {
                self.out.store(s, row + m, panel + p, *acc);
            }
        }
    }

    /// Computes some rows for some panels. Every shape of kernel is a function of its own, with all registers to itself.
    pub(crate) fn run(&self, isa: Isa, rows: Range<usize>, panels: Range<usize>) {
        let few = rows.len() <= FEW_ROWS;
        let (most, step) = match rows.len() {
            rows if rows <= FEW_ROWS => (FEW_ROWS, 1),
            _ if isa.level() < Level::Avx512 => (WIDE_ROWS, PANEL_STEP),
            // Two passes with as little to spare as can be.
            rows if rows > 2 * WIDE_ROWS && rows <= 2 * MAX_ROWS => (MAX_ROWS, MAX_PANELS),
            rows if rows < MANY_PASSES * WIDE_ROWS => (WIDE_ROWS, MAX_PANELS),
            _ => (WIDE_ROWS, PANEL_STEP),
        };
        let w = &mut Widened::new();
        for first in panels.clone().step_by(step) {
            let panels = first..(first + step).min(panels.end);
            for at in Rows::cut(rows.clone(), most) {
                let panels = panels.clone();
                match at.count {
                    1 if few => self.blocks::<1, 1>(isa, at, panels, w),
                    2 if few => self.blocks::<2, 1>(isa, at, panels, w),
                    3 | 4 if few => self.blocks::<4, 1>(isa, at, panels, w),
                    5 | 6 if few => self.blocks::<6, 1>(isa, at, panels, w),
                    _ if few => self.blocks::<FEW_ROWS, 1>(isa, at, panels, w),
                    // Sixteen registers, two to a vector, hold no more.
                    _ if isa.level() < Level::Avx512 => self.blocks::<WIDE_ROWS, 1>(isa, at, panels, w),
                    _ if most == WIDE_ROWS => self.blocks::<WIDE_ROWS, MAX_PANELS>(isa, at, panels, w),
                    _ => self.blocks::<MAX_ROWS, MAX_PANELS>(isa, at, panels, w),
                }
            }
        }
    }

    /// M rows × some panels, P at a time.
    fn blocks<const M: usize, const P: usize>(
        &self,
        isa: Isa,
        at: Rows,
        panels: Range<usize>,
        w: &mut Widened,
    ) {
        if self.weights.is_bf16() {
            isa.run(Block::<FOUR, AFFINE, M, P, true> { job: self, at, panels, w });
        } else {
            isa.run(Block::<FOUR, AFFINE, M, P, false> { job: self, at, panels, w });
        }
    }
}

/// How integers are read and multiplied.
trait Integers<S: Simd> {
    /// In registers.
    type Ready: Copy;
    /// Steps j and j + 4 of a group.
    fn steps(s: S, q: &[[u8; VECTOR]], j: usize) -> (Self::Ready, Self::Ready);
    fn dot4(s: S, sums: S::Sums, w: Self::Ready, x: i32) -> S::Sums;
}

struct Bytes;
struct Nibbles;

impl<S: Simd> Integers<S> for Bytes {
    type Ready = S::B;
    #[inline(always)]
    fn steps(s: S, q: &[[u8; VECTOR]], j: usize) -> (S::B, S::B) {
        (s.bytes(&q[j]), s.bytes(&q[j + STEPS / 2]))
    }
    #[inline(always)]
    fn dot4(s: S, sums: S::Sums, w: S::B, x: i32) -> S::Sums {
        s.dot4(sums, w, x)
    }
}

impl<S: Simd> Integers<S> for Nibbles {
    type Ready = S::N;
    #[inline(always)]
    fn steps(s: S, q: &[[u8; VECTOR]], j: usize) -> (S::N, S::N) {
        s.nibbles(&q[j])
    }
    #[inline(always)]
    fn dot4(s: S, sums: S::Sums, w: S::N, x: i32) -> S::Sums {
        s.dot4_nibbles(sums, w, x)
    }
}

/// Adds the products of a group to `dots`, some of them to `others` if there are few.
#[inline(always)]
fn add_group<S: Simd, W: Integers<S>, const M: usize, const P: usize>(
    s: S,
    q: &[&[[u8; VECTOR]]; P],
    x: &[&[i32; STEPS]; M],
    dots: &mut [[S::I; P]; M],
    others: &mut [[S::I; P]; M],
) {
    let mut sums = [[s.sums(dots[0][0]); P]; M];
    let mut other_sums = sums;
    for m in 0..M {
        for p in 0..P {
            (sums[m][p], other_sums[m][p]) = (s.sums(dots[m][p]), s.sums(others[m][p]));
        }
    }
    for j in 0..STEPS / 2 {
        let mut low = [W::steps(s, q[0], j).0; P];
        let mut high = low;
        for p in 0..P {
            (low[p], high[p]) = W::steps(s, q[p], j);
        }
        for m in 0..M {
            for p in 0..P {
                sums[m][p] = W::dot4(s, sums[m][p], low[p], x[m][j]);
            }
        }
        for m in 0..M {
            for p in 0..P {
                let sum = if M * P <= SPLIT_SUMS { &mut other_sums[m][p] } else { &mut sums[m][p] };
                *sum = W::dot4(s, *sum, high[p], x[m][j + STEPS / 2]);
            }
        }
    }
    for m in 0..M {
        for p in 0..P {
            dots[m][p] = s.total(sums[m][p]);
            if M * P <= SPLIT_SUMS {
                others[m][p] = s.total(other_sums[m][p]);
            }
        }
    }
}

/// M rows (of which `at.count` exist) × some panels, P at a time.
struct Block<'a, const FOUR: bool, const AFFINE: bool, const M: usize, const P: usize, const DIRECT: bool> {
    job: &'a IntJob<'a, FOUR, AFFINE>,
    at: Rows,
    panels: Range<usize>,
    w: &'a mut Widened,
}

impl<const FOUR: bool, const AFFINE: bool, const M: usize, const P: usize, const DIRECT: bool> Kernel
    for Block<'_, FOUR, AFFINE, M, P, DIRECT>
{
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { job, at, panels, w } = self;
        let mut panel = panels.start;
        while panel + P <= panels.end {
            job.tile::<S, M, P, DIRECT>(s, at, panel, w);
            panel += P;
        }
        if P > 1 && panel < panels.end {
            job.tile::<S, M, 1, false>(s, at, panel, w);
        }
    }
}
