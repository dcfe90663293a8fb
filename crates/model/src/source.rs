//! Where a loader gets weights from: a checkpoint, or a generator of random ones.

use millrace_backend::{BackendError, Encoding, MatrixSource, RawFloats, RawRow};
use millrace_weights::{AffineView, Checkpoint, Dtype, MatrixView, TensorView, WeightsError};

use crate::ModelError;

/// Named weights. Modules are named without their `.weight`.
pub trait WeightSource {
    /// The matrix of `module`, dense or quantized, refused unless it is `[rows, cols]`.
    ///
    /// # Errors
    /// It is missing, misshapen or of a type that can't be read; the message names the tensor.
    fn matrix(
        &self,
        module: &str,
        rows: usize,
        cols: usize,
    ) -> Result<Box<dyn MatrixSource + '_>, ModelError>;

    /// The vector `name` (its full name), refused unless it is `[len]`.
    ///
    /// # Errors
    /// As for [`WeightSource::matrix`].
    fn vector(&self, name: &str, len: usize) -> Result<Vec<f32>, ModelError>;

    /// Says that the matrix of `module` will not be read again: its memory may go.
    fn release(&self, module: &str);

    /// Full names of all tensors, to find those that nobody asked for. Empty if there is no such list.
    fn names(&self) -> Vec<String>;
}

impl WeightSource for Checkpoint {
    fn matrix(
        &self,
        module: &str,
        rows: usize,
        cols: usize,
    ) -> Result<Box<dyn MatrixSource + '_>, ModelError> {
        let view = Checkpoint::matrix(self, module)?;
        view.expect_shape(rows, cols)?;
        Ok(Box::new(CheckpointMatrix(view)))
    }

    fn vector(&self, name: &str, len: usize) -> Result<Vec<f32>, ModelError> {
        let tensor = self.tensor(name)?;
        tensor.expect_shape(&[len])?;
        Ok(tensor.to_f32()?)
    }

    fn release(&self, module: &str) {
        Checkpoint::release(self, module);
    }

    fn names(&self) -> Vec<String> {
        Checkpoint::names(self).map(String::from).collect()
    }
}

/// A stored matrix as backends read it.
struct CheckpointMatrix<'a>(MatrixView<'a>);

impl MatrixSource for CheckpointMatrix<'_> {
    fn rows(&self) -> usize {
        self.0.rows()
    }

    fn cols(&self) -> usize {
        self.0.cols()
    }

    fn encoding(&self) -> Encoding {
        match &self.0 {
            MatrixView::Dense(tensor) => match tensor.dtype {
                Dtype::F16 => Encoding::F16,
                Dtype::Bf16 => Encoding::Bf16,
                _ => Encoding::F32,
            },
            MatrixView::Affine(affine) => affine_encoding(affine),
        }
    }

    fn read_dense(&mut self, index: usize, out: &mut [f32]) -> Result<(), BackendError> {
        self.0.read_row(index, out).map_err(|e| in_backend(&e))
    }

    fn read_affine(
        &mut self,
        index: usize,
        q: &mut [u8],
        scales: &mut [f32],
        biases: &mut [f32],
    ) -> Result<(), BackendError> {
        let MatrixView::Affine(affine) = &self.0 else {
            return Err(BackendError::Weight("integers were asked of a dense weight".into()));
        };
        affine.read_integers(index, q).map_err(|e| in_backend(&e))?;
        affine.read_groups(index, scales, biases).map_err(|e| in_backend(&e))
    }

    fn raw_row(&self, index: usize) -> Option<RawRow<'_>> {
        match &self.0 {
            MatrixView::Dense(tensor) => raw_floats(tensor, index).map(RawRow::Dense),
            // Only these widths lie as they are stored, and only such groups are read as integers.
            MatrixView::Affine(affine)
                if matches!(affine.quantization.bits, 4 | 8)
                    && matches!(affine_encoding(affine), Encoding::Affine { .. }) =>
            {
                Some(RawRow::Affine {
                    q: affine.packed_row(index)?,
                    scales: raw_floats(&affine.scales, index)?,
                    biases: raw_floats(&affine.biases, index)?,
                })
            }
            MatrixView::Affine(_) => None,
        }
    }
}

