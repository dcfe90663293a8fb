//! AMX kernels: matrix tiles of 16 rows × 64 bytes.
//!
//! The tile shapes are architectural constants of palette 1; CPUID's description of it is missing on some virtual
//! machines and is not asked.

#![allow(unsafe_code)]

mod block;
mod bytes;
mod finish;
mod gemm;
mod integer_mlp;
mod integers;
mod layer;
mod making;
mod mlp;
mod product;
mod projection;
mod tasks;
#[cfg(test)]
mod tests;
mod weights;

pub(crate) use gemm::FEW_ROWS;
pub(crate) use integers::MIN_COLS;
pub(crate) use mlp::TiledMlp;
pub(crate) use projection::{Heads, TiledProjection};
