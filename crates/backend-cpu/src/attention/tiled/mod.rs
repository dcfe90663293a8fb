//! Attention on a tile unit: sixteen rows × sixteen positions (or elements of V) × 32 products at a time, in bf16.
//!
//! Everything that tiles are loaded from lies in memory as tiles: rows that are far apart cost half of the speed. K is
//! read where it lies (int8: from a converted copy); V is copied once per span, so that 32 positions follow each other,
//! as a B tile wants them.
//!
//! A core has one tile unit and vector units beside it. While the softmax of a band is computed row by row, the tile
//! unit makes the scores of the next band and the values of the one before: a piece after each row. What is computed
//! doesn't depend on that order, so a row's bits are the same in an item of one band.

mod products;
mod room;
mod softmax;

use std::ops::Range;

use super::item::{Item, Job, first_visible};
use super::state::State;
use super::task::{Chunks, Task};
use super::units::{FEW_ROWS, Pairs, Runs};
use super::walk::{Asking, TILES, Walk};
use super::{BAND, SPAN};
use crate::kv::{Bf16Element, TILE};
use crate::level::Isa;
use crate::simd::{Bf16Dot, Bf16Kernel, LANES};
use crate::tile::{self, Hardware};
use room::{Room, Sizes};

/// Rows of an item at most.
const MAX_ROWS: usize = 256;

/// The way of AMX: prompts on a tile unit, and generated tokens with a few query heads per KV head, which wait for memory
/// and read it faster so, in vectors.
pub(super) struct OnTiles<U>(U);

impl<E: Bf16Element> Runs<E> for OnTiles<Hardware> {
    const ROWS: usize = MAX_ROWS;
    fn room(dim: usize, rows: usize) -> usize {
        Sizes::new(dim, rows).floats().max(<Pairs as Runs<E>>::room(dim, rows))
    }
    fn run(isa: Isa, task: Task<'_, E>) {
        // Not by the item's rows, but by what doesn't depend on the batch.
        if task.item.heads <= FEW_ROWS && task.job.is_generated(task.item) {
            Pairs::run(isa, task);
        } else {
            isa.run_bf16(OnLevel(task, Hardware::new(isa)));
        }
    }
}

/// A task and its unit.
pub(super) struct OnLevel<'a, E, U>(pub(super) Task<'a, E>, pub(super) U);

impl<E: Bf16Element, U: tile::Unit> Bf16Kernel for OnLevel<'_, E, U> {
    type Out = ();
    #[inline(always)]
    fn run<S: Bf16Dot>(self, s: S) {
        let Self(task, unit) = self;
        task.go(s, |job, item, room| Tiled::new(s, job, item, unit, room));
    }
}

/// An item on its way through the keys.
struct Tiled<'a, E, U> {
    job: &'a Job<'a, E>,
    item: Item,
    /// Rows of the item.
    rows: usize,
    sizes: Sizes,
    room: Room<'a>,
    unit: U,
    bands: [Band; MAX_ROWS / BAND],
}

/// Up to sixteen rows.
#[derive(Clone, Default)]
struct Band {
    /// Positions of its first and last row in the sequence.
    lowest: usize,
    highest: usize,
    /// What it sees of the span:
    /// tiles with a key that any row sees;
    here: Range<usize>,
    /// whether every row sees all keys.
    all: bool,
}

impl<'a, E: Bf16Element, U: tile::Unit> Tiled<'a, E, U> {
    #[inline(always)]
    fn new<S: Bf16Dot>(s: S, job: &'a Job<'a, E>, item: Item, unit: U, room: &'a mut [f32]) -> Self {
        let rows = job.rows(item);
        let sizes = Sizes::new(job.spec.heads.head_dim, rows);
        let room = Room::new(sizes, room);
        let scale = s.splat(job.query_scale());
        for row in 0..rows {
            let query = job.query(item, row);
            for (step, query) in query.chunks(2 * LANES).enumerate() {
                let to = &mut room.queries[row / BAND * sizes.steps + step][row % BAND];
                *to = [0; 2 * LANES];
                let (whole, rest) = query.as_chunks::<LANES>();
                let to = to.as_chunks_mut().0;
                for (to, query) in to.iter_mut().zip(whole) {
                    s.store_bf16(s.mul(s.load(query), scale), to);
                }
                if !rest.is_empty() {
                    s.store_bf16(s.mul(s.load_partial(rest), scale), &mut to[whole.len()]);
                }
            }
        }
        let mut tiled = Self { job, item, rows, sizes, room, unit, bands: Default::default() };
        for band in 0..sizes.bands {
            let last = ((band + 1) * BAND).min(rows) - 1;
            let (lowest, highest) = (tiled.position(band * BAND), tiled.position(last));
            tiled.bands[band] = Band { lowest, highest, ..Band::default() };
        }
        tiled.configure();
        tiled
    }

