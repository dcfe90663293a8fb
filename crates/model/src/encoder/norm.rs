//! A norm's weights in a backend.

use millrace_backend::{Backend, Tensor};

use crate::ModelError;
use crate::load::Loader;
use crate::spec::encoder::{NormKind, NormSpec};

/// A loaded norm.
#[derive(Debug, Clone, Copy)]
pub(super) struct Norm {
    kind: NormKind,
    eps: f32,
    /// `[1, cols]`.
    weight: Tensor,
    /// `[1, cols]`.
    bias: Option<Tensor>,
}

impl Norm {
    /// Loads a norm over rows of `cols`, if there is one; its module's name follows on `prefix`.
    pub(super) fn load<B: Backend + ?Sized>(
        spec: Option<NormSpec>,
        prefix: &str,
        cols: usize,
        loader: &mut Loader<'_, B>,
    ) -> Result<Option<Self>, ModelError> {
        let Some(NormSpec { module, kind, eps }) = spec else { return Ok(None) };
        let module = format!("{prefix}{module}");
        let (offset, has_bias) = match kind {
            NormKind::Layer { bias } => (0.0, bias),
            NormKind::Rms { offset } => (offset, false),
        };
        let weight = loader.shifted_norm(&module, cols, offset)?;
        let bias = loader.bias(has_bias, &[(module, cols)])?;
        Ok(Some(Self { kind, eps, weight, bias }))
    }

    /// `out = norm(x)`.
    pub(super) fn forward<B: Backend + ?Sized>(self, backend: &mut B, x: Tensor, out: Tensor) {
        match self.kind {
            NormKind::Layer { .. } => backend.layer_norm(x, self.weight, self.bias, self.eps, out),
            NormKind::Rms { .. } => backend.rms_norm(x, self.weight, self.eps, out),
        }
    }
}
