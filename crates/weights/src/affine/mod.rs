//! Grouped affine integers as MLX stores them: `w = scale · q + bias`, one scale and bias per group of columns.
//!
//! A matrix `X` is three tensors: `X.weight` (U32, rows of packed integers), `X.scales` and `X.biases`
//! (`[rows, cols / group_size]`, floats).

mod bits;

use std::ops::Range;

pub use bits::{pack_row, unpack_row};

use crate::{Dtype, Quantization, Result, TensorView, WeightsError};

/// An affine-quantized matrix `[rows, cols]` = (out features, in features) where it lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AffineView<'a> {
    /// Name without `.weight`.
    pub name: String,
    /// Bits per integer and columns per group.
    pub quantization: Quantization,
    /// Output features.
    pub rows: usize,
    /// Input features, in values (not in packed words).
    pub cols: usize,
    /// Integers `0..2^bits`, `cols · bits / 8` bytes per row: value i of a row lies at bits `i · bits ..` of the
    /// row's little-endian bit stream.
    pub packed: &'a [u8],
    /// `[rows, cols / group_size]`.
    pub scales: TensorView<'a>,
    /// `[rows, cols / group_size]`.
    pub biases: TensorView<'a>,
}

impl<'a> AffineView<'a> {
    /// Puts the three tensors together.
    ///
    /// # Errors
    /// A dtype or shape does not fit `quantization`.
    pub fn new(
        name: &str,
        weight: &TensorView<'a>,
        scales: TensorView<'a>,
        biases: TensorView<'a>,
        quantization: Quantization,
    ) -> Result<Self> {
        if weight.dtype != Dtype::U32 {
            return Err(weight.wrong_dtype("U32 (packed integers)"));
        }
        scales.expect_float()?;
        biases.expect_float()?;
        let &[rows, words] = weight.shape.as_slice() else {
            return Err(unfit(weight, "a quantized matrix has two dimensions".into()));
        };
        let Quantization { bits, group_size } = quantization;
        let row_bits = words * 32;
        let cols = row_bits / bits as usize;
        if row_bits % bits as usize != 0 || cols == 0 || !cols.is_multiple_of(group_size) {
            let problem =
                format!("{words} words a row are no whole groups of {group_size} {bits}-bit integers");
            return Err(unfit(weight, problem));
        }
        for tensor in [&scales, &biases] {
            tensor.expect_shape(&[rows, cols / group_size])?;
        }
        Ok(Self { name: name.into(), quantization, rows, cols, packed: weight.bytes, scales, biases })
    }

    /// Integers of row `index` into `q`, `[cols]`.
    ///
    /// # Errors
    /// The row doesn't exist or `q` has the wrong length.
    pub fn read_integers(&self, index: usize, q: &mut [u8]) -> Result<()> {
        let row = self.packed_row(index).filter(|_| q.len() == self.cols);
        let row = row.ok_or_else(|| self.out_of_range(&format!("row {index}, {} columns", q.len())))?;
        unpack_row(self.quantization.bits, row, q);
        Ok(())
    }

    /// The packed integers of row `index`, `cols · bits / 8` bytes; `None` if it doesn't exist.
    pub fn packed_row(&self, index: usize) -> Option<&'a [u8]> {
        let begin = index.checked_mul(self.row_bytes())?;
        self.packed.get(begin..begin.checked_add(self.row_bytes())?)
    }

    /// Scales and biases of row `index`, `[cols / group_size]` each.
    ///
    /// # Errors
    /// The row doesn't exist or a buffer has the wrong length.
    pub fn read_groups(&self, index: usize, scales: &mut [f32], biases: &mut [f32]) -> Result<()> {
        self.scales.read_row(index, scales)?;
        self.biases.read_row(index, biases)
    }

    /// Row `index` as floats `scale · q + bias`, `[cols]`.
    ///
    /// # Errors
    /// The row doesn't exist or `out` has the wrong length.
    pub fn read_row(&self, index: usize, out: &mut [f32]) -> Result<()> {
        let mut q = vec![0; self.cols];
        let groups = self.cols / self.quantization.group_size;
        let (mut scales, mut biases) = (vec![0.0; groups], vec![0.0; groups]);
        self.read_integers(index, &mut q)?;
        self.read_groups(index, &mut scales, &mut biases)?;
        if out.len() != self.cols {
            return Err(self.out_of_range(&format!("row of {} into a buffer of {}", self.cols, out.len())));
        }
        let group = self.quantization.group_size;
        for (g, (out, q)) in out.chunks_mut(group).zip(q.chunks(group)).enumerate() {
            for (out, &q) in out.iter_mut().zip(q) {
                *out = scales[g] * f32::from(q) + biases[g];
            }
        }
        Ok(())
    }

    /// Rows `range` as a matrix of their own, for a rank that loads only its part.
    ///
    /// # Errors
    /// The range lies outside of the matrix.
    pub fn select_rows(&self, range: Range<usize>) -> Result<Self> {
        let scales = self.scales.select_rows(range.clone())?;
        let biases = self.biases.select_rows(range.clone())?;
        let row_bytes = self.row_bytes();
        let packed = self.packed.get(range.start * row_bytes..range.end * row_bytes);
        let packed = packed.ok_or_else(|| self.out_of_range(&format!("rows {range:?}")))?;
        Ok(Self { name: self.name.clone(), rows: range.len(), packed, scales, biases, ..*self })
    }

    fn row_bytes(&self) -> usize {
        self.cols * self.quantization.bits as usize / 8
    }

    fn out_of_range(&self, what: &str) -> WeightsError {
        let problem = format!("{what} was asked of a matrix of {} × {}", self.rows, self.cols);
        WeightsError::BadTensor { file: self.scales.file.into(), tensor: self.name.clone(), problem }
    }
}

fn unfit(weight: &TensorView<'_>, problem: String) -> WeightsError {
    WeightsError::BadTensor { file: weight.file.into(), tensor: weight.name.clone(), problem }
}
