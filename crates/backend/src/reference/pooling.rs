//! Definitions of what only models that read whole texts need.

use crate::Pool;

/// Layer normalisation of one row, in place.
pub(super) fn layer_normalise(row: &mut [f32], weight: &[f32], bias: Option<&[f32]>, eps: f32) {
    let len = row.len() as f64;
    let mean = row.iter().map(|x| f64::from(*x)).sum::<f64>() / len;
    let variance = row.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / len;
    let factor = 1.0 / (variance + f64::from(eps)).sqrt();
    for (i, x) in row.iter_mut().enumerate() {
        let normed = ((f64::from(*x) - mean) * factor) as f32;
        *x = normed * weight[i] + bias.map_or(0.0, |bias| bias[i]);
    }
}

/// One row out of the rows of a sequence, of which there is at least one.
pub(super) fn pool_rows<'a>(
    mut rows: impl ExactSizeIterator<Item = &'a [f32]> + DoubleEndedIterator,
    how: Pool,
    out: &mut [f32],
) {
    let count = rows.len() as f32;
    match how {
        Pool::First => rows.next().into_iter().for_each(|row| out.copy_from_slice(row)),
        Pool::Last => rows.next_back().into_iter().for_each(|row| out.copy_from_slice(row)),
        Pool::Mean | Pool::MeanSqrtLen => {
            out.fill(0.0);
            rows.for_each(|row| out.iter_mut().zip(row).for_each(|(sum, x)| *sum += x));
            let divisor = if how == Pool::Mean { count } else { count.sqrt() };
            out.iter_mut().for_each(|sum| *sum /= divisor);
        }
        Pool::Max => {
            out.fill(f32::NEG_INFINITY);
            rows.for_each(|row| out.iter_mut().zip(row).for_each(|(max, x)| *max = max.max(*x)));
        }
    }
}

/// The error function, by the series 2/√π · e^(−x²) · Σ 2ⁿ x^(2n+1) / (2n+1)!! whose terms all have one sign.
pub(super) fn erf(x: f64) -> f64 {
    // Beyond, one minus it is below 2e-17.
    if x.abs() > 6.0 {
        return x.signum();
    }
    let (mut term, mut sum, mut n) = (x, x, 0.0);
    while term.abs() > 1e-18 * sum.abs() {
        n += 1.0;
        term *= 2.0 * x * x / (2.0 * n + 1.0);
        sum += term;
    }
    2.0 / std::f64::consts::PI.sqrt() * (-x * x).exp() * sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_function_has_its_known_values() {
        // Abramowitz and Stegun, table 7.1.
        for (x, known) in [(0.0, 0.0), (0.5, 0.520_499_877_8), (1.0, 0.842_700_792_9), (2.0, 0.995_322_265_0)]
        {
            assert!((erf(x) - known).abs() < 1e-10, "{x}: {}", erf(x));
            assert!((erf(-x) + known).abs() < 1e-10);
        }
        assert_eq!((erf(7.0), erf(f64::INFINITY), erf(-40.0)), (1.0, 1.0, -1.0));
        assert!(erf(f64::NAN).is_nan());
    }
}
