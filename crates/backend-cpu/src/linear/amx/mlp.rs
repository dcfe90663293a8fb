//! A gated feed-forward whose inner features stay bf16 tiles.

use millrace_backend::{Activation, BackendError};

use super::finish::{Gate, Store};
use super::layer::{Inputs, Layer, holds};
use crate::activations::{Activations, Input, TILE_COLS, TILE_ROWS};
use crate::level::{Isa, Level};
use crate::linear::Output;
use crate::pack::Packed;
use crate::pool::Pool;
use crate::region::Region;
use crate::shared::SharedMut;

/// A feed-forward and where it runs, for rows that are multiplied on tiles.
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
        let inner = down.cols;
        isa.level() == Level::Amx
            && holds(gate_up)
            && holds(down)
            && gate_up.rows == 2 * inner
            && inner.is_multiple_of(TILE_COLS)
            && down.k == inner
    }

    /// # Errors
    /// No memory, or weights that don't [fit](TiledMlp::fits).
    pub(crate) fn run(&self, scratch: &mut Activations) -> Result<(), BackendError> {
        let mut gated = std::mem::take(&mut scratch.gated);
        let done = self.run_in(scratch, &mut gated);
        scratch.gated = gated;
        done
    }

    fn run_in(&self, scratch: &mut Activations, gated: &mut Region<u16>) -> Result<(), BackendError> {
        let (rows, inner) = (self.input.rows, self.down.cols);
        gated.reserve(rows.next_multiple_of(TILE_ROWS) * inner, "bf16 activations")?;
        let (act, bias, tiles) = (self.act, self.gate_up_bias, SharedMut::new(gated));
        let gate = Gate { act, cols: inner, bias, tiles };
        self.layer(self.gate_up, Inputs::Rows(self.input), gate.pairs(), gate).run(scratch)?;
        let store = Store { out: self.out };
        self.layer(self.down, Inputs::Tiles(gated, rows), store.pairs(), store).run(scratch)
    }

    fn layer<'b, F>(&self, weight: &'b Packed, inputs: Inputs<'b>, pairs: usize, finish: F) -> Layer<'b, F>
    where
        Self: 'b,
    {
        Layer { isa: self.isa, pool: self.pool, weight, inputs, finish, pairs }
    }
}
