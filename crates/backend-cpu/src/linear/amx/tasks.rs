//! A linear layer cut into tasks for tile units, each with memory of its own.

use std::ops::Range;

use millrace_backend::{BackendError, GROUP};

use super::gemm::{Gemm, MAX_PANELS, MAX_ROWS, Room, Weights};
use super::integers::IntTiles;
use crate::activations::Activations;
use crate::linear::Linear;
use crate::linear::int::IntJob;
use crate::pack::IntPanels;
use crate::shared::SharedMut;
use crate::tile::{Hardware, ROWS};

/// Tasks per thread, for balance.
const TASKS_PER_THREAD: usize = 4;

impl Linear<'_> {
    /// In bf16.
    pub(in crate::linear) fn gemm<W: Weights>(
        &self,
        weights: W,
        scratch: &mut Activations,
    ) -> Result<(), BackendError> {
        let mut rooms = std::mem::take(&mut scratch.rooms);
        rooms.reserve(Room::SIZE * self.pool.threads(), "scratch memory for tiles")?;
        let x = scratch.bf16_tiles(self.isa, self.pool, self.input, self.weight.k)?;
        let job = Gemm { isa: self.isa, weights, k: self.weight.k, x, out: self.out };
        let (memory, isa) = (SharedMut::new(&mut rooms), self.isa);
        let task = |rows: Range<usize>, panels: Range<usize>, thread: usize| {
            // SAFETY: each thread has a room of its own, used by one task at a time.
            let mut room = Room::new(unsafe { memory.slice(thread * Room::SIZE, Room::SIZE) });
            job.run(&mut Hardware::new(isa), rows, panels, &mut room);
        };
        let done = if job.one_pass(self.input.rows) {
            self.tasks(4, task)
        } else {
            let (rows, panels) = (self.input.rows, self.weight.panels());
            let blocks = rows.div_ceil(MAX_ROWS);
            let block = rows.div_ceil(blocks).next_multiple_of(2 * ROWS).min(MAX_ROWS);
            let blocks = rows.div_ceil(block);
            let run =
                panels.div_ceil(self.pool.threads() * TASKS_PER_THREAD).next_multiple_of(2).min(MAX_PANELS);
            let runs = panels.div_ceil(run);
            self.pool
                .run(blocks * runs, &|index, thread| {
                    let (row, panel) = (index / runs * block, index % runs * run);
                    task(row..(row + block).min(rows), panel..(panel + run).min(panels), thread);
                })
                .map_err(Into::into)
        };
        scratch.rooms = rooms;
        done
    }

    /// In integers.
    pub(in crate::linear) fn integer_tiles<const FOUR: bool, const AFFINE: bool>(
        &self,
        int: &IntPanels,
        scratch: &mut Activations,
    ) -> Result<(), BackendError> {
        let (isa, groups) = (self.isa, self.weight.k / GROUP);
        let mut rooms = std::mem::take(&mut scratch.rooms);
        let size = IntTiles::<FOUR, AFFINE>::room(self.weight.k) / size_of::<f32>();
        rooms.reserve(size * self.pool.threads(), "scratch memory for tiles")?;
        let x = scratch.quantized_bands(isa, self.pool, self.input, groups, int.zero_point())?;
        let tiles = IntTiles { job: IntJob::<FOUR, AFFINE>::new(int, groups, &[], self.out), x };
        let memory = SharedMut::new(&mut rooms);
        let done = self.tasks(3, |rows, panels, thread| {
            // SAFETY: each thread has a room of its own, used by one task at a time.
            let room = unsafe { memory.slice(thread * size, size) };
            tiles.run(isa, &mut Hardware::new(isa), rows, panels, bytemuck::cast_slice_mut(room));
        });
        scratch.rooms = rooms;
        done
    }
}
