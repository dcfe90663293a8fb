use proptest::prelude::*;

use super::*;
use crate::level::{Isa, Level};

fn every_isa() -> Vec<Isa> {
    Level::supported().into_iter().map(|level| Isa::new(level).unwrap()).collect()
}

/// Applies every operation once and returns all results as bits.
struct Everything<'a> {
    a: &'a [f32; LANES],
    b: &'a [f32; LANES],
    c: &'a [f32; LANES],
    halves: &'a [u16; 2 * LANES],
    bytes: &'a [u8; 64],
    x: i32,
}

struct Results {
    /// The same at every level.
    exact: Vec<u32>,
    /// The same where `fma` rounds once.
    fused: Vec<u32>,
}

impl Kernel for Everything<'_> {
    type Out = Results;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Results {
        let (a, b, c) = (s.load(self.a), s.load(self.b), s.load(self.c));
        let (even, odd) = s.load_bf16_pairs(self.halves);
        let (low, high) = self.halves.split_at(LANES);
        let (low, high): (&[u16; LANES], &[u16; LANES]) = (low.try_into().unwrap(), high.try_into().unwrap());
        let n = s.round(s.min(s.max(a, s.splat(-126.0)), s.splat(127.0)));
        let start = s.splat_i32(self.x);
        let (low_nibbles, high_nibbles) = s.nibbles(self.bytes);
        let vectors = [
            s.add(a, b),
            s.sub(a, b),
            s.mul(a, b),
            s.div(a, b),
            s.max(a, b),
            s.min(a, b),
            s.round(a),
            s.scale_exp2(s.splat(1.5), n),
            s.select_ge(a, b, b, c),
            even,
            odd,
            s.load_bf16(low),
            s.load_f16(high),
            s.load_partial(&self.a[..5]),
            s.to_f32(start),
            s.to_f32(s.add_i32(start, s.splat_i32(self.x >> 8))),
            s.to_f32(s.total(s.dot4(s.sums(start), s.bytes(self.bytes), self.x))),
            s.to_f32(s.total(s.dot4_nibbles(s.sums(start), low_nibbles, self.x))),
            s.to_f32(s.total(s.dot4_nibbles(s.sums(start), high_nibbles, self.x))),
        ];
        let mut exact = Vec::new();
        let mut lanes = [0.0; LANES];
        for v in vectors {
            s.store(v, &mut lanes);
            exact.extend(lanes.map(canonical));
        }
        exact.push(canonical(s.sum(b)));
        exact.push(canonical(s.max_lane(b)));
        let mut fused = Vec::new();
        let exponentials = [math::exp(s, a), math::exp2(s, a), math::silu(s, a)];
        let gelus = [math::gelu_tanh(s, b), math::gelu(s, b), math::tanh(s, a)];
        for v in [s.fma(a, b, c)].into_iter().chain(exponentials).chain(gelus) {
            s.store(v, &mut lanes);
            fused.extend(lanes.map(canonical));
        }
        Results { exact, fused }
    }
}

/// All NaNs are one: their payloads are nobody's business.
fn canonical(x: f32) -> u32 {
    if x.is_nan() { f32::NAN.to_bits() } else { x.to_bits() }
}

proptest! {
    #[test]
    fn levels_agree(
        a in prop::array::uniform16(-200.0f32..200.0),
        b in prop::array::uniform16(-3.0f32..3.0),
        c in prop::array::uniform16(prop::num::f32::ANY),
        halves in prop::array::uniform32(prop::num::u16::ANY),
        bytes in prop::collection::vec(prop::num::u8::ANY, 64),
        x in prop::num::i32::ANY,
    ) {
        let bytes: &[u8; 64] = bytes.as_slice().try_into().unwrap();
        let all = |isa: Isa| isa.run(Everything { a: &a, b: &b, c: &c, halves: &halves, bytes, x: x >> 4 });
        let isas = every_isa();
        let portable = all(isas[0]);
        let mut first_fused = None;
        for isa in &isas[1..] {
            let results = all(*isa);
            prop_assert_eq!(&results.exact, &portable.exact, "{:?}", isa.level());
            let fused = first_fused.get_or_insert(results.fused.clone());
            prop_assert_eq!(&results.fused, fused, "{:?}", isa.level());
        }
    }
}

