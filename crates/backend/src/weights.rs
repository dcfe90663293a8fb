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
}
