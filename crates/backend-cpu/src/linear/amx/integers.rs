//! Grouped integers of generated tokens on tiles: bytes × bytes, sixteen rows at a time.
//!
//! A tile holds the integer sums of one run of [`BAND_COLS`] input features for sixteen rows and sixteen outputs. They
//! become floats as in [`IntJob`], so the bits are the same, and it is only a question of speed which of the two
//! computes a batch.

use std::ops::Range;

use millrace_backend::GROUP;

use crate::activations::{BAND_COLS, BandGroup};
use crate::level::Isa;
use crate::linear::int::{IntJob, IntWeights};
use crate::simd::{Bf16Dot, Bf16Kernel, WHOLE};
use crate::tile::{Config, ROW, ROWS, Tile, Unit};

/// Groups of [`GROUP`] columns in a tile of weights.
const GROUPS: usize = BAND_COLS / GROUP;
/// Up to so many rows of a band are summed up apart from the rest, which nobody needs.
const FEW_ROWS: usize = 8;
/// Bytes of a tile.
const TILE: usize = ROWS * ROW;

/// A linear layer whose scales are shared by [`BAND_COLS`] columns or a multiple of them.
pub(crate) struct IntTiles<'a, const FOUR: bool, const AFFINE: bool> {
    /// Weights and results.
    pub(crate) job: IntJob<'a, FOUR, AFFINE>,
    /// `[bands][k / 64]`.
    pub(crate) x: &'a [BandGroup],
}

impl<const FOUR: bool, const AFFINE: bool> IntTiles<'_, FOUR, AFFINE> {
    /// Bytes that [`IntTiles::run`] needs for `k` input features.
    pub(crate) const fn room(k: usize) -> usize {
        k / BAND_COLS * TILE
    }

    /// Computes rows, starting at a multiple of sixteen, for some panels.
    ///
    /// # Panics
    /// If the room is too small.
    pub(crate) fn run<U: Unit>(
        &self,
        isa: Isa,
        unit: &mut U,
        rows: Range<usize>,
        panels: Range<usize>,
        room: &mut [u8],
    ) {
        let sums = [Tile([[0; 16]; ROWS]); 2];
        isa.run_bf16(Run { tiles: self, unit, rows, panels, room, sums });
    }
}

struct Run<'a, U, const FOUR: bool, const AFFINE: bool> {
    tiles: &'a IntTiles<'a, FOUR, AFFINE>,
    unit: &'a mut U,
    rows: Range<usize>,
    panels: Range<usize>,
    /// The panel's weights as bytes: `[k / 64]` tiles.
    room: &'a mut [u8],
    /// Of this run of features and of the one before.
    sums: [Tile<i32>; 2],
}

/// One of the bands that meet a panel.
#[derive(Clone, Copy)]
struct Pass {
    band: usize,
    panel: usize,
    /// Which of the vectors of a run of features are asked for, so that all bands together ask for everything.
    ask_from: usize,
    ask_count: usize,
}

impl<U: Unit, const FOUR: bool, const AFFINE: bool> Bf16Kernel for Run<'_, U, FOUR, AFFINE> {
    type Out = ();
    #[inline(always)]
    fn run<S: Bf16Dot>(mut self, s: S) {
        // Also for bands with fewer rows: another configuration would cost more than the rows that nobody needs.
        self.unit.configure(&Config::new(&[(ROWS, ROW); 3]));
        let bands = self.rows.start / ROWS..self.rows.end.div_ceil(ROWS);
        let ask_count = Self::VECTORS.div_ceil(bands.len());
        for panel in self.panels.clone() {
            if FOUR {
                self.unpack(s, panel);
            }
            for band in bands.clone() {
                let ask_from = (band - bands.start) * ask_count;
                let pass = Pass { band, panel, ask_from, ask_count };
                match self.rows.end - band * ROWS {
                    ..=FEW_ROWS => self.band::<S, FEW_ROWS>(s, pass),
                    _ => self.band::<S, ROWS>(s, pass),
                }
            }
        }
    }
}

