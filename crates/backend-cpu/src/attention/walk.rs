//! The way of an item through a chunk of keys, and what lies behind it.

use std::ops::Range;

use super::item::{Item, Job, visible};
use super::{CHUNK, SPAN};
use crate::kv::{Element, TILE, TileView};
#[cfg(target_arch = "x86_64")]
use crate::simd::{LINE, prefetch, prefetch_far};

/// Key tiles of a span.
pub(super) const TILES: usize = SPAN / TILE;

/// The spans of a chunk, one after another.
pub(super) struct Walk<'a, E> {
    job: &'a Job<'a, E>,
    item: Item,
    /// Positions of the chunk that any row sees.
    keys: Range<usize>,
    /// Where all that any row sees ends.
    end: usize,
    /// First position of this span.
    pub(super) start: usize,
    /// Those of this span that hold keys of the chunk.
    pub(super) tiles: [TileView<'a, E>; TILES],
    /// What is probably needed next: to be asked for.
    pub(super) next: [TileView<'a, E>; TILES],
}

impl<'a, E: Element> Walk<'a, E> {
    /// In front of the first span.
    #[inline(always)]
    pub(super) fn new(job: &'a Job<'a, E>, item: Item, chunk: usize) -> Self {
        let seen = visible(job.seq(item.tile), &job.tiles[item.tile], job.spec.window);
        let keys = seen.start.max(chunk * CHUNK)..seen.end.min((chunk + 1) * CHUNK);
        let first = keys.start / SPAN * SPAN;
        let next = tiles_at(job, item, first, &keys);
        let start = first.wrapping_sub(SPAN);
        Self { job, item, keys, end: seen.end, start, tiles: [TileView::absent(); TILES], next }
    }

    /// Goes to the next span; false if there is none.
    #[inline(always)]
    pub(super) fn step(&mut self) -> bool {
        self.start = self.start.wrapping_add(SPAN);
        if self.start >= self.keys.end {
            return false;
        }
        self.tiles = self.next;
        self.next = if self.start + SPAN < self.end {
            tiles_at(self.job, self.item, self.start + SPAN, &self.keys)
        } else {
            first_tiles(self.job, self.job.next_of(self.item))
        };
        true
    }
}

/// The tiles of a span that hold any of `keys`.
#[inline(always)]
fn tiles_at<'a, E: Element>(
    job: &'a Job<'a, E>,
    item: Item,
    span: usize,
    keys: &Range<usize>,
) -> [TileView<'a, E>; TILES] {
    let (kv, mut tiles) = (job.kv, [TileView::absent(); TILES]);
    let blocks = job.seq(item.tile).blocks.of(&job.batch.block_tables);
    for (index, tile) in tiles.iter_mut().enumerate() {
        let position = span + index * TILE;
        if position < keys.end && position + TILE > keys.start {
            let (block, offset) = (position / kv.block_size(), position % kv.block_size());
            *tile = kv.tile(blocks[block].0 as usize, item.kv_head, offset);
        }
    }
    tiles
}

/// The tiles of the first span that an item meets; none without an item.
#[inline(never)]
fn first_tiles<'a, E: Element>(job: &'a Job<'a, E>, item: Option<Item>) -> [TileView<'a, E>; TILES] {
    let Some(item) = item else { return [TileView::absent(); TILES] };
    let seen = visible(job.seq(item.tile), &job.tiles[item.tile], job.spec.window);
    tiles_at(job, item, seen.start / SPAN * SPAN, &seen)
}

/// Asks for tiles, a few lines at a time.
#[cfg(target_arch = "x86_64")]
pub(super) struct Asking<'t, 'a, E> {
    tiles: &'t [TileView<'a, E>; TILES],
    /// The next one, and the next of its lines.
    tile: usize,
    line: usize,
    /// Lines of a tile, keys and values.
    lines: usize,
    per_turn: usize,
    /// Into the first-level cache: they are read once.
    near: bool,
}

#[cfg(target_arch = "x86_64")]
impl<'t, 'a, E> Asking<'t, 'a, E> {
    /// So that nearly all has been asked for after so many turns.
    #[inline(always)]
    pub(super) fn new(tiles: &'t [TileView<'a, E>; TILES], turns: usize, near: bool) -> Self {
        let bytes = tiles.iter().map(|tile| size_of_val(tile.keys) + size_of_val(tile.values)).max();
        let lines = bytes.unwrap_or(0) / LINE;
        Self { tiles, tile: 0, line: 0, lines, per_turn: (TILES * lines).div_ceil(turns), near }
    }

    /// Asks for some lines, of one tile: the last ones of a tile may be fewer.
    #[inline(always)]
    pub(super) fn turn(&mut self) {
        let Some(tile) = self.tiles.get(self.tile) else { return };
        let end = (self.line + self.per_turn).min(self.lines);
        // Values lie behind the keys.
        let start = tile.keys.as_ptr();
        if self.near {
            (self.line..end).for_each(|line| prefetch(start, line * LINE));
        } else {
            (self.line..end).for_each(|line| prefetch_far(start, line * LINE));
        }
        self.line = end;
        if end == self.lines {
            (self.tile, self.line) = (self.tile + 1, 0);
        }
    }
}
