//! Turning a dense checkpoint into an MLX-readable quantized one.

mod convert;
mod row;

pub use convert::{Summary, quantize_checkpoint};
pub use row::{QuantizedRow, quantize_row};
