//! Weight sources around others: names with or without a prefix, and parts with files of their own.

use std::collections::HashSet;

use millrace_backend::MatrixSource;
use millrace_weights::Checkpoint;

use crate::spec::encoder::Part;
use crate::{ModelError, WeightSource};

/// Finds names that may or may not have a prefix in the checkpoint.
pub(super) struct Bare<'a> {
    source: &'a dyn WeightSource,
    prefix: &'static str,
    prefixed: HashSet<String>,
}

impl<'a> Bare<'a> {
    pub(super) fn new(source: &'a dyn WeightSource, prefix: &'static str) -> Self {
        let bare = |name: String| name.strip_prefix(prefix).map(str::to_owned);
        let prefixed = source.names().into_iter().filter_map(bare).collect();
        Self { source, prefix, prefixed }
    }

    /// The name of a tensor in the checkpoint.
    fn full(&self, tensor: &str) -> String {
        let prefix = if self.prefixed.contains(tensor) { self.prefix } else { "" };
        format!("{prefix}{tensor}")
    }

    /// The same for a module, of which the checkpoint has at least the weight.
    fn module(&self, module: &str) -> String {
        let tensor = self.full(&format!("{module}.weight"));
        tensor.strip_suffix(".weight").unwrap_or(module).to_owned()
    }
}

impl WeightSource for Bare<'_> {
    fn matrix(
        &self,
        module: &str,
        rows: usize,
        cols: usize,
    ) -> Result<Box<dyn MatrixSource + '_>, ModelError> {
        self.source.matrix(&self.module(module), rows, cols)
    }

    fn vector(&self, name: &str, len: usize) -> Result<Vec<f32>, ModelError> {
        self.source.vector(&self.full(name), len)
    }

    fn release(&self, module: &str) {
        self.source.release(&self.module(module));
    }

    fn names(&self) -> Vec<String> {
        let bare = |name: String| name.strip_prefix(self.prefix).map(str::to_owned).unwrap_or(name);
        self.source.names().into_iter().map(bare).collect()
    }
}

/// A checkpoint, and those of the parts in folders beside it: a part's tensors have its folder before their names.
#[derive(Debug)]
pub struct WithParts {
    main: Checkpoint,
    parts: Vec<(String, Checkpoint)>,
}

impl WithParts {
    /// Puts together a model's checkpoint and those of its parts, by folder.
    pub fn new(main: Checkpoint, parts: Vec<(String, Checkpoint)>) -> Self {
        let parts = parts.into_iter().map(|(folder, checkpoint)| (Part::prefix(&folder), checkpoint));
        Self { main, parts: parts.collect() }
    }

    /// Whose tensor it is, and its name there.
    fn find<'n>(&self, name: &'n str) -> (&Checkpoint, &'n str) {
        let in_part = |(prefix, part)| name.strip_prefix(prefix).map(|name| (part, name));
        self.parts
            .iter()
            .map(|(prefix, part)| (prefix.as_str(), part))
            .find_map(in_part)
            .unwrap_or((&self.main, name))
    }
}

impl WeightSource for WithParts {
    fn matrix(
        &self,
        module: &str,
        rows: usize,
        cols: usize,
    ) -> Result<Box<dyn MatrixSource + '_>, ModelError> {
        let (checkpoint, module) = self.find(module);
        WeightSource::matrix(checkpoint, module, rows, cols)
    }

    fn vector(&self, name: &str, len: usize) -> Result<Vec<f32>, ModelError> {
        let (checkpoint, name) = self.find(name);
        checkpoint.vector(name, len)
    }

    fn release(&self, module: &str) {
        let (checkpoint, module) = self.find(module);
        WeightSource::release(checkpoint, module);
    }

    fn names(&self) -> Vec<String> {
        let of_part = |(prefix, part): &(String, Checkpoint)| {
            let prefix = prefix.clone();
            WeightSource::names(part)
                .into_iter()
                .map(move |name| format!("{prefix}{name}"))
                .collect::<Vec<_>>()
        };
        let parts = self.parts.iter().flat_map(of_part);
        WeightSource::names(&self.main).into_iter().chain(parts).collect()
    }
}
