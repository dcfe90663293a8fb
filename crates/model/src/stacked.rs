//! Several matrices one above the other, read as one: fused q, k, v and gate, up projections.

use millrace_backend::{BackendError, Encoding, MatrixSource, RawRow};

/// Row-wise concatenation of sources with equal columns. Sources of different encodings are brought to a common one
/// that holds the values of all of them.
pub(crate) struct Stacked<'a> {
    parts: Vec<Box<dyn MatrixSource + 'a>>,
    encoding: Encoding,
}

impl<'a> Stacked<'a> {
    /// Stacks `parts` in order; there is at least one and all have the same columns.
    pub(crate) fn new(parts: Vec<Box<dyn MatrixSource + 'a>>) -> Self {
        let encodings = parts.iter().map(|part| part.encoding());
        let encoding = encodings.reduce(common_encoding).unwrap_or(Encoding::F32);
        Self { parts, encoding }
    }

    /// The part that holds row `index`, and the row's index in it.
    fn part(&mut self, mut index: usize) -> Result<(&mut (dyn MatrixSource + 'a), usize), BackendError> {
        for part in &mut self.parts {
            if index < part.rows() {
                return Ok((part.as_mut(), index));
            }
            index -= part.rows();
        }
        Err(BackendError::Weight(format!("a fused weight was read {index} rows past its end")))
    }
}

impl MatrixSource for Stacked<'_> {
    fn rows(&self) -> usize {
        self.parts.iter().map(|part| part.rows()).sum()
    }

    fn cols(&self) -> usize {
        self.parts.first().map_or(0, |part| part.cols())
    }

    fn encoding(&self) -> Encoding {
        self.encoding
    }

    fn read_dense(&mut self, index: usize, out: &mut [f32]) -> Result<(), BackendError> {
        let (part, index) = self.part(index)?;
        part.read_dense(index, out)
    }

    fn read_affine(
        &mut self,
        index: usize,
        q: &mut [u8],
        scales: &mut [f32],
        biases: &mut [f32],
    ) -> Result<(), BackendError> {
        let group = q.len() / scales.len().max(1);
        let (part, index) = self.part(index)?;
        let Encoding::Affine { group: own, .. } = part.encoding() else {
            return Err(BackendError::Weight(
                "integers were asked of a fused weight with dense parts".into(),
            ));
        };
        // A part with larger groups repeats each scale for the smaller groups within.
        let groups = q.len() / own;
        part.read_affine(index, q, &mut scales[..groups], &mut biases[..groups])?;
        spread(scales, groups, own / group);
        spread(biases, groups, own / group);
        Ok(())
    }

    fn raw_row(&self, mut index: usize) -> Option<RawRow<'_>> {
        for part in &self.parts {
            if index < part.rows() {
                return if part.encoding() == self.encoding { part.raw_row(index) } else { None };
            }
            index -= part.rows();
        }
        None
    }
}

/// Repeats each of the first `count` values `times` times, in place.
fn spread(values: &mut [f32], count: usize, times: usize) {
    if times > 1 {
        for i in (0..count * times).rev() {
            values[i] = values[i / times];
        }
    }
}

/// The narrowest encoding that holds the values of both: integers keep their scales (a 4-bit integer is an 8-bit one
/// too, and a group can be cut), everything else meets in float32.
fn common_encoding(a: Encoding, b: Encoding) -> Encoding {
    match (a, b) {
        (
            Encoding::Affine { bits: a_bits, group: a_group },
            Encoding::Affine { bits: b_bits, group: b_group },
        ) if a_group.is_multiple_of(b_group) || b_group.is_multiple_of(a_group) => {
            Encoding::Affine { bits: a_bits.max(b_bits), group: a_group.min(b_group) }
        }
        _ if a == b => a,
        _ => Encoding::F32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One row per scale: integers 1, 2, 3, … under that scale.
    struct Integers {
        bits: u32,
        group: usize,
        scales: Vec<f32>,
    }

    const COLS: usize = 64;

    impl MatrixSource for Integers {
        fn rows(&self) -> usize {
            self.scales.len()
        }
        fn cols(&self) -> usize {
            COLS
        }
        fn encoding(&self) -> Encoding {
            Encoding::Affine { bits: self.bits, group: self.group }
        }
        fn read_dense(&mut self, index: usize, out: &mut [f32]) -> Result<(), BackendError> {
            let (mut q, groups) = (vec![0; COLS], COLS / self.group);
            let (mut scales, mut biases) = (vec![0.0; groups], vec![0.0; groups]);
            self.read_affine(index, &mut q, &mut scales, &mut biases)?;
            millrace_backend::dequantize_row(&q, self.group, &scales, &biases, out);
            Ok(())
        }
        fn read_affine(
            &mut self,
            index: usize,
            q: &mut [u8],
            scales: &mut [f32],
            biases: &mut [f32],
        ) -> Result<(), BackendError> {
            for (i, q) in q.iter_mut().enumerate() {
                *q = (i % (1 << self.bits)) as u8;
            }
            for (group, (scale, bias)) in scales.iter_mut().zip(biases).enumerate() {
                *scale = self.scales[index] + group as f32;
                *bias = -*scale;
            }
            Ok(())
        }
    }

    #[test]
    fn mixed_integers_keep_every_value() {
        let parts: Vec<Box<dyn MatrixSource>> = vec![
            Box::new(Integers { bits: 4, group: 64, scales: vec![1.0, 2.0] }),
            Box::new(Integers { bits: 8, group: 32, scales: vec![3.0] }),
        ];
        let mut stacked = Stacked::new(parts);
        assert_eq!(stacked.encoding(), Encoding::Affine { bits: 8, group: 32 });
        assert_eq!((stacked.rows(), stacked.cols()), (3, COLS));
        for row in 0..3 {
            let (mut q, mut scales, mut biases) = ([0; COLS], [0.0; 2], [0.0; 2]);
            let (mut direct, mut rebuilt) = ([0.0; COLS], [0.0; COLS]);
            stacked.read_affine(row, &mut q, &mut scales, &mut biases).unwrap();
            stacked.read_dense(row, &mut direct).unwrap();
            millrace_backend::dequantize_row(&q, 32, &scales, &biases, &mut rebuilt);
            assert_eq!(direct, rebuilt, "row {row}");
        }
        assert!(stacked.read_dense(3, &mut [0.0; COLS]).is_err());
    }

    #[test]
    fn encodings_meet_without_loss() {
        let q8 = Encoding::Affine { bits: 8, group: 32 };
        assert_eq!(common_encoding(Encoding::Bf16, Encoding::Bf16), Encoding::Bf16);
        assert_eq!(common_encoding(Encoding::Bf16, Encoding::F16), Encoding::F32);
        assert_eq!(common_encoding(q8, Encoding::Bf16), Encoding::F32);
        assert_eq!(common_encoding(q8, q8), q8);
    }
}
