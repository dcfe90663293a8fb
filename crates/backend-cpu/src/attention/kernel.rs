//! One chunk of keys for R query rows.

use std::ops::Range;

use millrace_types::BlockId;

use super::state::State;
use super::{CHUNK, Item, Job, SPAN, first_visible, visible};
use crate::kv::{Element, TILE};
use crate::simd::{LANES, Simd, math::exp, prefetch};

/// Key tiles of a span.
const TILES: usize = SPAN / TILE;

/// Scores, then weights, of a span: `[tile][16]` per row.
type Scores<const R: usize> = [[[f32; LANES]; TILES]; R];

/// K and V of a span's tiles, in order; absent ones are empty.
type Tiles<'a, E> = [(&'a [[E; LANES]], &'a [[E; LANES]]); TILES];

/// Attends to one chunk. R >= the item's rows, which are in `q` `[MAX_ROWS][head_dim]`.
#[inline(always)]
pub(super) fn chunk<S: Simd, E: Element + bytemuck::Zeroable, const R: usize>(
    s: S,
    job: &Job<'_, E>,
    item: Item,
    q: &[f32],
    chunk: usize,
    state: &mut State<'_>,
) {
    state.clear();
    let tile = &job.tiles[item.tile];
    let seq = &job.batch.seqs[tile.seq as usize];
    let seen = visible(seq, tile, job.spec.window);
    let keys = seen.start.max(chunk * CHUNK)..seen.end.min((chunk + 1) * CHUNK);
    let blocks = seq.blocks.of(&job.batch.block_tables);
    let dim = job.spec.heads.head_dim;

    let mut queries: [&[f32]; R] = [&q[..dim]; R];
    // Per row, the positions it sees.
    let mut bounds = [(0usize, 0usize); R];
    let first_position = (seq.kv_len - seq.query.len + tile.first) as usize;
    for r in 0..R {
        queries[r] = &q[r * dim..][..dim];
        let position = first_position + r.min(job.rows(item) - 1) / item.heads;
        bounds[r] = (first_visible(position, job.spec.window), position);
    }

    // Sums of weights stay in lanes until the chunk is done.
    let mut sums = [s.splat(0.0); R];
    let mut span = keys.start / SPAN * SPAN;
    let mut next = tiles_at(job, item, blocks, span, &keys);
    while span < keys.end {
        let here = keys.start.max(span) - span..keys.end.min(span + SPAN) - span;
        let tiles = next;
        next = tiles_at(job, item, blocks, span + SPAN, &keys);
        let mut scores: Scores<R> = [[[f32::NEG_INFINITY; LANES]; TILES]; R];
        score(s, &queries, &tiles, &next, &here, &mut scores);
        let factors = weigh(s, &mut scores, &bounds, span, state, &mut sums);
        accumulate(s, &scores, &factors, &tiles, &next, here, state);
        span += SPAN;
    }
    for r in 0..R {
        state.sum[r] = s.sum(sums[r]);
    }
}

/// The tiles of a span that hold any of `keys`.
#[inline(always)]
fn tiles_at<'a, E: Element + bytemuck::Zeroable>(
    job: &Job<'a, E>,
    item: Item,
    blocks: &[BlockId],
    span: usize,
    keys: &Range<usize>,
) -> Tiles<'a, E> {
    let mut tiles: Tiles<'_, E> = [(&[], &[]); TILES];
    for (index, tile) in tiles.iter_mut().enumerate() {
        let position = span + index * TILE;
        if position < keys.end && position + TILE > keys.start {
            let (block, offset) = (position / job.kv.block_size(), position % job.kv.block_size());
            *tile = job.kv.tile(blocks[block].0 as usize, item.kv_head, offset);
        }
    }
    tiles
}

/// Asks for an element of a tile of the next span: blocks are scattered, so no hardware could guess it. With many
/// rows the keys come from a cache anyway.
#[inline(always)]
fn ask_for<E, const R: usize>(tile: &[[E; LANES]], index: usize) {
    if R <= 4
        && let Some(row) = tile.get(index)
    {
        prefetch(row, 0);
    }
}

/// q · K for the tiles that hold positions `here` of the span.
#[inline(always)]
fn score<S: Simd, E: Element, const R: usize>(
    s: S,
    queries: &[&[f32]; R],
    tiles: &Tiles<'_, E>,
    next: &Tiles<'_, E>,
    here: &Range<usize>,
    scores: &mut Scores<R>,
) {
    let (mut index, end) = (here.start / TILE, here.end.div_ceil(TILE));
    // With few rows, several tiles at a time hide the latency of the accumulation.
    while R <= 2 && index + 4 <= end {
        score_tiles::<S, E, R, 4>(s, queries, tiles, next, index, scores);
        index += 4;
    }
    while R <= 4 && index + 2 <= end {
        score_tiles::<S, E, R, 2>(s, queries, tiles, next, index, scores);
        index += 2;
    }
    while index < end {
        score_tiles::<S, E, R, 1>(s, queries, tiles, next, index, scores);
        index += 1;
    }
}

