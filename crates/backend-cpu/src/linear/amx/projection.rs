//! q, k and v out of tiles: normalised, rotated and put where attention reads them while they are in a core's cache.

use std::ops::Range;

use millrace_backend::{BackendError, HeadLayout};

use super::block::Sums;
use super::finish::Keep;
use super::layer::{Inputs, Layer, holds};
use crate::activations::{Activations, Input};
use crate::kv::{self, Element, Half, LayerKv, TILE, Tokens};
use crate::level::{Isa, Level};
use crate::pack::Packed;
use crate::pool::Pool;
use crate::rope::QkNormRope;
use crate::shared::SharedMut;
use crate::simd::{Bf16Dot, Bf16Kernel, LANES, Simd, prefetch};
use crate::tile::{ROW, ROWS};

/// Columns of a pair of panels.
const PAIR: usize = 2 * LANES;
/// How many rows in advance results and places of queries are asked for.
const AHEAD: usize = 2;

/// Queries, keys and values of rows that are multiplied on tiles, and where they go.
pub(crate) struct TiledProjection<'a> {
    pub(crate) isa: Isa,
    pub(crate) pool: &'a Pool,
    pub(crate) weight: &'a Packed,
    pub(crate) input: Input<'a>,
    pub(crate) heads: Heads<'a>,
    pub(crate) slots: &'a [u32],
}

/// What becomes of results.
pub(crate) struct Heads<'a> {
    pub(crate) bias: Option<&'a [f32]>,
    pub(crate) norm_rope: QkNormRope<'a>,
    /// Fused rows, of which q is written.
    pub(crate) out: SharedMut<'a, f32>,
}

impl TiledProjection<'_> {
    /// Whether tasks can have whole heads of such weights.
    pub(crate) fn fits(isa: Isa, weight: &Packed, heads: HeadLayout) -> bool {
        isa.level() == Level::Amx && holds(weight) && matches!(heads.head_dim, 64 | 128 | 256)
    }

    /// # Errors
    /// No memory, or weights or heads that don't [fit](TiledProjection::fits).
    pub(crate) fn run(&self, kv: &mut LayerKv, scratch: &mut Activations) -> Result<(), BackendError> {
        match self.heads.norm_rope.heads.head_dim {
            64 => self.of::<64>(kv, scratch),
            128 => self.of::<128>(kv, scratch),
            256 => self.of::<256>(kv, scratch),
            dim => {
                let what = format!("heads of {dim} columns out of tiles");
                Err(BackendError::Unsupported { device: "cpu", what })
            }
        }
    }

    /// With heads of so many columns.
    fn of<const DIM: usize>(&self, kv: &mut LayerKv, scratch: &mut Activations) -> Result<(), BackendError> {
        match kv {
            LayerKv::F32(layer) => self.into::<_, DIM>(layer, scratch),
            LayerKv::Bf16(layer) => self.into::<_, DIM>(layer, scratch),
            LayerKv::Int8(layer) => self.into::<_, DIM>(layer, scratch),
        }
    }

    fn into<E: Element, const DIM: usize>(
        &self,
        kv: &mut kv::Layer<E>,
        scratch: &mut Activations,
    ) -> Result<(), BackendError> {
        let Self { isa, pool, weight, input, heads, slots } = self;
        let (step, tokens) = (DIM / PAIR, Tokens::new(kv, slots));
        let taker = |rows: Range<usize>, pairs: Range<usize>, results: &[Sums]| {
            let numbers = pairs.start / step..pairs.end / step;
            isa.run_bf16(Take::<E, DIM> { heads, tokens: &tokens, rows, numbers, results });
        };
        let (finish, pairs) = (Keep { step, taker: &taker }, heads.norm_rope.heads.fused_cols() / PAIR);
        Layer { isa: *isa, pool, weight, inputs: Inputs::Rows(*input), finish, pairs }.run(scratch)
    }
}