#[test]
fn dot4_is_exact_at_the_extremes() {
    struct Dot(u8, i32);
    impl Kernel for Dot {
        type Out = f32;
        #[inline(always)]
        fn run<S: Simd>(self, s: S) -> f32 {
            let mut lanes = [0.0; LANES];
            let sums = s.dot4(s.sums(s.splat_i32(5)), s.bytes(&[self.0; 64]), self.1);
            s.store(s.to_f32(s.total(sums)), &mut lanes);
            lanes[15]
        }
    }
    for isa in every_isa() {
        assert_eq!(isa.run(Dot(255, 0x8080_8080u32.cast_signed())), (5 - 4 * 255 * 128) as f32);
        assert_eq!(isa.run(Dot(255, 0x7f7f_7f7f)), (5 + 4 * 255 * 127) as f32);
    }
}

#[test]
fn eight_steps_of_nibbles_are_exact_at_the_extremes() {
    struct Dots(i32);
    impl Kernel for Dots {
        type Out = f32;
        #[inline(always)]
        fn run<S: Simd>(self, s: S) -> f32 {
            let (w, _) = s.nibbles(&[0xff; 64]);
            let mut sums = s.sums(s.splat_i32(5));
            for _ in 0..8 {
                sums = s.dot4_nibbles(sums, w, self.0);
            }
            let mut lanes = [0.0; LANES];
            s.store(s.to_f32(s.total(sums)), &mut lanes);
            lanes[15]
        }
    }
    for isa in every_isa() {
        assert_eq!(isa.run(Dots(0x8080_8080u32.cast_signed())), (5 - 32 * 15 * 128) as f32);
        assert_eq!(isa.run(Dots(0x7f7f_7f7f)), (5 + 32 * 15 * 127) as f32);
    }
}

/// A function of one vector, lane by lane.
struct Map<F>(F, [f32; LANES]);

macro_rules! map {
    ($name:ident, $function:path) => {
        struct $name;
        impl Kernel for Map<$name> {
            type Out = [f32; LANES];
            #[inline(always)]
            fn run<S: Simd>(self, s: S) -> [f32; LANES] {
                let mut lanes = [0.0; LANES];
                s.store($function(s, s.load(&self.1)), &mut lanes);
                lanes
            }
        }
    };
}

map!(Exp, math::exp);
map!(Exp2, math::exp2);
map!(Silu, math::silu);
map!(Gelu, math::gelu_tanh);

fn sweep(from: f32, to: f32) -> impl Iterator<Item = [f32; LANES]> {
    (0..20_000).map(move |i| {
        std::array::from_fn(|lane| from + (to - from) * (i * LANES + lane) as f32 / (20_000 * LANES) as f32)
    })
}

#[test]
fn exp_is_accurate() {
    for isa in every_isa() {
        for x in sweep(-87.2, 88.2) {
            for (x, y) in x.iter().zip(isa.run(Map(Exp, x))) {
                let exact = f64::from(*x).exp();
                let error = (f64::from(y) - exact).abs() / exact;
                assert!(error < 2.5e-7, "{:?}: exp({x}) is off by {error:e}", isa.level());
            }
        }
        let special = [0.0, -0.0, f32::NEG_INFINITY, -1e30, -87.4, f32::INFINITY, f32::NAN, f32::MIN];
        let mut x = [0.0; LANES];
        x[..8].copy_from_slice(&special);
        let y = isa.run(Map(Exp, x));
        assert_eq!(y[..5], [1.0, 1.0, 0.0, 0.0, 0.0]);
        assert!(y[5] > 1e38 && y[5].is_finite() && y[6].is_nan() && y[7] == 0.0);
    }
}

#[test]
fn exp2_is_accurate() {
    for isa in every_isa() {
        for x in sweep(-125.9, 0.0) {
            for (x, y) in x.iter().zip(isa.run(Map(Exp2, x))) {
                let exact = f64::from(*x).exp2();
                let error = (f64::from(y) - exact).abs() / exact;
                assert!(error < 2.5e-7, "{:?}: exp2({x}) is off by {error:e}", isa.level());
            }
        }
        let special = [0.0, -0.0, f32::NEG_INFINITY, -1e30, -126.0, f32::MIN, f32::NAN];
        let mut x = [0.0; LANES];
        x[..7].copy_from_slice(&special);
        let y = isa.run(Map(Exp2, x));
        assert_eq!(y[..6], [1.0, 1.0, 0.0, 0.0, 0.0, 0.0]);
        assert!(y[6].is_nan());
    }
}

