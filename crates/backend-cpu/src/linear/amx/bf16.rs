//! bf16 × bf16: up to two bands of sixteen rows times two panels in four accumulator tiles.

use std::ops::Range;

use super::tile::{Config, Hardware, ROW, ROWS, Tile, Unit};
use crate::activations::{TILE_COLS, TILE_ROWS};
use crate::level::Isa;
use crate::linear::Output;
use crate::simd::{Kernel, LANES, Simd};

/// Elements of a tile.
const TILE: usize = TILE_ROWS * TILE_COLS;

/// A linear layer in bf16.
pub(crate) struct Bf16Job<'a> {
    pub(crate) isa: Isa,
    /// `[panels][k / 32]` tiles.
    pub(crate) weights: &'a [u16],
    /// Columns; a multiple of 32.
    pub(crate) k: usize,
    /// `[bands][k / 32]` tiles.
    pub(crate) x: &'a [u16],
    pub(crate) out: Output<'a>,
}

impl Bf16Job<'_> {
    /// Computes a block of rows (starting at a multiple of 16) for some panels.
    ///
    /// A row's products are summed 32 columns at a time in order, whatever the number of rows in its tile.
    ///
    /// # Panics
    /// If the level is not Amx.
    pub(crate) fn run(&self, rows: Range<usize>, panels: Range<usize>) {
        self.run_on(&mut Hardware::new(self.isa), rows, panels);
    }

    pub(super) fn run_on<U: Unit>(&self, unit: &mut U, rows: Range<usize>, panels: Range<usize>) {
        let mut current = None;
        for panel in panels.clone().step_by(2) {
            for row in rows.clone().step_by(2 * ROWS) {
                let first = (rows.end - row).min(ROWS);
                let counts = [first, (rows.end - row - first).min(ROWS)];
                if current != Some(counts) {
                    unit.configure(&config(counts));
                    current = Some(counts);
                }
                // SAFETY: the tiles are configured for these counts.
                unsafe {
                    match (counts[1] > 0, panel + 1 < panels.end) {
                        (true, true) => self.block::<U, true, true>(unit, row, counts, panel),
                        (true, false) => self.block::<U, true, false>(unit, row, counts, panel),
                        (false, true) => self.block::<U, false, true>(unit, row, counts, panel),
                        (false, false) => self.block::<U, false, false>(unit, row, counts, panel),
                    }
                }
            }
        }
    }

    /// One band of rows or two, one panel or two.
    ///
    /// # Safety
    /// Tiles are configured by [`config`] for these counts.
    unsafe fn block<U: Unit, const BANDS: bool, const PANELS: bool>(
        &self,
        unit: &mut U,
        row: usize,
        counts: [usize; 2],
        panel: usize,
    ) {
        let band = |index: usize| &self.x[(row / ROWS + index) * ROWS * self.k..][..ROWS * self.k];
        let weight = |index: usize| &self.weights[(panel + index) * LANES * self.k..][..LANES * self.k];
        let (a, b) = ([band(0), band(usize::from(BANDS))], [weight(0), weight(usize::from(PANELS))]);
        let mut results = [Tile([[0f32; LANES]; ROWS]); 4];
        // SAFETY: each load reads a tile inside the slices above, each store writes a tile of `results`.
        unsafe {
            unit.zero::<0>();
            unit.zero::<1>();
            if BANDS {
                unit.zero::<2>();
                unit.zero::<3>();
            }
            for at in (0..ROWS * self.k).step_by(TILE) {
                unit.load::<6>(b[0].as_ptr().add(at).cast(), ROW);
                unit.load::<4>(a[0].as_ptr().add(at).cast(), ROW);
                unit.dot_bf16::<0, 4, 6>();
                if PANELS {
                    unit.load::<7>(b[1].as_ptr().add(at).cast(), ROW);
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
            unit.store::<0>((&raw mut results[0]).cast(), ROW);
            unit.store::<1>((&raw mut results[1]).cast(), ROW);
            if BANDS {
                unit.store::<2>((&raw mut results[2]).cast(), ROW);
                unit.store::<3>((&raw mut results[3]).cast(), ROW);
            }
        }
        for (index, tile) in results.iter().enumerate() {
            let (band, right) = (index / 2, index % 2);
            if right == 0 || PANELS {
                let values = &tile.0[..counts[band]];
                self.isa.run(Store { values, out: &self.out, row: row + band * ROWS, panel: panel + right });
            }
        }
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
