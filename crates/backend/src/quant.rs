//! The one in-memory family of integer quantization: grouped, affine, along the input dimension.
//!
//! value = scale · q + bias with q in `0..2^bits`. What Millrace quantizes itself is symmetric:
//! bias = −2^(bits−1) · scale exactly, so that kernels can fold it into integer arithmetic.

/// Columns per scale of quantized activations; weight groups are multiples of it.
pub const GROUP: usize = 32;

/// Quantizes one row, `values.len() / group` groups. 8 bit: scale = max|x| / 127. 4 bit: the value of largest
/// magnitude becomes −8 · scale (llama.cpp's Q4_0 rule; the scale may be negative).
///
/// `q` `[cols]`, `scales` and `biases` `[cols / group]`.
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
        let extreme = chunk.iter().copied().fold(0.0f32, |m, x| if x.abs() > m.abs() { x } else { m });
        let scale = if bits == 8 { extreme.abs() / 127.0 } else { extreme / -zero };
        let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
        scales[index] = scale;
        biases[index] = -zero * scale;
        for (q, x) in q[index * group..].iter_mut().zip(chunk) {
            *q = ((x * inverse).round_ties_even() + zero).clamp(0.0, 2.0 * zero - 1.0) as u8;
        }
    }
}

/// The inverse of [`quantize_row`], for any scales and biases.
pub fn dequantize_row(q: &[u8], group: usize, scales: &[f32], biases: &[f32], out: &mut [f32]) {
    for (index, chunk) in out.chunks_mut(group).enumerate() {
        for (out, q) in chunk.iter_mut().zip(&q[index * group..]) {
            *out = scales[index] * f32::from(*q) + biases[index];
        }
    }
}

/// Quantizes activations for integer weights: per group of [`GROUP`] columns, scale = max|x| / 127 and
/// q = round-half-even(x · (127 / max|x|)). `q` `[cols]`, `scales` and `sums` (Σq per group) `[⌈cols / GROUP⌉]`.
///
/// This is the definition: a faster version must give the same bits.
pub fn quantize_activations(row: &[f32], q: &mut [i8], scales: &mut [f32], sums: &mut [i32]) {
    for (index, chunk) in row.chunks(GROUP).enumerate() {
        let max = chunk.iter().fold(0.0f32, |m, x| m.max(x.abs()));
        let inverse = if max == 0.0 { 0.0 } else { 127.0 / max };
        scales[index] = max / 127.0;
        let mut sum = 0;
        for (q, x) in q[index * GROUP..].iter_mut().zip(chunk) {
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

    proptest! {
        #[test]
        fn values_come_back_within_half_a_step(values in prop::collection::vec(-3.0f32..3.0, 128), bits in prop::sample::select(vec![4u32, 8]), group in prop::sample::select(vec![32usize, 64, 128])) {
            let (mut q, mut scales, mut biases) = (vec![0; 128], vec![0.0; 4], vec![0.0; 4]);
            quantize_row(&values, bits, group, &mut q, &mut scales, &mut biases);
            let mut back = vec![0.0; 128];
            dequantize_row(&q, group, &scales, &biases, &mut back);
            for (i, (x, y)) in values.iter().zip(&back).enumerate() {
                // The 4-bit range is -8..=7: the far end of the other sign may be cut by one step.
                let step = scales[i / group].abs() * if bits == 4 { 1.01 } else { 0.501 };
                prop_assert!((x - y).abs() <= step, "{x} became {y}, scale {}", scales[i / group]);
            }
        }

        #[test]
        fn activations_come_back_within_half_a_step(row in prop::collection::vec(-100.0f32..100.0, 1..100)) {
            let groups = row.len().div_ceil(GROUP);
            let (mut q, mut scales, mut sums) = (vec![0i8; row.len()], vec![0.0; groups], vec![0; groups]);
            quantize_activations(&row, &mut q, &mut scales, &mut sums);
            for (i, x) in row.iter().enumerate() {
                prop_assert!((x - f32::from(q[i]) * scales[i / GROUP]).abs() <= 0.501 * scales[i / GROUP]);
            }
            let total: i32 = q.iter().map(|q| i32::from(*q)).sum();
            prop_assert_eq!(total, sums.iter().sum::<i32>());
        }
    }
}
