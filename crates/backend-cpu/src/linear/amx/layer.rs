//! A linear layer on tiles, whatever its weights are.

use millrace_backend::{BackendError, GROUP};

use super::bytes::ByteWeights;
use super::finish::Finish;
use super::gemm::Gemm;
use super::weights::{Bf16Weights, Weights};
use crate::activations::{Activations, Bf16Rows, Input, Tiles};
use crate::level::Isa;
use crate::linear::int::IntWeights;
use crate::pack::{Packed, Panels};
use crate::pool::Pool;

/// What goes into a layer.
pub(crate) enum Inputs<'a> {
    Rows(Input<'a>),
    /// So many rows, as bf16 tiles.
    Tiles(&'a [u16], usize),
}

/// Whether tiles can hold such weights.
pub(crate) fn holds(weight: &Packed) -> bool {
    matches!(weight.data, Panels::Bf16(_) | Panels::Int(_))
}

/// A layer and where it runs. 4-bit weights and their inputs become bytes with a scale for each 512 columns; others are
/// multiplied in bf16.
pub(crate) struct Layer<'a, F> {
    pub(crate) isa: Isa,
    pub(crate) pool: &'a Pool,
    pub(crate) weight: &'a Packed,
    pub(crate) inputs: Inputs<'a>,
    pub(crate) finish: F,
    /// Of panels.
    pub(crate) pairs: usize,
}

impl<F: Finish> Layer<'_, F> {
    /// # Errors
    /// No memory, or weights that tiles [don't hold](holds).
    pub(crate) fn run(self, scratch: &mut Activations) -> Result<(), BackendError> {
        let (k, groups) = (self.weight.k, self.weight.k / GROUP);
        match &self.weight.data {
            Panels::Bf16(panels) => self.bf16(Bf16Weights { panels, k }, scratch),
            Panels::Int(int) => match (int.form.bits == 4, int.form.affine) {
                (false, false) => self.bf16(IntWeights::<false, false>::new(int, groups), scratch),
                (false, true) => self.bf16(IntWeights::<false, true>::new(int, groups), scratch),
                (true, false) => self.bytes(IntWeights::<true, false>::new(int, groups), scratch),
                (true, true) => self.bytes(IntWeights::<true, true>::new(int, groups), scratch),
            },
            Panels::F32(_) | Panels::F16(_) => {
                Err(BackendError::Unsupported { device: "cpu", what: "tiles of these weights".into() })
            }
        }
    }

    fn rows(&self) -> usize {
        match self.inputs {
            Inputs::Rows(input) => input.rows,
            Inputs::Tiles(_, rows) => rows,
        }
    }

    fn bytes<const AFFINE: bool>(
        self,
        weights: IntWeights<'_, true, AFFINE>,
        scratch: &mut Activations,
    ) -> Result<(), BackendError> {
        let (isa, pool, rows, k) = (self.isa, self.pool, self.rows(), self.weight.k);
        let Some(bytes) = ByteWeights::new(&weights) else {
            return self.bf16(weights, scratch);
        };
        let mut rooms = std::mem::take(&mut scratch.rooms);
        let x = match self.inputs {
            Inputs::Rows(input) => scratch.byte_tiles(isa, pool, &input, rows, k),
            Inputs::Tiles(tiles, rows) => scratch.byte_tiles(isa, pool, &Bf16Rows::new(tiles, k), rows, k),
        };
        let gemm = |x| Gemm { isa, weights: bytes, k, x, finish: self.finish };
        let done = x.and_then(|x| gemm(x).run_all(pool, rows, self.pairs, &mut rooms));
        scratch.rooms = rooms;
        done
    }

    fn bf16<W: Weights>(self, weights: W, scratch: &mut Activations) -> Result<(), BackendError> {
        let (isa, pool, rows, k) = (self.isa, self.pool, self.rows(), self.weight.k);
        let mut rooms = std::mem::take(&mut scratch.rooms);
        let x = match self.inputs {
            Inputs::Rows(input) => scratch.bf16_tiles(isa, pool, input, k),
            Inputs::Tiles(tiles, _) => Ok(Tiles::bf16(tiles)),
        };
        let gemm = |x| Gemm { isa, weights, k, x, finish: self.finish };
        let done = x.and_then(|x| gemm(x).run_all(pool, rows, self.pairs, &mut rooms));
        scratch.rooms = rooms;
        done
    }
}
