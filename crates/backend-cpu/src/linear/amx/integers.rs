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
use crate::simd::{Bf16Dot, Bf16Kernel};
use crate::tile::{Config, ROW, ROWS, Tile, Unit};

/// Groups of [`GROUP`] columns in a tile of weights.
const GROUPS: usize = BAND_COLS / GROUP;
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
        isa.run_bf16(Run { tiles: self, unit, rows, panels, room, sums, configured: 0 });
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
    /// Rows that the registers are configured for.
    configured: usize,
}

impl<U: Unit, const FOUR: bool, const AFFINE: bool> Bf16Kernel for Run<'_, U, FOUR, AFFINE> {
    type Out = ();
    #[inline(always)]
    fn run<S: Bf16Dot>(mut self, s: S) {
        let bands = self.rows.start / ROWS..self.rows.end.div_ceil(ROWS);
        for panel in self.panels.clone() {
            if FOUR {
                self.unpack(s, panel);
            }
            for band in bands.clone() {
                self.band(s, band, panel, band - bands.start, bands.len());
            }
        }
    }
}

impl<U: Unit, const FOUR: bool, const AFFINE: bool> Run<'_, U, FOUR, AFFINE> {
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

    /// Sixteen rows and sixteen outputs, one of `passes` over the panel. The tiles work on one run of features while the sums of the one before become
    /// floats.
    #[inline(always)]
    fn band<S: Bf16Dot>(&mut self, s: S, band: usize, panel: usize, pass: usize, passes: usize) {
        let job = &self.tiles.job;
        let steps = job.weights.groups / GROUPS;
        let x = &self.tiles.x[band * steps..][..steps];
        let weights = if FOUR { &*self.room } else { job.weights.panel(panel).as_flattened() };
        let weights = &weights.as_chunks::<TILE>().0[..steps];
        let count = (self.rows.end - band * ROWS).min(ROWS);
        if self.configured != count {
            self.unit.configure(&Config::new(&[(count, ROW), (count, ROW), (ROWS, ROW)]));
            self.configured = count;
        }
        let mut acc = [s.splat(0.0); ROWS];
        for step in 0..=steps {
            if step < steps {
                if panel + 1 < self.panels.end {
                    // A few lines at a time: many at once would keep the tiles' own loads waiting.
                    let (share, shares) = (pass * steps + step, passes * steps);
                    job.weights.ask_for_groups(panel + 1, 0..job.weights.groups, share, shares);
                }
                // SAFETY: configured; activations, weights and sums are tiles of sixteen rows in memory.
                #[allow(unsafe_code)]
                unsafe {
                    self.unit.zero::<0>();
                    self.unit.load::<1>((&raw const x[step].q).cast(), ROW);
                    self.unit.load::<2>(weights[step].as_ptr(), ROW);
                    self.unit.dot_bytes::<0, 1, 2>();
                    self.unit.store::<0>((&raw mut self.sums[step % 2]).cast(), ROW);
                }
            }
            if let Some(last) = step.checked_sub(1) {
                let constants = job.weights.constants(s, panel, last * GROUPS / job.weights.per_scale);
                let (x, sums) = (&x[last], &self.sums[last % 2].0);
                for row in 0..ROWS {
                    let mut dot = s.load_i32(&sums[row]);
                    if !AFFINE {
                        dot = s.add_i32(dot, s.splat_i32(x.start[row]));
                    }
                    let of_x = (x.scale[row], x.bias_factor[row]);
                    acc[row] = IntJob::<FOUR, AFFINE>::accumulate(s, acc[row], dot, constants, of_x);
                }
            }
        }
        for (row, acc) in acc.iter().enumerate().take(count) {
            job.out.store(s, band * ROWS + row, panel, *acc);
        }
    }
}
