//! From hidden states to the results of a step.

use millrace_backend::{Activation, Backend, Matrix, Pool, Tensor};

use super::Norm;
use crate::ModelError;
use crate::load::Loader;
use crate::spec::encoder::{HeadStep, PoolingSpec};

/// Pooled rows and what they pass through.
#[derive(Debug)]
pub(super) struct Head {
    /// `[max rows, hidden]`.
    pooled: Tensor,
    steps: Vec<Step>,
}

/// A step and its result, `[max rows, cols]`.
#[derive(Debug)]
struct Step {
    what: What,
    out: Tensor,
}

#[derive(Debug)]
enum What {
    Linear(Matrix, Option<Tensor>),
    Activation(Activation),
    Norm(Norm),
}

impl Head {
    pub(super) fn load<B: Backend + ?Sized>(
        spec: &PoolingSpec,
        max_rows: usize,
        loader: &mut Loader<'_, B>,
    ) -> Result<Self, ModelError> {
        let pooled = loader.buffer(max_rows, spec.body.hidden)?;
        let (mut steps, mut cols) = (Vec::new(), spec.body.hidden);
        for step in &spec.head {
            let what = match step {
                HeadStep::Linear { module, out, bias } => {
                    let module = (module.clone(), *out);
                    let bias = loader.bias(*bias, std::slice::from_ref(&module))?;
                    let matrix = loader.exact(module, cols)?;
                    cols = *out;
                    What::Linear(matrix, bias)
                }
                HeadStep::Contrast { module, plus, minus } => {
                    let table = (module.to_string(), spec.body.vocab);
                    let tokens = [*plus, *minus].map(|token| token as usize);
                    let matrix = loader.contrast(table, cols, tokens)?;
                    cols = 1;
                    What::Linear(matrix, None)
                }
                HeadStep::Activation(act) => What::Activation(*act),
                HeadStep::Norm(norm) => match Norm::load(Some(*norm), "", cols, loader)? {
                    Some(norm) => What::Norm(norm),
                    None => continue,
                },
            };
            steps.push(Step { what, out: loader.buffer(max_rows, cols)? });
        }
        Ok(Self { pooled, steps })
    }

    /// Elements of a result.
    pub(super) fn dim(&self) -> usize {
        self.steps.last().map_or(self.pooled.cols, |step| step.out.cols)
    }

    /// The results of all sequences, a slice of them at a time.
    pub(super) fn forward<B: Backend + ?Sized>(
        &self,
        backend: &mut B,
        states: Tensor,
        pool: Pool,
        sequences: usize,
    ) {
        for first in (0..sequences).step_by(self.pooled.rows) {
            let rows = self.pooled.rows.min(sequences - first);
            let mut row = self.pooled.first(rows);
            backend.pool(states, pool, first, row);
            for step in &self.steps {
                let out = step.out.first(rows);
                match step.what {
                    What::Linear(matrix, bias) => backend.linear(row, matrix, bias, out),
                    What::Activation(act) => backend.activate(row, act, out),
                    What::Norm(norm) => norm.forward(backend, row, out),
                }
                row = out;
            }
            backend.collect(row);
        }
    }
}
