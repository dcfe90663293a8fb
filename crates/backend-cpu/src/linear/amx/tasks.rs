//! Linear layers cut into tasks for tile units, each with memory of its own.

use millrace_backend::{BackendError, GROUP};

use super::finish::{Finish, Store};
use super::gemm::{Gemm, MAX_PAIRS, MAX_ROWS, Room};
use super::integers::{CHUNK, IntTiles};
use super::layer::{Inputs, Layer};
use super::weights::{Bf16Weights, Weights};
use crate::activations::{Activations, BandGroup};
use crate::linear::int::IntWeights;
use crate::linear::{Linear, MAX_RUN};
use crate::pack::IntPanels;
use crate::pool::Pool;
use crate::region::Region;
use crate::shared::SharedMut;
use crate::tile::{Hardware, ROWS};

/// What memory is for.
pub(super) const ROOM: &str = "scratch memory for tiles";
/// Tasks per thread, for balance.
const TASKS_PER_THREAD: usize = 4;

impl<W: Weights, F: Finish> Gemm<'_, W, F> {
    /// All rows and pairs of panels, over threads.
    pub(crate) fn run_all(
        &self,
        pool: &Pool,
        rows: usize,
        pairs: usize,
        rooms: &mut Region<f32>,
    ) -> Result<(), BackendError> {
        rooms.reserve(Room::SIZE * pool.threads(), ROOM)?;
        let memory = SharedMut::new(rooms);
        let blocks = rows.div_ceil(MAX_ROWS);
        let block = rows.div_ceil(blocks).next_multiple_of(ROWS);
        let blocks = rows.div_ceil(block);
        let (step, share) = (self.finish.step(), pairs.div_ceil(pool.threads() * TASKS_PER_THREAD));
        let run = share.next_multiple_of(step).min(MAX_PAIRS / step * step);
        let runs = pairs.div_ceil(run);
        // Rows of two blocks may be tokens of the same tile of the KV cache, which only one task may write.
        let (together, turns) = if F::KEPT { (1, blocks) } else { (blocks, 1) };
        for turn in 0..turns {
            pool.run(together * runs, &|index, thread| {
                let (row, pair) = ((turn + index / runs) * block, index % runs * run);
                // SAFETY: each thread has a room of its own, used by one task at a time.
                let room = Room::new(unsafe { memory.slice(thread * Room::SIZE, Room::SIZE) });
                let (rows, pairs) = (row..(row + block).min(rows), pair..(pair + run).min(pairs));
                self.run(&mut Hardware::new(self.isa), rows, pairs, room);
            })?;
        }
        Ok(())
    }
}

impl Linear<'_> {
    /// As a whole: many rows, or tokens of prompts.
    pub(in crate::linear) fn layer(&self, scratch: &mut Activations) -> Result<(), BackendError> {
        let (isa, pool, weight) = (self.isa, self.pool, self.weight);
        let finish = Store { out: self.out };
        let (pairs, inputs) = (finish.pairs(), Inputs::Rows(self.input));
        Layer { isa, pool, weight, inputs, finish, pairs }.run(scratch)
    }

    /// A few rows and bf16 weights, which are read once, straight through.
    pub(in crate::linear) fn one_pass(
        &self,
        panels: &[u16],
        scratch: &mut Activations,
    ) -> Result<(), BackendError> {
        let (isa, k) = (self.isa, self.weight.k);
        let mut rooms = std::mem::take(&mut scratch.rooms);
        rooms.reserve(Room::SIZE * self.pool.threads(), ROOM)?;
        let x = scratch.bf16_tiles(isa, self.pool, self.input, k)?;
        let gemm = Gemm { isa, weights: Bf16Weights { panels, k }, k, x, finish: Store { out: self.out } };
        let memory = SharedMut::new(&mut rooms);
        let done = self.tasks(4, |rows, panels, thread| {
            // SAFETY: each thread has a room of its own, used by one task at a time.
            let room = Room::new(unsafe { memory.slice(thread * Room::SIZE, Room::SIZE) });
            let pairs = panels.start / 2..panels.end.div_ceil(2);
            gemm.run(&mut Hardware::new(isa), rows, pairs, room);
        });
        scratch.rooms = rooms;
        done
    }

    /// In integers.
    pub(in crate::linear) fn integer_tiles<const FOUR: bool, const AFFINE: bool>(
        &self,
        int: &IntPanels,
        scratch: &mut Activations,
    ) -> Result<(), BackendError> {
        let (k, zero) = (self.weight.k, int.zero_point());
        let x = self.input.quantized_bands(self.isa, self.pool, &mut scratch.bands[0], k, zero)?;
        self.multiply_bands::<FOUR, AFFINE>(int, x)
    }

    /// The same with inputs that are quantized already, `[⌈rows / 16⌉][k / 64]` or more.
    pub(super) fn multiply_bands<const FOUR: bool, const AFFINE: bool>(
        &self,
        int: &IntPanels,
        x: &[BandGroup],
    ) -> Result<(), BackendError> {
        let weights = IntWeights::<FOUR, AFFINE>::new(int, self.weight.k / GROUP);
        let (isa, tiles) = (self.isa, IntTiles { weights, x, sink: self.out, chunk: CHUNK });
        self.tasks_of(3, MAX_RUN, |rows, panels, _| {
            let then = panels.end;
            tiles.run(isa, &mut Hardware::new(isa), rows, panels, then);
        })
    }
}
