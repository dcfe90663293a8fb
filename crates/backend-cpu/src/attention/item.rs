//! What there is to do: query rows cut into items, and what each of them sees.

use std::f32::consts::LOG2_E;
use std::ops::Range;

use millrace_backend::{AttentionSpec, Batch, SeqSpan};

use super::{CHUNK, Simd, State};
use crate::kv::Layer;
use crate::shared::SharedMut;

/// Consecutive query positions of a sequence that form an item (for each KV head and part of its group).
#[derive(Debug, Clone, Copy)]
pub(super) struct QueryTile {
    pub(super) seq: u32,
    /// First query row within the sequence's.
    pub(super) first: u32,
    pub(super) rows: u32,
    /// Tiles × chunks before this one, for work that is split by chunks.
    pub(super) chunks_before: u32,
}

/// Cuts every sequence's query rows into tiles; returns the number of chunks that they go through in total.
pub(super) fn make_tiles(
    batch: &Batch,
    window: Option<usize>,
    positions: usize,
    tiles: &mut Vec<QueryTile>,
) -> usize {
    tiles.clear();
    let mut chunks = 0;
    for (seq, span) in batch.seqs.iter().enumerate() {
        for first in (0..span.query.len).step_by(positions) {
            let rows = (span.query.len - first).min(positions as u32);
            let tile = QueryTile { seq: seq as u32, first, rows, chunks_before: chunks as u32 };
            chunks += chunks_of(&visible(span, &tile, window)).len();
            tiles.push(tile);
        }
    }
    chunks
}

/// Positions that any row of a tile sees.
pub(super) fn visible(seq: &SeqSpan, tile: &QueryTile, window: Option<usize>) -> Range<usize> {
    let first = (seq.kv_len - seq.query.len + tile.first) as usize;
    first_visible(first, window)..first + tile.rows as usize
}

/// The first position that a query at `position` sees.
pub(super) fn first_visible(position: usize, window: Option<usize>) -> usize {
    window.map_or(0, |window| (position + 1).saturating_sub(window))
}

fn chunks_of(visible: &Range<usize>) -> Range<usize> {
    visible.start / CHUNK..visible.end.div_ceil(CHUNK)
}

/// What all tasks of a call share.
pub(super) struct Job<'a, E> {
    pub(super) kv: &'a Layer<E>,
    pub(super) batch: &'a Batch,
    pub(super) spec: &'a AttentionSpec,
    pub(super) qkv: &'a [f32],
    pub(super) out: SharedMut<'a, f32>,
    pub(super) tiles: &'a [QueryTile],
    /// Parts that a KV head's group of query heads is cut into, and heads in a part.
    pub(super) parts: usize,
    pub(super) part_heads: usize,
    /// Items of a tile that one task does one after another.
    pub(super) run: usize,
    pub(super) threads: usize,
}

/// A query tile for one KV head and part of its group.
#[derive(Clone, Copy)]
pub(super) struct Item {
    pub(super) tile: usize,
    /// Among the tile's items.
    index: usize,
    pub(super) kv_head: usize,
    first_head: usize,
    /// Query heads; rows are positions × heads.
    pub(super) heads: usize,
}

impl<E> Job<'_, E> {
    pub(super) fn item(&self, tile: usize, index: usize) -> Item {
        let (kv_head, part) = (index / self.parts, index % self.parts);
        let heads = self.spec.heads;
        let group = heads.q_heads / heads.kv_heads;
        let first = part * self.part_heads;
        let count = self.part_heads.min(group.saturating_sub(first));
        Item { tile, index, kv_head, first_head: kv_head * group + first, heads: count }
    }

    /// Items of a tile.
    pub(super) fn per_tile(&self) -> usize {
        self.spec.heads.kv_heads * self.parts
    }

    /// Tasks that do all items of a tile.
    pub(super) fn runs_per_tile(&self) -> usize {
        self.per_tile().div_ceil(self.run)
    }

    /// The items of a task.
    pub(super) fn run_of(&self, task: usize) -> impl Iterator<Item = Item> {
        let (tile, first) = (task / self.runs_per_tile(), task % self.runs_per_tile() * self.run);
        (first..(first + self.run).min(self.per_tile())).map(move |index| self.item(tile, index))
    }

    /// What a thread probably does after an item: the next of the run, or a run as many tasks later as there are
    /// threads.
    pub(super) fn next_of(&self, item: Item) -> Option<Item> {
        let next = item.index + 1;
        if next < self.per_tile() && !next.is_multiple_of(self.run) {
            return Some(self.item(item.tile, next));
        }
        let task = item.tile * self.runs_per_tile() + item.index / self.run + self.threads;
        if task < self.tiles.len() * self.runs_per_tile() { self.run_of(task).next() } else { None }
    }

    /// The tile that the n-th chunk of all tiles belongs to, and the chunk.
    pub(super) fn tile_of_chunk(&self, n: usize) -> (usize, usize) {
        let tile = self.tiles.partition_point(|tile| tile.chunks_before as usize <= n) - 1;
        let chunks = chunks_of(&visible(self.seq(tile), &self.tiles[tile], self.spec.window));
        (tile, chunks.start + n - self.tiles[tile].chunks_before as usize)
    }

    pub(super) fn chunks(&self, item: Item) -> Range<usize> {
        chunks_of(&visible(self.seq(item.tile), &self.tiles[item.tile], self.spec.window))
    }

    pub(super) fn seq(&self, tile: usize) -> &SeqSpan {
        &self.batch.seqs[self.tiles[tile].seq as usize]
    }

    /// Whether the item's rows were generated, and are not a prompt's.
    pub(super) fn is_generated(&self, item: Item) -> bool {
        self.seq(item.tile).query.start as usize >= self.batch.prompt_rows
    }

    /// Position in the sequence of the item's first row.
    pub(super) fn first_position(&self, item: Item) -> usize {
        let seq = self.seq(item.tile);
        (seq.kv_len - seq.query.len + self.tiles[item.tile].first) as usize
    }

    /// Rows of the item: positions × heads.
    pub(super) fn rows(&self, item: Item) -> usize {
        self.tiles[item.tile].rows as usize * item.heads
    }

    /// An item's query, `[head dim]`.
    #[inline(always)]
    pub(super) fn query(&self, item: Item, row: usize) -> &[f32] {
        let ((row, head), dim) = (self.place(item, row), self.spec.heads.head_dim);
        &self.qkv[row * self.spec.heads.fused_cols() + head * dim..][..dim]
    }

    /// What makes scores exponents of two.
    pub(super) fn query_scale(&self) -> f32 {
        self.spec.scale * LOG2_E
    }

    /// Batch row and query head of an item's row.
    fn place(&self, item: Item, row: usize) -> (usize, usize) {
        let tile = &self.tiles[item.tile];
        let first = self.batch.seqs[tile.seq as usize].query.start + tile.first;
        (first as usize + row / item.heads, item.first_head + row % item.heads)
    }

    /// Divides by the sum of weights and stores.
    #[inline(always)]
    pub(super) fn finish<S: Simd>(&self, s: S, item: Item, state: &State<'_>) {
        let heads = self.spec.heads;
        for index in 0..self.rows(item) {
            let (row, head) = self.place(item, index);
            // SAFETY: each head of each row belongs to one item.
            #[allow(unsafe_code)]
            let out = unsafe { self.out.slice(row * heads.q_cols() + head * heads.head_dim, heads.head_dim) };
            state.normalised(s, index, out);
        }
    }
}
