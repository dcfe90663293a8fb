//! Integer weights × quantized activations: a tile product per group of 32 columns, scaled by vector code.
//!
//! The integer sums are exact and the floats are combined as in [`IntJob`], so the bits are those of the other levels.

use std::ops::Range;

use millrace_backend::GROUP;

use crate::activations::QuantGroup;
use crate::level::Isa;
use crate::linear::int::IntJob;
use crate::simd::{Kernel, LANES, Simd};
use crate::tile::{Config, ROW, ROWS, Tile, Unit};

/// Fewer rows leave most of a tile empty: the vector kernel is as fast.
pub(crate) const MIN_INT_ROWS: usize = 6;
/// Bytes of a group's tile: 8 rows of four columns × sixteen outputs.
const GROUP_TILE: usize = GROUP * LANES;

/// Bytes that a task needs to unpack a panel of `groups` groups.
pub(crate) fn int_room(groups: usize) -> usize {
    groups * GROUP_TILE
}

/// Computes a block of rows for some panels; `room` is [`int_room`] long.
pub(crate) fn int_task<U: Unit, const FOUR: bool, const AFFINE: bool>(
    unit: &mut U,
    isa: Isa,
    job: &IntJob<'_, FOUR, AFFINE>,
    rows: Range<usize>,
    panels: Range<usize>,
    room: &mut [u8],
) {
    let mut current = None;
    for panel in panels {
        for row in rows.clone().step_by(ROWS) {
            let count = (rows.end - row).min(ROWS);
            if current != Some(count) {
                unit.configure(&config(count));
                current = Some(count);
            }
            let unpack = row == rows.start;
            isa.run(Block { job, row, count, panel, unit, unpack, room: room.as_chunks_mut().0 });
        }
    }
}

/// Accumulators 0 and 1, inputs 2 and 3 (32 columns), weights 4 and 5 (8 × 4 columns).
fn config(rows: usize) -> Config {
    let (sums, inputs, weights) = ((rows, ROW), (rows, GROUP), (GROUP / 4, ROW));
    Config::new(&[sums, sums, inputs, inputs, weights, weights])
}

/// Sixteen rows (or fewer) of one panel.
struct Block<'a, U, const FOUR: bool, const AFFINE: bool> {
    job: &'a IntJob<'a, FOUR, AFFINE>,
    row: usize,
    count: usize,
    panel: usize,
    /// Configured for `count` rows.
    unit: &'a mut U,
    /// The first rows that meet the panel: unpacks it into `room`.
    unpack: bool,
    /// `[groups]` tiles.
    room: &'a mut [[u8; GROUP_TILE]],
}

impl<U: Unit, const FOUR: bool, const AFFINE: bool> Kernel for Block<'_, U, FOUR, AFFINE> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let job = self.job;
        let groups = job.groups();
        let x = &job.x()[self.row * groups..][..self.count * groups];
        let weights = job.panel(self.panel);
        let vectors = IntJob::<FOUR, AFFINE>::VECTORS;
        let mut acc = [s.splat(0.0); ROWS];
        let mut sums = [Tile([[0i32; LANES]; ROWS]); 2];
        for (group, tile) in self.room.iter_mut().enumerate().take(groups) {
            if self.unpack {
                unpack::<S, FOUR, AFFINE>(s, &weights.q[group * vectors..][..vectors], tile);
            }
            let slot = group % 2;
            // SAFETY: configured for `count` rows, each `groups` groups after the last.
            unsafe { product::<U, AFFINE>(self.unit, slot, x[group..].as_ptr(), groups, tile, &mut sums[slot]) };
            let constant = group / job.per_scale();
            let scale = weights.scales.load(s, constant);
            let bias = if AFFINE { weights.biases.load(s, constant) } else { scale };
            for (m, acc) in acc.iter_mut().enumerate() {
                let x = &x[m.min(self.count - 1) * groups + group];
                let dot = s.load_i32(&sums[slot].0[m]);
                *acc = IntJob::<FOUR, AFFINE>::accumulate(s, *acc, dot, x, scale, bias);
            }
        }
        for (m, acc) in acc.iter().enumerate().take(self.count) {
            job.out().store(s, self.row + m, self.panel, *acc);
        }
    }
}

/// A group's weights as bytes: unsigned if there are biases, else with the zero point taken off (so that products need
/// no correction).
#[inline(always)]
fn unpack<S: Simd, const FOUR: bool, const AFFINE: bool>(_: S, q: &[[u8; ROW]], out: &mut [u8; GROUP_TILE]) {
    let zero = if AFFINE { 0 } else if FOUR { 8 } else { 128 };
    if FOUR {
        // Byte vector j holds step j and step j + 4.
        let (low, high) = out.split_at_mut(GROUP_TILE / 2);
        for ((q, low), high) in q.iter().zip(low.as_chunks_mut().0).zip(high.as_chunks_mut().0) {
            let (low, high): (&mut [u8; ROW], &mut [u8; ROW]) = (low, high);
            for i in 0..ROW {
                low[i] = (q[i] & 15).wrapping_sub(zero);
                high[i] = (q[i] >> 4).wrapping_sub(zero);
            }
        }
    } else {
        for (q, out) in q.iter().zip(out.as_chunks_mut::<ROW>().0) {
            for i in 0..ROW {
                out[i] = q[i].wrapping_sub(zero);
            }
        }
    }
}

/// sums = x · tile over one group of 32 columns. Two slots alternate, so that one product overlaps the other's use.
///
/// # Safety
/// Tiles are configured by [`config`]; `x` has as many rows, `stride` groups apart.
#[inline(always)]
unsafe fn product<U: Unit, const AFFINE: bool>(
    unit: &mut U,
    slot: usize,
    x: *const QuantGroup,
    stride: usize,
    tile: &[u8; GROUP_TILE],
    sums: &mut Tile<i32>,
) {
    // A group begins with its 32 signed bytes.
    let (x, stride, sums) = (x.cast(), stride * size_of::<QuantGroup>(), (&raw mut *sums).cast());
    // SAFETY: by the caller's promise.
    unsafe {
        if slot == 0 {
            unit.zero::<0>();
            unit.load::<2>(x, stride);
            unit.load::<4>(tile.as_ptr(), ROW);
            if AFFINE { unit.dot_bytes::<0, 2, 4>() } else { unit.dot_signed_bytes::<0, 2, 4>() }
            unit.store::<0>(sums, ROW);
        } else {
            unit.zero::<1>();
            unit.load::<3>(x, stride);
            unit.load::<5>(tile.as_ptr(), ROW);
            if AFFINE { unit.dot_bytes::<1, 3, 5>() } else { unit.dot_signed_bytes::<1, 3, 5>() }
            unit.store::<1>(sums, ROW);
        }
    }
}
