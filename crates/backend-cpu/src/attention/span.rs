//! A chunk of keys, span by span and row by row: scores, weights, values.

use std::ops::Range;

use super::item::{Item, Job, first_visible};
use super::state::State;
use super::task::Chunks;
use super::units::{Band, FEW_ROWS, Number, Unit};
use super::walk::{TILES, Walk};
use super::{BAND, SPAN};
use crate::kv::{DIM_STEP, Element, TILE};
use crate::simd::{LANES, Simd, math::exp2, prefetch_share};

/// A band's scores or weights: `[row][position]`.
pub(super) type Table<T> = [[T; SPAN]; BAND];

/// A row's maximum follows its scores only when they exceed it by more than this, so that its values are seldom
/// rescaled: weights are at most 2⁸ instead of 1, which floats hold as precisely.
pub(super) const SLACK: f32 = 8.0;

/// An item on its way through the keys, row by row.
pub(super) struct Spans<'a, E, U, N> {
    job: &'a Job<'a, E>,
    item: Item,
    unit: U,
    /// `[rows][padded dim]`.
    queries: &'a [N],
    scores: &'a mut Table<f32>,
    weights: &'a mut Table<N>,
}

impl<'a, E: Element, U, N: Number> Spans<'a, E, U, N> {
    /// Floats of room that an item of so many rows takes.
    pub(super) fn room(dim: usize, rows: usize) -> usize {
        let per_float = size_of::<f32>() / size_of::<N>();
        let queries = (rows * dim.next_multiple_of(DIM_STEP) / per_float).next_multiple_of(LANES);
        queries + BAND * SPAN + BAND * SPAN / per_float
    }

    /// Takes the item's queries, scaled so that scores become exponents of two. `room`: as much as
    /// [`Spans::room`] says.
    #[inline(always)]
    pub(super) fn new(job: &'a Job<'a, E>, item: Item, unit: U, room: &'a mut [f32]) -> Self {
        let (scores, room) = room.split_at_mut(BAND * SPAN);
        let (weights, queries) = room.split_at_mut(BAND * SPAN * size_of::<N>() / size_of::<f32>());
        let scores = bytemuck::from_bytes_mut(bytemuck::cast_slice_mut(scores));
        let weights = bytemuck::from_bytes_mut(bytemuck::cast_slice_mut(weights));
        let queries: &mut [N] = bytemuck::cast_slice_mut(queries);
        let (padded, scale) = (job.spec.heads.head_dim.next_multiple_of(DIM_STEP), job.query_scale());
        for (row, out) in queries.chunks_exact_mut(padded).take(job.rows(item)).enumerate() {
            let from = job.query(item, row);
            for (out, x) in out.iter_mut().zip(from) {
                *out = N::from_f32(x * scale);
            }
            out[from.len()..].fill(N::from_f32(0.0));
        }
        Self { job, item, unit, queries, scores, weights }
    }
}

impl<S: Simd, E: Element, U: Unit<S, E, Number = N>, N: Number> Chunks<S> for Spans<'_, E, U, N> {
    #[inline(always)]
    fn chunk(&mut self, s: S, chunk: usize, state: &mut State<'_>) {
        state.clear();
        let mut walk = Walk::new(self.job, self.item, chunk);
        while walk.step() {
            self.span(s, &walk, state);
        }
    }
}

