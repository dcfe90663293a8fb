//! Inputs of a linear layer in the form that the weight's kernel reads, in scratch memory that is kept.

#[cfg(target_arch = "x86_64")]
mod bands;
#[cfg(target_arch = "x86_64")]
mod bytes;

use std::ops::Range;

use bytemuck::{Pod, Zeroable};
use millrace_backend::{BackendError, GROUP};

use crate::level::Isa;
use crate::pool::Pool;
use crate::region::Region;
use crate::shared::SharedMut;
use crate::simd::{Bf16Dot, Bf16Kernel, Kernel, LANES, Simd};

#[cfg(target_arch = "x86_64")]
pub(crate) use bands::{BAND_COLS, BandGroup, Bands, QuantizeRuns, Run, Runs};
#[cfg(target_arch = "x86_64")]
pub(crate) use bytes::{BYTE_COLS, BYTE_PASS, Bf16Rows};

/// Rows of an AMX tile.
pub(crate) const TILE_ROWS: usize = 16;
/// bf16 elements in a row of an AMX tile.
pub(crate) const TILE_COLS: usize = 32;
/// Groups that share a scale, at most ([`millrace_backend::activation_group`]).
const MAX_SHARED: usize = 2;
/// Elements below which a conversion is not worth waking threads for.
const PARALLEL: usize = 16 * 1024;

/// Thirty-two quantized activations of one row ([`millrace_backend::quantize_activations`]) and what their products
/// with a weight group need.
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct QuantGroup {
    /// Four signed bytes each, little endian.
    pub(crate) q: [i32; GROUP / 4],
    /// Value of one unit.
    pub(crate) scale: f32,
    /// Where the integer sum starts: −(the weight's zero point) · Σq. Of groups that share a scale, the first has this
    /// and the next field for all of them, the others zeros.
    pub(crate) start: i32,
    /// scale · Σq: multiplies a weight group's bias.
    pub(crate) bias_factor: f32,
    /// Keeps rows of groups aligned to 16 bytes.
    pad: u32,
}

/// Scratch memory for converted activations; one form is in use at a time.
#[derive(Default)]
pub(crate) struct Activations {
    f32: Region<f32>,
    /// Also bytes, two at a time.
    bf16: Region<u16>,
    /// Values of one unit of bytes.
    units: Region<f32>,
    /// Activated features of a feed-forward, as [`Activations::bf16_tiles`].
    pub(crate) gated: Region<u16>,
    groups: Region<QuantGroup>,
    /// Quantized inputs of a layer, and of the layer after it.
    #[cfg(target_arch = "x86_64")]
    pub(crate) bands: [Region<BandGroup>; 2],
    /// Memory of each thread, for kernels that need some.
    pub(crate) rooms: Region<f32>,
}

/// Activations as tiles.
#[derive(Clone, Copy)]
pub(crate) struct Tiles<'a> {
    /// `[bands][tiles of a band]`, each sixteen rows of 64 bytes.
    pub(crate) tiles: &'a [u16],
    /// What one stands for, `[bands][passes][16]`, if tiles hold bytes.
    scales: &'a [f32],
}

impl<'a> Tiles<'a> {
    /// bf16 numbers.
    pub(crate) fn bf16(tiles: &'a [u16]) -> Self {
        Self { tiles, scales: &[] }
    }

    /// What one stands for in each row.
    #[inline(always)]
    pub(crate) fn scales(&self, band: usize, passes: usize, pass: usize) -> &'a [f32; TILE_ROWS] {
        &self.scales.as_chunks().0[band * passes + pass]
    }
}

/// Row-major activations `[rows, cols]` on their way into a linear layer.
#[derive(Clone, Copy)]
pub(crate) struct Input<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) rows: usize,
    pub(crate) cols: usize,
}

impl<'a> Input<'a> {
    fn row(&self, index: usize) -> &'a [f32] {
        &self.values[index * self.cols..][..self.cols]
    }

    /// Calls `convert(row, output row)` for every row, over threads if it pays.
    fn convert<T: Send>(
        &self,
        pool: &Pool,
        out: &mut [T],
        out_cols: usize,
        convert: &(dyn Fn(&[f32], &mut [T]) + Sync),
    ) -> Result<(), BackendError> {
        let out = SharedMut::new(out);
        let rows_per_task = (PARALLEL / 4 / self.cols.max(1)).max(1);
        pool.run(self.rows.div_ceil(rows_per_task), &|task, _| {
            for row in task * rows_per_task..((task + 1) * rows_per_task).min(self.rows) {
                // SAFETY: each row belongs to one task.
                #[allow(unsafe_code)]
                let out = unsafe { out.slice(row * out_cols, out_cols) };
                convert(self.row(row), out);
            }
        })
        .map_err(Into::into)
    }
}

impl Activations {
    /// Rows padded with zeros to `stride` columns.
    pub(crate) fn padded(
        &mut self,
        pool: &Pool,
        input: Input<'_>,
        stride: usize,
    ) -> Result<&[f32], BackendError> {
        let len = input.rows * stride;
        self.f32.reserve(len, "padded activations")?;
        input.convert(pool, &mut self.f32[..len], stride, &|row, out| {
            out[..row.len()].copy_from_slice(row);
            out[row.len()..].fill(0.0);
        })?;
        Ok(&self.f32[..len])
    }

