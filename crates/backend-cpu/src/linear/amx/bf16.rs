//! bf16 × bf16: up to two bands of sixteen rows times two panels in four accumulator tiles.

use std::ops::Range;

use super::tile::{Config, Configured, ROW, ROWS, Tile, tile_dot, tile_load, tile_store, tile_zero};
use crate::activations::{TILE_COLS, TILE_ROWS};
use crate::level::Isa;
use crate::linear::Output;
use crate::simd::{Kernel, LANES, Simd};

/// Elements of a tile.
const TILE: usize = TILE_ROWS * TILE_COLS;

/// A linear layer in bf16. `isa` is of level Amx.
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
    pub(crate) fn run(&self, rows: Range<usize>, panels: Range<usize>) {
        let shape = |row: usize| {
            let first = rows.end.saturating_sub(row).min(ROWS);
            let second = rows.end.saturating_sub(row + ROWS).min(ROWS);
            (first, second)
        };
        let mut current = config(shape(rows.start));
        // SAFETY: a level of Amx was probed, with permission.
        let mut tiles = unsafe { Configured::load(&current) };
        for panel in panels.clone().step_by(2) {
            for row in rows.clone().step_by(2 * ROWS) {
                let (first, second) = shape(row);
                let wanted = config((first, second));
                if wanted != current {
                    tiles.reload(&wanted);
                    current = wanted;
                }
                // SAFETY: the tiles are configured for this many rows, and `x` and `weights` hold them.
                unsafe {
                    match (second > 0, panel + 1 < panels.end) {
                        (true, true) => self.block::<true, true>(row, [first, second], panel),
                        (true, false) => self.block::<true, false>(row, [first, second], panel),
                        (false, true) => self.block::<false, true>(row, [first, second], panel),
                        (false, false) => self.block::<false, false>(row, [first, second], panel),
                    }
                }
            }
        }
    }

    /// # Safety
    /// Tiles are configured by [`config`] for these counts.
    unsafe fn block<const BANDS: bool, const PANELS: bool>(
        &self,
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
            tile_zero!("0");
            tile_zero!("1");
            if BANDS {
                tile_zero!("2");
                tile_zero!("3");
            }
            for at in (0..ROWS * self.k).step_by(TILE) {
                tile_load!("6", b[0].as_ptr().add(at), ROW);
                tile_load!("4", a[0].as_ptr().add(at), ROW);
                tile_dot!("tdpbf16ps", "0", "4", "6");
                if PANELS {
                    tile_load!("7", b[1].as_ptr().add(at), ROW);
                    tile_dot!("tdpbf16ps", "1", "4", "7");
                }
                if BANDS {
                    tile_load!("5", a[1].as_ptr().add(at), ROW);
                    tile_dot!("tdpbf16ps", "2", "5", "6");
                }
                if BANDS && PANELS {
                    tile_dot!("tdpbf16ps", "3", "5", "7");
                }
            }
            tile_store!("0", &raw mut results[0], ROW);
            tile_store!("1", &raw mut results[1], ROW);
            if BANDS {
                tile_store!("2", &raw mut results[2], ROW);
                tile_store!("3", &raw mut results[3], ROW);
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
fn config((first, second): (usize, usize)) -> Config {
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
