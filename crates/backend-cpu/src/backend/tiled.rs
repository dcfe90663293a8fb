//! Operations of which some rows are computed on tiles, and the others step by step.

use millrace_backend::{BackendError, Matrix, Mlp, Projection, Tensor};

use super::{CpuBackend, no_cache};
use crate::linear::Linear;
use crate::linear::amx::{FEW_ROWS, Heads, TiledMlp, TiledProjection};
use crate::pack::Packed;
use crate::shared::SharedMut;

impl CpuBackend {
    /// How many rows of a step with so many pass through such weights on tiles, with nothing between in rows.
    fn tiled_rows<const N: usize>(&self, weights: [&Packed; N], rows: usize) -> usize {
        match weights.iter().any(|weight| Linear::tells_prompts_apart(self.isa, weight)) {
            true => self.batch.prompt_rows.min(rows),
            false if rows > FEW_ROWS => rows,
            false => 0,
        }
    }

    /// The same for a projection of so many rows.
    pub(super) fn tiled_in_projection(&self, projection: &Projection, rows: usize) -> usize {
        let weight = &self.matrices[projection.qkv.id as usize];
        match TiledProjection::fits(self.isa, weight, projection.heads) {
            true => self.tiled_rows([weight], rows),
            false => 0,
        }
    }

    /// The same for a feed-forward.
    pub(super) fn tiled_in_mlp(&self, mlp: &Mlp, rows: usize) -> usize {
        let weights = [mlp.up, mlp.down].map(|matrix| &self.matrices[matrix.id as usize]);
        match mlp.gated && TiledMlp::fits(self.isa, weights[0], weights[1]) {
            true => self.tiled_rows(weights, rows),
            false => 0,
        }
    }

    /// q, k and v of which the first `tiled` rows come from tiles, and the others step by step.
    pub(super) fn project_rows(
        &mut self,
        x: Tensor,
        projection: &Projection,
        layer: usize,
        tiled: usize,
        values: &mut [f32],
    ) -> Result<(), BackendError> {
        let Projection { qkv, bias, heads, norm, rope, .. } = *projection;
        let (first, rest) = values.split_at_mut(tiled * heads.fused_cols());
        let (mut scratch, mut kv) = (std::mem::take(&mut self.activations), self.kv.take());
        let done = self.norm_rope((heads, norm, rope), 0, |me, norm_rope| {
            let tiles = TiledProjection {
                isa: me.isa,
                pool: &me.pool,
                weight: &me.matrices[qkv.id as usize],
                input: me.input(x, 0, tiled),
                heads: Heads {
                    bias: bias.map(|bias| me.vector(bias)),
                    norm_rope,
                    out: SharedMut::new(first),
                },
                slots: &me.batch.slots,
            };
            let kv = kv.as_mut().ok_or_else(no_cache)?;
            tiles.run(&mut kv.layers[layer], &mut scratch)
        });
        (self.activations, self.kv) = (scratch, kv);
        done?;
        if rest.is_empty() {
            return Ok(());
        }
        self.multiply_alike(x, tiled, qkv, bias, rest, false)?;
        self.norm_rope((heads, norm, rope), tiled, |me, norm_rope| norm_rope.run(me.isa, &me.pool, rest))?;
        self.cache(layer, heads, tiled, rest)
    }

    /// A feed-forward of rows of x from `first` on that leaves inner features in tiles: bf16, or integers for tokens that
    /// are not of prompts.
    fn tiled_mlp(
        &mut self,
        x: Tensor,
        first: usize,
        mlp: &Mlp,
        values: &mut [f32],
        integers: bool,
    ) -> Result<(), BackendError> {
        let mut scratch = std::mem::take(&mut self.activations);
        let weight = |matrix: Matrix| &self.matrices[matrix.id as usize];
        let (gate_up, down) = (weight(mlp.up), weight(mlp.down));
        let mlp = TiledMlp {
            isa: self.isa,
            pool: &self.pool,
            gate_up,
            gate_up_bias: mlp.up_bias.map(|bias| self.vector(bias)),
            act: mlp.act,
            down,
            input: self.input(x, first, values.len() / down.rows),
            out: self.output(values, down, mlp.down_bias),
        };
        let done = if integers { mlp.run_integers(&mut scratch) } else { mlp.run(&mut scratch) };
        self.activations = scratch;
        done
    }

    /// A feed-forward whose first `tiled` rows stay in tiles, and the others too if they can be integers there; else those
    /// are computed step by step in `room`.
    pub(super) fn mlp_rows(
        &mut self,
        x: Tensor,
        mlp: &Mlp,
        [gate_up, activated]: [Tensor; 2],
        tiled: usize,
        values: &mut [f32],
    ) -> Result<(), BackendError> {
        let (first, rest) = values.split_at_mut(tiled * mlp.down.rows);
        if tiled > 0 {
            self.tiled_mlp(x, 0, mlp, first, false)?;
        }
        let rows = rest.len() / mlp.down.rows;
        if self.takes_integers(mlp, rows) {
            return self.tiled_mlp(x, tiled, mlp, rest, true);
        }
        self.lend(gate_up, rows, |me, values| {
            me.multiply_alike(x, tiled, mlp.up, mlp.up_bias, values, false)
        })?;
        self.lend(activated, rows, |me, values| me.gate(gate_up, mlp.act, values))?;
        self.multiply_alike(activated, 0, mlp.down, mlp.down_bias, rest, false)
    }

    /// Whether so many generated tokens meet a feed-forward as integers on tiles.
    pub(super) fn takes_integers(&self, mlp: &Mlp, rows: usize) -> bool {
        let weight = |matrix: Matrix| &self.matrices[matrix.id as usize];
        mlp.gated && TiledMlp::fits_integers(self.isa, weight(mlp.up), weight(mlp.down), rows)
    }
}