#[test]
fn activations_are_accurate() {
    for isa in every_isa() {
        for x in sweep(-30.0, 30.0) {
            let (silu, gelu) = (isa.run(Map(Silu, x)), isa.run(Map(Gelu, x)));
            for (i, x) in x.iter().map(|x| f64::from(*x)).enumerate() {
                let exact = x / (1.0 + (-x).exp());
                assert!((f64::from(silu[i]) - exact).abs() <= 1e-6 * exact.abs() + 1e-11, "silu({x})");
                let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x);
                let exact = 0.5 * x * (1.0 + inner.tanh());
                // The tail amplifies the rounding of the exponent.
                assert!((f64::from(gelu[i]) - exact).abs() <= 2e-6 * exact.abs() + 1e-6, "gelu({x})");
            }
        }
    }
}

#[test]
fn every_half_widens_exactly() {
    struct Widen([u16; LANES]);
    impl Kernel for Widen {
        type Out = [f32; LANES];
        #[inline(always)]
        fn run<S: Simd>(self, s: S) -> [f32; LANES] {
            let mut lanes = [0.0; LANES];
            s.store(s.load_f16(&self.0), &mut lanes);
            lanes
        }
    }
    for isa in every_isa() {
        for start in (0..=u16::MAX).step_by(LANES) {
            let bits = std::array::from_fn(|lane| start + lane as u16);
            let wide = isa.run(Widen(bits));
            for (bits, wide) in bits.iter().zip(wide) {
                assert_eq!(canonical(wide), canonical(half::f16::from_bits(*bits).to_f32()), "{bits:#x}");
            }
        }
    }
}

#[test]
fn rows_become_columns() {
    struct Transpose([[u32; LANES]; LANES]);
    impl Kernel for Transpose {
        type Out = [[u32; LANES]; LANES];
        #[inline(always)]
        fn run<S: Simd>(mut self, s: S) -> Self::Out {
            s.transpose(&mut self.0);
            self.0
        }
    }
    let block = std::array::from_fn(|row| std::array::from_fn(|column| (100 * row + column) as u32));
    let expected = std::array::from_fn(|row| std::array::from_fn(|column| (100 * column + row) as u32));
    for isa in every_isa() {
        assert_eq!(isa.run(Transpose(block)), expected, "{:?}", isa.level());
    }
}

#[test]
fn bytes_are_scaled_in_words_that_wrap() {
    struct Requantize([u8; 64], [f32; LANES], [f32; LANES]);
    impl Bf16Kernel for Requantize {
        type Out = [u8; 64];
        #[inline(always)]
        fn run<S: Bf16Dot>(self, s: S) -> [u8; 64] {
            let mut out = [0; 64];
            let (factor, offset) = (s.words(s.load(&self.1)), s.words(s.load(&self.2)));
            s.store_bytes(s.requantize(s.bytes(&self.0), factor, offset), &mut out);
            out
        }
    }
    let bytes: [u8; 64] = std::array::from_fn(|i| (i * 7 % 16) as u8);
    // The largest factors wrap on the way to a sum that does not.
    let factor: [f32; LANES] = std::array::from_fn(|i| 4335.0 - 500.0 * i as f32);
    let offset: [f32; LANES] = std::array::from_fn(|i| -7.5 * factor[i] + 128.0);
    let expected: [u8; 64] = std::array::from_fn(|i| {
        let (factor, offset) = (factor[i / 4] as i32, offset[i / 4].round_ties_even() as i32);
        (i32::from(bytes[i]) * factor + offset).div_euclid(256).clamp(-128, 127) as u8
    });
    for isa in every_isa().into_iter().filter(|isa| isa.has_bf16_dot()) {
        assert_eq!(isa.run_bf16(Requantize(bytes, factor, offset)), expected, "{:?}", isa.level());
    }
}
