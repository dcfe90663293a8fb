//! From a model's name to its named tensors.
//!
//! * [`resolve`]: a path or a Hub id (`ORG/NAME`) becomes a local folder; files are downloaded into the cache that
//!   Hugging Face tools share, and an interrupted download is resumed.
//! * [`ModelFiles`]: a model folder, or a model compiled into the program; both give the same things below.
//! * [`HfConfig`] and [`GenerationConfig`]: typed reading of `config.json` and `generation_config.json`.
//! * [`Checkpoint`]: tensors by name over memory-mapped safetensors. [`Checkpoint::matrix`] gives dense and
//!   MLX-quantized weights one face, [`MatrixView`], which is read row by row, so that a loader needs no second
//!   copy; [`Checkpoint::release`] hands the pages of a consumed tensor back.
//! * [`quantize`]: turns a dense checkpoint into an MLX-readable quantized one.
//!
//! Files and servers are not trusted: sizes, offsets, names and counts are checked before use, and every error is
//! one sentence that names the file or the tensor.

mod affine;
mod checkpoint;
mod config;
mod dtype;
mod error;
mod files;
mod generation;
pub mod hub;
mod local;
mod mapped;
mod matrix;
mod quantization;
pub mod quantize;
pub mod safetensors;
mod tensor;

pub use affine::{AffineView, pack_row, unpack_row};
pub use checkpoint::Checkpoint;
pub use config::HfConfig;
pub use dtype::Dtype;
pub use error::WeightsError;
pub use files::ModelFiles;
pub use generation::GenerationConfig;
pub use hub::{HubOptions, resolve};
pub use matrix::MatrixView;
pub use quantization::{Quantization, QuantizationConfig};
pub use tensor::TensorView;

/// What this crate's functions return.
pub type Result<T, E = WeightsError> = std::result::Result<T, E>;
