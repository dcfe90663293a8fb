//! A tensor where it lies: name, shape and borrowed bytes.

use std::ops::Range;

use half::{bf16, f16};

use crate::{Dtype, Result, WeightsError};

/// A view of one stored tensor, row-major and little-endian. The bytes may be unaligned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorView<'a> {
    /// The tensor's name.
    pub name: String,
    /// The file it comes from, for error messages.
    pub file: &'a str,
    /// Element type.
    pub dtype: Dtype,
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
    /// All elements.
    pub bytes: &'a [u8],
}

impl<'a> TensorView<'a> {
    /// Fails unless the shape is `expected`.
    ///
    /// # Errors
    /// [`WeightsError::Shape`] with both shapes.
    pub fn expect_shape(&self, expected: &[usize]) -> Result<()> {
        if self.shape == expected {
            return Ok(());
        }
        Err(WeightsError::Shape {
            tensor: self.name.clone(),
            file: self.file.into(),
            expected: expected.to_vec(),
            found: self.shape.clone(),
        })
    }

    /// Fails unless the elements are f32, f16 or bf16.
    ///
    /// # Errors
    /// [`WeightsError::WrongDtype`].
    pub fn expect_float(&self) -> Result<()> {
        match self.dtype {
            Dtype::F32 | Dtype::F16 | Dtype::Bf16 => Ok(()),
            _ => Err(self.wrong_dtype("F32, F16 or BF16")),
        }
    }

    pub(crate) fn wrong_dtype(&self, expected: &'static str) -> WeightsError {
        WeightsError::WrongDtype {
            tensor: self.name.clone(),
            file: self.file.into(),
            expected,
            found: self.dtype,
        }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Size of the first dimension; 1 for a scalar.
    pub fn rows(&self) -> usize {
        self.shape.first().copied().unwrap_or(1)
    }

    /// Elements of one row: the product of all dimensions but the first.
    pub fn cols(&self) -> usize {
        self.shape.iter().skip(1).product()
    }

    /// Row `index` as floats into `out`, which has [`TensorView::cols`] elements. Exact for all three dtypes.
    ///
    /// # Errors
    /// The dtype is no float, the row doesn't exist or `out` has the wrong length.
    pub fn read_row(&self, index: usize, out: &mut [f32]) -> Result<()> {
        let cols = self.cols();
        if out.len() != cols {
            return Err(self.out_of_range(&format!("row of {cols} read into a buffer of {}", out.len())));
        }
        let begin = index.checked_mul(cols).ok_or_else(|| self.out_of_range(&format!("row {index}")))?;
        self.read_elements(begin, out)
    }

    /// Elements `begin..begin + out.len()` in row-major order as floats.
    ///
    /// # Errors
    /// The dtype is no float, or the tensor is shorter.
    pub fn read_elements(&self, begin: usize, out: &mut [f32]) -> Result<()> {
        self.expect_float()?;
        let bytes = self.element_bytes(begin, out.len())?;
        match self.dtype {
            Dtype::F32 => decode(bytes, out, f32::from_le_bytes),
            Dtype::F16 => decode(bytes, out, |b| f16::from_le_bytes(b).to_f32()),
            _ => decode(bytes, out, |b| bf16::from_le_bytes(b).to_f32()),
        }
        Ok(())
    }

    /// The bytes of row `index`; `None` if it doesn't exist.
    pub fn row_bytes(&self, index: usize) -> Option<&'a [u8]> {
        let cols = self.cols();
        self.element_bytes(index.checked_mul(cols)?, cols).ok()
    }

    /// All elements as floats, for vectors such as norm weights and biases.
    ///
    /// # Errors
    /// The dtype is no float.
    pub fn to_f32(&self) -> Result<Vec<f32>> {
        self.expect_float()?;
        let mut out = vec![0.0; self.len()];
        self.read_elements(0, &mut out)?;
        Ok(out)
    }

