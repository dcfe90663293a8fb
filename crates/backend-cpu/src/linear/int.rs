//! Kernels for grouped integers.
//!
//! Per run of input features that share a scale in weights and in activations (32 or 64,
//! [`activation_group`](millrace_backend::activation_group)), the dot product is exact in int32; it then becomes a float
//! and is added as `fma(dot, weight scale · activation scale, acc)`, runs in order. Weights with biases add
//! `fma(bias, activation scale · Σq, acc)` after it. So all levels with a fused multiply-add agree to the bit, whichever
//! instructions make the dot product.

use std::ops::Range;

use millrace_backend::GROUP;

use super::{Output, PANEL_STEP, Rows};
use crate::activations::QuantGroup;
use crate::level::{Isa, Level};
use crate::pack::{IntPanels, Kind, Line};
use crate::simd::{Kernel, LANES, LINE, Simd, prefetch};

/// Up to this many rows wait for memory: one panel at a time is one stream, the fastest way to read.
const FEW_ROWS: usize = 8;
/// Rows that a kernel holds in registers, at most.
const MAX_ROWS: usize = 8;
/// The same if there are many: less unpacking and fewer loads against fewer sums that leave the registers.
const WIDE_ROWS: usize = 6;
/// Sums that are split in two at most: more hide the latency by their number.
const SPLIT_SUMS: usize = 4;
/// Four-column steps of a group.
const STEPS: usize = GROUP / 4;
/// How far in advance rows that wait for memory ask for weights.
const PREFETCH_BYTES: usize = 2 << 10;

/// `FOUR`: 4-bit weights, else 8-bit. `AFFINE`: explicit biases, else a constant zero point.
pub(crate) struct IntWeights<'a, const FOUR: bool, const AFFINE: bool> {
    lines: &'a [Line],
    kind: Kind,
    /// Groups of 32 columns in a panel.
    pub(crate) groups: usize,
    /// Of those, how many share a scale.
    pub(crate) per_scale: usize,
    /// How many are in a block.
    pub(crate) per_block: usize,
    block_lines: usize,
    panel_lines: usize,
}

/// Without biases, the zero point is in [`QuantGroup::start`].
pub(crate) struct IntJob<'a, const FOUR: bool, const AFFINE: bool> {
    weights: IntWeights<'a, FOUR, AFFINE>,
    /// How many groups share a scale with the activations beside them; divides `per_scale`.
    shared: usize,
    x: &'a [QuantGroup],
    out: Output<'a>,
}

