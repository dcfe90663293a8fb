//! bf16 × bf16 on tiles: two bands of sixteen rows times two panels in four accumulators.
//!
//! Blocked after Goto and van de Geijn (doi 10.1145/1356052.1356053): a task goes through [`K_BLOCK`] input features
//! at a time. That part of two panels stays in the first-level cache while all bands of the task pass by; that part
//! of the bands stays in the second-level cache while all panels of the task pass by. Sums wait in scratch memory
//! meanwhile, which leaves each of them one chain over the input features, in order.

use std::ops::Range;

use crate::activations::{TILE_COLS, TILE_ROWS};
use crate::level::Isa;
use crate::linear::{Output, PREFETCH_BYTES};
use crate::simd::{Kernel, LANES, Simd, prefetch};
use crate::tile::{Config, ROW, ROWS, Tile, Unit};

/// Input features of a pass.
pub(crate) const K_BLOCK: usize = 256;
/// Rows and panels of a task at most: what [`Room`] has room for.
pub(crate) const MAX_ROWS: usize = 512;
pub(crate) const MAX_PANELS: usize = 16;
/// Elements of a tile.
const TILE: usize = TILE_ROWS * TILE_COLS;
/// bf16 elements of a panel's part in a pass.
const PART: usize = K_BLOCK * LANES;

/// Where weights come from.
pub(crate) trait Weights: Sync {
    /// Whether they lie in memory as tiles.
    const IN_PLACE: bool;
    /// Columns `cols` (multiples of 32) of a panel as tiles `[cols / 32][16][32]`, made in `room` if need be.
    fn tiles<'a>(&'a self, isa: Isa, panel: usize, cols: Range<usize>, room: &'a mut [u16]) -> &'a [u16];
}

/// bf16 panels.
pub(crate) struct Bf16Weights<'a> {
    /// `[panels][k / 32]` tiles.
    pub(crate) panels: &'a [u16],
    pub(crate) k: usize,
}

impl Weights for Bf16Weights<'_> {
    const IN_PLACE: bool = true;
    fn tiles<'a>(&'a self, _: Isa, panel: usize, cols: Range<usize>, _: &'a mut [u16]) -> &'a [u16] {
        &self.panels[(panel * self.k + cols.start) * LANES..][..cols.len() * LANES]
    }
}

/// A thread's memory for one task.
pub(crate) struct Room<'a> {
    /// Parts of two panels.
    weights: &'a mut [u16],
    /// Four tiles of sums, and `[panel pair][band pair][4]` for several passes.
    sums: &'a mut [Tile<f32>],
}

impl<'a> Room<'a> {
    /// Floats that it takes.
    pub(crate) const SIZE: usize = PART + (MAX_ROWS * MAX_PANELS + 4 * ROWS) * LANES;

    /// # Panics
    /// If the memory is not [`Room::SIZE`] long or not aligned to 64 bytes.
    pub(crate) fn new(memory: &'a mut [f32]) -> Self {
        let (weights, sums) = memory.split_at_mut(PART);
        Self { weights: bytemuck::cast_slice_mut(weights), sums: bytemuck::cast_slice_mut(sums) }
    }
}

/// A linear layer in bf16.
pub(crate) struct Gemm<'a, W> {
    pub(crate) isa: Isa,
    pub(crate) weights: W,
    /// Columns; a multiple of 32.
    pub(crate) k: usize,
    /// `[bands][k / 32]` tiles.
    pub(crate) x: &'a [u16],
    pub(crate) out: Output<'a>,
}

/// Two bands (or one) and two panels (or one) in one pass.
struct Block<'a> {
    row: usize,
    /// Rows of each band.
    counts: [usize; 2],
    panel: usize,
    /// `[columns / 32]` tiles of each panel.
    weights: [&'a [u16]; 2],
    cols: Range<usize>,
    /// The weights come from memory now.
    ahead: bool,
}

