//! AVX-512: one register is sixteen lanes.

#![allow(unsafe_code)]

use std::arch::{asm, x86_64::*};

use super::{Bf16Dot, Bf16Kernel, Kernel, LANES, Simd, WHOLE};
use crate::level::{Isa, Level};

/// Proof of F, BW, DQ, VL, VNNI (and of AVX2, FMA, F16C).
#[derive(Clone, Copy)]
pub(crate) struct Avx512(());

/// Proof of the above and BF16.
#[derive(Clone, Copy)]
pub(crate) struct Avx512Bf16(Avx512);

/// Begins a kernel's code on a cache line. Otherwise every change anywhere in the program moves its loops about within
/// lines, which made a decode step 3 to 4 % slower or faster.
#[inline(always)]
fn on_a_line() {
    // SAFETY: nothing but padding.
    unsafe { asm!(".p2align 6", options(nomem, nostack, preserves_flags)) };
}

pub(super) fn run<K: Kernel>(isa: Isa, kernel: K) -> K::Out {
    assert!(isa.level() >= Level::Avx512);
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
    fn compiled<K: Kernel>(kernel: K) -> K::Out {
        on_a_line();
        kernel.run(Avx512(()))
    }
    // SAFETY: the probe executed this level's instructions.
    unsafe { compiled(kernel) }
}

pub(super) fn run_bf16<K: Bf16Kernel>(isa: Isa, kernel: K) -> K::Out {
    assert!(isa.level() >= Level::Avx512Bf16);
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16,avx2,fma,f16c")]
    fn compiled<K: Bf16Kernel>(kernel: K) -> K::Out {
        on_a_line();
        kernel.run(Avx512Bf16(Avx512(())))
    }
    // SAFETY: the probe executed this level's instructions.
    unsafe { compiled(kernel) }
}

/// Intrinsics of the level that `self` proves.
macro_rules! proven {
    ($($body:tt)*) => {{
        // SAFETY: a value of the token type exists only where the probe executed the level's instructions; loads and
        // stores go through references to arrays of the vector's size.
        unsafe { $($body)* }
    }};
}

