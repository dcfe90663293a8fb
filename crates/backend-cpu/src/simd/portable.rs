//! Plain arrays and loops; the compiler vectorises them with whatever the target guarantees.

use super::{LANES, Simd};

/// No features needed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Portable;

/// Sixteen values in a cache line.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Lanes<T>([T; LANES]);

#[inline(always)]
fn zip(a: Lanes<f32>, b: Lanes<f32>, f: impl Fn(f32, f32) -> f32) -> Lanes<f32> {
    let mut out = a;
    for i in 0..LANES {
        out.0[i] = f(a.0[i], b.0[i]);
    }
    out
}

#[inline(always)]
fn fold(v: Lanes<f32>, f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut v = v.0;
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            v[i] = f(v[i], v[i + half]);
        }
        half /= 2;
    }
    v[0]
}

impl Simd for Portable {
    type V = Lanes<f32>;
    type I = Lanes<i32>;
    type B = [u8; 64];
    type N = [u8; 64];
    type Sums = Lanes<i32>;

    #[inline(always)]
    fn splat(self, x: f32) -> Self::V {
        Lanes([x; LANES])
    }
    #[inline(always)]
    fn load(self, from: &[f32; LANES]) -> Self::V {
        Lanes(*from)
    }
    #[inline(always)]
    fn store(self, v: Self::V, to: &mut [f32; LANES]) {
        *to = v.0;
    }
    #[inline(always)]
    fn add(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| a * b)
    }
    #[inline(always)]
    fn div(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| a / b)
    }
    #[inline(always)]
    fn max(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn min(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        let mut out = c;
        for i in 0..LANES {
            out.0[i] = a.0[i] * b.0[i] + c.0[i];
        }
        out
    }
    #[inline(always)]
    fn round(self, v: Self::V) -> Self::V {
        // Adding and taking away 1.5 · 2^23 rounds to even where the result is small enough to have a fraction.
        const MAGIC: f32 = 12_582_912.0;
        zip(v, v, |x, _| if x.abs() < 4_194_304.0 { ((x + MAGIC) - MAGIC).copysign(x) } else { x })
    }
    #[inline(always)]
    fn scale_exp2(self, v: Self::V, n: Self::V) -> Self::V {
        zip(v, n, |v, n| v * f32::from_bits(((n as i32 + 127) as u32) << 23))
    }
    #[inline(always)]
    fn select_ge(self, x: Self::V, y: Self::V, yes: Self::V, no: Self::V) -> Self::V {
        let mut out = no;
        for i in 0..LANES {
            out.0[i] = if x.0[i] >= y.0[i] { yes.0[i] } else { no.0[i] };
        }
        out
    }
    #[inline(always)]
    fn sum(self, v: Self::V) -> f32 {
        fold(v, |a, b| a + b)
    }
    #[inline(always)]
    fn max_lane(self, v: Self::V) -> f32 {
        fold(v, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    fn load_bf16(self, from: &[u16; LANES]) -> Self::V {
        let mut out = [0.0; LANES];
        for i in 0..LANES {
            out[i] = f32::from_bits(u32::from(from[i]) << 16);
        }
        Lanes(out)
    }
    #[inline(always)]
    fn load_bf16_pairs(self, from: &[u16; 2 * LANES]) -> (Self::V, Self::V) {
        let (mut even, mut odd) = ([0.0; LANES], [0.0; LANES]);
        for i in 0..LANES {
            even[i] = f32::from_bits(u32::from(from[2 * i]) << 16);
            odd[i] = f32::from_bits(u32::from(from[2 * i + 1]) << 16);
        }
        (Lanes(even), Lanes(odd))
    }
    #[inline(always)]
    fn load_f16(self, from: &[u16; LANES]) -> Self::V {
        let mut out = [0.0; LANES];
        for i in 0..LANES {
            out[i] = f16_to_f32(from[i]);
        }
        Lanes(out)
    }
    #[inline(always)]
    fn load_i8_pairs(self, from: &[i8; 2 * LANES]) -> (Lanes<f32>, Lanes<f32>) {
        let (mut even, mut odd) = ([0.0; LANES], [0.0; LANES]);
        for (i, [a, b]) in from.as_chunks().0.iter().enumerate() {
            (even[i], odd[i]) = (f32::from(*a), f32::from(*b));
        }
        (Lanes(even), Lanes(odd))
    }

    #[inline(always)]
    fn to_i8(self, v: Self::V) -> [i8; LANES] {
        v.0.map(|x| x as i8)
    }

    #[inline(always)]
    fn splat_i32(self, x: i32) -> Self::I {
        Lanes([x; LANES])
    }
    #[inline(always)]
    fn add_i32(self, a: Self::I, b: Self::I) -> Self::I {
        let mut out = a;
        for i in 0..LANES {
            out.0[i] += b.0[i];
        }
        out
    }
    #[inline(always)]
    fn to_f32(self, v: Self::I) -> Self::V {
        let mut out = [0.0; LANES];
        for i in 0..LANES {
            out[i] = v.0[i] as f32;
        }
        Lanes(out)
    }
    #[inline(always)]
    fn bytes(self, from: &[u8; 64]) -> Self::B {
        *from
    }
    #[inline(always)]
    fn nibbles(self, from: &[u8; 64]) -> (Self::N, Self::N) {
        let (mut low, mut high) = (*from, *from);
        for i in 0..64 {
            low[i] &= 15;
            high[i] >>= 4;
        }
        (low, high)
    }
    #[inline(always)]
    fn sums(self, acc: Self::I) -> Self::I {
        acc
    }
    #[inline(always)]
    fn dot4(self, sums: Self::I, w: Self::B, x: i32) -> Self::I {
        let x = x.to_le_bytes().map(|b| i32::from(b.cast_signed()));
        let mut out = sums;
        for i in 0..LANES {
            let mut sum = 0;
            for j in 0..4 {
                sum += i32::from(w[4 * i + j]) * x[j];
            }
            out.0[i] += sum;
        }
        out
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

/// Exact, without branches: shifts exponent and mantissa into place and lets a multiplication renormalise denormals.
#[inline(always)]
fn f16_to_f32(bits: u16) -> f32 {
    let magnitude = u32::from(bits & 0x7fff) << 13;
    // 2^112 moves the exponent bias from 15 to 127.
    let value = f32::from_bits(magnitude) * f32::from_bits((127 + 112) << 23);
    // All ones in the exponent: infinity or NaN, which multiplication alone would make finite.
    let special = if bits & 0x7c00 == 0x7c00 { 0xff << 23 } else { 0 };
    f32::from_bits(value.to_bits() | special | u32::from(bits & 0x8000) << 16)
}
