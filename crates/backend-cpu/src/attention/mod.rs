//! Ragged, paged, causal attention with a streaming softmax (online normaliser: arXiv 1805.02867).
//!
//! An *item* is up to 64 or 128 query rows of one sequence and KV head: heads of the group × consecutive positions. It goes
//! through the keys in *spans* of 64 positions, and each span meets the item's rows in *bands* of sixteen, so that K
//! and V come from memory once per item. Spans form *chunks* of 512; both are aligned to the position in the
//! sequence. Chunks are computed apart and merged in order.
//!
//! How a band meets a span depends on the CPU: float32 multiply-adds, `vdpbf16ps` ([`units`]), or AMX tiles (`tiled`). The
//! latter two round queries and softmax weights to bf16, as flash attention does (arXiv 2205.14135).
//!
//! Why a row's bits depend on its own keys alone: each score is one chain of multiply-adds over the head dimension;
//! a span's maximum and weights come from the row's own scores; keys that only other rows of the item see have
//! weight zero, which leaves every sum as it is; spans and chunks without a visible key change nothing (a factor of
//! 2⁰ = 1, a term of 0). So items, batches, chunked prefill, threads and block placement have no influence.

mod item;
mod span;
mod state;
mod task;
#[cfg(all(test, target_arch = "x86_64"))]
mod tests;
#[cfg(target_arch = "x86_64")]
mod tiled;
mod units;
mod walk;

use half::bf16;
use millrace_backend::{AttentionSpec, BackendError, Batch};

use crate::kv::{Bf16Element, Element, Layer, LayerKv};
use crate::level::Isa;
#[cfg(target_arch = "x86_64")]
use crate::level::Level;
use crate::pool::Pool;
use crate::region::Region;
use crate::shared::SharedMut;
use crate::simd::Simd;
use item::{Item, Job, QueryTile, make_tiles};
use state::State;
use task::{Task, Work};
use units::{FEW_ROWS, Pairs, Runs, Wide};

/// Rows of an item that meet a span together.
const BAND: usize = 16;
/// Positions whose weights are computed together.
const SPAN: usize = 64;
/// Positions that are summed apart from the rest; a multiple of [`SPAN`].
const CHUNK: usize = 512;
/// Tasks for each thread, if there is enough to do.
const TASKS_PER_THREAD: usize = 8;