impl<U: Unit, const FOUR: bool, const AFFINE: bool> Run<'_, U, FOUR, AFFINE> {
    /// Vectors of packed weights in a run of features.
    const VECTORS: usize = GROUPS * IntWeights::<FOUR, AFFINE>::VECTORS;

    /// Nibbles to bytes.
    #[inline(always)]
    fn unpack<S: Bf16Dot>(&mut self, s: S, panel: usize) {
        let vectors = IntWeights::<FOUR, AFFINE>::VECTORS;
        let out = self.room.as_chunks_mut::<ROW>().0;
        for (q, out) in
            self.tiles.job.weights.panel(panel).chunks_exact(vectors).zip(out.chunks_exact_mut(2 * vectors))
        {
            let (first, second) = out.split_at_mut(vectors);
            for (q, (first, second)) in q.iter().zip(first.iter_mut().zip(second)) {
                let (low, high) = s.nibbles(q);
                s.store_bytes(low, first);
                s.store_bytes(high, second);
            }
        }
    }

    /// Sixteen outputs of a band whose first R rows are wanted. The tiles work on one run of features while the sums of
    /// the one before become floats.
    #[inline(always)]
    fn band<S: Bf16Dot, const R: usize>(&mut self, s: S, pass: Pass) {
        let Self { tiles, unit, room, sums, .. } = self;
        let (job, weights) = (&tiles.job, &tiles.job.weights);
        let steps = weights.groups / GROUPS;
        let x = &tiles.x[pass.band * steps..][..steps];
        let bytes = if FOUR { &**room } else { weights.panel(pass.panel).as_flattened() };
        let bytes = &bytes.as_chunks::<TILE>().0[..steps];
        let (row, count) = (pass.band * ROWS, (self.rows.end - pass.band * ROWS).min(R));
        job.out.prefetch_rows(row, count, pass.panel);
        let mut acc = [s.splat(0.0); R];
        let (mut scale, steps_per_scale) = (0, weights.per_scale / GROUPS);
        let mut left = steps_per_scale;
        multiply(*unit, &x[0], &bytes[0], &mut sums[0]);
        for step in 0..steps {
            weights.ask_for_vectors(pass.panel + 1, step * Self::VECTORS + pass.ask_from, pass.ask_count);
            if step + 1 < steps {
                multiply(*unit, &x[step + 1], &bytes[step + 1], &mut sums[(step + 1) % 2]);
            }
            let constants = weights.constants(s, pass.panel, scale);
            left -= 1;
            if left == 0 {
                weights.ask_for_constant(pass.panel + 1, scale);
                (scale, left) = (scale + 1, steps_per_scale);
            }
            let (x, sums) = (&x[step], &sums[step % 2].0);
            for row in 0..R {
                let offset = s.splat_i32(if AFFINE { WHOLE } else { x.start[row] });
                let dot = s.offset_to_f32(s.add_i32(s.load_i32(&sums[row]), offset));
                let of_x = (x.scale[row], x.bias_factor[row]);
                acc[row] = IntJob::<FOUR, AFFINE>::accumulate(s, acc[row], dot, constants, of_x);
            }
        }
        for (index, acc) in acc.iter().enumerate().take(count) {
            job.out.store(s, row + index, pass.panel, *acc);
        }
    }
}

/// sums = x · weights.
#[inline(always)]
fn multiply<U: Unit>(unit: &mut U, x: &BandGroup, weights: &[u8; TILE], sums: &mut Tile<i32>) {
    // SAFETY: configured; activations, weights and sums are tiles of sixteen rows in memory.
    #[allow(unsafe_code)]
    unsafe {
        unit.zero::<0>();
        unit.load::<1>((&raw const x.q).cast(), ROW);
        unit.load::<2>(weights.as_ptr(), ROW);
        unit.dot_bytes::<0, 1, 2>();
        unit.store::<0>((&raw mut *sums).cast(), ROW);
    }
}
