//! How weights reach a backend: row by row, so that only the packed copy stays in memory.

use crate::BackendError;

/// How a source holds its values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// 32-bit floats.
    F32,
    /// IEEE half precision.
    F16,
    /// bfloat16.
    Bf16,
    /// Grouped affine integers along the input dimension: value = scale · q + bias, q in `0..2^bits`.
    Affine {
        /// 4 or 8.
        bits: u32,
        /// Values per scale: a multiple of 32 that divides the columns.
        group: usize,
    },
}

/// How a backend stores a weight: as it came, or quantized while it loads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightFormat {
    /// Keep the source's encoding.
    Native,
    /// Dense sources become grouped affine integers, symmetric around zero (`--quantize q8 | q4`);
    /// quantized ones stay as they are.
    Quantize {
        /// 4 or 8.
        bits: u32,
        /// Values per scale.
        group: usize,
    },
}

/// Floats where they lie: little-endian, in row order, not necessarily aligned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RawFloats<'a> {
    /// Four bytes each.
    F32(&'a [u8]),
    /// IEEE half precision, two bytes each.
    F16(&'a [u8]),
    /// bfloat16, two bytes each.
    Bf16(&'a [u8]),
}

/// One row of a matrix where it lies, for backends that read many rows at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RawRow<'a> {
    /// `[cols]`.
    Dense(RawFloats<'a>),
    /// Affine integers.
    Affine {
        /// `cols · bits / 8` bytes; 4-bit integers lie two in a byte, the first in the low half.
        q: &'a [u8],
        /// `[cols / group]`.
        scales: RawFloats<'a>,
        /// `[cols / group]`.
        biases: RawFloats<'a>,
    },
}

/// A weight matrix `[rows, cols]` = (out features, in features) that can be read row by row.
pub trait MatrixSource {
    /// Output features.
    fn rows(&self) -> usize;
    /// Input features.
    fn cols(&self) -> usize;
    /// How the values are held.
    fn encoding(&self) -> Encoding;
    /// Row `index` as floats (dequantized if need be), `[cols]`. Exact for dense encodings.
    fn read_dense(&mut self, index: usize, out: &mut [f32]) -> Result<(), BackendError>;
    /// Row `index` of an affine source: integers `[cols]`, scales and biases `[cols / group]`.
    fn read_affine(
        &mut self,
        index: usize,
        q: &mut [u8],
        scales: &mut [f32],
        biases: &mut [f32],
    ) -> Result<(), BackendError>;
    /// Row `index` where it lies, if it lies in memory just as [`MatrixSource::encoding`] says. `None` is always
    /// right: the row is then read with the methods above.
    fn raw_row(&self, index: usize) -> Option<RawRow<'_>> {
        let _ = index;
        None
    }
}