impl<W: Weights> Gemm<'_, W> {
    /// Whether so many rows go through all input features at once, as they read the weights once, straight through.
    pub(crate) fn one_pass(&self, rows: usize) -> bool {
        W::IN_PLACE && rows <= 2 * ROWS
    }

    /// Computes, unless in one pass, at most [`MAX_ROWS`] rows (starting at a multiple of 16) for at most [`MAX_PANELS`] panels.
    ///
    /// # Panics
    /// If there are more of them.
    pub(crate) fn run<U: Unit>(
        &self,
        unit: &mut U,
        rows: Range<usize>,
        panels: Range<usize>,
        room: &mut Room<'_>,
    ) {
        let one_pass = self.one_pass(rows.len());
        assert!(one_pass || rows.len() <= MAX_ROWS && panels.len() <= MAX_PANELS);
        let step = if one_pass { self.k } else { K_BLOCK };
        let mut current = None;
        for first in (0..self.k).step_by(step) {
            let cols = first..(first + step).min(self.k);
            let (left, right) = room.weights.split_at_mut(PART);
            let (only, sums) = room.sums.split_at_mut(4);
            let mut sums = sums.chunks_exact_mut(4);
            for panel in panels.clone().step_by(2) {
                let second = (panel + 1).min(panels.end - 1);
                let a = self.weights.tiles(self.isa, panel, cols.clone(), left);
                let b = self.weights.tiles(self.isa, second, cols.clone(), right);
                for row in rows.clone().step_by(2 * ROWS) {
                    let first = (rows.end - row).min(ROWS);
                    let counts = [first, (rows.end - row - first).min(ROWS)];
                    if current != Some(counts) {
                        unit.configure(&config(counts));
                        current = Some(counts);
                    }
                    let block =
                        Block { row, counts, panel, weights: [a, b], cols: cols.clone(), ahead: one_pass };
                    let sums = if one_pass { &mut *only } else { sums.next().unwrap_or_default() };
                    // SAFETY: the tiles are configured for these counts.
                    unsafe {
                        match (counts[1] > 0, panel + 1 < panels.end) {
                            (true, true) => self.block::<U, true, true>(unit, &block, sums),
                            (true, false) => self.block::<U, true, false>(unit, &block, sums),
                            (false, true) => self.block::<U, false, true>(unit, &block, sums),
                            (false, false) => self.block::<U, false, false>(unit, &block, sums),
                        }
                    }
                }
            }
        }
    }

    /// One band of rows or two, one panel or two. Sums go on where they were left.
    ///
    /// # Safety
    /// Tiles are configured by [`config`] for the block's counts.
    #[inline(always)]
    unsafe fn block<U: Unit, const BANDS: bool, const PANELS: bool>(
        &self,
        unit: &mut U,
        block: &Block<'_>,
        sums: &mut [Tile<f32>],
    ) {
        let Block { cols, weights: [left, right], .. } = block;
        let band = |index: usize| {
            let start = (block.row / ROWS + index) * ROWS * self.k + cols.start * ROWS;
            &self.x[start..][..cols.len() * ROWS]
        };
        let a = [band(0), band(usize::from(BANDS))];
        assert!(sums.len() == 4 && left.len() == a[0].len() && right.len() == a[0].len());
        // SAFETY: each load reads a tile inside the slices above, each store writes a tile of `sums`.
        unsafe {
            if cols.start == 0 {
                unit.zero::<0>();
                unit.zero::<1>();
                if BANDS {
                    unit.zero::<2>();
                    unit.zero::<3>();
                }
            } else {
                unit.load::<0>((&raw const sums[0]).cast(), ROW);
                unit.load::<1>((&raw const sums[1]).cast(), ROW);
                if BANDS {
                    unit.load::<2>((&raw const sums[2]).cast(), ROW);
                    unit.load::<3>((&raw const sums[3]).cast(), ROW);
                }
            }
            for at in (0..a[0].len()).step_by(TILE) {
                if block.ahead {
                    ask_for(&left[at..][..TILE]);
                    if PANELS {
                        ask_for(&right[at..][..TILE]);
                    }
                }
                unit.load::<6>(left.as_ptr().add(at).cast(), ROW);
                unit.load::<4>(a[0].as_ptr().add(at).cast(), ROW);
                unit.dot_bf16::<0, 4, 6>();
                if PANELS {
                    unit.load::<7>(right.as_ptr().add(at).cast(), ROW);
                    unit.dot_bf16::<1, 4, 7>();
                }
                if BANDS {
                    unit.load::<5>(a[1].as_ptr().add(at).cast(), ROW);
                    unit.dot_bf16::<2, 5, 6>();
                }
                if BANDS && PANELS {
                    unit.dot_bf16::<3, 5, 7>();
                }
            }
            unit.store::<0>((&raw mut sums[0]).cast(), ROW);
            unit.store::<1>((&raw mut sums[1]).cast(), ROW);
            if BANDS {
                unit.store::<2>((&raw mut sums[2]).cast(), ROW);
                unit.store::<3>((&raw mut sums[3]).cast(), ROW);
            }
        }
        if cols.end < self.k {
            return;
        }
        for (index, tile) in sums.iter().enumerate() {
            let (band, right) = (index / 2, index % 2);
            if right == 0 || PANELS {
                let values = &tile.0[..block.counts[band]];
                let (row, panel) = (block.row + band * ROWS, block.panel + right);
                self.isa.run(Store { values, out: &self.out, row, panel });
            }
        }
    }
}

/// Asks for the tile that lies [`PREFETCH_BYTES`] further on.
#[inline(always)]
fn ask_for(tile: &[u16]) {
    for line in tile.as_chunks::<{ ROW / 2 }>().0 {
        prefetch(line, PREFETCH_BYTES);
    }
}

/// Accumulators 0–3 (first band, second band × two panels), inputs 4 and 5, weights 6 and 7.
fn config([first, second]: [usize; 2]) -> Config {
    // Registers of an absent band must still have a shape.
    let second = second.max(1);
    let (a, b) = ((first, ROW), (second, ROW));
    Config::new(&[a, a, b, b, a, b, (ROWS, ROW), (ROWS, ROW)])
}

/// Moves a tile of results to its place.
struct Store<'a> {
    values: &'a [[f32; LANES]],
    out: &'a Output<'a>,
    row: usize,
    panel: usize,
}

impl Kernel for Store<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for (index, values) in self.values.iter().enumerate() {
            self.out.store(s, self.row + index, self.panel, s.load(values));
        }
    }
}