/// Folds the upper half of a register onto the lower one until one lane is left.
macro_rules! fold {
    ($v:expr, $op256:ident, $op128:ident, $op1:ident) => {{
        let v = $op256(_mm512_castps512_ps256($v), _mm512_extractf32x8_ps::<1>($v));
        let v = $op128(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
        let v = $op128(v, _mm_movehl_ps(v, v));
        _mm_cvtss_f32($op1(v, _mm_movehdup_ps(v)))
    }};
}

impl Simd for Avx512 {
    type V = __m512;
    type I = __m512i;
    type B = __m512i;
    type N = __m512i;
    type Sums = __m512i;

    #[inline(always)]
    fn splat(self, x: f32) -> Self::V {
        proven!(_mm512_set1_ps(x))
    }
    #[inline(always)]
    fn load(self, from: &[f32; LANES]) -> Self::V {
        proven!(_mm512_loadu_ps(from.as_ptr()))
    }
    #[inline(always)]
    fn store(self, v: Self::V, to: &mut [f32; LANES]) {
        proven!(_mm512_storeu_ps(to.as_mut_ptr(), v));
    }
    #[inline(always)]
    fn add(self, a: Self::V, b: Self::V) -> Self::V {
        proven!(_mm512_add_ps(a, b))
    }
    #[inline(always)]
    fn sub(self, a: Self::V, b: Self::V) -> Self::V {
        proven!(_mm512_sub_ps(a, b))
    }
    #[inline(always)]
    fn mul(self, a: Self::V, b: Self::V) -> Self::V {
        proven!(_mm512_mul_ps(a, b))
    }
    #[inline(always)]
    fn div(self, a: Self::V, b: Self::V) -> Self::V {
        proven!(_mm512_div_ps(a, b))
    }
    #[inline(always)]
    fn max(self, a: Self::V, b: Self::V) -> Self::V {
        proven!(_mm512_max_ps(a, b))
    }
    #[inline(always)]
    fn min(self, a: Self::V, b: Self::V) -> Self::V {
        proven!(_mm512_min_ps(a, b))
    }
    #[inline(always)]
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        proven!(_mm512_fmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn round(self, v: Self::V) -> Self::V {
        proven!(_mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(v))
    }
    #[inline(always)]
    fn scale_exp2(self, v: Self::V, n: Self::V) -> Self::V {
        proven!({
            let exponent = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
            _mm512_mul_ps(v, _mm512_castsi512_ps(_mm512_slli_epi32::<23>(exponent)))
        })
    }
    #[inline(always)]
    fn select_ge(self, x: Self::V, y: Self::V, yes: Self::V, no: Self::V) -> Self::V {
        proven!(_mm512_mask_mov_ps(no, _mm512_cmp_ps_mask::<_CMP_GE_OQ>(x, y), yes))
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
        proven!({
            let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.as_ptr().cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide))
        })
    }
    #[inline(always)]
    fn load_bf16_pairs(self, from: &[u16; 2 * LANES]) -> (Self::V, Self::V) {
        proven!({
            let pairs = _mm512_loadu_si512(from.as_ptr().cast());
            let odd = _mm512_and_si512(pairs, _mm512_set1_epi32(0xffff_0000u32.cast_signed()));
            (_mm512_castsi512_ps(_mm512_slli_epi32::<16>(pairs)), _mm512_castsi512_ps(odd))
        })
    }
    #[inline(always)]
    fn load_f16(self, from: &[u16; LANES]) -> Self::V {
        proven!(_mm512_cvtph_ps(_mm256_loadu_si256(from.as_ptr().cast())))
    }

    #[inline(always)]
    fn load_i8_pairs(self, from: &[i8; 2 * LANES]) -> (Self::V, Self::V) {
        proven!({
            let both = _mm512_cvtepi16_epi32(_mm256_loadu_si256(from.as_ptr().cast()));
            let even = _mm512_srai_epi32::<24>(_mm512_slli_epi32::<24>(both));
            (_mm512_cvtepi32_ps(even), _mm512_cvtepi32_ps(_mm512_srai_epi32::<8>(both)))
        })
    }
    #[inline(always)]
    fn transpose(self, block: &mut [[u32; LANES]; LANES]) {
        proven!({
            let mut rows = [_mm512_setzero_si512(); LANES];
            for (row, from) in rows.iter_mut().zip(&*block) {
                *row = _mm512_loadu_si512(from.as_ptr().cast());
            }
            // Four by four in every quarter of a register, and then the quarters.
            let mut fours = rows;
            for i in (0..LANES).step_by(4) {
                let (low, high) = (
                    _mm512_unpacklo_epi32(rows[i], rows[i + 1]),
                    _mm512_unpackhi_epi32(rows[i], rows[i + 1]),
                );
                let (low2, high2) = (
                    _mm512_unpacklo_epi32(rows[i + 2], rows[i + 3]),
                    _mm512_unpackhi_epi32(rows[i + 2], rows[i + 3]),
                );
                fours[i] = _mm512_unpacklo_epi64(low, low2);
                fours[i + 1] = _mm512_unpackhi_epi64(low, low2);
                fours[i + 2] = _mm512_unpacklo_epi64(high, high2);
                fours[i + 3] = _mm512_unpackhi_epi64(high, high2);
            }
            for i in 0..4 {
                let (a, b, c, d) = (fours[i], fours[i + 4], fours[i + 8], fours[i + 12]);
                let (even, odd) = (_mm512_shuffle_i32x4::<0x88>(a, b), _mm512_shuffle_i32x4::<0xdd>(a, b));
                let (even2, odd2) = (_mm512_shuffle_i32x4::<0x88>(c, d), _mm512_shuffle_i32x4::<0xdd>(c, d));
                let columns = [
                    _mm512_shuffle_i32x4::<0x88>(even, even2),
                    _mm512_shuffle_i32x4::<0x88>(odd, odd2),
                    _mm512_shuffle_i32x4::<0xdd>(even, even2),
                    _mm512_shuffle_i32x4::<0xdd>(odd, odd2),
                ];
                for (quarter, column) in columns.into_iter().enumerate() {
                    _mm512_storeu_si512(block[4 * quarter + i].as_mut_ptr().cast(), column);
                }
            }
        });
    }
    #[inline(always)]
    fn to_i8(self, v: Self::V) -> [i8; LANES] {
        let mut out = [0; LANES];
        proven!({
            let bytes = _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(v));
            _mm_storeu_si128(out.as_mut_ptr().cast(), bytes);
        });
        out
    }
    #[inline(always)]
    fn first(self, v: Self::V) -> f32 {
        proven!(_mm512_cvtss_f32(v))
    }

    #[inline(always)]
    fn splat_i32(self, x: i32) -> Self::I {
        proven!(_mm512_set1_epi32(x))
    }
    #[inline(always)]
    fn add_i32(self, a: Self::I, b: Self::I) -> Self::I {
        proven!(_mm512_add_epi32(a, b))
    }
    #[inline(always)]
    fn to_f32(self, i: Self::I) -> Self::V {
        proven!(_mm512_cvtepi32_ps(i))
    }
    #[inline(always)]
    fn bytes(self, from: &[u8; 64]) -> Self::B {
        proven!(_mm512_loadu_si512(from.as_ptr().cast()))
    }
    #[inline(always)]
    fn nibbles(self, from: &[u8; 64]) -> (Self::N, Self::N) {
        proven!({
            let (both, low) = (_mm512_loadu_si512(from.as_ptr().cast()), _mm512_set1_epi8(15));
            (_mm512_and_si512(both, low), _mm512_and_si512(_mm512_srli_epi16::<4>(both), low))
        })
    }
    #[inline(always)]
    fn sums(self, acc: Self::I) -> Self::I {
        acc
    }
    #[inline(always)]
    fn dot4(self, sums: Self::I, w: Self::B, x: i32) -> Self::I {
        proven!(_mm512_dpbusd_epi32(sums, w, _mm512_set1_epi32(x)))
    }
    #[inline(always)]
    fn dot4_nibbles(self, sums: Self::I, w: Self::N, x: i32) -> Self::I {
        self.dot4(sums, w, x)
    }
    #[inline(always)]
    fn total(self, sums: Self::I) -> Self::I {
        sums
    }
}

