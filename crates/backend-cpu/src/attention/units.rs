//! The ways in which a band of query rows meets a span of keys.

mod pairs;
mod wide;

use std::ops::Range;

use bytemuck::Pod;

use super::span::Table;
use super::task::Task;
use super::walk::TILES;
use crate::activations::bf16_bits;
use crate::kv::{Element, TileView};
use crate::level::Isa;
use crate::simd::{LANES, Simd, prefetch_far};

pub(super) use pairs::Pairs;
pub(super) use wide::Wide;

/// What queries and softmax weights are held in.
pub(super) trait Number: Pod + Send + Sync {
    fn from_f32(x: f32) -> Self;
    fn store<S: Simd>(s: S, v: S::V, to: &mut [Self; LANES]);
}

impl Number for f32 {
    #[inline(always)]
    fn from_f32(x: f32) -> Self {
        x
    }
    #[inline(always)]
    fn store<S: Simd>(s: S, v: S::V, to: &mut [Self; LANES]) {
        s.store(v, to);
    }
}

/// The bits of a bf16.
impl Number for u16 {
    #[inline(always)]
    fn from_f32(x: f32) -> Self {
        bf16_bits(x)
    }
    #[inline(always)]
    fn store<S: Simd>(s: S, v: S::V, to: &mut [Self; LANES]) {
        s.store_bf16(v, to);
    }
}

/// Up to sixteen query rows and the span that they meet.
pub(super) struct Band<'a, E, N> {
    pub(super) rows: usize,
    /// Head dimension.
    pub(super) dim: usize,
    /// `[rows][padded dim]`.
    pub(super) queries: &'a [N],
    pub(super) tiles: &'a [TileView<'a, E>; TILES],
    /// The span after this one: to be asked for.
    pub(super) next: &'a [TileView<'a, E>; TILES],
    /// Tiles that any row sees.
    pub(super) here: Range<usize>,
}

/// Multiplies queries with keys, and weights with values.
pub(super) trait Unit<S: Simd, E: Element> {
    type Number: Number;

    /// scores = queries · keys, for the tiles `here`.
    fn score(&mut self, s: S, band: &Band<'_, E, Self::Number>, scores: &mut Table<f32>);

    /// values `[rows][⌈dim / 16⌉]` += weights · V. Weights of tiles that are not `here` are zero.
    fn accumulate(
        &mut self,
        s: S,
        band: &Band<'_, E, Self::Number>,
        weights: &Table<Self::Number>,
        values: &mut [[f32; LANES]],
    );
}

/// A way to compute items, with the level that it runs on.
pub(super) trait Runs<E: Element> {
    /// Rows of an item at most: keys and values come from memory once for all of them.
    const ROWS: usize = 64;
    /// Floats of room that an item of so many rows takes; a multiple of 16.
    fn room(dim: usize, rows: usize) -> usize;
    fn run(isa: Isa, task: Task<'_, E>);
}

/// Rows that are held in registers; `rows` beyond the last one repeat it and are not stored.
#[inline(always)]
fn last(row: usize, rows: usize) -> usize {
    row.min(rows - 1)
}

/// So few rows wait for memory: they ask for the next keys while they read these.
pub(super) const FEW_ROWS: usize = 4;

/// Asks for an element of a tile of the next span: blocks are scattered, so no hardware could guess it.
#[inline(always)]
fn ask_for<T>(rows: usize, tile: &[T], index: usize) {
    if rows <= FEW_ROWS
        && let Some(pair) = tile.get(index)
    {
        prefetch_far(pair, 0);
    }
}

/// Calls `$run::<R>(first row)` for blocks of up to eight rows.
macro_rules! by_rows {
    ($rows:expr, |$first:ident, $r:ident| $body:expr) => {
        let mut $first = 0;
        while $first < $rows {
            match $rows - $first {
                1 => {
                    const $r: usize = 1;
                    $body
                }
                2 => {
                    const $r: usize = 2;
                    $body
                }
                3 | 4 => {
                    const $r: usize = 4;
                    $body
                }
                _ => {
                    const $r: usize = 8;
                    $body
                }
            }
            $first += 8;
        }
    };
}
use by_rows;
