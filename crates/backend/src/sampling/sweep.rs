//! Passes over a whole row of logits, cut into chunks.
//!
//! What a pass finds in a chunk depends on that chunk alone, and the results are maxima and whole numbers, which can
//! be put together in any order. So a backend may share a row out over threads or lanes as it likes: the bits are
//! the same.

/// Logits per chunk; the last one of a row may be shorter.
pub const CHUNK: usize = 256;

/// The weight of the most likely token: weights have 40 binary places. With fewer than 2²³ tokens, sums fit 64 bits.
pub const ONE: u64 = 1 << 40;

const LANES: usize = 16;

/// Adding this to a float of less than 2²² rounds it to a whole number, which is then in the low bits.
const ROUNDER: f32 = 12_582_912.0;

/// How logits become weights: e^((logit − max) · inverse), and 0 below `floor` and for NaN.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scale {
    /// The largest logit, finite.
    pub max: f32,
    /// 1 / temperature, positive and finite.
    pub inverse: f32,
    /// Smallest logit that counts.
    pub floor: f32,
}

/// What [`Sweep::sums`] adds up.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Term {
    /// [`Scale::weight`].
    Weight(Scale),
    /// 1 for each larger logit.
    Above(f32),
}

/// A way to go over a row; results must be those of [`OneThread`].
pub trait Sweep {
    /// [`maxima`] of a row.
    fn maxima(&self, logits: &[f32], out: &mut [f32]);
    /// [`sums`] of a row.
    fn sums(&self, logits: &[f32], term: Term, out: &mut [u64]);
}

/// From the first chunk to the last.
#[derive(Debug, Clone, Copy)]
pub struct OneThread;

impl Sweep for OneThread {
    fn maxima(&self, logits: &[f32], out: &mut [f32]) {
        maxima(logits, out);
    }

    fn sums(&self, logits: &[f32], term: Term, out: &mut [u64]) {
        sums(logits, term, out);
    }
}

/// The largest logit of each chunk into `out` `[⌈logits / CHUNK⌉]`; NaN counts as −∞.
#[inline(always)]
pub fn maxima(logits: &[f32], out: &mut [f32]) {
    for (chunk, out) in logits.chunks(CHUNK).zip(out) {
        *out = maximum(chunk);
    }
}

/// The sum over each chunk into `out` `[⌈logits / CHUNK⌉]`.
#[inline(always)]
pub fn sums(logits: &[f32], term: Term, out: &mut [u64]) {
    let chunks = logits.chunks(CHUNK).zip(out);
    match term {
        Term::Weight(scale) => chunks.for_each(|(chunk, out)| *out = sum(chunk, |x| scale.weight(x))),
        Term::Above(limit) => chunks.for_each(|(chunk, out)| *out = sum(chunk, |x| u64::from(x > limit))),
    }
}

#[inline(always)]
fn maximum(chunk: &[f32]) -> f32 {
    // Lane by lane, since compilers don't reorder comparisons of floats.
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (whole, rest) = chunk.as_chunks::<LANES>();
    for part in whole {
        for (lane, x) in lanes.iter_mut().zip(part) {
            *lane = larger(*x, *lane);
        }
    }
    lanes.iter().chain(rest).fold(f32::NEG_INFINITY, |max, x| larger(*x, max))
}

/// The second one if the first is NaN.
#[inline(always)]
fn larger(x: f32, max: f32) -> f32 {
    if x > max { x } else { max }
}

#[inline(always)]
fn sum(chunk: &[f32], term: impl Fn(f32) -> u64) -> u64 {
    let mut sum = 0;
    for x in chunk {
        sum += term(*x);
    }
    sum
}

impl Scale {
    /// A logit's weight, at most [`ONE`]; 0 also for what is less likely than the best token by more than 2⁴⁰.
    #[inline(always)]
    pub fn weight(self, logit: f32) -> u64 {
        let weight = exp((logit - self.max) * self.inverse);
        if logit >= self.floor { weight } else { 0 }
    }
}

/// e^x for x ≤ 0 in units of 1 / [`ONE`], with a relative error below 4e-7 or one unit: Cody–Waite reduction and a
/// polynomial of degree 7. Plain arithmetic, so that it vectorises and gives the same bits on every machine.
#[inline(always)]
fn exp(x: f32) -> u64 {
    // Beyond, the result is 0 anyway. NaN goes there too.
    let x = if x > -44.0 { x } else { -44.0 };
    let rounded = x * std::f32::consts::LOG2_E + ROUNDER;
    let n = rounded - ROUNDER;
    let r = (x - n * 0.693_359_4) - n * -2.121_944_4e-4;
    let p = 1.0
        + r * (1.0
            + r * (0.5
                + r * (1.666_666_5e-1
                    + r * (4.166_579_6e-2
                        + r * (8.333_452e-3 + r * (1.398_199_9e-3 + r * 1.987_569_1e-4))))));
    // p is in 0.7..1.42, so p · 2²² has 23 bits: they are the last ones of its sum with 2²³.
    let p = (p * 4_194_304.0 + 8_388_608.0).to_bits() & 0x7f_ffff;
    let halvings = ROUNDER.to_bits().wrapping_sub(rounded.to_bits()) & 63;
    (u64::from(p) << 18) >> halvings
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn exp_is_close(x in -44.0f32..0.0) {
            let exact = f64::from(x).exp() * ONE as f64;
            prop_assert!((exp(x) as f64 - exact).abs() <= 4e-7 * exact + 1.0, "exp({x})");
        }
    }

    #[test]
    fn weights_at_the_edges() {
        let scale = Scale { max: 3.0, inverse: 100.0, floor: -5.0 };
        assert_eq!(scale.weight(3.0), ONE);
        assert_eq!(scale.weight(-4.0), 0);
        assert_eq!(Scale { inverse: 1e-9, ..scale }.weight(-5.1), 0);
        for logit in [f32::NEG_INFINITY, f32::NAN, f32::MIN] {
            assert_eq!(scale.weight(logit), 0, "{logit}");
        }
    }

    #[test]
    fn chunks_are_searched_to_their_ends() {
        for len in [1, 15, 16, 17, CHUNK, CHUNK + 1, 3 * CHUNK - 7] {
            for at in [0, len / 2, len - 1] {
                let mut logits = vec![-2.0; len];
                logits[at] = 5.0;
                let mut found = vec![0.0; len.div_ceil(CHUNK)];
                maxima(&logits, &mut found);
                let expected: Vec<f32> =
                    (0..found.len()).map(|chunk| if chunk == at / CHUNK { 5.0 } else { -2.0 }).collect();
                assert_eq!(found, expected, "{at} of {len}");
                let mut counts = vec![0; found.len()];
                sums(&logits, Term::Above(0.0), &mut counts);
                assert_eq!(counts.iter().sum::<u64>(), 1);
            }
        }
    }
}
