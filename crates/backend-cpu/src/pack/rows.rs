//! Rows of a source as bytes: where they lie, or staged.

use millrace_backend::{BackendError, Encoding, MatrixSource, RawFloats, RawRow};

use super::load::unsupported;
use crate::activations::bf16_bits;
use crate::pool::Pool;
use crate::simd::{Kernel, LANES, Simd};

/// Bytes of rows that are staged at a time, and panels that are packed at a time.
const STAGED: usize = 4 << 20;
const MOST_PANELS: usize = 256;

/// Has all threads pack the panels of a source: `pack(panel, rows)` is called once for each, with its sixteen rows
/// (the last panel may have fewer).
///
/// Rows of sources that can't show them are staged a few panels at a time, so that memory holds little more than the
/// packed copy.
pub(super) fn by_panels(
    pool: &Pool,
    source: &mut dyn MatrixSource,
    pack: impl Fn(usize, &[RawRow<'_>]) + Sync,
) -> Result<(), BackendError> {
    let rows = source.rows();
    let mut stage = Stage::new(source)?;
    let batch = (STAGED / stage.row_bytes() / LANES).clamp(pool.threads(), MOST_PANELS) * LANES;
    for first in (0..rows).step_by(batch) {
        let here = first..(first + batch).min(rows);
        stage.fill(source, here.clone())?;
        let rows = here.clone().map(|index| stage.row(&*source, index - first, index));
        let rows: Vec<RawRow<'_>> = rows.collect::<Result<_, _>>()?;
        pool.run(rows.len().div_ceil(LANES), &|index, _| {
            let rows = &rows[index * LANES..];
            pack(first / LANES + index, &rows[..rows.len().min(LANES)]);
        })?;
    }
    Ok(())
}

/// Rows in the form that a source with memory of its own would have shown.
struct Stage {
    cols: usize,
    encoding: Encoding,
    /// Staged rows: packed integers or floats in their encoding, then scales, then biases.
    bytes: Vec<u8>,
    /// A row as the source gives it.
    floats: Vec<f32>,
    integers: Vec<u8>,
}

impl Stage {
    fn new(source: &dyn MatrixSource) -> Result<Self, BackendError> {
        let (cols, encoding) = (source.cols(), source.encoding());
        if let Encoding::Affine { group, .. } = encoding
            && !cols.is_multiple_of(group)
        {
            let what = format!("{cols} columns in groups of {group}; groups must divide them");
            return Err(unsupported(what));
        }
        Ok(Self { cols, encoding, bytes: Vec::new(), floats: Vec::new(), integers: Vec::new() })
    }

    /// Bytes of values, and of all scales.
    fn parts(&self) -> (usize, usize) {
        match self.encoding {
            Encoding::F32 => (self.cols * 4, 0),
            Encoding::F16 | Encoding::Bf16 => (self.cols * 2, 0),
            Encoding::Affine { bits, group } => (self.cols * bits as usize / 8, self.cols / group * 4),
        }
    }

    fn row_bytes(&self) -> usize {
        let (values, constants) = self.parts();
        values + 2 * constants
    }

    /// Reads those rows that the source does not show.
    fn fill(
        &mut self,
        source: &mut dyn MatrixSource,
        rows: std::ops::Range<usize>,
    ) -> Result<(), BackendError> {
        let size = self.row_bytes();
        for (place, index) in rows.clone().enumerate() {
            if source.raw_row(index).is_some() {
                continue;
            }
            self.bytes.resize(rows.len() * size, 0);
            let out = &mut self.bytes[place * size..][..size];
            match self.encoding {
                Encoding::Affine { bits, group } => {
                    self.floats.resize(self.cols / group * 2, 0.0);
                    let (scales, biases) = self.floats.split_at_mut(self.cols / group);
                    self.integers.resize(self.cols, 0);
                    source.read_affine(index, &mut self.integers, scales, biases)?;
                    if let Some(q) = self.integers.iter().find(|q| u32::from(**q) >> bits != 0) {
                        let problem = format!("row {index} holds {q}, which is not a {bits}-bit integer");
                        return Err(BackendError::Weight(problem));
                    }
                    let (q, constants) = out.split_at_mut(self.cols * bits as usize / 8);
                    if bits == 8 {
                        q.copy_from_slice(&self.integers);
                    } else {
                        for (out, pair) in q.iter_mut().zip(self.integers.as_chunks::<2>().0) {
                            *out = pair[0] | pair[1] << 4;
                        }
                    }
                    constants.copy_from_slice(bytemuck::cast_slice(&self.floats));
                }
                dense => {
                    self.floats.resize(self.cols, 0.0);
                    source.read_dense(index, &mut self.floats)?;
                    encode(&self.floats, dense, out);
                }
            }
        }
        Ok(())
    }

    /// Row `index` of the source, which was staged at `place` if need be.
    fn row<'a>(
        &'a self,
        source: &'a dyn MatrixSource,
        place: usize,
        index: usize,
    ) -> Result<RawRow<'a>, BackendError> {
        let (values, constants) = self.parts();
        if let Some(row) = source.raw_row(index) {
            return self.checked(row, index);
        }
        let (q, rest) = self.bytes[place * self.row_bytes()..][..self.row_bytes()].split_at(values);
        Ok(match self.encoding {
            Encoding::F32 => RawRow::Dense(RawFloats::F32(q)),
            Encoding::F16 => RawRow::Dense(RawFloats::F16(q)),
            Encoding::Bf16 => RawRow::Dense(RawFloats::Bf16(q)),
            Encoding::Affine { .. } => {
                let (scales, biases) = rest.split_at(constants);
                RawRow::Affine { q, scales: RawFloats::F32(scales), biases: RawFloats::F32(biases) }
            }
        })
    }

    /// A row that the source showed has the size that it says.
    fn checked<'a>(&self, row: RawRow<'a>, index: usize) -> Result<RawRow<'a>, BackendError> {
        let fits = match (row, self.encoding) {
            (RawRow::Dense(floats), Encoding::F32 | Encoding::F16 | Encoding::Bf16) => {
                count(floats) == self.cols && encoding(floats) == self.encoding
            }
            (RawRow::Affine { q, scales, biases }, Encoding::Affine { bits, group }) => {
                let groups = self.cols / group;
                q.len() == self.cols * bits as usize / 8 && count(scales) == groups && count(biases) == groups
            }
            _ => false,
        };
        if fits { Ok(row) } else { Err(BackendError::Weight(format!("row {index} has the wrong size"))) }
    }
}

