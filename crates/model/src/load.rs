//! Carries weights from a source into a backend.

use std::collections::HashSet;

use millrace_backend::{Backend, Matrix, MatrixSource, Tensor, WeightFormat};

use crate::contrast::Contrast;
use crate::spec::stored_bytes;
use crate::stacked::Stacked;
use crate::{ModelError, WeightSource};

/// How to load a model.
#[derive(Debug, Clone, Copy)]
pub struct LoadOptions {
    /// How weights are kept in memory. With 4-bit weights the embedding and the output head stay at 8 bits: they
    /// decide between neighbouring tokens and lose the most.
    pub format: WeightFormat,
    /// Most tokens in one step; sizes the activations. At least 1.
    pub max_tokens: usize,
    /// Most rows of logits in memory at once; a step with more sampled rows works through them in slices. At least 1.
    pub max_logit_rows: usize,
}

impl LoadOptions {
    /// Buffers without rows would make steps without progress.
    pub(crate) fn at_least_one(self) -> Self {
        Self { max_tokens: self.max_tokens.max(1), max_logit_rows: self.max_logit_rows.max(1), ..self }
    }
}

/// How far loading has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Weights loaded.
    pub done: u64,
    /// Weights in the model.
    pub total: u64,
}

/// What loading found out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadReport {
    /// Tensors of the checkpoint that the model does not use, by name, sorted. Known leftovers of training
    /// (rotary buffers, a copy of a tied head) are not among them.
    pub unused: Vec<String>,
    /// Estimated bytes of all weights in memory.
    pub weight_bytes: u64,
    /// Estimated bytes of weights that every step reads: all but an untied embedding table.
    pub step_weight_bytes: u64,
}

impl LoadReport {
    /// Sentences for the log; empty if all is well.
    pub fn warnings(&self) -> Vec<String> {
        const SHOWN: usize = 5;
        if self.unused.is_empty() {
            return Vec::new();
        }
        let more = if self.unused.len() > SHOWN { ", …" } else { "" };
        let names = self.unused[..self.unused.len().min(SHOWN)].join(", ");
        vec![format!("the model does not use {} tensors of the checkpoint: {names}{more}", self.unused.len())]
    }
}

/// The format of the embedding and the output head; see [`LoadOptions::format`].
pub(crate) fn table_format(format: WeightFormat) -> WeightFormat {
    match format {
        WeightFormat::Quantize { bits, group } => WeightFormat::Quantize { bits: bits.max(8), group },
        WeightFormat::Native => format,
    }
}

/// A module of the checkpoint and the rows of its weight.
pub(crate) type Module = (String, usize);

/// Loads weights one after the other and keeps the books.
pub(crate) struct Loader<'a, B: ?Sized> {
    pub(crate) backend: &'a mut B,
    source: &'a dyn WeightSource,
    options: LoadOptions,
    progress: &'a mut dyn FnMut(Progress),
    state: Progress,
    used: HashSet<String>,
    pub(crate) report: LoadReport,
    scratch: Vec<(&'static str, Tensor)>,
}

impl<'a, B: Backend + ?Sized> Loader<'a, B> {
    /// `params`: how many weights there will be.
    pub(crate) fn new(
        params: u64,
        source: &'a dyn WeightSource,
        backend: &'a mut B,
        options: LoadOptions,
        progress: &'a mut dyn FnMut(Progress),
    ) -> Self {
        let state = Progress { done: 0, total: params };
        let (used, report, scratch) = (HashSet::new(), LoadReport::default(), Vec::new());
        Self { backend, source, options, progress, state, used, report, scratch }
    }

    /// A layer's weight: modules with `cols` columns each, stacked into one matrix.
    pub(crate) fn matrix(&mut self, modules: &[Module], cols: usize) -> Result<Matrix, ModelError> {
        let (matrix, bytes) = self.load(modules, cols, self.options.format)?;
        self.report.weight_bytes += bytes;
        self.report.step_weight_bytes += bytes;
        Ok(matrix)
    }

    /// The embedding or the output head; `every_step` says whether each step reads it in full.
    pub(crate) fn table(
        &mut self,
        module: Module,
        cols: usize,
        every_step: bool,
    ) -> Result<Matrix, ModelError> {
        let (matrix, bytes) = self.load(&[module], cols, table_format(self.options.format))?;
        self.report.weight_bytes += bytes;
        self.report.step_weight_bytes += if every_step { bytes } else { 0 };
        Ok(matrix)
    }

    /// A small matrix that is kept as it came.
    pub(crate) fn exact(&mut self, module: Module, cols: usize) -> Result<Matrix, ModelError> {
        let (matrix, bytes) = self.load(&[module], cols, WeightFormat::Native)?;
        self.report.weight_bytes += bytes;
        self.report.step_weight_bytes += bytes;
        Ok(matrix)
    }

