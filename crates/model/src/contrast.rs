//! The difference of two rows of a matrix, as a matrix of one row.

use millrace_backend::{BackendError, Encoding, MatrixSource};

use crate::ModelError;

/// One row of floats.
pub(crate) struct Contrast(Vec<f32>);

impl Contrast {
    /// Row `plus` less row `minus`: what it multiplies becomes the difference of those two products.
    pub(crate) fn read(source: &mut dyn MatrixSource, plus: usize, minus: usize) -> Result<Self, ModelError> {
        let (mut row, mut other) = (vec![0.0; source.cols()], vec![0.0; source.cols()]);
        source.read_dense(plus, &mut row)?;
        source.read_dense(minus, &mut other)?;
        row.iter_mut().zip(other).for_each(|(x, y)| *x -= y);
        Ok(Self(row))
    }
}

impl MatrixSource for Contrast {
    fn rows(&self) -> usize {
        1
    }

    fn cols(&self) -> usize {
        self.0.len()
    }

    fn encoding(&self) -> Encoding {
        Encoding::F32
    }

    fn read_dense(&mut self, _index: usize, out: &mut [f32]) -> Result<(), BackendError> {
        out.copy_from_slice(&self.0);
        Ok(())
    }

    fn read_affine(
        &mut self,
        _index: usize,
        _q: &mut [u8],
        _scales: &mut [f32],
        _biases: &mut [f32],
    ) -> Result<(), BackendError> {
        Err(BackendError::Weight("integers were asked of a row of floats".into()))
    }
}
