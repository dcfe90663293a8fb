//! Sixteen lanes at a time: one trait, three implementations, and the place where a kernel meets its level.
//!
//! A kernel is written once, as an `#[inline(always)]` function over `S: Simd`; [`Isa::run`] calls it from a function
//! that is compiled for the level's features, so that everything below is inlined into code that may use them.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
pub(crate) mod math;
mod portable;

use portable::Portable;

use crate::activations::bf16_bits;
use crate::level::{Isa, Level};

/// Lanes of a vector.
pub(crate) const LANES: usize = 16;
/// Bytes of a cache line.
pub(crate) const LINE: usize = 64;

/// The bits of 1.5 · 2²³, a float whose last bit counts one: see [`Bf16Dot::offset_to_f32`].
pub(crate) const WHOLE: i32 = 0x4b40_0000;

/// Sixteen float32 lanes and sixteen int32 lanes. A value of an implementing type proves that its features work.
///
/// All implementations but [`Portable`] give the same bits: `fma` rounds once, sums fold halves.
pub(crate) trait Simd: Copy + Send + Sync {
    /// Sixteen float32.
    type V: Copy;
    /// Sixteen int32.
    type I: Copy;
    /// Sixteen times four unsigned bytes, ready for [`Simd::dot4`].
    type B: Copy;
    /// The same of numbers in 0..=15, ready for [`Simd::dot4_nibbles`].
    type N: Copy;
    /// Sixteen sums of products under way; narrow ones for a while where that is faster.
    type Sums: Copy;

