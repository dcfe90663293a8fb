//! A chunk of keys, span by span: scores, weights, values.

use std::ops::Range;

use millrace_types::BlockId;

use super::item::{Item, Job, first_visible, visible};
use super::state::State;
use super::units::{Band, FEW_ROWS, Number, Unit};
use super::{BAND, CHUNK, SPAN};
use crate::kv::{DIM_STEP, Element, TILE, TileView};
use crate::simd::{LANES, Simd, math::exp2, prefetch_share};

/// Key tiles of a span.
pub(super) const TILES: usize = SPAN / TILE;

/// A band's scores or weights: `[row][position]`.
pub(super) type Table<T> = [[T; SPAN]; BAND];

/// A row's maximum follows its scores only when they exceed it by more than this, so that its values are seldom
/// rescaled: weights are at most 2⁸ instead of 1, which floats hold as precisely.
const SLACK: f32 = 8.0;

/// An item on its way through the keys.
pub(super) struct Spans<'a, E, N> {
    job: &'a Job<'a, E>,
    item: Item,
    /// `[rows][padded dim]`.
    queries: &'a [N],
    scores: &'a mut Table<f32>,
    weights: &'a mut Table<N>,
    /// The unit's own room, for K and V of a span in bf16.
    room: &'a mut [f32],
}

impl<'a, E: Element, N: Number> Spans<'a, E, N> {
    pub(super) fn new(
        job: &'a Job<'a, E>,
        item: Item,
        queries: &'a [N],
        scores: &'a mut [f32],
        weights: &'a mut [f32],
        room: &'a mut [f32],
    ) -> Self {
        let scores = bytemuck::from_bytes_mut(bytemuck::cast_slice_mut(scores));
        let weights = bytemuck::from_bytes_mut(bytemuck::cast_slice_mut(weights));
        Self { job, item, queries, scores, weights, room }
    }

    /// Attends to one chunk.
    #[inline(always)]
    pub(super) fn chunk<S: Simd, U: Unit<S, E, Number = N>>(
        &mut self,
        s: S,
        unit: &mut U,
        chunk: usize,
        state: &mut State<'_>,
    ) {
        let (job, item) = (self.job, self.item);
        state.clear();
        let (tile, seq) = (&job.tiles[item.tile], job.seq(item.tile));
        let seen = visible(seq, tile, job.spec.window);
        let keys = seen.start.max(chunk * CHUNK)..seen.end.min((chunk + 1) * CHUNK);
        let blocks = seq.blocks.of(&job.batch.block_tables);
        let head = item.kv_head;
        let mut span = keys.start / SPAN * SPAN;
        let mut next = self.tiles_at(blocks, head, span, &keys);
        while span < keys.end {
            let tiles = next;
            next = if span + SPAN < seen.end || head + 1 == job.spec.heads.kv_heads {
                self.tiles_at(blocks, head, span + SPAN, &keys)
            } else {
                // What comes after this item: the next head of the same tokens.
                self.tiles_at(blocks, head + 1, seen.start / SPAN * SPAN, &seen)
            };
            unit.prepare(s, &tiles, self.room);
            self.span(s, unit, span, &tiles, &next, state);
            span += SPAN;
        }
    }

    /// The tiles of a span that hold any of `keys`.
    #[inline(always)]
    fn tiles_at(
        &self,
        blocks: &[BlockId],
        kv_head: usize,
        span: usize,
        keys: &Range<usize>,
    ) -> [TileView<'a, E>; TILES] {
        let (kv, mut tiles) = (self.job.kv, [TileView::absent(); TILES]);
        for (index, tile) in tiles.iter_mut().enumerate() {
            let position = span + index * TILE;
            if position < keys.end && position + TILE > keys.start {
                let (block, offset) = (position / kv.block_size(), position % kv.block_size());
                *tile = kv.tile(blocks[block].0 as usize, kv_head, offset);
            }
        }
        tiles
    }

    /// All bands that see anything of a span.
    #[inline(always)]
    fn span<S: Simd, U: Unit<S, E, Number = N>>(
        &mut self,
        s: S,
        unit: &mut U,
        span: usize,
        tiles: &[TileView<'a, E>; TILES],
        next: &[TileView<'a, E>; TILES],
        state: &mut State<'_>,
    ) {
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
            unit.score(s, &band, self.room, self.scores);
            if count > FEW_ROWS {
                // Each band asks for a part of the keys that come next.
                let bands = rows.div_ceil(BAND);
                for tile in next {
                    prefetch_share(tile.keys, first / BAND, bands);
                    prefetch_share(tile.values, first / BAND, bands);
                }
            }
            let values = &mut state.values[first * vectors..][..count * vectors];
            // Every row sees all keys of the span.
            let all = lowest + 1 >= span + SPAN && first_visible(highest, job.spec.window) <= span;
            for row in 0..count {
                let (max, sum) = (&mut state.max[first + row], &mut state.sum[first + row]);
                let factor = if all {
                    self.weigh::<S, true>(s, &band, row, |_, score| score, max, sum)
                } else {
                    let position = position(first + row);
                    let bounds = first_visible(position, job.spec.window)..position + 1;
                    self.weigh::<S, false>(
                        s,
                        &band,
                        row,
                        |t, v| mask(s, v, span + t * TILE, &bounds),
                        max,
                        sum,
                    )
                };
                if factor != 1.0 {
                    let factor = s.splat(factor);
                    for value in &mut values[row * vectors..][..vectors] {
                        s.store(s.mul(s.load(value), factor), value);
                    }
                }
            }
            unit.accumulate(s, &band, self.room, self.weights, values);
        }
    }

    /// Turns a row's scores into weights 2^(score − max), updates maximum and sum, and returns the factor that the
    /// values so far have to be multiplied by. `hide` takes a tile and its scores; what it makes −∞ gets no weight.
    /// `ALL`: all tiles are there.
    #[inline(always)]
    fn weigh<S: Simd, const ALL: bool>(
        &mut self,
        s: S,
        band: &Band<'_, E, N>,
        row: usize,
        hide: impl Fn(usize, S::V) -> S::V,
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
                *score = hide(t, *score);
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
fn mask<S: Simd>(s: S, mut score: S::V, start: usize, bounds: &Range<usize>) -> S::V {
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
