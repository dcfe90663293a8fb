//! The safetensors format: 8 bytes of header length (little-endian), a JSON header, then the tensors' bytes.

mod header;
mod writer;

pub use header::{Entry, Header, MAX_HEADER_BYTES};
pub use writer::{TensorSpec, Writer};
