//! The one in-memory family of integer quantization: grouped, affine, along the input dimension.
//!
//! value = scale · q + bias with q in `0..2^bits`. What Millrace quantizes itself is symmetric with bf16 scales:
//! bias = −2^(bits−1) · scale exactly, so that kernels can fold it into integer arithmetic.

/// Columns per scale of quantized activations; weight groups are multiples of it.
pub const GROUP: usize = 32;

/// Values that [`quantize_row`] compares at a time.
const LANES: usize = 16;

/// 1.5 · 2²³: adding it rounds a small float to a whole number, ties to even, which then lies in the lowest bits.
const TO_WHOLE: f32 = 12_582_912.0;

/// Quantizes one row, `values.len() / group` groups. 8 bit: scale = max|x| / 127. 4 bit: the value of largest
/// magnitude becomes −8 · scale (llama.cpp's Q4_0 rule; the scale may be negative). Scales are rounded to bf16, which
/// holds the biases exactly too, and integers are made with the rounded scale.
///
/// `q` `[cols]`, `scales` and `biases` `[cols / group]`.
///
/// Always inlined and made of loops that vectorise: a caller compiled for more instructions gets them, and the bits
/// stay the same.
#[inline(always)]
pub fn quantize_row(
    values: &[f32],
    bits: u32,
    group: usize,
    q: &mut [u8],
    scales: &mut [f32],
    biases: &mut [f32],
) {
    let zero = (1u32 << (bits - 1)) as f32;
    for (index, chunk) in values.chunks(group).enumerate() {
        let extreme = extreme(chunk);
        let exact = if bits == 8 { extreme.abs() / 127.0 } else { extreme / -zero };
        let scale = half::bf16::from_f32(exact).to_f32();
        // Infinite for a scale of zero or next to it: all integers mean zero then.
        let inverse = 1.0 / scale;
        let inverse = if inverse.is_finite() { inverse } else { 0.0 };
        scales[index] = scale;
        biases[index] = -zero * scale;
        let top = 2.0 * zero - 1.0;
        for (q, x) in q[index * group..].iter_mut().zip(chunk) {
            let level = (x * inverse + TO_WHOLE) - TO_WHOLE + zero;
            // NaN becomes 0.
            let level = if level > 0.0 { level } else { 0.0 };
            let level = if level < top { level } else { top };
            *q = (level + TO_WHOLE).to_bits() as u8;
        }
    }
}

/// The value of largest magnitude; the positive one of two, 0 for no value. NaN counts as nothing.
#[inline(always)]
fn extreme(values: &[f32]) -> f32 {
    let (mut low, mut high) = ([0.0f32; LANES], [0.0f32; LANES]);
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for i in 0..LANES {
            low[i] = if chunk[i] < low[i] { chunk[i] } else { low[i] };
            high[i] = if chunk[i] > high[i] { chunk[i] } else { high[i] };
        }
    }
    let low = low.iter().chain(rest).copied().fold(0.0f32, |a, b| if b < a { b } else { a });
    let high = high.iter().chain(rest).copied().fold(0.0f32, |a, b| if b > a { b } else { a });
    if -low > high { low } else { high }
}

/// The inverse of [`quantize_row`], for any scales and biases.
pub fn dequantize_row(q: &[u8], group: usize, scales: &[f32], biases: &[f32], out: &mut [f32]) {
    for (index, chunk) in out.chunks_mut(group).enumerate() {
        for (out, q) in chunk.iter_mut().zip(&q[index * group..]) {
            *out = scales[index] * f32::from(*q) + biases[index];
        }
    }
}

/// Columns of activations that share a scale, beside weights with a scale per `group` columns: twice [`GROUP`] where
/// that divides the weights' groups, which halves the conversions from integers, else [`GROUP`].
pub fn activation_group(group: usize) -> usize {
    if group.is_multiple_of(2 * GROUP) { 2 * GROUP } else { GROUP }
}