/// The same lanes as [`Avx512`].
macro_rules! delegate {
    ($(fn $name:ident($($arg:ident: $ty:ty),*) $(-> $out:ty)?;)*) => {
        $(#[inline(always)]
        fn $name(self, $($arg: $ty),*) $(-> $out)? {
            self.0.$name($($arg),*)
        })*
    };
}

impl Simd for Avx512Bf16 {
    type V = __m512;
    type I = __m512i;
    type B = __m512i;
    type N = __m512i;
    type Sums = __m512i;

    delegate! {
        fn splat(x: f32) -> __m512;
        fn load(from: &[f32; LANES]) -> __m512;
        fn store(v: __m512, to: &mut [f32; LANES]);
        fn add(a: __m512, b: __m512) -> __m512;
        fn sub(a: __m512, b: __m512) -> __m512;
        fn mul(a: __m512, b: __m512) -> __m512;
        fn div(a: __m512, b: __m512) -> __m512;
        fn max(a: __m512, b: __m512) -> __m512;
        fn min(a: __m512, b: __m512) -> __m512;
        fn fma(a: __m512, b: __m512, c: __m512) -> __m512;
        fn round(v: __m512) -> __m512;
        fn scale_exp2(v: __m512, n: __m512) -> __m512;
        fn select_ge(x: __m512, y: __m512, yes: __m512, no: __m512) -> __m512;
        fn sum(v: __m512) -> f32;
        fn max_lane(v: __m512) -> f32;
        fn load_bf16(from: &[u16; LANES]) -> __m512;
        fn load_bf16_pairs(from: &[u16; 2 * LANES]) -> (__m512, __m512);
        fn load_f16(from: &[u16; LANES]) -> __m512;
        fn load_i8_pairs(from: &[i8; 2 * LANES]) -> (__m512, __m512);
        fn transpose(block: &mut [[u32; LANES]; LANES]);
        fn to_i8(v: __m512) -> [i8; LANES];
        fn first(v: __m512) -> f32;
        fn splat_i32(x: i32) -> __m512i;
        fn add_i32(a: __m512i, b: __m512i) -> __m512i;
        fn to_f32(i: __m512i) -> __m512;
        fn bytes(from: &[u8; 64]) -> __m512i;
        fn nibbles(from: &[u8; 64]) -> (__m512i, __m512i);
        fn sums(acc: __m512i) -> __m512i;
        fn dot4(sums: __m512i, w: __m512i, x: i32) -> __m512i;
        fn dot4_nibbles(sums: __m512i, w: __m512i, x: i32) -> __m512i;
        fn total(sums: __m512i) -> __m512i;
    }

    #[inline(always)]
    fn store_bf16(self, v: __m512, to: &mut [u16; LANES]) {
        proven!({
            let rounded = std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(v));
            _mm256_storeu_si256(to.as_mut_ptr().cast(), rounded);
        });
    }
}

