//! Ragged, paged, causal attention with a streaming softmax (online normaliser: arXiv 1805.02867).
//!
//! A query tile is up to eight rows of one sequence and KV head: heads of the group × consecutive positions. Its rows
//! share every load of K and V. Keys are taken in *spans* of 64 positions, and spans in *chunks* of 512, both aligned
//! to the position in the sequence; chunks are computed apart and merged in order.
//!
//! Why a row's bits depend on its own keys alone: each score is one chain of multiply-adds over the head dimension;
//! a span's maximum and weights come from the row's own scores; keys that only other rows of the tile see have
//! weight zero, which leaves every sum as it is; spans and chunks without a visible key change nothing (a factor of
//! exp(0) = 1, a term of 0). So tiles, batches, chunked prefill, threads and block placement have no influence.

mod kernel;
mod state;

use std::ops::Range;

use millrace_backend::{AttentionSpec, BackendError, Batch, SeqSpan};

use crate::kv::{Element, Layer, LayerKv};
use crate::level::Isa;
use crate::pool::Pool;
use crate::region::Region;
use crate::shared::SharedMut;
use crate::simd::{Kernel, LANES, Simd};
use state::State;

/// Rows of a query tile at most.
const MAX_ROWS: usize = 8;
/// Positions whose weights are computed together.
const SPAN: usize = 64;
/// Positions that are summed apart from the rest; a multiple of [`SPAN`].
const CHUNK: usize = 512;

/// Consecutive query positions of a sequence that form a tile (for each KV head and part of its group).
#[derive(Debug, Clone, Copy)]
struct QueryTile {
    seq: u32,
    /// First query row within the sequence's.
    first: u32,
    rows: u32,
    /// Tiles × chunks before this one, for work that is split by chunks.
    chunks_before: u32,
}

/// Memory that is kept from call to call.
#[derive(Default)]
pub(crate) struct Scratch {
    tiles: Vec<QueryTile>,
    /// Per thread: the queries and two states.
    threads: Region<f32>,
    /// Split work: a state per piece.
    pieces: Region<f32>,
}

/// One layer's attention over a batch.
pub(crate) struct Attention<'a> {
    pub(crate) isa: Isa,
    pub(crate) pool: &'a Pool,
    pub(crate) batch: &'a Batch,
    pub(crate) spec: &'a AttentionSpec,
    /// Fused rows `[T, fused_cols]`.
    pub(crate) qkv: &'a [f32],
    /// `[T, q_cols]`.
    pub(crate) out: &'a mut [f32],
}

impl Attention<'_> {
    /// Computes all rows.
    pub(crate) fn run(self, kv: &LayerKv, scratch: &mut Scratch) -> Result<(), BackendError> {
        match kv {
            LayerKv::F32(layer) => self.over(layer, scratch),
            LayerKv::Bf16(layer) => self.over(layer, scratch),
        }
    }

    fn over<E: Element + bytemuck::Zeroable>(
        self,
        kv: &Layer<E>,
        scratch: &mut Scratch,
    ) -> Result<(), BackendError> {
        let heads = self.spec.heads;
        let group = heads.q_heads / heads.kv_heads;
        let parts = group.div_ceil(MAX_ROWS);
        let part_heads = group.div_ceil(parts);
        let chunks = make_tiles(self.batch, self.spec.window, MAX_ROWS / part_heads, &mut scratch.tiles);
        let per_tile = heads.kv_heads * parts;
        let size = State::size(heads.head_dim);
        let stride = 2 * size + MAX_ROWS * heads.head_dim;
        scratch.threads.reserve(self.pool.threads() * stride.next_multiple_of(LANES), "attention scratch")?;
        let split = scratch.tiles.len() * per_tile < 2 * self.pool.threads() && chunks > scratch.tiles.len();
        if split {
            scratch.pieces.reserve(chunks * per_tile * size, "attention scratch")?;
        }
        let job = Job {
            kv,
            batch: self.batch,
            spec: self.spec,
            qkv: self.qkv,
            out: SharedMut::new(self.out),
            tiles: &scratch.tiles,
            parts,
            part_heads,
        };
        let threads = SharedMut::new(&mut scratch.threads);
        let memory = |thread: usize| {
            let stride = stride.next_multiple_of(LANES);
            // SAFETY: each thread uses its own part, one task at a time.
            #[allow(unsafe_code)]
            let memory = unsafe { threads.slice(thread * stride, stride) };
            let (q, states) = memory.split_at_mut(MAX_ROWS * heads.head_dim);
            let (a, b) = states.split_at_mut(size);
            (q, a, &mut b[..size])
        };
        if !split {
            self.pool.run(job.tiles.len() * per_tile, &|index, thread| {
                let (q, total, part) = memory(thread);
                let item = job.item(index / per_tile, index % per_tile);
                self.isa.run(Whole { job: &job, item, q, total, part });
            })?;
            return Ok(());
        }
        let pieces = SharedMut::new(&mut scratch.pieces);
        self.pool.run(chunks * per_tile, &|index, thread| {
            let (q, _, _) = memory(thread);
            let (tile, chunk) = job.tile_of_chunk(index / per_tile);
            // SAFETY: each piece is computed by one task.
            #[allow(unsafe_code)]
            let piece = unsafe { pieces.slice(index * size, size) };
            let item = job.item(tile, index % per_tile);
            self.isa.run(Piece { job: &job, item, q, chunk, piece });
        })?;
        let pieces = &scratch.pieces[..];
        self.pool.run(job.tiles.len() * per_tile, &|index, thread| {
            let (_, total, _) = memory(thread);
            let item = job.item(index / per_tile, index % per_tile);
            let first = job.tiles[item.tile].chunks_before as usize * per_tile + index % per_tile;
            self.isa.run(Merge {
                job: &job,
                item,
                pieces: &pieces[first * size..],
                stride: per_tile * size,
                total,
            });
        })?;
        Ok(())
    }
}

