//! What tiles multiply.

use crate::activations::{BYTE_COLS, BYTE_PASS, TILE_COLS};
use crate::tile::Unit;

/// A type of numbers in tiles of inputs and of weights.
pub(crate) trait Product {
    /// Input features of a tile.
    const COLS: usize;
    /// Input features of a pass.
    const PASS: usize;
    /// Every pass has scales, so its sums begin at zero and join those of earlier passes as floats.
    const SCALED: bool;
    /// acc += a · b.
    ///
    /// # Safety
    /// See [`Unit`].
    unsafe fn dot<U: Unit, const ACC: u8, const A: u8, const B: u8>(unit: &mut U);
}

/// bf16, with sums in float32.
pub(crate) struct Bf16;

impl Product for Bf16 {
    const COLS: usize = TILE_COLS;
    const PASS: usize = 256;
    const SCALED: bool = false;

    #[allow(unsafe_code)]
    #[inline(always)]
    unsafe fn dot<U: Unit, const ACC: u8, const A: u8, const B: u8>(unit: &mut U) {
        // SAFETY: by the caller's promise.
        unsafe { unit.dot_bf16::<ACC, A, B>() };
    }
}

/// Signed bytes, with sums in int32.
pub(crate) struct Bytes;

impl Product for Bytes {
    const COLS: usize = BYTE_COLS;
    const PASS: usize = BYTE_PASS;
    const SCALED: bool = true;

    #[allow(unsafe_code)]
    #[inline(always)]
    unsafe fn dot<U: Unit, const ACC: u8, const A: u8, const B: u8>(unit: &mut U) {
        // SAFETY: by the caller's promise.
        unsafe { unit.dot_signed::<ACC, A, B>() };
    }
}
