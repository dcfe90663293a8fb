//! From a row-wise source to panels: rows are read one after another, panels are packed by all threads.

use millrace_backend::{BackendError, Encoding, GROUP, MatrixSource, WeightFormat, quantize_row};

use super::{IntPanels, Packed, Panels, group_bytes, int_index, pair_index, zero_point};
use crate::activations::bf16_bits;
use crate::pool::Pool;
use crate::region::Region;
use crate::shared::SharedMut;
use crate::simd::LANES;

/// Upper bound of the rows that are in memory unpacked (bytes, as floats).
const STAGED: usize = 8 << 20;

/// Packs a weight. Peak memory: the packed copy and a few rows.
pub(crate) fn load(
    pool: &Pool,
    source: &mut dyn MatrixSource,
    format: WeightFormat,
) -> Result<Packed, BackendError> {
    let (rows, cols) = (source.rows(), source.cols());
    if rows == 0 || cols == 0 {
        return Err(unsupported(format!("an empty weight of {rows} × {cols}")));
    }
    let pack = |data, k| Packed { rows, cols, k, data };
    Ok(match (source.encoding(), format) {
        (Encoding::Affine { bits, group }, _) => {
            check_integers(bits, group)?;
            if !cols.is_multiple_of(group) {
                return Err(unsupported(format!(
                    "{cols} columns in groups of {group}; groups must divide them"
                )));
            }
            let int = load_affine(pool, source, bits, group)?;
            pack(Panels::Int(int), cols)
        }
        (_, WeightFormat::Quantize { bits, group }) => {
            check_integers(bits, group)?;
            pack(Panels::Int(quantize(pool, source, bits, group)?), cols.next_multiple_of(group))
        }
        (Encoding::F32, _) => {
            let k = cols.next_multiple_of(2);
            pack(Panels::F32(dense(pool, source, k, |x| x, |k, lane| k * LANES + lane)?), k)
        }
        (Encoding::F16, _) => {
            let bits = |x| half::f16::from_f32(x).to_bits();
            let k = cols.next_multiple_of(2);
            pack(Panels::F16(dense(pool, source, k, bits, |k, lane| k * LANES + lane)?), k)
        }
        (Encoding::Bf16, _) => {
            let k = cols.next_multiple_of(GROUP);
            pack(Panels::Bf16(dense(pool, source, k, bf16_bits, pair_index)?), k)
        }
    })
}

fn unsupported(what: String) -> BackendError {
    BackendError::Unsupported { device: "cpu", what }
}

fn check_integers(bits: u32, group: usize) -> Result<(), BackendError> {
    if !matches!(bits, 4 | 8) || group == 0 || !group.is_multiple_of(GROUP) {
        return Err(unsupported(format!(
            "{bits}-bit weights in groups of {group}; use 4 or 8 bits and a multiple of {GROUP}"
        )));
    }
    Ok(())
}

/// Elements of a padded weight; an overflow becomes a size that the allocator refuses.
fn elements(rows: usize, k: usize) -> usize {
    rows.next_multiple_of(LANES).saturating_mul(k)
}

/// Reads the rows of some panels into `staged` with `read(staged, row, place)`, has all threads work on them with
/// `pack(staged, panel, first place, rows)`, and so on to the end. `staged` has [`places`] places.
fn by_panels<S: Sync>(
    pool: &Pool,
    rows: usize,
    cols: usize,
    staged: &mut S,
    mut read: impl FnMut(&mut S, usize, usize) -> Result<(), BackendError>,
    pack: impl Fn(&S, usize, usize, usize) + Sync,
) -> Result<(), BackendError> {
    let places = places(pool, cols);
    for first in (0..rows).step_by(places) {
        let count = places.min(rows - first);
        for place in 0..count {
            read(staged, first + place, place)?;
        }
        let staged = &*staged;
        pool.run(count.div_ceil(LANES), &|index, _| {
            let place = index * LANES;
            pack(staged, first / LANES + index, place, LANES.min(count - place));
        })?;
    }
    Ok(())
}

/// Rows that are staged at a time: a multiple of sixteen.
fn places(pool: &Pool, cols: usize) -> usize {
    (STAGED / (cols * 4 * LANES)).clamp(1, 4 * pool.threads()) * LANES
}

/// Packs dense rows; `index(k, lane)` is an element's place in its panel of `k` padded columns.
fn dense<T: Copy + bytemuck::Zeroable + Send>(
    pool: &Pool,
    source: &mut dyn MatrixSource,
    k: usize,
    convert: impl Fn(f32) -> T + Sync,
    index: impl Fn(usize, usize) -> usize + Sync,
) -> Result<Region<T>, BackendError> {
    let (rows, cols) = (source.rows(), source.cols());
    let mut packed = Region::zeroed(elements(rows, k), "weights")?;
    let out = SharedMut::new(&mut packed);
    let mut staged = vec![0.0; places(pool, cols) * cols];
    let read =
        |staged: &mut Vec<f32>, row, place| source.read_dense(row, &mut staged[place * cols..][..cols]);
    by_panels(pool, rows, cols, &mut staged, read, |staged, panel, place, count| {
        // SAFETY: each panel is packed by one task.
        #[allow(unsafe_code)]
        let out = unsafe { out.slice(panel * k * LANES, k * LANES) };
        for (lane, row) in staged[place * cols..].chunks_exact(cols).take(count).enumerate() {
            for (column, value) in row.iter().enumerate() {
                out[index(column, lane)] = convert(*value);
            }
        }
    })?;
    Ok(packed)
}

