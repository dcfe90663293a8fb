//! One face for dense and quantized matrices.

use std::ops::Range;

use crate::{AffineView, Result, TensorView};

/// A weight matrix `[rows, cols]` = (out features, in features) where it lies, read row by row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MatrixView<'a> {
    /// Floats (f32, f16 or bf16), two dimensions.
    Dense(TensorView<'a>),
    /// MLX affine integers.
    Affine(AffineView<'a>),
}

impl<'a> MatrixView<'a> {
    /// Output features.
    pub fn rows(&self) -> usize {
        match self {
            Self::Dense(tensor) => tensor.rows(),
            Self::Affine(affine) => affine.rows,
        }
    }

    /// Input features.
    pub fn cols(&self) -> usize {
        match self {
            Self::Dense(tensor) => tensor.cols(),
            Self::Affine(affine) => affine.cols,
        }
    }

    /// Fails unless the matrix is `[rows, cols]`, whatever its encoding.
    ///
    /// # Errors
    /// [`crate::WeightsError::Shape`] with both shapes.
    pub fn expect_shape(&self, rows: usize, cols: usize) -> Result<()> {
        match self {
            Self::Dense(tensor) => tensor.expect_shape(&[rows, cols]),
            Self::Affine(affine) if (affine.rows, affine.cols) == (rows, cols) => Ok(()),
            Self::Affine(affine) => Err(crate::WeightsError::Shape {
                tensor: affine.name.clone(),
                file: affine.scales.file.into(),
                expected: vec![rows, cols],
                found: vec![affine.rows, affine.cols],
            }),
        }
    }

    /// Row `index` as floats into `out`, `[cols]`; dequantized if need be, exact for dense encodings.
    ///
    /// # Errors
    /// The row doesn't exist or `out` has the wrong length.
    pub fn read_row(&self, index: usize, out: &mut [f32]) -> Result<()> {
        match self {
            Self::Dense(tensor) => tensor.read_row(index, out),
            Self::Affine(affine) => affine.read_row(index, out),
        }
    }

    /// Rows `range` as a matrix of their own, for a rank that loads only its part.
    ///
    /// # Errors
    /// The range lies outside of the matrix.
    pub fn select_rows(&self, range: Range<usize>) -> Result<MatrixView<'a>> {
        match self {
            Self::Dense(tensor) => tensor.select_rows(range).map(Self::Dense),
            Self::Affine(affine) => affine.select_rows(range).map(Self::Affine),
        }
    }
}