    /// Rows `range` as a tensor of their own, for a rank that loads only its part.
    ///
    /// # Errors
    /// The range lies outside of the tensor.
    pub fn select_rows(&self, range: Range<usize>) -> Result<TensorView<'a>> {
        if range.start > range.end || range.end > self.rows() || self.shape.is_empty() {
            return Err(self.out_of_range(&format!("rows {range:?}")));
        }
        let cols = self.cols();
        let bytes = self.element_bytes(range.start * cols, range.len() * cols)?;
        let mut shape = self.shape.clone();
        shape[0] = range.len();
        Ok(TensorView { name: self.name.clone(), file: self.file, dtype: self.dtype, shape, bytes })
    }

    /// The bytes of `count` elements from `begin`.
    fn element_bytes(&self, begin: usize, count: usize) -> Result<&'a [u8]> {
        let place =
            |elements: usize| self.dtype.bytes(elements as u64).and_then(|bytes| usize::try_from(bytes).ok());
        let range = place(begin)
            .zip(begin.checked_add(count).and_then(place))
            .and_then(|(begin, end)| self.bytes.get(begin..end));
        range.ok_or_else(|| self.out_of_range(&format!("elements {begin}..+{count}")))
    }

    fn out_of_range(&self, what: &str) -> WeightsError {
        let problem = format!("{what} was asked of shape {:?}", self.shape);
        WeightsError::BadTensor { file: self.file.into(), tensor: self.name.clone(), problem }
    }
}

/// Converts packed little-endian elements of `N` bytes.
fn decode<const N: usize>(bytes: &[u8], out: &mut [f32], convert: impl Fn([u8; N]) -> f32) {
    let (elements, _) = bytes.as_chunks::<N>();
    for (out, &element) in out.iter_mut().zip(elements) {
        *out = convert(element);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(dtype: Dtype, shape: &[usize], bytes: &'static [u8]) -> TensorView<'static> {
        TensorView { name: "t".into(), file: "f", dtype, shape: shape.to_vec(), bytes }
    }

    #[test]
    fn rows_of_every_float_type() {
        // 1.0 and -2.5 in each encoding.
        let cases: [(Dtype, &'static [u8]); 3] = [
            (Dtype::F32, &[0, 0, 0x80, 0x3f, 0, 0, 0x20, 0xc0]),
            (Dtype::F16, &[0x00, 0x3c, 0x00, 0xc1]),
            (Dtype::Bf16, &[0x80, 0x3f, 0x20, 0xc0]),
        ];
        for (dtype, bytes) in cases {
            let tensor = view(dtype, &[2, 1], bytes);
            assert_eq!(tensor.to_f32().unwrap(), [1.0, -2.5], "{dtype}");
            let mut row = [0.0];
            tensor.read_row(1, &mut row).unwrap();
            assert_eq!(row, [-2.5], "{dtype}");
            assert!(tensor.read_row(2, &mut row).is_err());
            assert!(tensor.read_row(usize::MAX, &mut row).is_err());
            assert_eq!(tensor.row_bytes(1), Some(&bytes[bytes.len() / 2..]));
            assert!(tensor.row_bytes(2).or(tensor.row_bytes(usize::MAX)).is_none());
            assert_eq!(tensor.select_rows(1..2).unwrap().to_f32().unwrap(), [-2.5]);
            assert!(tensor.select_rows(1..3).is_err());
        }
    }

    #[test]
    fn integers_are_not_silently_read_as_floats() {
        let message = view(Dtype::U8, &[2], &[1, 2]).to_f32().unwrap_err().to_string();
        assert_eq!(message, "tensor t in f has dtype U8 where F32, F16 or BF16 is needed");
    }

    #[test]
    fn shapes_are_compared_exactly() {
        let tensor = view(Dtype::U8, &[2, 1], &[1, 2]);
        tensor.expect_shape(&[2, 1]).unwrap();
        let message = tensor.expect_shape(&[1, 2]).unwrap_err().to_string();
        assert_eq!(message, "tensor t in f has shape [2, 1] where the model needs [1, 2]");
    }
}