fn encoding(floats: RawFloats<'_>) -> Encoding {
    match floats {
        RawFloats::F32(_) => Encoding::F32,
        RawFloats::F16(_) => Encoding::F16,
        RawFloats::Bf16(_) => Encoding::Bf16,
    }
}

/// How many there are.
pub(super) fn count(floats: RawFloats<'_>) -> usize {
    match floats {
        RawFloats::F32(bytes) => bytes.len() / 4,
        RawFloats::F16(bytes) | RawFloats::Bf16(bytes) => bytes.len() / 2,
    }
}

/// Floats as bytes of a dense encoding, which holds them exactly.
fn encode(floats: &[f32], encoding: Encoding, out: &mut [u8]) {
    match encoding {
        Encoding::Bf16 => {
            for (out, x) in out.as_chunks_mut::<2>().0.iter_mut().zip(floats) {
                *out = bf16_bits(*x).to_le_bytes();
            }
        }
        Encoding::F16 => {
            for (out, x) in out.as_chunks_mut::<2>().0.iter_mut().zip(floats) {
                *out = half::f16::from_f32(*x).to_le_bytes();
            }
        }
        _ => out.copy_from_slice(bytemuck::cast_slice(floats)),
    }
}

/// Widens floats where they lie into the first elements of `out`.
pub(super) struct Widen<'a> {
    pub(super) floats: RawFloats<'a>,
    pub(super) out: &'a mut [f32],
}

impl Kernel for Widen<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let out = &mut self.out[..count(self.floats)];
        match self.floats {
            RawFloats::F32(bytes) => {
                for (out, bytes) in out.iter_mut().zip(bytes.as_chunks::<4>().0) {
                    *out = f32::from_le_bytes(*bytes);
                }
            }
            RawFloats::Bf16(bytes) => {
                for (out, bytes) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
                    *out = f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16);
                }
            }
            RawFloats::F16(bytes) => {
                let (chunks, rest) = out.as_chunks_mut::<LANES>();
                let bytes = bytes.as_chunks::<2>().0;
                for (out, bytes) in chunks.iter_mut().zip(bytes.as_chunks::<LANES>().0) {
                    let bits = bytes.map(u16::from_le_bytes);
                    s.store(s.load_f16(&bits), out);
                }
                let done = bytes.len() - rest.len();
                for (out, bytes) in rest.iter_mut().zip(&bytes[done..]) {
                    *out = half::f16::from_le_bytes(*bytes).to_f32();
                }
            }
        }
    }
}

/// One value of a group's constants.
#[inline(always)]
pub(super) fn constant(floats: RawFloats<'_>, index: usize) -> f32 {
    match floats {
        RawFloats::F32(bytes) => f32::from_le_bytes(bytes.as_chunks().0[index]),
        RawFloats::F16(bytes) => half::f16::from_le_bytes(bytes.as_chunks().0[index]).to_f32(),
        RawFloats::Bf16(bytes) => half::bf16::from_le_bytes(bytes.as_chunks().0[index]).to_f32(),
    }
}