/// Memory that is kept from call to call.
#[derive(Default)]
pub(crate) struct Scratch {
    tiles: Vec<QueryTile>,
    /// Per thread: queries, scores, weights, and two states.
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
            LayerKv::F32(layer) => self.over::<f32, Wide>(layer, scratch),
            LayerKv::Bf16(layer) => self.over_bf16::<bf16>(layer, scratch),
            LayerKv::Int8(layer) => self.over_bf16::<i8>(layer, scratch),
        }
    }

    fn over_bf16<E: Bf16Element>(self, kv: &Layer<E>, scratch: &mut Scratch) -> Result<(), BackendError> {
        #[cfg(target_arch = "x86_64")]
        if self.isa.level() == Level::Amx {
            return self.over::<E, tiled::OnTiles<crate::tile::Hardware>>(kv, scratch);
        }
        if self.isa.has_bf16_dot() {
            self.over::<E, Pairs>(kv, scratch)
        } else {
            self.over::<E, Wide>(kv, scratch)
        }
    }

    fn over<E: Element, U: Runs<E>>(self, kv: &Layer<E>, scratch: &mut Scratch) -> Result<(), BackendError> {
        let heads = self.spec.heads;
        let group = heads.q_heads / heads.kv_heads;
        let parts = group.div_ceil(U::ROWS);
        let part_heads = group.div_ceil(parts);
        let chunks = make_tiles(self.batch, self.spec.window, U::ROWS / part_heads, &mut scratch.tiles);
        let rows = scratch.tiles.iter().map(|tile| tile.rows as usize).max().unwrap_or(0) * part_heads;
        let per_tile = heads.kv_heads * parts;
        let layout = Layout::new(U::room(heads.head_dim, rows), heads.head_dim, rows);
        scratch.threads.reserve(self.pool.threads() * layout.total, "attention scratch")?;
        let split = scratch.tiles.len() * per_tile < 2 * self.pool.threads() && chunks > scratch.tiles.len();
        let pieces = if split { chunks * per_tile * layout.state } else { 0 };
        scratch.pieces.reserve(pieces, "attention scratch")?;
        // Few rows wait for memory: what comes next should be known.
        let run =
            if rows > FEW_ROWS { 1 } else { run_length(scratch.tiles.len(), per_tile, self.pool.threads()) };
        let job = Job {
            kv,
            batch: self.batch,
            spec: self.spec,
            qkv: self.qkv,
            out: SharedMut::new(self.out),
            tiles: &scratch.tiles,
            parts,
            part_heads,
            run,
            threads: self.pool.threads(),
        };
        let (threads, isa) = (SharedMut::new(&mut scratch.threads), self.isa);
        let compute = |item: Item, thread: usize, work: Work<'_>| {
            // SAFETY: each thread uses its own part, one task at a time.
            #[allow(unsafe_code)]
            let memory = unsafe { threads.slice(thread * layout.total, layout.total) };
            if item.heads > 0 {
                U::run(isa, Task { job: &job, item, memory: layout.cut(memory), work });
            }
        };
        if !split {
            self.pool.run(job.tiles.len() * job.runs_per_tile(), &|task, thread| {
                job.run_of(task).for_each(|item| compute(item, thread, Work::Whole));
            })?;
            return Ok(());
        }
        let shared = SharedMut::new(&mut scratch.pieces);
        self.pool.run(chunks * per_tile, &|index, thread| {
            let (tile, chunk) = job.tile_of_chunk(index / per_tile);
            // SAFETY: each piece is computed by one task.
            #[allow(unsafe_code)]
            let state = unsafe { shared.slice(index * layout.state, layout.state) };
            compute(job.item(tile, index % per_tile), thread, Work::Piece { chunk, state });
        })?;
        let pieces = &scratch.pieces[..];
        self.pool.run(job.tiles.len() * per_tile, &|index, thread| {
            let first = job.tiles[index / per_tile].chunks_before as usize * per_tile + index % per_tile;
            let work =
                Work::Merge { pieces: &pieces[first * layout.state..], stride: per_tile * layout.state };
            compute(job.item(index / per_tile, index % per_tile), thread, work);
        })?;
        Ok(())
    }
}

/// Items of a tile that a task does: many, but so few that threads find enough tasks to end together.
fn run_length(tiles: usize, per_tile: usize, threads: usize) -> usize {
    let mut run = per_tile;
    while run > 1 && tiles * per_tile.div_ceil(run) < TASKS_PER_THREAD * threads {
        run /= 2;
    }
    run
}

/// How a thread's memory is cut up, in floats.
#[derive(Clone, Copy)]
struct Layout {
    room: usize,
    state: usize,
    total: usize,
    rows: usize,
}

/// A thread's memory.
struct Memory<'a> {
    /// For queries, scores and weights, see [`Runs::room`].
    room: &'a mut [f32],
    /// Two states.
    total: &'a mut [f32],
    part: &'a mut [f32],
    /// Rows that a state has room for.
    rows: usize,
}

impl Layout {
    fn new(room: usize, dim: usize, rows: usize) -> Self {
        let state = State::size(dim, rows);
        Self { room, state, total: room + 2 * state, rows }
    }

    fn cut<'a>(&self, memory: &'a mut [f32]) -> Memory<'a> {
        let (room, memory) = memory.split_at_mut(self.room);
        let (total, part) = memory.split_at_mut(self.state);
        Memory { room, total, part, rows: self.rows }
    }
}
