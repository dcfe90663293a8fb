//! What can go wrong between a config and a loaded model.

use millrace_backend::BackendError;
use millrace_weights::WeightsError;

/// Why a model cannot be described or loaded.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// No family reads this architecture.
    #[error("{file} describes the architecture {found}, which is not supported; supported are {supported}")]
    UnknownArchitecture {
        /// The configuration file.
        file: String,
        /// What it says.
        found: String,
        /// The architectures in the registry.
        supported: String,
    },
    /// A setting is missing, wrong, or asks for something that would change the results and is not implemented;
    /// or a tensor is missing, misshapen or unreadable.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The backend refused a weight or ran out of memory.
    #[error(transparent)]
    Backend(#[from] BackendError),
}
