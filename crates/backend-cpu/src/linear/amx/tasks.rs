//! A linear layer cut into tasks for tile units, each with memory of its own.

use std::ops::Range;

use millrace_backend::BackendError;

use super::gemm::{Gemm, MAX_PANELS, MAX_ROWS, Room, Weights};
use super::int::{int_room, int_task};
use crate::activations::Activations;
use crate::linear::Linear;
use crate::linear::int::IntJob;
use crate::region::Region;
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
        let mut rooms = self.rooms(scratch, Room::SIZE)?;
        let x = scratch.bf16_tiles(self.isa, self.pool, self.input, self.weight.k)?;
        let job = Gemm { isa: self.isa, weights, k: self.weight.k, x, out: self.out };
        let memory = SharedMut::new(&mut rooms);
        let task = |rows: Range<usize>, panels: Range<usize>, thread: usize| {
            // SAFETY: each thread has a room of its own, used by one task at a time.
            let room = Room::new(unsafe { memory.slice(thread * Room::SIZE, Room::SIZE) });
            job.run(&mut Hardware::new(self.isa), rows, panels, room);
        };
        let done = if job.one_pass(self.input.rows) {
            self.tasks(4, task)
        } else {
            let (rows, panels) = (self.input.rows, self.weight.panels());
            let blocks = rows.div_ceil(MAX_ROWS);
            let block = rows.div_ceil(blocks).next_multiple_of(2 * ROWS).min(MAX_ROWS);
            let blocks = rows.div_ceil(block);
            let run = panels.div_ceil(self.pool.threads() * TASKS_PER_THREAD).next_multiple_of(2).min(MAX_PANELS);
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

    /// With integer products.
    pub(in crate::linear) fn integer_tiles<const FOUR: bool, const AFFINE: bool>(
        &self,
        job: &IntJob<'_, FOUR, AFFINE>,
        rooms: &mut Region<f32>,
    ) -> Result<(), BackendError> {
        let size = int_room(job.groups()) / size_of::<f32>();
        let memory = SharedMut::new(rooms);
        self.tasks(3, |rows, panels, thread| {
            // SAFETY: each thread has a room of its own, used by one task at a time.
            let room = unsafe { memory.slice(thread * size, size) };
            let room = bytemuck::cast_slice_mut(room);
            int_task(&mut Hardware::new(self.isa), self.isa, job, rows, panels, room);
        })
    }

    /// Memory of so many floats for each thread, taken out of `scratch`.
    pub(in crate::linear) fn rooms(
        &self,
        scratch: &mut Activations,
        floats: usize,
    ) -> Result<Region<f32>, BackendError> {
        let mut rooms = std::mem::take(&mut scratch.rooms);
        rooms.reserve(floats * self.pool.threads(), "scratch memory for tiles")?;
        Ok(rooms)
    }
}