    /// Rounded to bf16 (ties to even), rows padded with zeros to `stride` columns.
    pub(crate) fn bf16(
        &mut self,
        isa: Isa,
        pool: &Pool,
        input: Input<'_>,
        stride: usize,
    ) -> Result<&[u16], BackendError> {
        let len = input.rows * stride;
        self.bf16.reserve(len, "bf16 activations")?;
        input.convert(pool, &mut self.bf16[..len], stride, &|row, out| isa.run(RoundRow { row, out }))?;
        Ok(&self.bf16[..len])
    }

    /// Rounded to bf16 in the order of AMX tiles: `[⌈rows / 16⌉][stride / 32][16][32]`. Rows that pad the last tile
    /// hold what an earlier batch left there.
    pub(crate) fn bf16_tiles(
        &mut self,
        isa: Isa,
        pool: &Pool,
        input: Input<'_>,
        stride: usize,
    ) -> Result<Tiles<'_>, BackendError> {
        let len = input.rows.next_multiple_of(TILE_ROWS) * stride;
        self.bf16.reserve(len, "bf16 activations")?;
        let tiles = SharedMut::new(&mut self.bf16[..len]);
        pool.run(input.rows.div_ceil(TILE_ROWS), &|band, _| {
            let rows = band * TILE_ROWS..((band + 1) * TILE_ROWS).min(input.rows);
            // SAFETY: a band of rows belongs to one task.
            #[allow(unsafe_code)]
            let out = unsafe { tiles.slice(rows.start * stride, TILE_ROWS * stride) };
            let band = RoundBand { input, rows, out };
            if isa.has_bf16_dot() { isa.run_bf16(band) } else { isa.run(band) }
        })?;
        Ok(Tiles::bf16(&self.bf16[..len]))
    }

    /// Quantized in groups of 32, of which `shared` have one scale; rows padded with zeros to `groups` groups, for
    /// weights with this zero point (0 for weights with explicit biases).
    pub(crate) fn quantized(
        &mut self,
        isa: Isa,
        pool: &Pool,
        input: Input<'_>,
        groups: usize,
        shared: usize,
        zero_point: i32,
    ) -> Result<&[QuantGroup], BackendError> {
        let len = input.rows * groups;
        self.groups.reserve(len, "quantized activations")?;
        input.convert(pool, &mut self.groups[..len], groups, &|row, out| {
            isa.run(QuantizeRow { row, out, shared, zero_point });
        })?;
        Ok(&self.groups[..len])
    }
}

/// bf16 bits of a value, ties to even; NaN stays NaN.
#[inline(always)]
pub(crate) fn bf16_bits(x: f32) -> u16 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
    let quiet_nan = bits | 0x0040_0000;
    ((if x.is_nan() { quiet_nan } else { rounded }) >> 16) as u16
}

struct RoundRow<'a> {
    row: &'a [f32],
    out: &'a mut [u16],
}

impl Kernel for RoundRow<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        for (out, x) in self.out.iter_mut().zip(self.row) {
            *out = bf16_bits(*x);
        }
        self.out[self.row.len()..].fill(0);
    }
}

/// Up to sixteen rows, as tiles.
struct RoundBand<'a> {
    input: Input<'a>,
    rows: Range<usize>,
    /// `[stride / 32]` tiles.
    out: &'a mut [u16],
}

impl RoundBand<'_> {
    #[inline(always)]
    fn go<S: Simd>(self, s: S) {
        let tiles = self.out.as_chunks_mut::<{ TILE_ROWS * TILE_COLS }>().0;
        for (lane, row) in self.rows.enumerate() {
            let (whole, rest) = self.input.row(row).as_chunks::<TILE_COLS>();
            let mut places = tiles.iter_mut().map(|tile| &mut tile.as_chunks_mut::<TILE_COLS>().0[lane]);
            for (from, to) in whole.iter().zip(&mut places) {
                let (from, to) = (from.as_chunks().0, to.as_chunks_mut().0);
                s.store_bf16(s.load(&from[0]), &mut to[0]);
                s.store_bf16(s.load(&from[1]), &mut to[1]);
            }
            let mut rest = Some(rest);
            for out in places {
                RoundRow { row: rest.take().unwrap_or_default(), out }.run(s);
            }
        }
    }
}

impl Kernel for RoundBand<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        self.go(s);
    }
}

impl Bf16Kernel for RoundBand<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Bf16Dot>(self, s: S) {
        self.go(s);
    }
}

struct QuantizeRow<'a> {
    row: &'a [f32],
    out: &'a mut [QuantGroup],
    /// Groups that share a scale; divides their number.
    shared: usize,
    zero_point: i32,
}

