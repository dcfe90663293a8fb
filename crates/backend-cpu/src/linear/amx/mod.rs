//! AMX kernels: matrix tiles of 16 rows × 64 bytes, through inline assembly (no stable intrinsics yet).
//!
//! The tile shapes are architectural constants of palette 1; CPUID's description of it is missing on some virtual
//! machines and is not asked.

#![allow(unsafe_code)]

mod bf16;
mod int;
#[cfg(test)]
mod tests;
mod tile;

pub(crate) use bf16::Bf16Job;
pub(crate) use int::{MIN_INT_ROWS, int_task};
#[cfg(target_os = "linux")]
pub(crate) use tile::{request_permission, self_test};
