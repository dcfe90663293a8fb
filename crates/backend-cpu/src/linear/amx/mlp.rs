//! A gated feed-forward whose inner features stay bf16 tiles.

use millrace_backend::{Activation, BackendError, GROUP};

use super::finish::{Gate, Store};
use super::gemm::Gemm;
use super::weights::{Bf16Weights, Weights};
use crate::activations::{Activations, Input, TILE_COLS, TILE_ROWS};
use crate::level::{Isa, Level};
use crate::linear::Output;
use crate::linear::int::IntWeights;
use crate::pack::{Packed, Panels};
use crate::pool::Pool;
use crate::region::Region;
use crate::shared::SharedMut;

/// A feed-forward and where it runs, for rows that are multiplied in bf16.
pub(crate) struct TiledMlp<'a> {
    pub(crate) isa: Isa,
    pub(crate) pool: &'a Pool,
    /// Gates first: `[2F, hidden]`.
    pub(crate) gate_up: &'a Packed,
    pub(crate) gate_up_bias: Option<&'a [f32]>,
    pub(crate) act: Activation,
    /// `[hidden, F]`.
    pub(crate) down: &'a Packed,
    pub(crate) input: Input<'a>,
    pub(crate) out: Output<'a>,
}

impl TiledMlp<'_> {
    /// Whether these weights can be multiplied so.
    pub(crate) fn fits(isa: Isa, gate_up: &Packed, down: &Packed) -> bool {
        let tiled = |weight: &Packed| matches!(weight.data, Panels::Bf16(_) | Panels::Int(_));
        let inner = down.cols;
        isa.level() == Level::Amx
            && tiled(gate_up)
            && tiled(down)
            && gate_up.rows == 2 * inner
            && inner.is_multiple_of(TILE_COLS)
            && down.k == inner
    }

    /// # Errors
    /// No memory, or weights that don't [fit](TiledMlp::fits).
    pub(crate) fn run(&self, scratch: &mut Activations) -> Result<(), BackendError> {
        let (mut rooms, mut gated) = (std::mem::take(&mut scratch.rooms), std::mem::take(&mut scratch.gated));
        let done = self.run_in(scratch, &mut gated, &mut rooms);
        (scratch.rooms, scratch.gated) = (rooms, gated);
        done
    }

    fn run_in(
        &self,
        scratch: &mut Activations,
        gated: &mut Region<u16>,
        rooms: &mut Region<f32>,
    ) -> Result<(), BackendError> {
        let (rows, inner) = (self.input.rows, self.down.cols);
        gated.reserve(rows.next_multiple_of(TILE_ROWS) * inner, "bf16 activations")?;
        let x = scratch.bf16_tiles(self.isa, self.pool, self.input, self.gate_up.k)?;
        let (act, bias, tiles) = (self.act, self.gate_up_bias, SharedMut::new(gated));
        let gate = Gate { act, cols: inner, bias, tiles };
        let pairs = gate.pairs();
        with_tiles(
            self.gate_up,
            Multiply { isa: self.isa, pool: self.pool, x, rows, pairs, finish: gate, rooms },
        )?;
        let store = Store { out: self.out };
        let (x, pairs) = (&**gated, store.pairs());
        with_tiles(
            self.down,
            Multiply { isa: self.isa, pool: self.pool, x, rows, pairs, finish: store, rooms },
        )
    }
}

/// Something to do with weights of any type.
trait WithTiles {
    fn run<W: Weights>(self, weights: W, k: usize) -> Result<(), BackendError>;
}

fn with_tiles(weight: &Packed, task: impl WithTiles) -> Result<(), BackendError> {
    let (k, groups) = (weight.k, weight.k / GROUP);
    match &weight.data {
        Panels::Bf16(panels) => task.run(Bf16Weights { panels, k }, k),
        Panels::Int(int) => match (int.bits == 4, int.biases.is_some()) {
            (false, false) => task.run(IntWeights::<false, false>::new(int, groups), k),
            (false, true) => task.run(IntWeights::<false, true>::new(int, groups), k),
            (true, false) => task.run(IntWeights::<true, false>::new(int, groups), k),
            (true, true) => task.run(IntWeights::<true, true>::new(int, groups), k),
        },
        Panels::F32(_) | Panels::F16(_) => {
            Err(BackendError::Unsupported { device: "cpu", what: "tiles of these weights".into() })
        }
    }
}

/// Multiplies tiles by weights.
struct Multiply<'a, F> {
    isa: Isa,
    pool: &'a Pool,
    x: &'a [u16],
    rows: usize,
    pairs: usize,
    finish: F,
    rooms: &'a mut Region<f32>,
}

impl<F: super::finish::Finish> WithTiles for Multiply<'_, F> {
    fn run<W: Weights>(self, weights: W, k: usize) -> Result<(), BackendError> {
        let gemm = Gemm { isa: self.isa, weights, k, x: self.x, finish: self.finish };
        gemm.run_all(self.pool, self.rows, self.pairs, self.rooms)
    }
}