impl Kernel for QuantizeRow<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let cols = self.shared * GROUP;
        for (index, out) in self.out.chunks_exact_mut(self.shared).enumerate() {
            let x = self.row.get(index * cols..).unwrap_or_default();
            if x.len() >= cols {
                quantize_groups(s, &x[..cols], out, self.zero_point);
            } else {
                let mut last = [0.0; MAX_SHARED * GROUP];
                last[..x.len()].copy_from_slice(x);
                quantize_groups(s, &last[..cols], out, self.zero_point);
            }
        }
    }
}

/// Groups with one scale.
#[inline(always)]
fn quantize_groups<S: Simd>(s: S, x: &[f32], out: &mut [QuantGroup], zero_point: i32) {
    let mut q = [[0; LANES]; MAX_SHARED * GROUP / LANES];
    let (scale, sum) = quantize_run(s, x.as_chunks().0, &mut q);
    for (out, q) in out.iter_mut().zip(q.as_chunks::<{ GROUP / LANES }>().0) {
        *out = QuantGroup { q: bytemuck::cast(*q), scale, ..QuantGroup::zeroed() };
    }
    if let Some(first) = out.first_mut() {
        first.start = -zero_point * sum as i32;
        first.bias_factor = scale * sum;
    }
}

/// Values with one scale: it and the sum of what they become. Every step is exact or rounds once, so the bits are those of
/// the definition.
#[inline(always)]
fn quantize_run<S: Simd>(s: S, x: &[[f32; LANES]], q: &mut [[i8; LANES]]) -> (f32, f32) {
    let mut max = s.splat(0.0);
    for x in x {
        max = larger(s, s.load(x), max);
    }
    let (scale, inverse) = unit(s, max);
    let mut sum = s.splat(0.0);
    for (x, q) in x.iter().zip(q) {
        let x = quantized(s, s.load(x), inverse);
        sum = s.add(sum, x);
        *q = s.to_i8(x);
    }
    // Small whole numbers, so the sum is exact.
    (scale, s.sum(sum))
}

/// The larger of `max` and |x|. A NaN leaves it as it is.
#[inline(always)]
fn larger<S: Simd>(s: S, x: S::V, max: S::V) -> S::V {
    s.max(s.max(x, s.sub(s.splat(0.0), x)), max)
}

/// The value of one unit for signed bytes that reach the largest lane of `max`, and how many units one is.
#[inline(always)]
fn unit<S: Simd>(s: S, max: S::V) -> (f32, S::V) {
    let max = s.max_lane(max);
    let inverse = 127.0 / max;
    (max / 127.0, s.splat(if inverse.is_finite() { inverse } else { 0.0 }))
}

/// x in units, a whole number; 0 for NaN.
#[inline(always)]
fn quantized<S: Simd>(s: S, x: S::V, inverse: S::V) -> S::V {
    let x = s.mul(x, inverse);
    s.round(s.select_ge(x, x, x, s.splat(0.0)))
}

#[cfg(test)]
mod tests {
    use millrace_backend::quantize_activations;
    use proptest::prelude::*;

    use super::*;
    use crate::level::Level;

    /// Values of all magnitudes, zeros, infinities and NaN.
    fn value() -> impl Strategy<Value = f32> {
        prop_oneof![
            8 => -4.0f32..4.0,
            1 => prop::num::f32::ANY,
            1 => Just(0.0),
        ]
    }

    proptest! {
        #[test]
        fn quantizes_like_the_definition(row in prop::collection::vec(value(), 1..130), shared in 1..=MAX_SHARED) {
            let cols = shared * GROUP;
            let groups = row.len().div_ceil(cols);
            let (mut q, mut scales, mut sums) = (vec![0; groups * cols], vec![0.0; groups], vec![0; groups]);
            quantize_activations(&row, cols, &mut q, &mut scales, &mut sums);
            let (pool, mut scratch) = (Pool::new(1), Activations::default());
            for level in Level::supported() {
                let input = Input { values: &row, rows: 1, cols: row.len() };
                let isa = Isa::new(level).unwrap();
                let got = scratch.quantized(isa, &pool, input, (groups + 1) * shared, shared, 8).unwrap();
                let (got, padding) = got.split_at(groups * shared);
                for (g, got) in got.chunks(shared).enumerate() {
                    let bytes: Vec<i8> = got.iter().flat_map(|got| bytemuck::cast::<_, [i8; GROUP]>(got.q)).collect();
                    prop_assert_eq!(bytes, &q[g * cols..][..cols]);
                    prop_assert!(got.iter().all(|got| got.scale.to_bits() == scales[g].to_bits()));
                    prop_assert_eq!(got[0].start, -8 * sums[g]);
                    prop_assert!(got[0].bias_factor == scales[g] * sums[g] as f32 || scales[g].is_infinite());
                    prop_assert!(got[1..].iter().all(|got| got.start == 0 && got.bias_factor == 0.0));
                }
                prop_assert!(padding.iter().all(|padding| *padding == QuantGroup::zeroed()));
            }
        }

        #[test]
        fn rounds_like_half(x in prop::num::f32::ANY) {
            let expected = half::bf16::from_f32(x);
            prop_assert_eq!(bf16_bits(x), expected.to_bits());
        }
    }
}
