//! Inputs as tiles of signed bytes, with a scale for every row and pass.

use std::ops::Range;

use millrace_backend::BackendError;

use super::{Activations, Input, TILE_COLS, TILE_ROWS, Tiles, larger, quantized, unit};
use crate::level::Isa;
use crate::pool::Pool;
use crate::shared::SharedMut;
use crate::simd::{Bf16Dot, Bf16Kernel, LANES, prefetch};

/// Bytes in a row of a tile.
pub(crate) const BYTE_COLS: usize = 64;
/// Columns that share a scale; the last ones may be fewer.
pub(crate) const BYTE_PASS: usize = 512;
/// Bytes of a tile.
const TILE: usize = TILE_ROWS * BYTE_COLS;

/// Where rows come from, sixteen columns at a time, as bf16 numbers.
pub(crate) trait Rows: Sync {
    /// Columns `16 · index ..` of a row; zeros where there are none.
    fn load<S: Bf16Dot>(&self, s: S, row: usize, index: usize) -> S::V;
    /// Asks for what will be loaded after a pass of these columns.
    fn ask_for(&self, row: usize, index: usize);
}

impl Rows for Input<'_> {
    #[inline(always)]
    fn load<S: Bf16Dot>(&self, s: S, row: usize, index: usize) -> S::V {
        let left = self.row(row).get(index * LANES..).unwrap_or_default();
        let values = match left.first_chunk() {
            Some(values) => s.load(values),
            None => s.load_partial(left),
        };
        // The same bytes as from an earlier layer that left bf16 tiles.
        s.round_bf16(values)
    }

    /// The next pass of the row, or of the next one.
    #[inline(always)]
    fn ask_for(&self, row: usize, index: usize) {
        let here = self.values.as_ptr().wrapping_add(row * self.cols + index * LANES);
        prefetch(here, BYTE_PASS * size_of::<f32>());
    }
}

/// Rows that are bf16 tiles already ([`Activations::bf16_tiles`]).
pub(crate) struct Bf16Rows<'a> {
    /// `[bands][per_band]` tiles.
    tiles: &'a [[[u16; LANES]; TILE_ROWS * TILE_COLS / LANES]],
    per_band: usize,
}

impl<'a> Bf16Rows<'a> {
    /// Of k columns.
    pub(crate) fn new(tiles: &'a [u16], k: usize) -> Self {
        Self { tiles: tiles.as_chunks().0.as_chunks().0, per_band: k / TILE_COLS }
    }
}

impl Rows for Bf16Rows<'_> {
    #[inline(always)]
    fn load<S: Bf16Dot>(&self, s: S, row: usize, index: usize) -> S::V {
        const HALVES: usize = TILE_COLS / LANES;
        let tile = &self.tiles[row / TILE_ROWS * self.per_band + index / HALVES];
        s.load_bf16(&tile[row % TILE_ROWS * HALVES + index % HALVES])
    }

    /// The row after the next one, which lies behind it in the tile.
    #[inline(always)]
    fn ask_for(&self, row: usize, index: usize) {
        let tile = row / TILE_ROWS * self.per_band + index * LANES / TILE_COLS;
        let line = self.tiles.as_ptr().wrapping_add(tile);
        prefetch(line, (row % TILE_ROWS + 2) * size_of::<[u16; TILE_COLS]>());
    }
}

impl Activations {
    /// Rounded to bf16, and then to signed bytes in the order of AMX tiles, `[⌈rows / 16⌉][k / 64][16][64]`, with the values of one
    /// unit, `[⌈rows / 16⌉][⌈k / 512⌉][16]`. Rows that pad the last band hold what an earlier batch left there.
    pub(crate) fn byte_tiles(
        &mut self,
        isa: Isa,
        pool: &Pool,
        from: &impl Rows,
        rows: usize,
        k: usize,
    ) -> Result<Tiles<'_>, BackendError> {
        let (bands, passes) = (rows.div_ceil(TILE_ROWS), k.div_ceil(BYTE_PASS));
        let (len, units) = (TILE_ROWS * k / 2, TILE_ROWS * passes);
        self.bf16.reserve(bands * len, "activations as bytes")?;
        self.units.reserve(bands * units, "activations' scales")?;
        let (tiles, scales) = (SharedMut::new(&mut self.bf16), SharedMut::new(&mut self.units));
        pool.run(bands, &|band, _| {
            // SAFETY: a band of rows belongs to one task.
            #[allow(unsafe_code)]
            let (tiles, scales) =
                unsafe { (tiles.slice(band * len, len), scales.slice(band * units, units)) };
            let rows = band * TILE_ROWS..((band + 1) * TILE_ROWS).min(rows);
            isa.run_bf16(QuantizeBand { from, rows, k, tiles: bytemuck::cast_slice_mut(tiles), scales });
        })?;
        Ok(Tiles { tiles: &self.bf16[..bands * len], scales: &self.units[..bands * units] })
    }
}

/// Up to sixteen rows.
struct QuantizeBand<'a, R> {
    from: &'a R,
    rows: Range<usize>,
    k: usize,
    /// `[k / 64]` tiles.
    tiles: &'a mut [i8],
    /// `[passes][16]`.
    scales: &'a mut [f32],
}

impl<R: Rows> Bf16Kernel for QuantizeBand<'_, R> {
    type Out = ();
    #[inline(always)]
    fn run<S: Bf16Dot>(self, s: S) {
        let Self { from, rows, k, tiles, scales } = self;
        let tiles = tiles.as_chunks_mut::<TILE>().0;
        for (lane, row) in rows.enumerate() {
            for (pass, scales) in scales.as_chunks_mut::<TILE_ROWS>().0.iter_mut().enumerate() {
                let first = pass * BYTE_PASS / LANES;
                let end = (first + BYTE_PASS / LANES).min(k / LANES);
                let mut max = s.splat(0.0);
                for index in first..end {
                    from.ask_for(row, index);
                    max = larger(s, from.load(s, row, index), max);
                }
                let (scale, inverse) = unit(s, max);
                scales[lane] = scale;
                for index in first..end {
                    let at = index * LANES;
                    let bytes = s.to_i8(quantized(s, from.load(s, row, index), inverse));
                    tiles[at / BYTE_COLS][lane * BYTE_COLS + at % BYTE_COLS..][..LANES]
                        .copy_from_slice(&bytes);
                }
            }
        }
    }
}