fn raw_floats<'a>(tensor: &TensorView<'a>, index: usize) -> Option<RawFloats<'a>> {
    let bytes = tensor.row_bytes(index)?;
    match tensor.dtype {
        Dtype::F32 => Some(RawFloats::F32(bytes)),
        Dtype::F16 => Some(RawFloats::F16(bytes)),
        Dtype::Bf16 => Some(RawFloats::Bf16(bytes)),
        _ => None,
    }
}

/// Backends know integers of 4 and 8 bits in groups of multiples of 32. Widths between are stored in the next
/// wider integer; smaller groups can't be joined and are read as floats. No value changes either way.
fn affine_encoding(affine: &AffineView<'_>) -> Encoding {
    let (bits, group) = (affine.quantization.bits, affine.quantization.group_size);
    match group.is_multiple_of(32) {
        true => Encoding::Affine { bits: if bits <= 4 { 4 } else { 8 }, group },
        false => Encoding::F32,
    }
}

fn in_backend(error: &WeightsError) -> BackendError {
    BackendError::Weight(error.to_string())
}

#[cfg(test)]
mod tests {
    use millrace_weights::{Quantization, TensorView};

    use super::*;

    /// A matrix `[1, 64]` of the integers 0, 1, 2, …, with scale 0.5 and bias -1.
    fn matrix(bits: u32, group_size: usize) -> CheckpointMatrix<'static> {
        let integers: Vec<u8> = (0..64u32).map(|i| (i % (1 << bits)) as u8).collect();
        let mut packed = vec![0u8; 64 * bits as usize / 8];
        for (i, q) in integers.iter().enumerate() {
            for bit in 0..bits as usize {
                let place = i * bits as usize + bit;
                packed[place / 8] |= (q >> bit & 1) << (place % 8);
            }
        }
        let view = |name: &str, dtype, shape: &[usize], bytes: Vec<u8>| TensorView {
            name: name.into(),
            file: "f",
            dtype,
            shape: shape.to_vec(),
            bytes: Vec::leak(bytes),
        };
        let groups = 64 / group_size;
        let all = |value: f32| value.to_le_bytes().repeat(groups);
        let weight = view("x.weight", Dtype::U32, &[1, packed.len() / 4], packed);
        let scales = view("x.scales", Dtype::F32, &[1, groups], all(0.5));
        let biases = view("x.biases", Dtype::F32, &[1, groups], all(-1.0));
        let quantization = Quantization { bits, group_size };
        CheckpointMatrix(MatrixView::Affine(
            AffineView::new("x", &weight, scales, biases, quantization).unwrap(),
        ))
    }

    #[test]
    fn odd_integer_widths_widen_without_loss() {
        for (bits, widened) in [(2, 4), (3, 4), (4, 4), (5, 8), (6, 8), (8, 8)] {
            let mut matrix = matrix(bits, 32);
            assert_eq!(matrix.encoding(), Encoding::Affine { bits: widened, group: 32 });
            let (mut q, mut scales, mut biases, mut dense) = ([0; 64], [0.0; 2], [0.0; 2], [0.0; 64]);
            matrix.read_affine(0, &mut q, &mut scales, &mut biases).unwrap();
            matrix.read_dense(0, &mut dense).unwrap();
            assert_eq!(matrix.raw_row(0).is_some(), bits == widened, "{bits} bits");
            for i in 0..64 {
                assert_eq!(usize::from(q[i]), i % (1 << bits), "{bits} bits, column {i}");
                assert_eq!(
                    dense[i],
                    scales[i / 32] * f32::from(q[i]) + biases[i / 32],
                    "{bits} bits, column {i}"
                );
            }
        }
    }

    #[test]
    fn small_groups_are_read_as_floats() {
        let mut matrix = matrix(4, 16);
        assert_eq!(matrix.encoding(), Encoding::F32);
        let mut dense = [0.0; 64];
        matrix.read_dense(0, &mut dense).unwrap();
        assert_eq!(dense[..4], [-1.0, -0.5, 0.0, 0.5]);
        assert_eq!(matrix.raw_row(0), None);
    }
}
