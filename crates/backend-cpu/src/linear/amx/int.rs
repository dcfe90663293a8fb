//! Integer weights × quantized activations: a tile product per group of 32 columns, scaled by vector code.
//!
//! The integer sums are exact and the floats are combined as in [`IntJob`], so the bits are those of the other levels.

use std::ops::Range;

use millrace_backend::GROUP;

use super::tile::{Config, Hardware, ROW, ROWS, Tile, Unit};
use crate::activations::QuantGroup;
use crate::level::Isa;
use crate::linear::int::IntJob;
use crate::simd::{Kernel, LANES, Simd};

/// Fewer rows leave most of a tile empty: the vector kernel is as fast.
pub(crate) const MIN_INT_ROWS: usize = 6;

/// Bytes of a group's tile: 8 rows of four columns × sixteen outputs.
const GROUP_TILE: usize = GROUP * LANES;

/// Computes a block of rows for some panels.
///
/// # Panics
/// If the level is not Amx.
pub(crate) fn int_task<const FOUR: bool, const AFFINE: bool>(
    isa: Isa,
    job: &IntJob<'_, FOUR, AFFINE>,
    rows: Range<usize>,
    panels: Range<usize>,
) {
    int_task_on(&mut Hardware::new(isa), isa, job, rows, panels);
}

pub(super) fn int_task_on<U: Unit, const FOUR: bool, const AFFINE: bool>(
    unit: &mut U,
    isa: Isa,
    job: &IntJob<'_, FOUR, AFFINE>,
    rows: Range<usize>,
    panels: Range<usize>,
) {
    let mut current = None;
    for panel in panels {
        for row in rows.clone().step_by(ROWS) {
            let count = (rows.end - row).min(ROWS);
            if current != Some(count) {
                unit.configure(&config(count));
                current = Some(count);
            }
            isa.run(Block { job, row, count, panel, unit });
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
        let mut unpacked = [Bytes([0; GROUP_TILE]); 2];
        for (group, q) in weights.chunks_exact(vectors).enumerate() {
            let slot = group % 2;
            let tile = if FOUR {
                unpack(s, q, &mut unpacked[slot]);
                unpacked[slot].0.as_ptr()
            } else {
                q.as_ptr().cast()
            };
            // SAFETY: configured for `count` rows, each `groups` groups after the last; `tile` is 512 bytes.
            unsafe { product(self.unit, slot, x[group..].as_ptr(), groups, tile, &mut sums[slot]) };
            let constant = group / job.per_scale();
            let (scale, bias) = job.constants(s, self.panel, constant);
            for (m, acc) in acc.iter_mut().enumerate() {
                let x = &x[m.min(self.count - 1) * groups + group];
                let dot = s.load_add_i32(&sums[slot].0[m], x.start);
                *acc = IntJob::<FOUR, AFFINE>::accumulate(s, *acc, dot, x, scale, bias);
            }
        }
        for (m, acc) in acc.iter().enumerate().take(self.count) {
            job.out().store(s, self.row + m, self.panel, *acc);
        }
    }
}

/// A group's weights as bytes.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Bytes([u8; GROUP_TILE]);

/// Splits nibbles: byte vector j holds step j and step j + 4.
#[inline(always)]
fn unpack<S: Simd>(_: S, q: &[[u8; ROW]], out: &mut Bytes) {
    let (low, high) = out.0.split_at_mut(GROUP_TILE / 2);
    for ((q, low), high) in q.iter().zip(low.as_chunks_mut().0).zip(high.as_chunks_mut().0) {
        let (low, high): (&mut [u8; ROW], &mut [u8; ROW]) = (low, high);
        for i in 0..ROW {
            low[i] = q[i] & 15;
            high[i] = q[i] >> 4;
        }
    }
}

/// sums = x · tile over one group of 32 columns. Two slots alternate, so that one product overlaps the other's use.
///
/// # Safety
/// Tiles are configured by [`config`]; `x` has as many rows, `stride` groups apart; `tile` is 512 readable bytes.
#[inline(always)]
unsafe fn product<U: Unit>(
    unit: &mut U,
    slot: usize,
    x: *const QuantGroup,
    stride: usize,
    tile: *const u8,
    sums: &mut Tile<i32>,
) {
    // A group begins with its 32 signed bytes.
    let (x, stride, sums) = (x.cast(), stride * size_of::<QuantGroup>(), (&raw mut *sums).cast());
    // SAFETY: by the caller's promise.
    unsafe {
        if slot == 0 {
            unit.zero::<0>();
            unit.load::<2>(x, stride);
            unit.load::<4>(tile, ROW);
            unit.dot_bytes::<0, 2, 4>();
            unit.store::<0>(sums, ROW);
        } else {
            unit.zero::<1>();
            unit.load::<3>(x, stride);
            unit.load::<5>(tile, ROW);
            unit.dot_bytes::<1, 3, 5>();
            unit.store::<1>(sums, ROW);
        }
    }
}