/// Quantizes activations for integer weights: per `group` columns, scale = max|x| / 127 and
/// q = round-half-even(x · (127 / max|x|)), or zero where that factor is not finite. NaN becomes zero.
/// `q` `[cols]`, `scales` and `sums` (Σq per group) `[⌈cols / group⌉]`.
///
/// This is the definition: a faster version must give the same bits.
pub fn quantize_activations(row: &[f32], group: usize, q: &mut [i8], scales: &mut [f32], sums: &mut [i32]) {
    for (index, chunk) in row.chunks(group).enumerate() {
        let max = chunk.iter().fold(0.0f32, |m, x| m.max(x.abs()));
        let inverse = 127.0 / max;
        let inverse = if inverse.is_finite() { inverse } else { 0.0 };
        scales[index] = max / 127.0;
        let mut sum = 0;
        for (q, x) in q[index * group..].iter_mut().zip(chunk) {
            *q = (x * inverse).round_ties_even() as i8;
            sum += i32::from(*q);
        }
        sums[index] = sum;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// [`quantize_row`] in plain words, one group.
    fn plain(values: &[f32], bits: u32) -> (Vec<u8>, f32) {
        let zero = if bits == 4 { 8.0 } else { 128.0 };
        let (mut low, mut high) = (0.0f32, 0.0f32);
        for x in values {
            (low, high) = (low.min(*x), high.max(*x));
        }
        let largest = if low.abs() > high { low } else { high };
        let scale =
            half::bf16::from_f32(if bits == 4 { largest / -8.0 } else { largest.abs() / 127.0 }).to_f32();
        let q = values.iter().map(|x| {
            let level = if (1.0 / scale).is_infinite() { 0.0 } else { (x * (1.0 / scale)).round_ties_even() };
            (level + zero).max(0.0).min(2.0 * zero - 1.0) as u8
        });
        (q.collect(), scale)
    }

    proptest! {
        #[test]
        fn rows_are_quantized_as_defined(
            values in prop::collection::vec(prop_oneof![8 => -3.0f32..3.0, 1 => Just(0.0), 1 => prop::num::f32::NORMAL | prop::num::f32::SUBNORMAL], 192),
            bits in prop::sample::select(vec![4u32, 8]),
            group in prop::sample::select(vec![8usize, 32, 64, 96]),
        ) {
            let (mut q, mut scales, mut biases) = (vec![0; 192], vec![0.0; 24], vec![0.0; 24]);
            quantize_row(&values, bits, group, &mut q, &mut scales, &mut biases);
            for (index, chunk) in values.chunks(group).enumerate() {
                let (expected, scale) = plain(chunk, bits);
                prop_assert_eq!(&q[index * group..][..group], &expected);
                prop_assert_eq!(scales[index].to_bits(), scale.to_bits());
                let bias = half::bf16::from_f32(biases[index]);
                prop_assert_eq!(bias.to_f32(), biases[index], "biases are exact in bf16");
                prop_assert_eq!(biases[index], if bits == 4 { -8.0 } else { -128.0 } * scale);
            }
        }

        #[test]
        fn values_come_back_within_half_a_step(values in prop::collection::vec(-3.0f32..3.0, 128), bits in prop::sample::select(vec![4u32, 8]), group in prop::sample::select(vec![32usize, 64, 128])) {
            let (mut q, mut scales, mut biases) = (vec![0; 128], vec![0.0; 4], vec![0.0; 4]);
            quantize_row(&values, bits, group, &mut q, &mut scales, &mut biases);
            let mut back = vec![0.0; 128];
            dequantize_row(&q, group, &scales, &biases, &mut back);
            for (i, (x, y)) in values.iter().zip(&back).enumerate() {
                // The 4-bit range is -8..=7: the far end of the other sign may be cut by one step. The rounded scale
                // may be 1/256 too small, so that the extreme is cut by that share of itself.
                let step = scales[i / group].abs() * if bits == 4 { 1.05 } else { 0.501 };
                prop_assert!((x - y).abs() <= step, "{x} became {y}, scale {}", scales[i / group]);
            }
        }

        #[test]
        fn activations_come_back_within_half_a_step(
            row in prop::collection::vec(-100.0f32..100.0, 1..150),
            weights in prop::sample::select(vec![32usize, 64, 96, 128]),
        ) {
            let group = activation_group(weights);
            let groups = row.len().div_ceil(group);
            let (mut q, mut scales, mut sums) = (vec![0i8; row.len()], vec![0.0; groups], vec![0; groups]);
            quantize_activations(&row, group, &mut q, &mut scales, &mut sums);
            for (i, x) in row.iter().enumerate() {
                prop_assert!((x - f32::from(q[i]) * scales[i / group]).abs() <= 0.501 * scales[i / group]);
            }
            let total: i32 = q.iter().map(|q| i32::from(*q)).sum();
            prop_assert_eq!(total, sums.iter().sum::<i32>());
        }
    }
}