#[inline(always)]
fn score_tiles<S: Simd, E: Element, const R: usize, const T: usize>(
    s: S,
    queries: &[&[f32]; R],
    tiles: &Tiles<'_, E>,
    next: &Tiles<'_, E>,
    first: usize,
    scores: &mut Scores<R>,
) {
    let dim = queries[0].len();
    let mut keys = [tiles[first].0; T];
    for t in 0..T {
        keys[t] = &tiles[first + t].0[..dim];
    }
    let mut acc = [[s.splat(0.0); T]; R];
    for d in 0..dim {
        for t in 0..T {
            ask_for::<E, R>(next[first + t].0, d);
            let k = E::load(s, &keys[t][d]);
            for r in 0..R {
                acc[r][t] = s.fma(s.splat(queries[r][d]), k, acc[r][t]);
            }
        }
    }
    for r in 0..R {
        for t in 0..T {
            s.store(acc[r][t], &mut scores[r][first + t]);
        }
    }
}

/// Turns scores into weights exp(score − max), updates maxima and sums, and returns the factors that the values so
/// far have to be multiplied by.
#[inline(always)]
fn weigh<S: Simd, const R: usize>(
    s: S,
    scores: &mut Scores<R>,
    bounds: &[(usize, usize); R],
    span: usize,
    state: &mut State<'_>,
    sums: &mut [S::V; R],
) -> [S::V; R] {
    let mut lane_positions = [0.0; LANES];
    for (lane, position) in lane_positions.iter_mut().enumerate() {
        *position = lane as f32;
    }
    let lanes = s.load(&lane_positions);
    let hidden = s.splat(f32::NEG_INFINITY);
    let mut factors = [s.splat(1.0); R];
    for r in 0..R {
        let (first, last) = bounds[r];
        let mut max = hidden;
        let mut row = [hidden; TILES];
        for t in 0..TILES {
            let start = (span + t * TILE) as isize;
            row[t] = s.load(&scores[r][t]);
            // The bounds relative to the tile fit a float exactly after clamping.
            if start + TILE as isize - 1 > last as isize {
                let last = s.splat((last as isize - start).max(-1) as f32);
                row[t] = s.select_ge(last, lanes, row[t], hidden);
            }
            if start < first as isize {
                let first = s.splat((first as isize - start).min(TILE as isize) as f32);
                row[t] = s.select_ge(lanes, first, row[t], hidden);
            }
            max = s.max(row[t], max);
        }
        let highest = s.max_lane(max);
        let new = if highest > state.max[r] { highest } else { state.max[r] };
        factors[r] = exp(s, s.splat(state.max[r] - new));
        state.max[r] = new;
        sums[r] = s.mul(sums[r], factors[r]);
        for t in 0..TILES {
            let weights = exp(s, s.sub(row[t], s.splat(new)));
            s.store(weights, &mut scores[r][t]);
            sums[r] = s.add(sums[r], weights);
        }
    }
    factors
}

/// values = values · factor + weights · V over positions `here` of the span.
#[inline(always)]
fn accumulate<S: Simd, E: Element, const R: usize>(
    s: S,
    weights: &Scores<R>,
    factors: &[S::V; R],
    tiles: &Tiles<'_, E>,
    next: &Tiles<'_, E>,
    here: Range<usize>,
    state: &mut State<'_>,
) {
    let vectors = state.vectors();
    let mut first = 0;
    // Few rows leave registers for more of the head dimension.
    while R == 1 && first + 8 <= vectors {
        accumulate_vectors::<S, E, R, 8>(s, weights, factors, [tiles, next], &here, first, state);
        first += 8;
    }
    while R <= 4 && first + 4 <= vectors {
        accumulate_vectors::<S, E, R, 4>(s, weights, factors, [tiles, next], &here, first, state);
        first += 4;
    }
    while first + 2 <= vectors {
        accumulate_vectors::<S, E, R, 2>(s, weights, factors, [tiles, next], &here, first, state);
        first += 2;
    }
    if first < vectors {
        accumulate_vectors::<S, E, R, 1>(s, weights, factors, [tiles, next], &here, first, state);
    }
}

#[inline(always)]
fn accumulate_vectors<S: Simd, E: Element, const R: usize, const C: usize>(
    s: S,
    weights: &Scores<R>,
    factors: &[S::V; R],
    [tiles, next]: [&Tiles<'_, E>; 2],
    here: &Range<usize>,
    first: usize,
    state: &mut State<'_>,
) {
    let vectors = state.vectors();
    let mut acc = [[s.splat(0.0); C]; R];
    for r in 0..R {
        for c in 0..C {
            acc[r][c] = s.mul(s.load(&state.values[r * vectors + first + c]), factors[r]);
        }
    }
    for t in here.start / TILE..here.end.div_ceil(TILE) {
        let tokens = here.start.max(t * TILE) - t * TILE..here.end.min((t + 1) * TILE) - t * TILE;
        for token in tokens {
            let row = &tiles[t].1[token * vectors + first..][..C];
            for c in 0..C {
                ask_for::<E, R>(next[t].1, token * vectors + first + c);
                let v = E::load(s, &row[c]);
                for r in 0..R {
                    acc[r][c] = s.fma(s.splat(weights[r][t][token]), v, acc[r][c]);
                }
            }
        }
    }
    for r in 0..R {
        for c in 0..C {
            s.store(acc[r][c], &mut state.values[r * vectors + first + c]);
        }
    }
}