/// Panels that a kernel takes at a time, at most.
const MAX_PANELS: usize = 2;

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
    /// Lines of a group.
    pub(crate) const VECTORS: usize = if FOUR { STEPS / 2 } else { STEPS };

    /// `groups` in a panel.
    pub(crate) fn new(int: &'a IntPanels, groups: usize) -> Self {
        let form = int.form;
        debug_assert_eq!(form.vectors(), form.groups * Self::VECTORS);
        debug_assert_eq!(form.affine, AFFINE);
        Self {
            lines: &int.lines,
            kind: form.kind,
            groups,
            per_scale: form.group / GROUP,
            per_block: form.groups,
            block_lines: form.lines(),
            panel_lines: form.panel_lines(groups * GROUP),
        }
    }

    /// A panel's blocks, one after another.
    #[inline(always)]
    pub(crate) fn panel(&self, panel: usize) -> &'a [Line] {
        &self.lines[panel * self.panel_lines..][..self.panel_lines]
    }

    /// Several of them, one after another.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn panels(&self, panels: Range<usize>) -> &'a [Line] {
        &self.lines[panels.start * self.panel_lines..panels.end * self.panel_lines]
    }

    /// Where a panel lies, or would lie: for asking ahead.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn panel_address(&self, panel: usize) -> *const Line {
        self.lines.as_ptr().wrapping_add(panel * self.panel_lines)
    }

    /// A block of a panel: lines of integers, group by group, then of constants.
    #[inline(always)]
    pub(crate) fn block(&self, panel: usize, block: usize) -> &'a [Line] {
        &self.lines[panel * self.panel_lines + block * self.block_lines..][..self.block_lines]
    }

    /// The constants of a block.
    #[inline(always)]
    pub(crate) fn constant_lines<'b>(&self, block: &'b [Line]) -> &'b [Line] {
        &block[self.per_block * Self::VECTORS..]
    }

    /// Scale and bias number `index` of a block's constants (without biases, the latter means nothing).
    #[inline(always)]
    pub(crate) fn constants<S: Simd>(&self, s: S, constants: &[Line], index: usize) -> (S::V, S::V) {
        if AFFINE {
            let (scale, bias) = (2 * index, 2 * index + 1);
            return (constant(s, self.kind, constants, scale), constant(s, self.kind, constants, bias));
        }
        let scale = constant(s, self.kind, constants, index);
        (scale, scale)
    }

    /// Scale number `index` of a block, and its bias or what stands for it: −(zero point) · scale.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    pub(crate) fn scale_and_bias<S: Simd>(&self, s: S, block: &[Line], index: usize) -> (S::V, S::V) {
        let (scale, bias) = self.constants(s, self.constant_lines(block), index);
        let zero = if FOUR { 8.0 } else { 128.0 };
        (scale, if AFFINE { bias } else { s.mul(scale, s.splat(-zero)) })
    }

    /// Asks for the constants that lie `distance` bytes behind those of a block.
    #[inline(always)]
    pub(crate) fn ask_for_constants(&self, block: &[Line], distance: usize) {
        self.constant_lines(block).iter().for_each(|line| prefetch(line, distance));
    }

    /// Which of a block's one or two scales its group number `group` has.
    #[inline(always)]
    pub(crate) fn scale_of(&self, group: usize) -> usize {
        usize::from(group >= self.per_scale)
    }

    /// Bytes between panels.
    #[inline(always)]
    pub(crate) fn panel_bytes(&self) -> usize {
        self.panel_lines * LINE
    }

    /// Lines of a block, constants included.
    #[inline(always)]
    pub(crate) fn block_lines(&self) -> usize {
        self.block_lines
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
    fn ask_for<const P: usize>(&self, q: &[Line], part: usize, parts: usize) {
        let count = IntWeights::<FOUR, AFFINE>::VECTORS / parts;
        for line in &q[part * count..][..count] {
            prefetch(line, P * self.weights.panel_bytes());
        }
    }

    /// The integer sums of `shared` groups from `group` on, number `first` of their block, for M rows × P panels. Few
    /// sums get two accumulators each, which halves the latency; integer sums are exact in any order.
    #[inline(always)]
    fn dots<S: Simd, const M: usize, const P: usize>(
        &self,
        s: S,
        blocks: &[&[Line]; P],
        x: &[&[QuantGroup]; M],
        (group, first): (usize, usize),
        ahead: Ahead,
    ) -> [[S::I; P]; M] {
        let mut dots = [[s.splat_i32(0); P]; M];
        let mut others = dots;
        for m in 0..M {
            dots[m] = [s.splat_i32(x[m][group].start); P];
        }
        for index in 0..self.shared {
            let mut q = *blocks;
            for q in &mut q {
                let vectors = IntWeights::<FOUR, AFFINE>::VECTORS;
                *q = &q[(first + index) * vectors..][..vectors];
                match ahead {
                    Ahead::Nothing => {}
                    Ahead::All => q.iter().for_each(|line| prefetch(line, PREFETCH_BYTES)),
                    Ahead::Half(which) => self.ask_for::<P>(q, which, 2),
                    Ahead::Quarter(which) => self.ask_for::<P>(q, which, 4),
                }
            }
            let mut here = [&x[0][group].q; M];
            for m in 0..M {
                here[m] = &x[m][group + index].q;
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

    /// M rows × P panels; rows from `at.count` on repeat the last one and are not stored.
    #[inline(always)]
    fn tile<S: Simd, const M: usize, const P: usize>(&self, s: S, at: Rows, panel: usize) {
        let Rows { row, count, .. } = at;
        let (weights, ahead) = (&self.weights, Ahead::new(at, P));
        let mut x = [self.x; M];
        for (m, x) in x.iter_mut().enumerate() {
            *x = &self.x[(row + m.min(count - 1)) * weights.groups..][..weights.groups];
        }
        for m in 0..count.min(M) {
            (0..P).for_each(|p| self.out.prefetch(row + m, panel + p));
        }
        let mut acc = [[s.splat(0.0); P]; M];
        for (index, block) in weights.panel(panel).chunks_exact(weights.block_lines).enumerate() {
            let mut blocks = [block; P];
            for (p, other) in blocks.iter_mut().enumerate().skip(1) {
                *other = weights.block(panel + p, index);
            }
            // The first to come by asks for the constants.
            if at.is_first() {
                let distance = if P == 1 { PREFETCH_BYTES } else { P * weights.panel_bytes() };
                for block in blocks {
                    weights.ask_for_constants(block, distance);
                }
            }
            let mut first = 0;
            while first < weights.per_block {
                let group = index * weights.per_block + first;
                let dots = self.dots::<S, M, P>(s, &blocks, &x, (group, first), ahead);
                let scale = weights.scale_of(first);
                for p in 0..P {
                    let constants = weights.constants(s, weights.constant_lines(blocks[p]), scale);
                    for m in 0..M {
                        let of_x = (x[m][group].scale, x[m][group].bias_factor);
                        acc[m][p] = Self::accumulate(s, acc[m][p], s.to_f32(dots[m][p]), constants, of_x);
                    }
                }
                first += self.shared;
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
        for first in panels.clone().step_by(step) {
            let panels = first..(first + step).min(panels.end);
            for at in Rows::cut(rows.clone(), most) {
                let panels = panels.clone();
                match at.count {
                    1 if few => self.blocks::<1, 1>(isa, at, panels),
                    2 if few => self.blocks::<2, 1>(isa, at, panels),
                    3 | 4 if few => self.blocks::<4, 1>(isa, at, panels),
                    5 | 6 if few => self.blocks::<6, 1>(isa, at, panels),
                    _ if few => self.blocks::<FEW_ROWS, 1>(isa, at, panels),
                    // Sixteen registers, two to a vector, hold no more.
                    _ if isa.level() < Level::Avx512 => self.blocks::<WIDE_ROWS, 1>(isa, at, panels),
                    _ if most == WIDE_ROWS => self.blocks::<WIDE_ROWS, MAX_PANELS>(isa, at, panels),
                    _ => self.blocks::<MAX_ROWS, MAX_PANELS>(isa, at, panels),
                }
            }
        }
    }

    /// M rows × some panels, P at a time.
    fn blocks<const M: usize, const P: usize>(&self, isa: Isa, at: Rows, panels: Range<usize>) {
        isa.run(Block::<FOUR, AFFINE, M, P> { job: self, at, panels });
    }
}

/// Vector number `index` of a block's constants.
#[inline(always)]
fn constant<S: Simd>(s: S, kind: Kind, constants: &[Line], index: usize) -> S::V {
    if kind == Kind::F32 {
        return s.load(bytemuck::cast_ref(&constants[index]));
    }
    let halves: &[[u16; LANES]; 2] = bytemuck::cast_ref(&constants[index / 2]);
    let half = &halves[index % 2];
    if kind == Kind::Bf16 { s.load_bf16(half) } else { s.load_f16(half) }
}

/// How integers are read and multiplied.
trait Integers<S: Simd> {
    /// In registers.
    type Ready: Copy;
    /// Steps j and j + 4 of a group.
    fn steps(s: S, q: &[Line], j: usize) -> (Self::Ready, Self::Ready);
    fn dot4(s: S, sums: S::Sums, w: Self::Ready, x: i32) -> S::Sums;
}

struct Bytes;
struct Nibbles;

impl<S: Simd> Integers<S> for Bytes {
    type Ready = S::B;
    #[inline(always)]
    fn steps(s: S, q: &[Line], j: usize) -> (S::B, S::B) {
        (s.bytes(bytemuck::cast_ref(&q[j])), s.bytes(bytemuck::cast_ref(&q[j + STEPS / 2])))
    }
    #[inline(always)]
    fn dot4(s: S, sums: S::Sums, w: S::B, x: i32) -> S::Sums {
        s.dot4(sums, w, x)
    }
}

impl<S: Simd> Integers<S> for Nibbles {
    type Ready = S::N;
    #[inline(always)]
    fn steps(s: S, q: &[Line], j: usize) -> (S::N, S::N) {
        s.nibbles(bytemuck::cast_ref(&q[j]))
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
    q: &[&[Line]; P],
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
struct Block<'a, const FOUR: bool, const AFFINE: bool, const M: usize, const P: usize> {
    job: &'a IntJob<'a, FOUR, AFFINE>,
    at: Rows,
    panels: Range<usize>,
}

impl<const FOUR: bool, const AFFINE: bool, const M: usize, const P: usize> Kernel
    for Block<'_, FOUR, AFFINE, M, P>
{
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { job, at, panels } = self;
        let mut panel = panels.start;
        while panel + P <= panels.end {
            job.tile::<S, M, P>(s, at, panel);
            panel += P;
        }
        if P > 1 && panel < panels.end {
            job.tile::<S, M, 1>(s, at, panel);
        }
    }
}