    /// One row `[1, cols]`: of the table `module`, row `plus` less row `minus`.
    pub(crate) fn contrast(
        &mut self,
        module: Module,
        cols: usize,
        [plus, minus]: [usize; 2],
    ) -> Result<Matrix, ModelError> {
        let (name, rows) = module;
        let mut row = Contrast::read(&mut *self.source.matrix(&name, rows, cols)?, plus, minus)?;
        let matrix = self.backend.load_matrix(&mut row, WeightFormat::Native)?;
        self.ignore(&name);
        self.source.release(&name);
        let bytes = stored_bytes(cols as u64, WeightFormat::Native, row.encoding());
        self.report.weight_bytes += bytes;
        self.report.step_weight_bytes += bytes;
        self.advance(cols as u64);
        Ok(matrix)
    }

    /// A norm's weight.
    pub(crate) fn norm(&mut self, module: &str, len: usize) -> Result<Tensor, ModelError> {
        self.shifted_norm(module, len, 0.0)
    }

    /// A norm's weight, to which `offset` is added: Gemma stores the difference to 1.
    pub(crate) fn shifted_norm(
        &mut self,
        module: &str,
        len: usize,
        offset: f32,
    ) -> Result<Tensor, ModelError> {
        let mut values = self.vector(&format!("{module}.weight"), len)?;
        values.iter_mut().for_each(|value| *value += offset);
        Ok(self.backend.load_vector(&values)?)
    }

    /// Activations `[rows, cols]` that nobody else uses.
    pub(crate) fn buffer(&mut self, rows: usize, cols: usize) -> Result<Tensor, ModelError> {
        Ok(self.backend.alloc(rows, cols)?)
    }

    /// The biases of stacked modules, if there are any.
    pub(crate) fn bias(&mut self, there: bool, modules: &[Module]) -> Result<Option<Tensor>, ModelError> {
        if !there {
            return Ok(None);
        }
        let mut values = Vec::new();
        for (module, rows) in modules {
            values.extend(self.vector(&format!("{module}.bias"), *rows)?);
        }
        Ok(Some(self.backend.load_vector(&values)?))
    }

    /// Activations `[max tokens, cols]` for `purpose`. Layers run one after the other, so they share them.
    pub(crate) fn scratch(&mut self, purpose: &'static str, cols: usize) -> Result<Tensor, ModelError> {
        let known = self.scratch.iter().find(|(name, tensor)| *name == purpose && tensor.cols == cols);
        if let Some((_, tensor)) = known {
            return Ok(*tensor);
        }
        let tensor = self.backend.alloc(self.options.max_tokens, cols)?;
        self.scratch.push((purpose, tensor));
        Ok(tensor)
    }

    /// Names a module that the checkpoint may have but that is not needed.
    pub(crate) fn ignore(&mut self, module: &str) {
        for suffix in ["weight", "scales", "biases"] {
            self.used.insert(format!("{module}.{suffix}"));
        }
    }

    /// Ends the loading: what nobody asked for goes into the report.
    pub(crate) fn finish(mut self) -> LoadReport {
        let unused = |name: &String| !self.used.contains(name) && !name.ends_with(".rotary_emb.inv_freq");
        self.report.unused = self.source.names().into_iter().filter(unused).collect();
        self.report.unused.sort();
        self.report
    }

    /// Packs stacked modules and tells their bytes in memory.
    fn load(
        &mut self,
        modules: &[Module],
        cols: usize,
        format: WeightFormat,
    ) -> Result<(Matrix, u64), ModelError> {
        let parts = modules.iter().map(|(module, rows)| self.source.matrix(module, *rows, cols));
        let mut stacked = Stacked::new(parts.collect::<Result<_, _>>()?);
        let matrix = self.backend.load_matrix(&mut stacked, format)?;
        let params = (matrix.rows * matrix.cols) as u64;
        let bytes = stored_bytes(params, format, stacked.encoding());
        drop(stacked);
        for (module, _) in modules {
            self.ignore(module);
            self.source.release(module);
        }
        self.advance(params);
        Ok((matrix, bytes))
    }

    fn vector(&mut self, name: &str, len: usize) -> Result<Vec<f32>, ModelError> {
        let values = self.source.vector(name, len)?;
        self.used.insert(name.into());
        let bytes = size_of_val(values.as_slice()) as u64;
        self.report.weight_bytes += bytes;
        self.report.step_weight_bytes += bytes;
        self.advance(len as u64);
        Ok(values)
    }

    fn advance(&mut self, params: u64) {
        self.state.done += params;
        (self.progress)(self.state);
    }
}