impl<E: Element, U, N: Number> Spans<'_, E, U, N> {
    /// All bands that see anything of a span.
    #[inline(always)]
    fn span<S: Simd>(&mut self, s: S, walk: &Walk<'_, E>, state: &mut State<'_>)
    where
        U: Unit<S, E, Number = N>,
    {
        let Walk { start: span, tiles, next, .. } = walk;
        let span = *span;
        let (job, item) = (self.job, self.item);
        let (rows, dim) = (job.rows(item), job.spec.heads.head_dim);
        let (stride, vectors) = (dim.next_multiple_of(DIM_STEP), dim.div_ceil(LANES));
        let first_position = job.first_position(item);
        for first in (0..rows).step_by(BAND) {
            let count = BAND.min(rows - first);
            let position = |row: usize| first_position + (row as u32 / item.heads as u32) as usize;
            let (lowest, highest) = (position(first), position(first + count - 1));
            let seen = first_visible(lowest, job.spec.window).max(span)..(highest + 1).min(span + SPAN);
            if seen.is_empty() {
                continue;
            }
            let band = Band {
                rows: count,
                dim,
                queries: &self.queries[first * stride..][..count * stride],
                tiles,
                next,
                // Tiles with a key that any row sees.
                here: (seen.start - span) / TILE..(seen.end - span).div_ceil(TILE),
            };
            self.unit.score(s, &band, self.scores);
            if count > FEW_ROWS {
                // Each band asks for a part of the keys that come next.
                let bands = rows.div_ceil(BAND);
                for tile in next {
                    prefetch_share(tile.keys, first / BAND, bands);
                    prefetch_share(tile.values, first / BAND, bands);
                }
            } else if band.here.len() < TILES {
                // Few rows ask for what stands where they read; this is the rest.
                for (_, tile) in next.iter().enumerate().filter(|(t, _)| !band.here.contains(t)) {
                    prefetch_share(tile.keys, 0, 1);
                    prefetch_share(tile.values, 0, 1);
                }
            }
            let values = &mut state.values[first * vectors..][..count * vectors];
            // Every row sees all keys of the span.
            let all = lowest + 1 >= span + SPAN && first_visible(highest, job.spec.window) <= span;
            for row in 0..count {
                let (max, sum) = (&mut state.max[first + row], &mut state.sum[first + row]);
                let factor = if all {
                    self.weigh::<S, true>(s, &band, row, (span, &(0..0)), max, sum)
                } else {
                    let position = position(first + row);
                    let bounds = first_visible(position, job.spec.window)..position + 1;
                    self.weigh::<S, false>(s, &band, row, (span, &bounds), max, sum)
                };
                if factor != 1.0 {
                    let factor = s.splat(factor);
                    for value in &mut values[row * vectors..][..vectors] {
                        s.store(s.mul(s.load(value), factor), value);
                    }
                }
            }
            self.unit.accumulate(s, &band, self.weights, values);
        }
    }

    /// Turns a row's scores into weights 2^(score − max), updates maximum and sum, and returns the factor that the
    /// values so far have to be multiplied by. `ALL`: the row sees all keys; otherwise those within the bounds, given
    /// with the span's start, and the others get no weight.
    #[inline(always)]
    fn weigh<S: Simd, const ALL: bool>(
        &mut self,
        s: S,
        band: &Band<'_, E, N>,
        row: usize,
        (span, bounds): (usize, &Range<usize>),
        max: &mut f32,
        sum: &mut f32,
    ) -> f32 {
        let is_here = |t: usize| ALL || band.here.contains(&t);
        let scales = |t: usize| if E::SCALED { band.tiles[t].scales } else { None };
        let hidden = s.splat(f32::NEG_INFINITY);
        let mut scores = [hidden; TILES];
        let mut highest = hidden;
        for (t, score) in scores.iter_mut().enumerate() {
            if is_here(t) {
                *score = s.load(lanes(&self.scores[row], t));
                if let Some([keys, _]) = scales(t) {
                    *score = s.mul(*score, s.load(keys));
                }
                if !ALL {
                    *score = mask(s, *score, span + t * TILE, bounds);
                }
                highest = s.max(*score, highest);
            }
        }
        let highest = s.max_lane(highest);
        let new = if highest > *max + SLACK { highest } else { *max };
        let factor = if new == *max { 1.0 } else { s.first(exp2(s, s.splat(*max - new))) };
        *max = new;
        let mut total = s.splat(0.0);
        for (t, score) in scores.into_iter().enumerate() {
            let weights = lanes_mut(&mut self.weights[row], t);
            if !is_here(t) {
                weights.fill(N::from_f32(0.0));
                continue;
            }
            let weight = exp2(s, s.sub(score, s.splat(new)));
            total = s.add(total, weight);
            let weight = match scales(t) {
                Some([_, values]) => s.mul(weight, s.load(values)),
                None => weight,
            };
            N::store(s, weight, weights);
        }
        *sum = *sum * factor + s.sum(total);
        factor
    }
}

/// Hides the positions of a tile that lie outside of `bounds`.
#[inline(always)]
pub(super) fn mask<S: Simd>(s: S, mut score: S::V, start: usize, bounds: &Range<usize>) -> S::V {
    if start + TILE <= bounds.end && start >= bounds.start {
        return score;
    }
    let hidden = s.splat(f32::NEG_INFINITY);
    let mut lane_positions = [0.0; LANES];
    for (lane, position) in lane_positions.iter_mut().enumerate() {
        *position = lane as f32;
    }
    let lanes = s.load(&lane_positions);
    // The bounds relative to the tile fit a float exactly after clamping.
    if start + TILE > bounds.end {
        let last = s.splat((bounds.end as isize - 1 - start as isize).max(-1) as f32);
        score = s.select_ge(last, lanes, score, hidden);
    }
    if start < bounds.start {
        let first = s.splat((bounds.start - start).min(TILE) as f32);
        score = s.select_ge(lanes, first, score, hidden);
    }
    score
}

/// Positions of tile `t`.
#[inline(always)]
fn lanes<T>(row: &[T; SPAN], t: usize) -> &[T; LANES] {
    &row.as_chunks().0[t]
}

#[inline(always)]
fn lanes_mut<T>(row: &mut [T; SPAN], t: usize) -> &mut [T; LANES] {
    &mut row.as_chunks_mut().0[t]
}
