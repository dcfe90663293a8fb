//! Random weights out of nothing but a spec, so that any shape can be timed without a download.

use millrace_backend::{BackendError, Encoding, MatrixSource};

use crate::{ModelError, WeightSource};

/// Standard deviation of the weights: what most models are initialised with, so that activations stay finite.
const STD: f32 = 0.02;

/// A source that has every tensor anyone asks for. Weights are a pure function of (seed, tensor name, row, column),
/// uniform with a standard deviation of 0.02, exactly representable in bfloat16; norm weights lie near one.
#[derive(Debug, Clone, Copy)]
pub struct DummyWeights {
    seed: u64,
}

impl DummyWeights {
    /// Equal seeds give equal weights.
    pub fn new(seed: u64) -> Self {
        Self { seed }
    }

    fn stream(&self, name: &str) -> u64 {
        name.bytes().fold(mix(self.seed), |hash, byte| mix(hash ^ u64::from(byte)))
    }
}

impl WeightSource for DummyWeights {
    fn matrix(
        &self,
        module: &str,
        rows: usize,
        cols: usize,
    ) -> Result<Box<dyn MatrixSource + '_>, ModelError> {
        Ok(Box::new(DummyMatrix { stream: self.stream(module), rows, cols }))
    }

    fn vector(&self, name: &str, len: usize) -> Result<Vec<f32>, ModelError> {
        let mut values = vec![0.0; len];
        fill(self.stream(name), &mut values);
        // Without a bias's suffix it scales a norm.
        if !name.ends_with(".bias") {
            values.iter_mut().for_each(|value| *value += 1.0);
        }
        Ok(values)
    }

    fn release(&self, _module: &str) {}

    fn names(&self) -> Vec<String> {
        Vec::new()
    }
}

struct DummyMatrix {
    stream: u64,
    rows: usize,
    cols: usize,
}

impl MatrixSource for DummyMatrix {
    fn rows(&self) -> usize {
        self.rows
    }

    fn cols(&self) -> usize {
        self.cols
    }

    fn encoding(&self) -> Encoding {
        Encoding::Bf16
    }

    fn read_dense(&mut self, index: usize, out: &mut [f32]) -> Result<(), BackendError> {
        fill(mix(self.stream ^ index as u64), out);
        Ok(())
    }

    fn read_affine(
        &mut self,
        _: usize,
        _: &mut [u8],
        _: &mut [f32],
        _: &mut [f32],
    ) -> Result<(), BackendError> {
        Err(BackendError::Weight("random weights are dense and have no integers to read".into()))
    }
}

/// Fills `out` with the values that follow from `seed`: a counter hashed per element, which vectorises.
fn fill(seed: u64, out: &mut [f32]) {
    // A uniform distribution over ±r has the standard deviation r / √3.
    let step = STD * 3f32.sqrt() / (1u32 << 31) as f32;
    let (low, high) = (seed as u32, (seed >> 32) as u32);
    for (counter, value) in out.iter_mut().enumerate() {
        let uniform = hash(low.wrapping_add(counter as u32), high) as i32 as f32 * step;
        // Cut to the upper half of the bits: a bfloat16.
        *value = f32::from_bits(uniform.to_bits() & 0xffff_0000);
    }
}

/// 32-bit finaliser (Chris Wellons' lowbias32), keyed.
fn hash(counter: u32, key: u32) -> u32 {
    let mut x = counter ^ key;
    x = (x ^ (x >> 16)).wrapping_mul(0x7feb_352d);
    x = (x ^ (x >> 15)).wrapping_mul(0x846c_a68b);
    x ^ (x >> 16)
}

/// SplitMix64's step and finaliser (Steele, Lea, Flood 2014).
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(seed: u64, module: &str, rows: usize, cols: usize) -> Vec<f32> {
        let source = DummyWeights::new(seed);
        let mut matrix = source.matrix(module, rows, cols).unwrap();
        let mut values = vec![0.0; rows * cols];
        for (index, row) in values.chunks_exact_mut(cols).enumerate() {
            matrix.read_dense(index, row).unwrap();
        }
        values
    }

    #[test]
    fn weights_have_the_promised_distribution_and_are_bfloat16() {
        let values = rows(1, "mlp.up_proj", 200, 300);
        let mean = values.iter().sum::<f32>() / values.len() as f32;
        let std = (values.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / values.len() as f32).sqrt();
        assert!(mean.abs() < 3e-4, "mean {mean}");
        assert!((std - STD).abs() < 3e-4, "standard deviation {std}");
        assert!(values.iter().all(|v| v.to_bits() & 0xffff == 0));
    }

    #[test]
    fn weights_follow_from_seed_and_place() {
        let values = rows(1, "a", 2, 64);
        assert_eq!(values, rows(1, "a", 2, 64));
        assert_ne!(values, rows(2, "a", 2, 64));
        assert_ne!(values, rows(1, "b", 2, 64));
        assert_ne!(values[..64], values[64..]);
    }

    #[test]
    fn norms_lie_near_one_and_biases_near_zero() {
        let source = DummyWeights::new(0);
        assert!(source.vector("model.norm.weight", 100).unwrap().iter().all(|v| (v - 1.0).abs() < 0.05));
        assert!(source.vector("q_proj.bias", 100).unwrap().iter().all(|v| v.abs() < 0.05));
    }
}