/// Cuts every sequence's query rows into tiles; returns the number of chunks that they go through in total.
fn make_tiles(batch: &Batch, window: Option<usize>, positions: usize, tiles: &mut Vec<QueryTile>) -> usize {
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
fn visible(seq: &SeqSpan, tile: &QueryTile, window: Option<usize>) -> Range<usize> {
    let first = (seq.kv_len - seq.query.len + tile.first) as usize;
    first_visible(first, window)..first + tile.rows as usize
}

/// The first position that a query at `position` sees.
fn first_visible(position: usize, window: Option<usize>) -> usize {
    window.map_or(0, |window| (position + 1).saturating_sub(window))
}

fn chunks_of(visible: &Range<usize>) -> Range<usize> {
    visible.start / CHUNK..visible.end.div_ceil(CHUNK)
}

/// What all tasks of a call share.
struct Job<'a, E> {
    kv: &'a Layer<E>,
    batch: &'a Batch,
    spec: &'a AttentionSpec,
    qkv: &'a [f32],
    out: SharedMut<'a, f32>,
    tiles: &'a [QueryTile],
    /// Parts that a KV head's group of query heads is cut into, and heads in a part.
    parts: usize,
    part_heads: usize,
}

/// A query tile for one KV head and part of its group.
#[derive(Clone, Copy)]
struct Item {
    tile: usize,
    kv_head: usize,
    first_head: usize,
    heads: usize,
}

