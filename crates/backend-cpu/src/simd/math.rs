//! Vector versions of the functions that kernels need.

use super::{Bf16Dot, Simd};

/// e^x, relative error below 2.5e-7 (two units in the last place).
///
/// 0 for x < −87.3 (no denormals), saturates at e^88.3, NaN stays NaN. Cody–Waite reduction by ln 2 and a polynomial
/// of degree 7 (coefficients of Cephes' `expf`).
#[inline(always)]
pub(crate) fn exp<S: Simd>(s: S, x: S::V) -> S::V {
    let low = s.splat(-87.3);
    // In this order of operands a NaN in x survives both.
    let clamped = s.max(low, s.min(s.splat(88.3), x));
    let n = s.round(s.mul(clamped, s.splat(std::f32::consts::LOG2_E)));
    let r = s.fma(n, s.splat(-0.693_359_4), clamped);
    let r = s.fma(n, s.splat(2.121_944_4e-4), r);
    let mut p = s.splat(1.987_569_1e-4);
    for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5, 1.0, 1.0] {
        p = s.fma(p, r, s.splat(coefficient));
    }
    let value = s.scale_exp2(p, n);
    // Below the limit, zero; for NaN the comparison is false too, but 0 · NaN is NaN.
    s.select_ge(x, low, value, s.mul(s.splat(0.0), clamped_nan(s, x)))
}

/// 2^x for x ≤ 127, relative error below 2.5e-7; exact at 0.
///
/// 0 for x ≤ −126 (no denormals), NaN stays NaN. A polynomial of degree 5 between −½ and ½, with the smallest largest
/// relative error among those with the value and the slope of 2^x at 0 (fitted with Lawson's algorithm).
#[inline(always)]
pub(crate) fn exp2<S: Simd>(s: S, x: S::V) -> S::V {
    let low = s.splat(-126.0);
    let clamped = s.max(low, x);
    let n = s.round(clamped);
    let r = s.sub(clamped, n);
    let mut p = s.splat(1.330_060_5e-3);
    for coefficient in [9.669_691e-3, 5.550_558_5e-2, 2.402_228_3e-1, std::f32::consts::LN_2, 1.0] {
        p = s.fma(p, r, s.splat(coefficient));
    }
    s.select_ge(low, x, s.splat(0.0), s.scale_exp2(p, n))
}

/// 2^x for x ≤ 127, relative error below 1.1e-4, a quarter of what rounding to bf16 makes of it at most; exact at 0, and
/// exactly 0 for x ≤ −127. A polynomial of degree 3, fitted as that of [`exp2`] with the value at 0.
#[inline(always)]
pub(crate) fn exp2_of_weights<S: Bf16Dot>(s: S, x: S::V) -> S::V {
    // Added to it, a number loses its fraction: what is left stands in the lowest bits.
    let magic = s.splat(12_582_912.0);
    let clamped = s.max(s.splat(-127.0), x);
    let whole = s.add(clamped, magic);
    let r = s.sub(clamped, s.sub(whole, magic));
    let mut p = s.splat(5.500_893e-2);
    for coefficient in [2.422_109_7e-1, 6.932_833e-1, 1.0] {
        p = s.fma(p, r, s.splat(coefficient));
    }
    s.scale_exp2_bits(p, whole)
}

/// x where it is NaN, else something finite.
#[inline(always)]
fn clamped_nan<S: Simd>(s: S, x: S::V) -> S::V {
    s.max(s.splat(0.0), s.min(s.splat(0.0), x))
}

/// x · sigmoid(x).
#[inline(always)]
pub(crate) fn silu<S: Simd>(s: S, x: S::V) -> S::V {
    let one = s.splat(1.0);
    s.div(x, s.add(one, exp(s, s.sub(s.splat(0.0), x))))
}

/// GELU by the tanh approximation, with x · (1 + tanh u) / 2 = x · sigmoid(2u).
#[inline(always)]
pub(crate) fn gelu_tanh<S: Simd>(s: S, x: S::V) -> S::V {
    // 2 · √(2/π).
    let slope = s.splat(1.595_769);
    let cube = s.mul(s.mul(x, x), x);
    let twice = s.mul(slope, s.fma(s.splat(0.044_715), cube, x));
    s.div(x, s.add(s.splat(1.0), exp(s, s.sub(s.splat(0.0), twice))))
}

/// x · Φ(x), with 1 − Φ by Abramowitz and Stegun's 7.1.26 (error of Φ below 1e-7).
#[inline(always)]
pub(crate) fn gelu<S: Simd>(s: S, x: S::V) -> S::V {
    let (zero, one) = (s.splat(0.0), s.splat(1.0));
    let z = s.mul(s.max(x, s.sub(zero, x)), s.splat(std::f32::consts::FRAC_1_SQRT_2));
    let t = s.div(one, s.fma(s.splat(0.327_591_1), z, one));
    let mut p = s.splat(1.061_405_4);
    for coefficient in [-1.453_152, 1.421_413_8, -0.284_496_72, 0.254_829_6] {
        p = s.fma(p, t, s.splat(coefficient));
    }
    let decay = exp(s, s.sub(zero, s.mul(z, z)));
    let tail = s.mul(s.mul(s.mul(p, t), decay), s.splat(0.5));
    s.mul(x, s.select_ge(x, zero, s.sub(one, tail), tail))
}

/// tanh x = 1 − 2 / (e^(2x) + 1), absolute error below 3e-7.
#[inline(always)]
pub(crate) fn tanh<S: Simd>(s: S, x: S::V) -> S::V {
    let one = s.splat(1.0);
    let power = exp(s, s.add(x, x));
    s.sub(one, s.div(s.splat(2.0), s.add(power, one)))
}
