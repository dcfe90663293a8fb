//! AVX2 with FMA and F16C: two registers are sixteen lanes.

#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::{Kernel, LANES, Simd};
use crate::level::{Isa, Level};

/// Proof of AVX2, FMA and F16C.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(());

pub(super) fn run<K: Kernel>(isa: Isa, kernel: K) -> K::Out {
    assert!(isa.level() >= Level::Avx2);
    #[target_feature(enable = "avx2,fma,f16c")]
    fn compiled<K: Kernel>(kernel: K) -> K::Out {
        kernel.run(Avx2(()))
    }
    // SAFETY: the probe executed this level's instructions.
    unsafe { compiled(kernel) }
}

/// Intrinsics of the level that `self` proves.
macro_rules! proven {
    ($($body:tt)*) => {{
        // SAFETY: a value of the token type exists only where the probe executed the level's instructions; loads and
        // stores go through references to arrays of (two halves of) the vectors' size.
        unsafe { $($body)* }
    }};
}

/// The same for the lower and the upper half.
macro_rules! halves {
    (|$($v:ident),*| $body:expr) => {
        proven!((
            { $(let $v = $v.0;)* $body },
            { $(let $v = $v.1;)* $body },
        ))
    };
}

macro_rules! fold {
    ($v:expr, $op256:ident, $op128:ident, $op1:ident) => {{
        let v = $op256($v.0, $v.1);
        let v = $op128(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
        let v = $op128(v, _mm_movehl_ps(v, v));
        _mm_cvtss_f32($op1(v, _mm_movehdup_ps(v)))
    }};
}

/// Lanes 0–7 and 8–15.
type Pair<T> = (T, T);

/// Unsigned bytes spread to 16 bits: even ones and odd ones. `vpmaddubsw` would saturate on full bytes.
#[derive(Clone, Copy)]
pub(crate) struct Spread {
    even: Pair<__m256i>,
    odd: Pair<__m256i>,
}

/// int32, and sums of nibbles' products in 16 bits: eight times two products of at most 15 · 128 fit.
#[derive(Clone, Copy)]
pub(crate) struct Narrow {
    wide: Pair<__m256i>,
    narrow: Pair<__m256i>,
}

impl Simd for Avx2 {
    type V = Pair<__m256>;
    type I = Pair<__m256i>;
    type B = Spread;
    type N = Pair<__m256i>;
    type Sums = Narrow;

    #[inline(always)]
    fn splat(self, x: f32) -> Self::V {
        proven!((_mm256_set1_ps(x), _mm256_set1_ps(x)))
    }
    #[inline(always)]
    fn load(self, from: &[f32; LANES]) -> Self::V {
        proven!((_mm256_loadu_ps(from.as_ptr()), _mm256_loadu_ps(from.as_ptr().add(8))))
    }
    #[inline(always)]
    fn store(self, v: Self::V, to: &mut [f32; LANES]) {
        proven!({
            _mm256_storeu_ps(to.as_mut_ptr(), v.0);
            _mm256_storeu_ps(to.as_mut_ptr().add(8), v.1);
        });
    }
    #[inline(always)]
    fn add(self, a: Self::V, b: Self::V) -> Self::V {
        halves!(|a, b| _mm256_add_ps(a, b))
    }
    #[inline(always)]
    fn sub(self, a: Self::V, b: Self::V) -> Self::V {
        halves!(|a, b| _mm256_sub_ps(a, b))
    }
    #[inline(always)]
    fn mul(self, a: Self::V, b: Self::V) -> Self::V {
        halves!(|a, b| _mm256_mul_ps(a, b))
    }
    #[inline(always)]
    fn div(self, a: Self::V, b: Self::V) -> Self::V {
        halves!(|a, b| _mm256_div_ps(a, b))
    }
    #[inline(always)]
    fn max(self, a: Self::V, b: Self::V) -> Self::V {
        halves!(|a, b| _mm256_max_ps(a, b))
    }
    #[inline(always)]
    fn min(self, a: Self::V, b: Self::V) -> Self::V {
        halves!(|a, b| _mm256_min_ps(a, b))
    }
    #[inline(always)]
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        halves!(|a, b, c| _mm256_fmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn round(self, v: Self::V) -> Self::V {
        halves!(|v| _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(v))
    }
    #[inline(always)]
    fn scale_exp2(self, v: Self::V, n: Self::V) -> Self::V {
        halves!(|v, n| {
            let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
            _mm256_mul_ps(v, _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent)))
        })
    }
    #[inline(always)]
    fn select_ge(self, x: Self::V, y: Self::V, yes: Self::V, no: Self::V) -> Self::V {
        halves!(|x, y, yes, no| _mm256_blendv_ps(no, yes, _mm256_cmp_ps::<_CMP_GE_OQ>(x, y)))
    }
    #[inline(always)]
    fn sum(self, v: Self::V) -> f32 {
        proven!(fold!(v, _mm256_add_ps, _mm_add_ps, _mm_add_ss))
    }
    #[inline(always)]
    fn max_lane(self, v: Self::V) -> f32 {
        proven!(fold!(v, _mm256_max_ps, _mm_max_ps, _mm_max_ss))
    }

    #[inline(always)]
    fn load_bf16(self, from: &[u16; LANES]) -> Self::V {
        let at = (from.as_ptr(), from[8..].as_ptr());
        halves!(|at| {
            let wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(at.cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide))
        })
    }
    #[inline(always)]
    fn load_bf16_pairs(self, from: &[u16; 2 * LANES]) -> (Self::V, Self::V) {
        let at = (from.as_ptr(), from[16..].as_ptr());
        let pairs = halves!(|at| _mm256_loadu_si256(at.cast()));
        let even = halves!(|pairs| _mm256_castsi256_ps(_mm256_slli_epi32::<16>(pairs)));
        let odd = halves!(|pairs| {
            _mm256_castsi256_ps(_mm256_and_si256(pairs, _mm256_set1_epi32(0xffff_0000u32.cast_signed())))
        });
        (even, odd)
    }
    #[inline(always)]
    fn load_f16(self, from: &[u16; LANES]) -> Self::V {
        let at = (from.as_ptr(), from[8..].as_ptr());
        halves!(|at| _mm256_cvtph_ps(_mm_loadu_si128(at.cast())))
    }

    #[inline(always)]
    fn load_i8_pairs(self, from: &[i8; 2 * LANES]) -> (Self::V, Self::V) {
        let at = (from.as_ptr(), from[16..].as_ptr());
        let both = halves!(|at| _mm256_cvtepi16_epi32(_mm_loadu_si128(at.cast())));
        let even = halves!(|both| _mm256_cvtepi32_ps(_mm256_srai_epi32::<24>(_mm256_slli_epi32::<24>(both))));
        (even, halves!(|both| _mm256_cvtepi32_ps(_mm256_srai_epi32::<8>(both))))
    }

    #[inline(always)]
    fn to_i8(self, v: Self::V) -> [i8; LANES] {
        let mut out = [0; LANES];
        proven!({
            // Packing works within halves of a register: lanes 0–3, 8–11, 4–7, 12–15.
            let words = _mm256_packs_epi32(_mm256_cvtps_epi32(v.0), _mm256_cvtps_epi32(v.1));
            let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(words);
            let bytes = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
            _mm_storeu_si128(out.as_mut_ptr().cast(), bytes);
        });
        out
    }

    #[inline(always)]
    fn splat_i32(self, x: i32) -> Self::I {
        proven!((_mm256_set1_epi32(x), _mm256_set1_epi32(x)))
    }
    #[inline(always)]
    fn add_i32(self, a: Self::I, b: Self::I) -> Self::I {
        halves!(|a, b| _mm256_add_epi32(a, b))
    }
    #[inline(always)]
    fn to_f32(self, i: Self::I) -> Self::V {
        halves!(|i| _mm256_cvtepi32_ps(i))
    }
    #[inline(always)]
    fn bytes(self, from: &[u8; 64]) -> Self::B {
        let at = (from.as_ptr(), from[32..].as_ptr());
        spread(halves!(|at| _mm256_loadu_si256(at.cast())))
    }
    #[inline(always)]
    fn nibbles(self, from: &[u8; 64]) -> (Self::N, Self::N) {
        let at = (from.as_ptr(), from[32..].as_ptr());
        let both = halves!(|at| _mm256_loadu_si256(at.cast()));
        let low = halves!(|both| _mm256_and_si256(both, _mm256_set1_epi8(15)));
        let high = halves!(|both| _mm256_and_si256(_mm256_srli_epi16::<4>(both), _mm256_set1_epi8(15)));
        (low, high)
    }
    #[inline(always)]
    fn sums(self, acc: Self::I) -> Narrow {
        Narrow { wide: acc, narrow: self.splat_i32(0) }
    }
    #[inline(always)]
    fn dot4(self, sums: Narrow, w: Self::B, x: i32) -> Narrow {
        let (acc, even, odd) = (sums.wide, w.even, w.odd);
        let (x_even, x_odd) = proven!({
            let x = _mm256_set1_epi32(x);
            (_mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(x)), _mm256_srai_epi16::<8>(x))
        });
        let wide = halves!(|acc, even, odd| {
            let acc = _mm256_add_epi32(acc, _mm256_madd_epi16(even, x_even));
            _mm256_add_epi32(acc, _mm256_madd_epi16(odd, x_odd))
        });
        Narrow { wide, ..sums }
    }
    #[inline(always)]
    fn dot4_nibbles(self, sums: Narrow, w: Self::N, x: i32) -> Narrow {
        let sum = sums.narrow;
        let x = proven!(_mm256_set1_epi32(x));
        Narrow { narrow: halves!(|sum, w| _mm256_add_epi16(sum, _mm256_maddubs_epi16(w, x))), ..sums }
    }
    #[inline(always)]
    fn total(self, sums: Narrow) -> Self::I {
        let Narrow { wide, narrow } = sums;
        halves!(|wide, narrow| _mm256_add_epi32(wide, _mm256_madd_epi16(narrow, _mm256_set1_epi16(1))))
    }
}

#[inline(always)]
fn spread(bytes: Pair<__m256i>) -> Spread {
    Spread {
        even: halves!(|bytes| _mm256_and_si256(bytes, _mm256_set1_epi16(255))),
        odd: halves!(|bytes| _mm256_srli_epi16::<8>(bytes)),
    }
}