impl<E: Element + bytemuck::Zeroable> Job<'_, E> {
    fn item(&self, tile: usize, index: usize) -> Item {
        let (kv_head, part) = (index / self.parts, index % self.parts);
        let heads = self.spec.heads;
        let group = heads.q_heads / heads.kv_heads;
        let first = part * self.part_heads;
        let count = self.part_heads.min(group.saturating_sub(first));
        Item { tile, kv_head, first_head: kv_head * group + first, heads: count }
    }

    /// The tile that the n-th chunk of all tiles belongs to, and the chunk.
    fn tile_of_chunk(&self, n: usize) -> (usize, usize) {
        let tile = self.tiles.partition_point(|tile| tile.chunks_before as usize <= n) - 1;
        let seq = &self.batch.seqs[self.tiles[tile].seq as usize];
        let chunks = chunks_of(&visible(seq, &self.tiles[tile], self.spec.window));
        (tile, chunks.start + n - self.tiles[tile].chunks_before as usize)
    }

    fn chunks(&self, item: Item) -> Range<usize> {
        let tile = &self.tiles[item.tile];
        chunks_of(&visible(&self.batch.seqs[tile.seq as usize], tile, self.spec.window))
    }

    /// Rows of the tile: positions × heads.
    fn rows(&self, item: Item) -> usize {
        self.tiles[item.tile].rows as usize * item.heads
    }

    /// Copies the tile's queries, scaled, to `[MAX_ROWS][head_dim]`; the last row is repeated.
    #[inline(always)]
    fn load_queries(&self, item: Item, q: &mut [f32]) {
        let dim = self.spec.heads.head_dim;
        let rows = self.rows(item);
        for (index, out) in q.chunks_exact_mut(dim).enumerate() {
            let (row, head) = self.place(item, index.min(rows - 1));
            let from = &self.qkv[row * self.spec.heads.fused_cols() + head * dim..][..dim];
            for (out, x) in out.iter_mut().zip(from) {
                *out = x * self.spec.scale;
            }
        }
    }

    /// Batch row and query head of a tile's row.
    fn place(&self, item: Item, row: usize) -> (usize, usize) {
        let tile = &self.tiles[item.tile];
        let first = self.batch.seqs[tile.seq as usize].query.start + tile.first;
        (first as usize + row / item.heads, item.first_head + row % item.heads)
    }

    #[inline(always)]
    fn chunk<S: Simd>(&self, s: S, item: Item, q: &[f32], chunk: usize, state: &mut State<'_>) {
        match self.rows(item) {
            1 => kernel::chunk::<S, E, 1>(s, self, item, q, chunk, state),
            2 => kernel::chunk::<S, E, 2>(s, self, item, q, chunk, state),
            3 | 4 => kernel::chunk::<S, E, 4>(s, self, item, q, chunk, state),
            _ => kernel::chunk::<S, E, MAX_ROWS>(s, self, item, q, chunk, state),
        }
    }

    /// Divides by the sum of weights and stores.
    #[inline(always)]
    fn finish<S: Simd>(&self, s: S, item: Item, state: &State<'_>) {
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

/// All chunks of an item, one after another.
struct Whole<'a, E> {
    job: &'a Job<'a, E>,
    item: Item,
    q: &'a mut [f32],
    total: &'a mut [f32],
    part: &'a mut [f32],
}

impl<E: Element + bytemuck::Zeroable> Kernel for Whole<'_, E> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (job, item) = (self.job, self.item);
        if item.heads == 0 {
            return;
        }
        let dim = job.spec.heads.head_dim;
        job.load_queries(item, self.q);
        let (mut total, mut part) = (State::new(self.total, dim), State::new(self.part, dim));
        let chunks = job.chunks(item);
        // Merging into nothing would change nothing: the first chunk is the total.
        job.chunk(s, item, self.q, chunks.start, &mut total);
        for chunk in chunks.start + 1..chunks.end {
            job.chunk(s, item, self.q, chunk, &mut part);
            total.merge(s, &part, job.rows(item));
        }
        job.finish(s, item, &total);
    }
}

/// One chunk of an item, kept for [`Merge`].
struct Piece<'a, E> {
    job: &'a Job<'a, E>,
    item: Item,
    q: &'a mut [f32],
    chunk: usize,
    piece: &'a mut [f32],
}

impl<E: Element + bytemuck::Zeroable> Kernel for Piece<'_, E> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        if self.item.heads > 0 {
            self.job.load_queries(self.item, self.q);
            let mut state = State::new(self.piece, self.job.spec.heads.head_dim);
            self.job.chunk(s, self.item, self.q, self.chunk, &mut state);
        }
    }
}

/// Merges an item's pieces in order.
struct Merge<'a, E> {
    job: &'a Job<'a, E>,
    item: Item,
    /// The item's first piece; the others follow `stride` apart.
    pieces: &'a [f32],
    stride: usize,
    total: &'a mut [f32],
}

impl<E: Element + bytemuck::Zeroable> Kernel for Merge<'_, E> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (job, item) = (self.job, self.item);
        if item.heads == 0 {
            return;
        }
        let dim = job.spec.heads.head_dim;
        let size = self.total.len();
        self.total.copy_from_slice(&self.pieces[..size]);
        let mut total = State::new(self.total, dim);
        for index in 1..job.chunks(item).len() {
            let from = &self.pieces[index * self.stride..][..size];
            total.merge_raw(s, from, job.rows(item));
        }
        job.finish(s, item, &total);
    }
}
