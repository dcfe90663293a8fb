//! Quantized inputs as tiles of signed bytes, a scale for every row and 64 columns.

#![allow(unsafe_code)]

use std::ops::Range;

use bytemuck::{Pod, Zeroable};
use millrace_backend::{BackendError, GROUP};

use super::{Input, MAX_SHARED, PARALLEL, TILE_ROWS, quantize_run};
use crate::level::Isa;
use crate::pool::Pool;
use crate::region::Region;
use crate::shared::SharedMut;
use crate::simd::{Kernel, LANES, Simd, WHOLE};

/// Bytes in a row of an AMX tile: columns that share a scale.
pub(crate) const BAND_COLS: usize = MAX_SHARED * GROUP;
/// Of these columns, how many make a task.
const TASK_COLS: usize = PARALLEL / 4 / TILE_ROWS;

/// Sixteen rows of [`BAND_COLS`] activations, quantized like a [`QuantGroup`](super::QuantGroup), as a tile, and what their
/// products need.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
pub(crate) struct BandGroup {
    /// `[row][column]`.
    pub(crate) q: [[i8; BAND_COLS]; TILE_ROWS],
    /// By row.
    pub(crate) scale: [f32; TILE_ROWS],
    /// Plus [`WHOLE`].
    pub(crate) start: [i32; TILE_ROWS],
    pub(crate) bias_factor: [f32; TILE_ROWS],
}

/// [`BAND_COLS`] values.
pub(crate) type Run = [[f32; LANES]; BAND_COLS / LANES];

/// Where rows come from, a run of columns at a time.
pub(crate) trait Runs: Sync {
    /// Run number `index` of a row, zeros where there are no columns.
    fn run(&self, row: usize, index: usize) -> Run;
}

impl Runs for Input<'_> {
    #[inline(always)]
    fn run(&self, row: usize, index: usize) -> Run {
        let left = self.row(row).get(index * BAND_COLS..).unwrap_or_default();
        let mut run = [0.0; BAND_COLS];
        match left.first_chunk() {
            Some(whole) => run = *whole,
            None => run[..left.len()].copy_from_slice(left),
        }
        bytemuck::cast(run)
    }
}

/// Quantized rows under construction: `[⌈rows / 16⌉][k / 64]`. Rows that pad the last band hold what an earlier batch left
/// there.
#[derive(Clone, Copy)]
pub(crate) struct Bands<'a> {
    groups: SharedMut<'a, BandGroup>,
    rows: usize,
    /// Runs of a row.
    runs: usize,
    /// That of the weights; 0 for weights with explicit biases.
    zero_point: i32,
}

impl<'a> Bands<'a> {
    /// For rows of `k` columns.
    ///
    /// # Errors
    /// No memory.
    pub(crate) fn new(
        memory: &'a mut Region<BandGroup>,
        rows: usize,
        k: usize,
        zero_point: i32,
    ) -> Result<Self, BackendError> {
        let runs = k / BAND_COLS;
        memory.reserve(rows.div_ceil(TILE_ROWS) * runs, "quantized activations")?;
        Ok(Self { groups: SharedMut::new(memory), rows, runs, zero_point })
    }
}

/// Some runs of a band, which nobody else quantizes at the same time.
pub(crate) struct QuantizeRuns<'a, R> {
    pub(crate) bands: Bands<'a>,
    pub(crate) from: &'a R,
    pub(crate) band: usize,
    pub(crate) runs: Range<usize>,
}

impl<R: Runs> Kernel for QuantizeRuns<'_, R> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { bands, from, band, runs } = self;
        let rows = band * TILE_ROWS..((band + 1) * TILE_ROWS).min(bands.rows);
        // SAFETY: each run of a band belongs to one task.
        let groups = unsafe { bands.groups.slice(band * bands.runs + runs.start, runs.len()) };
        for (index, group) in runs.zip(groups) {
            for (lane, row) in rows.clone().enumerate() {
                let q = group.q[lane].as_chunks_mut().0;
                let (scale, sum) = quantize_run(s, &from.run(row, index), q);
                group.scale[lane] = scale;
                group.start[lane] = WHOLE - bands.zero_point * sum as i32;
                group.bias_factor[lane] = scale * sum;
            }
        }
    }
}

impl Input<'_> {
    /// Quantizes all rows, to be multiplied with weights of `k` columns.
    ///
    /// # Errors
    /// No memory, or a thread panicked.
    pub(crate) fn quantized_bands<'m>(
        self,
        isa: Isa,
        pool: &Pool,
        memory: &'m mut Region<BandGroup>,
        k: usize,
        zero_point: i32,
    ) -> Result<&'m [BandGroup], BackendError> {
        let bands = Bands::new(memory, self.rows, k, zero_point)?;
        let (each, per_band) = (TASK_COLS / BAND_COLS, bands.runs);
        let (count, tasks) = (self.rows.div_ceil(TILE_ROWS), per_band.div_ceil(each));
        pool.run(count * tasks, &|index, _| {
            let first = index % tasks * each;
            let runs = first..(first + each).min(per_band);
            isa.run(QuantizeRuns { bands, from: &self, band: index / tasks, runs });
        })?;
        Ok(&memory[..count * per_band])
    }
}
