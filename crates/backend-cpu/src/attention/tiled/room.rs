//! The memory of an item: everything as tiles.

use bytemuck::Pod;

use super::super::state::LOWEST;
use super::{BAND, TILES};
use crate::kv::{DIM_STEP, PAIR};
use crate::simd::LANES;
use crate::tile::ROWS;

/// Sixteen rows × 32 numbers: bits of bf16.
pub(super) type HalfTile = [[u16; PAIR]; ROWS];
/// Sixteen rows × sixteen floats.
pub(super) type FloatTile = [[f32; LANES]; ROWS];

/// How many tiles there are.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    pub(super) bands: usize,
    /// Steps of 32 over the head dimension of queries and keys.
    pub(super) steps: usize,
    /// Vectors of 16 over the head dimension of values, made even: two at a time.
    pub(super) vectors: usize,
}

impl Sizes {
    pub(super) fn new(dim: usize, rows: usize) -> Self {
        let vectors = dim.div_ceil(LANES).next_multiple_of(2);
        Self { bands: rows.div_ceil(BAND), steps: dim.div_ceil(DIM_STEP), vectors }
    }

    /// Products of two tiles each that make a band's scores.
    #[inline(always)]
    pub(super) fn score_pieces(&self) -> usize {
        TILES / 2 * self.steps
    }

    /// The place of the piece after one at a pair of tiles and a step.
    #[inline(always)]
    pub(super) fn after(&self, [pair, step]: [usize; 2]) -> [usize; 2] {
        if step + 1 == self.steps { [pair + 1, 0] } else { [pair, step + 1] }
    }

    /// The same number for values.
    #[inline(always)]
    pub(super) fn value_pieces(&self) -> usize {
        self.vectors / 2 * (TILES / 2)
    }

    /// Floats of all.
    pub(super) fn floats(&self) -> usize {
        let half = self.bands * self.steps + TILES + TILES * self.steps + TILES / 2 * self.vectors;
        let float = 2 * TILES + self.bands * self.vectors;
        let rows = self.bands * BAND;
        (half * size_of::<HalfTile>() + float * size_of::<FloatTile>()) / size_of::<f32>()
            + rows * (LANES + 1)
    }
}

/// A thread's room, cut up.
pub(super) struct Room<'a> {
    /// `[band][step]`.
    pub(super) queries: &'a mut [HalfTile],
    /// `[band % 2][tile]`, rows × positions.
    pub(super) scores: &'a mut [FloatTile],
    /// `[band % 2][two tiles]`, rows × positions.
    pub(super) weights: &'a mut [HalfTile],
    /// Keys that had to be converted: `[tile][step]`.
    pub(super) keys: &'a mut [HalfTile],
    /// `[two tiles][vector]`, pairs of positions × elements.
    pub(super) v: &'a mut [HalfTile],
    /// `[band][vector]`, rows × elements.
    pub(super) values: &'a mut [FloatTile],
    /// Sums of weights, lane by lane: `[row]`.
    pub(super) sums: &'a mut [[f32; LANES]],
    /// `[row]`.
    pub(super) max: &'a mut [f32],
}

impl<'a> Room<'a> {
    /// Cuts up [`Sizes::floats`] floats.
    #[inline(always)]
    pub(super) fn new(sizes: Sizes, mut floats: &'a mut [f32]) -> Self {
        let Sizes { bands, steps, vectors } = sizes;
        let floats = &mut floats;
        Self {
            queries: take(floats, bands * steps),
            scores: take(floats, 2 * TILES),
            weights: take(floats, TILES),
            keys: take(floats, TILES * steps),
            v: take(floats, TILES / 2 * vectors),
            values: take(floats, bands * vectors),
            sums: take(floats, bands * BAND),
            max: take(floats, bands * BAND),
        }
    }

    /// No keys yet, for so many rows.
    #[inline(always)]
    pub(super) fn clear(&mut self, rows: usize) {
        for tile in &mut *self.values {
            for row in &mut tile[..rows.min(ROWS)] {
                *row = [0.0; LANES];
            }
        }
        self.sums.fill([0.0; LANES]);
        self.max.fill(LOWEST);
    }
}

/// The first `count` elements.
#[inline(always)]
fn take<'a, T: Pod>(floats: &mut &'a mut [f32], count: usize) -> &'a mut [T] {
    let (taken, rest) = std::mem::take(floats).split_at_mut(count * size_of::<T>() / size_of::<f32>());
    *floats = rest;
    bytemuck::cast_slice_mut(taken)
}