    /// Position of a row in the sequence.
    #[inline(always)]
    fn position(&self, row: usize) -> usize {
        self.job.first_position(self.item) + (row as u32 / self.item.heads as u32) as usize
    }

    /// Finds out what the bands see of a span, and returns those that see anything: neighbours, since positions ascend.
    #[inline(always)]
    fn look(&mut self, span: usize) -> Range<usize> {
        let window = self.job.spec.window;
        let mut seeing = self.sizes.bands..0;
        for (index, band) in self.bands[..self.sizes.bands].iter_mut().enumerate() {
            let seen = first_visible(band.lowest, window).max(span)..(band.highest + 1).min(span + SPAN);
            if !seen.is_empty() {
                seeing = seeing.start.min(index)..index + 1;
                band.here = (seen.start - span) / TILE..(seen.end - span).div_ceil(TILE);
                band.all = band.lowest + 1 >= span + SPAN && first_visible(band.highest, window) <= span;
            }
        }
        seeing
    }

    /// All bands that see anything of a span.
    #[inline(always)]
    fn span<S: Bf16Dot>(&mut self, s: S, span: &Walk<'_, E>) {
        let seeing = self.look(span.start);
        if seeing.is_empty() {
            return;
        }
        self.prepare(s, span);
        let (scores, values) = (self.sizes.score_pieces(), self.sizes.value_pieces());
        let mut asking = Asking::new(&span.next, seeing.len() * (scores + values), self.rows <= FEW_ROWS);
        let mut place = [0; 2];
        for _ in 0..scores {
            self.score(span, seeing.start, place);
            place = self.sizes.after(place);
            asking.turn();
        }
        for band in seeing.clone() {
            let count = BAND.min(self.rows - band * BAND);
            if seeing.len() == 1 {
                for row in 0..count {
                    self.weigh(s, span, band, row);
                }
                break;
            }
            place = [0; 2];
            for row in 0..BAND {
                if row < count {
                    self.weigh(s, span, band, row);
                }
                if let Some(row) = row.checked_sub(BAND / 2) {
                    if band > seeing.start {
                        for piece in share(values, row) {
                            self.add_values(band - 1, piece);
                            asking.turn();
                        }
                    }
                } else if band + 1 < seeing.end {
                    for _ in share(scores, row) {
                        self.score(span, band + 1, place);
                        place = self.sizes.after(place);
                        asking.turn();
                    }
                }
            }
        }
        for piece in 0..values {
            self.add_values(seeing.end - 1, piece);
            asking.turn();
        }
    }
}

/// The pieces that are done after one of the eight rows of half a band.
#[inline(always)]
fn share(pieces: usize, row: usize) -> Range<usize> {
    let of = BAND / 2;
    row * pieces / of..(row + 1) * pieces / of
}

impl<S: Bf16Dot, E: Bf16Element, U: tile::Unit> Chunks<S> for Tiled<'_, E, U> {
    #[inline(always)]
    fn chunk(&mut self, s: S, chunk: usize, state: &mut State<'_>) {
        self.room.clear(self.rows);
        let mut walk = Walk::new(self.job, self.item, chunk);
        while walk.step() {
            self.span(s, &walk);
        }
        let (vectors, padded) = (self.job.spec.heads.head_dim.div_ceil(LANES), self.sizes.vectors);
        for row in 0..self.rows {
            state.max[row] = self.room.max[row];
            state.sum[row] = s.sum(s.load(&self.room.sums[row]));
            let values = &self.room.values[row / BAND * padded..][..vectors];
            for (to, tile) in state.values[row * vectors..].iter_mut().zip(values) {
                *to = tile[row % BAND];
            }
        }
    }
}

const _: () = assert!(TILES == 4 && MAX_ROWS.is_multiple_of(BAND));