/// Some rows of some heads, each of which has DIM columns.
struct Take<'a, E, const DIM: usize> {
    heads: &'a Heads<'a>,
    tokens: &'a Tokens<'a, E>,
    rows: Range<usize>,
    numbers: Range<usize>,
    /// `[pair][band]`.
    results: &'a [Sums],
}

/// A head of all rows.
struct Head<'a, const DIM: usize> {
    number: usize,
    /// `[pair][band]`.
    results: &'a [Sums],
    bands: usize,
    bias: Row<DIM>,
}

/// Columns of a head in whole cache lines.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Row<const DIM: usize>([f32; DIM]);

impl<const DIM: usize> Row<DIM> {
    const ZEROS: Self = Self([0.0; DIM]);
}

impl<E: Element, const DIM: usize> Bf16Kernel for Take<'_, E, DIM> {
    type Out = ();
    #[inline(always)]
    fn run<S: Bf16Dot>(self, s: S) {
        let layout = self.heads.norm_rope.heads;
        let bands = self.rows.len().div_ceil(ROWS);
        for (number, results) in self.numbers.clone().zip(self.results.chunks_exact(DIM / PAIR * bands)) {
            let mut bias = Row::ZEROS;
            if let Some(all) = self.heads.bias {
                bias.0.copy_from_slice(&all[number * DIM..][..DIM]);
            }
            let head = Head { number, results, bands, bias };
            match number.checked_sub(layout.q_heads) {
                None => self.query(s, &head),
                Some(key) if key < layout.kv_heads => self.cached(s, &head, (key, Half::Keys)),
                Some(value) => self.cached(s, &head, (value - layout.kv_heads, Half::Values)),
            }
        }
    }
}

impl<E: Element, const DIM: usize> Take<'_, E, DIM> {
    /// Takes row number `row` of these out of the results, ready for attention.
    #[inline(always)]
    fn row<S: Simd>(&self, s: S, head: &Head<'_, DIM>, row: usize, Row(out): &mut Row<DIM>) {
        for (index, (out, bias)) in
            out.as_chunks_mut().0.iter_mut().zip(head.bias.0.as_chunks().0).enumerate()
        {
            let pair = &head.results[index / 2 * head.bands + row / ROWS];
            prefetch(&raw const pair[index % 2].0[row % ROWS], AHEAD * ROW);
            s.store(s.add(s.load(&pair[index % 2].0[row % ROWS]), s.load(bias)), out);
        }
        let norm_rope = &self.heads.norm_rope;
        if head.number < norm_rope.heads.q_heads + norm_rope.heads.kv_heads {
            norm_rope.head(s, head.number, norm_rope.table_of(self.rows.start + row), out);
        }
    }

    #[inline(always)]
    fn query<S: Simd>(&self, s: S, head: &Head<'_, DIM>) {
        let Heads { out, norm_rope, .. } = self.heads;
        let cols = norm_rope.heads.fused_cols();
        for row in 0..self.rows.len() {
            let first = (self.rows.start + row) * cols + head.number * DIM;
            for column in (0..DIM).step_by(LANES) {
                prefetch(out.address(first + AHEAD * cols + column), 0);
            }
            let mut query = Row::ZEROS;
            self.row(s, head, row, &mut query);
            // SAFETY: a head of a row belongs to one task.
            unsafe { out.slice(first, DIM) }.copy_from_slice(&query.0);
        }
    }

    /// A head of keys or values.
    #[inline(always)]
    fn cached<S: Simd>(&self, s: S, head: &Head<'_, DIM>, place: (usize, Half)) {
        let mut x = [Row::ZEROS; TILE];
        let mut row = 0;
        while row < self.rows.len() {
            let together = match self.tokens.together(self.rows.start + row) {
                together if row + together <= self.rows.len() => together,
                _ => 1,
            };
            for (token, x) in x.iter_mut().enumerate().take(together) {
                self.row(s, head, row + token, x);
            }
            let x = x.each_ref().map(|x| &x.0[..]);
            self.tokens.write(s, self.rows.start + row, place, &x[..together]);
            row += together;
        }
    }
}