/// Integer panels under construction, shared by the packing tasks.
struct IntWriter<'a> {
    bits: u32,
    group: usize,
    k: usize,
    q: SharedMut<'a, u8>,
    scales: SharedMut<'a, f32>,
    biases: SharedMut<'a, f32>,
}

impl IntWriter<'_> {
    /// Writes one row of `k` integers and its scales and biases.
    ///
    /// Called for each panel by one task only.
    fn row(&self, panel: usize, lane: usize, q: &[u8], scales: &[f32], biases: &[f32]) {
        let bytes = self.k / GROUP * group_bytes(self.bits);
        let constants = self.k / self.group * LANES;
        // SAFETY: each panel is packed by one task, which holds these slices for this call only.
        #[allow(unsafe_code)]
        let (out, out_scales, out_biases) = unsafe {
            (
                self.q.slice(panel * bytes, bytes),
                self.scales.slice(panel * constants, constants),
                self.biases.slice(panel * constants, constants),
            )
        };
        for (column, value) in q.iter().enumerate() {
            let (byte, shift) = int_index(self.bits, column, lane);
            out[byte] |= value << shift;
        }
        for (index, (scale, bias)) in scales.iter().zip(biases).enumerate() {
            out_scales[index * LANES + lane] = *scale;
            out_biases[index * LANES + lane] = *bias;
        }
    }
}

/// Allocates integer panels, lets `fill` write them, and drops biases that say nothing.
fn integers(
    rows: usize,
    k: usize,
    bits: u32,
    group: usize,
    fill: impl FnOnce(&IntWriter<'_>) -> Result<(), BackendError>,
) -> Result<IntPanels, BackendError> {
    let total = elements(rows, k);
    let mut q = Region::zeroed(total / 8 * bits as usize, "weights")?;
    let mut scales = Region::zeroed(total / group, "weight scales")?;
    let mut biases = Region::zeroed(total / group, "weight biases")?;
    fill(&IntWriter {
        bits,
        group,
        k,
        q: SharedMut::new(&mut q),
        scales: SharedMut::new(&mut scales),
        biases: SharedMut::new(&mut biases),
    })?;
    let zero = -(zero_point(bits) as f32);
    let symmetric = scales.iter().zip(biases.iter()).all(|(scale, bias)| *bias == zero * scale);
    Ok(IntPanels { bits, group, q, scales, biases: (!symmetric).then_some(biases) })
}

/// Quantizes dense rows, the last group padded with zeros.
fn quantize(
    pool: &Pool,
    source: &mut dyn MatrixSource,
    bits: u32,
    group: usize,
) -> Result<IntPanels, BackendError> {
    let (rows, cols) = (source.rows(), source.cols());
    let k = cols.next_multiple_of(group);
    let mut staged = vec![0.0; places(pool, k) * k];
    integers(rows, k, bits, group, |out| {
        let read =
            |staged: &mut Vec<f32>, row, place| source.read_dense(row, &mut staged[place * k..][..cols]);
        by_panels(pool, rows, k, &mut staged, read, |staged, panel, place, count| {
            let (mut q, mut scales, mut biases) = (vec![0; k], vec![0.0; k / group], vec![0.0; k / group]);
            for (lane, row) in staged[place * k..].chunks_exact(k).take(count).enumerate() {
                quantize_row(row, bits, group, &mut q, &mut scales, &mut biases);
                out.row(panel, lane, &q, &scales, &biases);
            }
        })
    })
}

/// Repacks integers as they are.
fn load_affine(
    pool: &Pool,
    source: &mut dyn MatrixSource,
    bits: u32,
    group: usize,
) -> Result<IntPanels, BackendError> {
    let (rows, cols) = (source.rows(), source.cols());
    let groups = cols / group;
    let places = places(pool, cols);
    let mut staged = (vec![0; places * cols], vec![0.0; places * groups], vec![0.0; places * groups]);
    integers(rows, cols, bits, group, |out| {
        let read = |(q, scales, biases): &mut (Vec<u8>, Vec<f32>, Vec<f32>), row, place: usize| {
            let q = &mut q[place * cols..][..cols];
            let constants = place * groups..(place + 1) * groups;
            source.read_affine(row, q, &mut scales[constants.clone()], &mut biases[constants])?;
            match q.iter().find(|q| u32::from(**q) >> bits != 0) {
                Some(q) => Err(BackendError::Weight(format!(
                    "row {row} holds {q}, which is not a {bits}-bit integer"
                ))),
                None => Ok(()),
            }
        };
        by_panels(pool, rows, cols, &mut staged, read, |(q, scales, biases), panel, place, count| {
            for lane in 0..count {
                let row = place + lane;
                let constants = row * groups..(row + 1) * groups;
                out.row(
                    panel,
                    lane,
                    &q[row * cols..][..cols],
                    &scales[constants.clone()],
                    &biases[constants],
                );
            }
        })
    })
}
