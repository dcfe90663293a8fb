//! Symmetric grouped quantization, written in MLX's affine form.

use half::bf16;

use crate::Quantization;

/// One quantized row: integers and, per group, scale and bias.
///
/// The bias is always `-2^(bits-1) · scale`, which bfloat16 holds exactly, so that `w = scale · (q - 2^(bits-1))`:
/// integer kernels need no separate bias.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct QuantizedRow {
    /// Integers `0..2^bits`, one per column.
    pub q: Vec<u8>,
    /// One per group. May be negative (see [`quantize_row`]).
    pub scales: Vec<bf16>,
    /// One per group.
    pub biases: Vec<bf16>,
}

/// Quantizes one row, whose length must be a multiple of the group size, into `out`.
///
/// Each group tries two scales and keeps the one with the smaller squared error: the largest magnitude mapped to
/// `2^(bits-1) - 1`, or the largest value mapped to the extra level `-2^(bits-1)` (its scale is negative if that
/// value is positive). The second wins mostly at 4 bits, where one more level counts.
///
/// Returns `false` if a value is not finite or too large for bfloat16.
#[must_use]
pub fn quantize_row(row: &[f32], quantization: Quantization, out: &mut QuantizedRow) -> bool {
    let Quantization { bits, group_size } = quantization;
    let half = f32::from(1u16 << (bits - 1));
    out.q.clear();
    out.scales.clear();
    out.biases.clear();
    for group in row.chunks(group_size) {
        let scale = best_scale(group, half);
        let bias = bf16::from_f32(-half * scale.to_f32());
        if !group.iter().all(|v| v.is_finite()) || !bias.is_finite() {
            return false;
        }
        out.q.extend(group.iter().map(|&v| (level(v, scale.to_f32(), half) + half) as u8));
        out.scales.push(scale);
        out.biases.push(bias);
    }
    true
}

fn best_scale(group: &[f32], half: f32) -> bf16 {
    let extreme = group.iter().copied().fold(0.0f32, |a, b| if b.abs() > a.abs() { b } else { a });
    let balanced = bf16::from_f32(extreme.abs() / (half - 1.0));
    let one_sided = bf16::from_f32(-extreme / half);
    if squared_error(group, one_sided, half) < squared_error(group, balanced, half) {
        one_sided
    } else {
        balanced
    }
}

fn squared_error(group: &[f32], scale: bf16, half: f32) -> f32 {
    let scale = scale.to_f32();
    group.iter().map(|&v| (v - scale * level(v, scale, half)).powi(2)).sum()
}

/// The signed level nearest to `value`, in `-half ..= half - 1`; 0 where the scale is 0 (a group of zeros).
fn level(value: f32, scale: f32, half: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { (value / scale).round_ties_even().clamp(-half, half - 1.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quantized(row: &[f32], bits: u32) -> QuantizedRow {
        let mut out = QuantizedRow::default();
        assert!(quantize_row(row, Quantization { bits, group_size: 32 }, &mut out));
        out
    }

    /// Values with long tails, from a fixed generator.
    fn sample(n: usize) -> Vec<f32> {
        let mut state = 1u64;
        let mut uniform = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
        };
        (0..n).map(|_| (uniform() + uniform() + uniform()) * 0.1).collect()
    }

    #[test]
    fn values_come_back_within_half_a_step() {
        for bits in [4, 8] {
            let row = sample(4096);
            let out = quantized(&row, bits);
            for (i, &value) in row.iter().enumerate() {
                let (scale, bias) = (out.scales[i / 32].to_f32(), out.biases[i / 32].to_f32());
                let back = scale * f32::from(out.q[i]) + bias;
                // Half a step, or a whole one where the largest value is clamped.
                assert!((back - value).abs() <= scale.abs() * 1.01, "{bits} bits: {value} became {back}");
                assert_eq!(bias, -f32::from(1u16 << (bits - 1)) * scale, "symmetric");
            }
            let error: f32 = row
                .iter()
                .enumerate()
                .map(|(i, v)| {
                    (v - out.scales[i / 32].to_f32() * f32::from(out.q[i]) - out.biases[i / 32].to_f32())
                        .abs()
                })
                .sum();
            let step: f32 =
                out.scales.iter().map(|s| s.to_f32().abs()).sum::<f32>() / out.scales.len() as f32;
            assert!(error / 4096.0 < 0.27 * step, "mean error {} of step {step}", error / 4096.0);
        }
    }

    #[test]
    fn zeros_stay_zero_and_exact_levels_stay_exact() {
        let zeros = quantized(&[0.0; 32], 8);
        assert!(zeros.q.iter().all(|&q| q == 128) && zeros.scales[0].to_f32() == 0.0);
        let row: Vec<f32> = (0..32).map(|i| (i % 16 - 8) as f32 * 0.25).collect();
        let exact = quantized(&row, 4);
        let back: Vec<f32> = exact
            .q
            .iter()
            .map(|&q| exact.scales[0].to_f32() * f32::from(q) + exact.biases[0].to_f32())
            .collect();
        assert_eq!(back, row);
    }

    #[test]
    fn values_that_are_not_finite_are_reported() {
        for bad in [f32::NAN, f32::INFINITY, f32::MAX] {
            let mut row = [0.5f32; 32];
            row[7] = bad;
            let mut out = QuantizedRow::default();
            assert!(!quantize_row(&row, Quantization { bits: 8, group_size: 32 }, &mut out), "{bad}");
        }
    }
}