impl Bf16Dot for Avx512Bf16 {
    #[inline(always)]
    fn dot_bf16(self, acc: __m512, w: __m512i, x: [u16; 2]) -> __m512 {
        let x = i32::from(x[0]) | i32::from(x[1].cast_signed()) << 16;
        proven!({
            let x = _mm512_set1_epi32(x);
            // Only the type of the bits changes.
            let w = std::mem::transmute::<__m512i, __m512bh>(w);
            let x = std::mem::transmute::<__m512i, __m512bh>(x);
            _mm512_dpbf16_ps(acc, w, x)
        })
    }

    #[inline(always)]
    fn load_i32(self, from: &[i32; LANES]) -> __m512i {
        proven!(_mm512_loadu_si512(from.as_ptr().cast()))
    }
    #[inline(always)]
    fn offset_to_f32(self, i: __m512i) -> __m512 {
        proven!(_mm512_sub_ps(_mm512_castsi512_ps(i), _mm512_set1_ps(f32::from_bits(WHOLE as u32))))
    }
    #[inline(always)]
    fn join_bf16(self, first: __m512, second: __m512) -> __m512i {
        proven!({
            let low = _mm512_srli_epi32::<16>(_mm512_castps_si512(first));
            _mm512_or_si512(low, _mm512_castps_si512(second))
        })
    }
    #[inline(always)]
    fn dequantize(self, bytes: __m512i, scale: __m512, bias: __m512) -> (__m512i, __m512i) {
        proven!({
            let low = _mm512_set1_epi32(0xff);
            let value = |q: __m512i| _mm512_fmadd_ps(_mm512_cvtepi32_ps(q), scale, bias);
            let values = [
                value(_mm512_and_si512(bytes, low)),
                value(_mm512_and_si512(_mm512_srli_epi32::<8>(bytes), low)),
                value(_mm512_and_si512(_mm512_srli_epi32::<16>(bytes), low)),
                value(_mm512_srli_epi32::<24>(bytes)),
            ];
            // Words 0, 16, 1, 17, …
            let lanes =
                _mm512_cvtepu8_epi32(_mm_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
            let order = _mm512_or_si512(
                lanes,
                _mm512_slli_epi32::<16>(_mm512_add_epi32(lanes, _mm512_set1_epi32(16))),
            );
            let pair = |first: __m512, second: __m512| {
                let words = std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(second, first));
                _mm512_permutexvar_epi16(order, words)
            };
            (pair(values[0], values[1]), pair(values[2], values[3]))
        })
    }
    #[inline(always)]
    fn store_bf16_twice(self, first: __m512, second: __m512, to: &mut [u16; 2 * LANES]) {
        proven!({
            let rounded = std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(second, first));
            _mm512_storeu_si512(to.as_mut_ptr().cast(), rounded);
        });
    }
    #[inline(always)]
    fn round_bf16(self, v: __m512) -> __m512 {
        proven!({
            let rounded = std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(v));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(rounded)))
        })
    }
    #[inline(always)]
    fn scale_exp2_bits(self, v: __m512, n: __m512) -> __m512 {
        proven!({
            let n = _mm512_slli_epi32::<23>(_mm512_castps_si512(n));
            _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(v), n))
        })
    }
    #[inline(always)]
    fn any_above(self, x: __m512, y: __m512) -> bool {
        proven!(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(x, y) != 0)
    }
    #[inline(always)]
    fn words(self, v: __m512) -> [__m512i; 2] {
        proven!({
            let word = _mm512_and_si512(_mm512_cvtps_epi32(v), _mm512_set1_epi32(0xffff));
            let twice = _mm512_or_si512(word, _mm512_slli_epi32::<16>(word));
            [_mm512_unpacklo_epi32(twice, twice), _mm512_unpackhi_epi32(twice, twice)]
        })
    }
    #[inline(always)]
    fn requantize(self, bytes: __m512i, factor: [__m512i; 2], offset: [__m512i; 2]) -> __m512i {
        proven!({
            let zero = _mm512_setzero_si512();
            let (low, high) = (_mm512_unpacklo_epi8(bytes, zero), _mm512_unpackhi_epi8(bytes, zero));
            let low = _mm512_add_epi16(_mm512_mullo_epi16(low, factor[0]), offset[0]);
            let high = _mm512_add_epi16(_mm512_mullo_epi16(high, factor[1]), offset[1]);
            _mm512_packs_epi16(_mm512_srai_epi16::<8>(low), _mm512_srai_epi16::<8>(high))
        })
    }
    #[inline(always)]
    fn store_bytes(self, b: __m512i, to: &mut [u8; 64]) {
        proven!(_mm512_storeu_si512(to.as_mut_ptr().cast(), b));
    }
}