    fn splat(self, x: f32) -> Self::V;
    fn load(self, from: &[f32; LANES]) -> Self::V;
    fn store(self, v: Self::V, to: &mut [f32; LANES]);
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// The larger; `b` if either is NaN.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// The smaller; `b` if either is NaN.
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a · b + c`, rounded once ([`Portable`]: twice).
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// To the nearest integer, ties to even, for magnitudes below 2²².
    fn round(self, v: Self::V) -> Self::V;
    /// `v · 2^n` for whole `n` in −126..=127.
    fn scale_exp2(self, v: Self::V, n: Self::V) -> Self::V;
    /// Per lane: `yes` where `x >= y`, else `no` (also for NaN).
    fn select_ge(self, x: Self::V, y: Self::V, yes: Self::V, no: Self::V) -> Self::V;
    /// Sum of the lanes: lane i + lane i+8, then +4, +2, +1.
    fn sum(self, v: Self::V) -> f32;
    /// The largest lane.
    fn max_lane(self, v: Self::V) -> f32;

    fn load_bf16(self, from: &[u16; LANES]) -> Self::V;
    /// Even and odd elements.
    fn load_bf16_pairs(self, from: &[u16; 2 * LANES]) -> (Self::V, Self::V);
    fn load_f16(self, from: &[u16; LANES]) -> Self::V;
    /// Even and odd elements.
    fn load_i8_pairs(self, from: &[i8; 2 * LANES]) -> (Self::V, Self::V);
    /// Rounds to bf16, ties to even (denormals may become zero).
    #[inline(always)]
    fn store_bf16(self, v: Self::V, to: &mut [u16; LANES]) {
        let mut lanes = [0.0; LANES];
        self.store(v, &mut lanes);
        *to = lanes.map(bf16_bits);
    }
    /// Rows become columns.
    #[inline(always)]
    fn transpose(self, block: &mut [[u32; LANES]; LANES]) {
        for row in 1..LANES {
            let (above, below) = block.split_at_mut(row);
            for (column, above) in above.iter_mut().enumerate() {
                std::mem::swap(&mut above[row], &mut below[0][column]);
            }
        }
    }
    /// Whole numbers in −128..=127.
    fn to_i8(self, v: Self::V) -> [i8; LANES];
    /// The first lane.
    #[inline(always)]
    fn first(self, v: Self::V) -> f32 {
        let mut lanes = [0.0; LANES];
        self.store(v, &mut lanes);
        lanes[0]
    }

    fn splat_i32(self, x: i32) -> Self::I;
    fn add_i32(self, a: Self::I, b: Self::I) -> Self::I;
    fn to_f32(self, i: Self::I) -> Self::V;
    /// Lane i's four bytes are `from[4i..4i+4]`.
    fn bytes(self, from: &[u8; 64]) -> Self::B;
    /// The low and the high nibbles of each byte.
    fn nibbles(self, from: &[u8; 64]) -> (Self::N, Self::N);
    /// Sums that begin with `acc`.
    fn sums(self, acc: Self::I) -> Self::Sums;
    /// Per lane: adds four products of unsigned bytes with the four signed bytes of `x` (little endian). Exact.
    fn dot4(self, sums: Self::Sums, w: Self::B, x: i32) -> Self::Sums;
    /// The same for nibbles; exact for up to eight of them between [`sums`](Self::sums) and [`total`](Self::total).
    fn dot4_nibbles(self, sums: Self::Sums, w: Self::N, x: i32) -> Self::Sums;
    /// The sums, whole.
    fn total(self, sums: Self::Sums) -> Self::I;

    /// `from.len() <= 16` values, then zeros.
    #[inline(always)]
    fn load_partial(self, from: &[f32]) -> Self::V {
        let mut lanes = [0.0; LANES];
        lanes[..from.len()].copy_from_slice(from);
        self.load(&lanes)
    }
    /// The first `to.len() <= 16` lanes.
    #[inline(always)]
    fn store_partial(self, v: Self::V, to: &mut [f32]) {
        let mut lanes = [0.0; LANES];
        self.store(v, &mut lanes);
        to.copy_from_slice(&lanes[..to.len()]);
    }
}

/// Levels with `vdpbf16ps`.
pub(crate) trait Bf16Dot: Simd<N = <Self as Simd>::B> {
    /// Per lane: acc + w₀·x₀ + w₁·x₁ over the lane's pair of bf16 and the pair in `x`; denormals count as zero.
    fn dot_bf16(self, acc: Self::V, w: Self::B, x: [u16; 2]) -> Self::V;
    fn load_i32(self, from: &[i32; LANES]) -> Self::I;
    /// Whole numbers of magnitudes up to 2²², to which [`WHOLE`] has been added, as floats. Exact, and made by additions:
    /// while a core's tile unit is in use, one of its two multipliers is not, and conversions are multipliers' work.
    fn offset_to_f32(self, i: Self::I) -> Self::V;
    /// Pairs of bf16 from numbers that are bf16 already.
    fn join_bf16(self, first: Self::V, second: Self::V) -> Self::B;
    /// Bytes 0 and 1, and bytes 2 and 3, of each lane as pairs of bf16 numbers scale · byte + bias.
    fn dequantize(self, bytes: Self::B, scale: Self::V, bias: Self::V) -> (Self::B, Self::B);
    /// Two vectors, one after the other, rounded to bf16, ties to even (denormals may become zero).
    fn store_bf16_twice(self, first: Self::V, second: Self::V, to: &mut [u16; 2 * LANES]);
    /// Rounded to bf16, ties to even (denormals may become zero).
    fn round_bf16(self, v: Self::V) -> Self::V;
    /// Per lane: adds the low bits of `n`, as a whole number, to the exponent of `v`.
    fn scale_exp2_bits(self, v: Self::V, n: Self::V) -> Self::V;
    /// Whether x > y in any lane.
    fn any_above(self, x: Self::V, y: Self::V) -> bool;
    /// Each lane, rounded to a word of 16 bits, four times beside itself: lanes as in the low and in the high half of
    /// [`requantize`](Self::requantize)'s words.
    fn words(self, v: Self::V) -> [Self::B; 2];
    /// `(byte · factor + offset) / 256`, rounded down, in words that wrap, as signed bytes that saturate.
    fn requantize(self, bytes: Self::B, factor: [Self::B; 2], offset: [Self::B; 2]) -> Self::B;
    /// The 64 bytes of a register.
    fn store_bytes(self, b: Self::B, to: &mut [u8; 64]);
}

/// Asks for the cache line `distance` bytes after the start of `from`, wherever that is.
#[inline(always)]
pub(crate) fn prefetch<T>(from: *const T, distance: usize) {
    #[cfg(target_arch = "x86_64")]
    #[allow(unsafe_code)]
    // SAFETY: a prefetch is a hint and never faults; SSE is part of x86-64.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(from.cast::<i8>().wrapping_add(distance));
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (from, distance);
}

/// The same, into the second-level cache.
#[inline(always)]
pub(crate) fn prefetch_far<T>(from: *const T, distance: usize) {
    #[cfg(target_arch = "x86_64")]
    #[allow(unsafe_code)]
    // SAFETY: as above.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T1>(from.cast::<i8>().wrapping_add(distance));
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (from, distance);
}

/// Asks for share number `share` of `shares` of what lies in `from`, into the second-level cache.
#[inline(always)]
pub(crate) fn prefetch_share<T>(from: &[T], share: usize, shares: usize) {
    let lines = size_of_val(from).div_ceil(LINE);
    for line in lines * share / shares..lines * (share + 1) / shares {
        prefetch_far(from.as_ptr(), line * LINE);
    }
}

/// Something that can be compiled for every level. `run` and everything it calls must be `#[inline(always)]`; where vectors
/// are used, loops stand instead of closures, which may become functions of their own, without the level's instructions.
pub(crate) trait Kernel {
    type Out;
    fn run<S: Simd>(self, s: S) -> Self::Out;
}

/// A kernel that needs [`Bf16Dot`].
pub(crate) trait Bf16Kernel {
    type Out;
    fn run<S: Bf16Dot>(self, s: S) -> Self::Out;
}

impl Isa {
    /// Runs a kernel with this level's instructions.
    #[inline]
    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Out {
        match self.level() {
            Level::Portable => kernel.run(Portable),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => avx2::run(self, kernel),
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 | Level::Avx512Bf16 | Level::Amx => avx512::run(self, kernel),
            #[cfg(not(target_arch = "x86_64"))]
            _ => kernel.run(Portable),
        }
    }

    /// Whether this level has `vdpbf16ps`.
    pub(crate) fn has_bf16_dot(self) -> bool {
        self.level() >= Level::Avx512Bf16
    }

    /// Runs a kernel that needs `vdpbf16ps`.
    ///
    /// # Panics
    /// If the level does not have it.
    #[inline]
    pub(crate) fn run_bf16<K: Bf16Kernel>(self, kernel: K) -> K::Out {
        assert!(self.has_bf16_dot());
        #[cfg(target_arch = "x86_64")]
        return avx512::run_bf16(self, kernel);
        #[cfg(not(target_arch = "x86_64"))]
        {
            let _ = kernel;
            unreachable!("no level of this architecture has vdpbf16ps");
        }
    }
}

#[cfg(test)]
mod tests;
