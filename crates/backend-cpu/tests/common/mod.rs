//! Random data, weights in memory, and the levels of this machine.

#![allow(dead_code, missing_docs, unreachable_pub)]

use half::{bf16, f16};
use millrace_backend::{Backend, BackendError, Encoding, MatrixSource, Tensor, dequantize_row};
use millrace_backend_cpu::{CpuBackend, Level};

/// SplitMix64.
pub struct Random(pub u64);

impl Random {
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }
    /// Below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.bits() % n as u64) as usize
    }
    /// Roughly normal.
    pub fn value(&mut self) -> f32 {
        let sum: f32 = (0..4).map(|_| (self.bits() >> 40) as f32 / (1 << 24) as f32 - 0.5).sum();
        sum * 1.7
    }
    pub fn values(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.value()).collect()
    }
    pub fn shuffled(&mut self, range: std::ops::Range<u32>) -> Vec<u32> {
        let mut all: Vec<u32> = range.collect();
        for i in (1..all.len()).rev() {
            all.swap(i, self.below(i + 1));
        }
        all
    }
}

/// The levels to test, lowest first; says which are missing.
pub fn levels() -> Vec<Level> {
    let supported = Level::supported();
    for level in Level::ALL {
        let verdict = if supported.contains(&level) { "testing" } else { "not on this machine, skipped" };
        eprintln!("level {}: {verdict}", level.name());
    }
    supported
}

pub fn cpu(level: Level, threads: usize) -> CpuBackend {
    CpuBackend::with_level(level, threads).unwrap()
}

/// A tensor with these values.
pub fn tensor(backend: &mut impl Backend, rows: usize, values: &[f32]) -> Tensor {
    let tensor = backend.alloc(rows, values.len() / rows).unwrap();
    backend.write(tensor, values);
    tensor
}

/// Weights in memory.
#[derive(Clone)]
pub enum Weights {
    Dense { encoding: Encoding, cols: usize, values: Vec<f32> },
    Affine { bits: u32, group: usize, cols: usize, q: Vec<u8>, scales: Vec<f32>, biases: Vec<f32> },
}

impl Weights {
    /// Random ones; every value is exact in the encoding. Integers get biases that are not symmetric.
    pub fn random(random: &mut Random, encoding: Encoding, rows: usize, cols: usize) -> Self {
        match encoding {
            Encoding::Affine { bits, group } => {
                let groups = rows * cols / group;
                // Each kind of constants that backends tell apart.
                let round = |x: f32| match (bits, group) {
                    (4, 32) => bf16::from_f32(x).to_f32(),
                    (4, _) => f16::from_f32(x).to_f32(),
                    _ => x,
                };
                let scales: Vec<f32> = (0..groups).map(|_| round(random.value() * 0.02)).collect();
                let biases = (0..groups).map(|_| round(random.value())).collect();
                let q = (0..rows * cols).map(|_| (random.bits() % (1 << bits)) as u8).collect();
                Self::Affine { bits, group, cols, q, scales, biases }
            }
            dense => {
                let values = random.values(rows * cols).into_iter();
                let values = values.map(|x| match dense {
                    Encoding::F16 => f16::from_f32(x).to_f32(),
                    Encoding::Bf16 => bf16::from_f32(x).to_f32(),
                    _ => x,
                });
                Self::Dense { encoding, cols, values: values.collect() }
            }
        }
    }
}

impl MatrixSource for Weights {
    fn rows(&self) -> usize {
        match self {
            Self::Dense { cols, values, .. } => values.len() / cols,
            Self::Affine { cols, q, .. } => q.len() / cols,
        }
    }
    fn cols(&self) -> usize {
        match self {
            Self::Dense { cols, .. } | Self::Affine { cols, .. } => *cols,
        }
    }
    fn encoding(&self) -> Encoding {
        match self {
            Self::Dense { encoding, .. } => *encoding,
            Self::Affine { bits, group, .. } => Encoding::Affine { bits: *bits, group: *group },
        }
    }
    fn read_dense(&mut self, index: usize, out: &mut [f32]) -> Result<(), BackendError> {
        match self {
            Self::Dense { cols, values, .. } => out.copy_from_slice(&values[index * *cols..][..*cols]),
            Self::Affine { group, cols, q, scales, biases, .. } => {
                let groups = *cols / *group;
                let (scales, biases) = (&scales[index * groups..], &biases[index * groups..]);
                dequantize_row(&q[index * *cols..][..*cols], *group, scales, biases, out);
            }
        }
        Ok(())
    }
    fn read_affine(
        &mut self,
        index: usize,
        q: &mut [u8],
        scales: &mut [f32],
        biases: &mut [f32],
    ) -> Result<(), BackendError> {
        let Self::Affine { cols, q: all, scales: all_scales, biases: all_biases, .. } = self else {
            return Err(BackendError::Weight("these weights are dense".into()));
        };
        q.copy_from_slice(&all[index * *cols..][..*cols]);
        let groups = scales.len();
        scales.copy_from_slice(&all_scales[index * groups..][..groups]);
        biases.copy_from_slice(&all_biases[index * groups..][..groups]);
        Ok(())
    }
}

/// Fails unless every element is within `tolerance(index)` of the expected one.
pub fn assert_close(what: &str, got: &[f32], expected: &[f32], tolerance: impl Fn(usize) -> f32) {
    assert_eq!(got.len(), expected.len(), "{what}: length");
    for (index, (got, expected)) in got.iter().zip(expected).enumerate() {
        let limit = tolerance(index);
        assert!(
            (got - expected).abs() <= limit,
            "{what}: element {index} is {got}, not {expected} ± {limit:e}"
        );
    }
}

pub fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}
