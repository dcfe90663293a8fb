//! Scales and biases: in 16 bits where that loses nothing, which is the case for all that checkpoints hold in practice.

use half::{bf16, f16};
use millrace_backend::BackendError;

use crate::pool::Pool;
use crate::region::Region;
use crate::shared::SharedMut;
use crate::simd::{LANES, Simd, prefetch};

/// Values that a task looks at.
const CHUNK: usize = 64 << 10;

/// `[panel][k / group][16]`, all in the narrowest type that holds every value exactly.
pub(crate) enum Constants {
    Bf16(Region<u16>),
    F16(Region<u16>),
    F32(Region<f32>),
}

impl Constants {
    /// Narrows values if no value changes.
    pub(super) fn narrow(pool: &Pool, values: Region<f32>) -> Result<Self, BackendError> {
        if all(pool, &values, |x| x.to_bits() & 0xffff == 0)? {
            return Ok(Self::Bf16(convert(pool, &values, |x| (x.to_bits() >> 16) as u16)?));
        }
        if all(pool, &values, |x| f16::from_f32(x).to_f32().to_bits() == x.to_bits())? {
            return Ok(Self::F16(convert(pool, &values, |x| f16::from_f32(x).to_bits())?));
        }
        Ok(Self::F32(values))
    }

    /// Bytes of a value.
    pub(crate) fn width(&self) -> usize {
        match self {
            Self::Bf16(_) | Self::F16(_) => 2,
            Self::F32(_) => 4,
        }
    }

    pub(crate) fn get(&self, index: usize) -> f32 {
        match self {
            Self::Bf16(values) => bf16::from_bits(values[index]).to_f32(),
            Self::F16(values) => f16::from_bits(values[index]).to_f32(),
            Self::F32(values) => values[index],
        }
    }

    /// All of them, sixteen at a time.
    pub(crate) fn vectors(&self) -> Vectors<'_> {
        match self {
            Self::Bf16(values) => Vectors::Bf16(values.as_chunks().0),
            Self::F16(values) => Vectors::F16(values.as_chunks().0),
            Self::F32(values) => Vectors::F32(values.as_chunks().0),
        }
    }
}

/// Borrowed constants: `[panel][k / group]` vectors.
#[derive(Clone, Copy)]
pub(crate) enum Vectors<'a> {
    Bf16(&'a [[u16; LANES]]),
    F16(&'a [[u16; LANES]]),
    F32(&'a [[f32; LANES]]),
}

impl<'a> Vectors<'a> {
    /// The vectors if they are bf16.
    #[inline(always)]
    pub(crate) fn as_bf16(self) -> Option<&'a [[u16; LANES]]> {
        match self {
            Self::Bf16(vectors) => Some(vectors),
            _ => None,
        }
    }

    /// One vector as floats.
    #[inline(always)]
    pub(crate) fn load<S: Simd>(self, s: S, index: usize) -> S::V {
        match self {
            Self::Bf16(vectors) => s.load_bf16(&vectors[index]),
            Self::F16(vectors) => s.load_f16(&vectors[index]),
            Self::F32(vectors) => s.load(&vectors[index]),
        }
    }

    /// Vectors from `first` on as floats, for loops that have no room for a choice of types.
    #[inline(always)]
    pub(crate) fn widen<S: Simd>(self, s: S, first: usize, out: &mut [[f32; LANES]]) {
        let here = first..first + out.len();
        match self {
            Self::Bf16(vectors) => {
                for (out, v) in out.iter_mut().zip(&vectors[here]) {
                    s.store(s.load_bf16(v), out);
                }
            }
            Self::F16(vectors) => {
                for (out, v) in out.iter_mut().zip(&vectors[here]) {
                    s.store(s.load_f16(v), out);
                }
            }
            Self::F32(vectors) => out.copy_from_slice(&vectors[here]),
        }
    }

    /// Asks for a vector, wherever that is.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    pub(crate) fn prefetch_one(self, index: usize) {
        match self {
            Self::Bf16(vectors) | Self::F16(vectors) => {
                prefetch(vectors.as_ptr(), index * size_of::<[u16; LANES]>());
            }
            Self::F32(vectors) => prefetch(vectors.as_ptr(), index * size_of::<[f32; LANES]>()),
        }
    }

    /// Asks for `count` vectors from `first` on, wherever that is.
    #[inline(always)]
    pub(crate) fn prefetch(self, first: usize, count: usize) {
        let (start, size): (*const u8, usize) = match self {
            Self::Bf16(vectors) | Self::F16(vectors) => (vectors.as_ptr().cast(), size_of::<[u16; LANES]>()),
            Self::F32(vectors) => (vectors.as_ptr().cast(), size_of::<[f32; LANES]>()),
        };
        for offset in (first * size..(first + count) * size).step_by(64) {
            prefetch(start, offset);
        }
    }
}

/// Whether all values have a property.
fn all(pool: &Pool, values: &[f32], property: impl Fn(f32) -> bool + Sync) -> Result<bool, BackendError> {
    let failed = std::sync::atomic::AtomicBool::new(false);
    let relaxed = std::sync::atomic::Ordering::Relaxed;
    pool.run(values.len().div_ceil(CHUNK), &|index, _| {
        // No early exit inside a block: that keeps the loop a vector one.
        let blocks = &mut values[index * CHUNK..].chunks(256).take(CHUNK / 256);
        if !failed.load(relaxed) && !blocks.all(|block| block.iter().fold(true, |all, x| all & property(*x)))
        {
            failed.store(true, relaxed);
        }
    })?;
    Ok(!failed.into_inner())
}

fn convert(
    pool: &Pool,
    values: &[f32],
    to_bits: impl Fn(f32) -> u16 + Sync,
) -> Result<Region<u16>, BackendError> {
    let mut narrow = Region::zeroed(values.len(), "weight scales")?;
    let out = SharedMut::new(&mut narrow);
    pool.run(values.len().div_ceil(CHUNK), &|index, _| {
        let first = index * CHUNK;
        let values = &values[first..(first + CHUNK).min(values.len())];
        // SAFETY: each chunk belongs to one task.
        #[allow(unsafe_code)]
        let out = unsafe { out.slice(first, values.len()) };
        for (out, x) in out.iter_mut().zip(values) {
            *out = to_bits(*x);
        }
    })?;
    Ok(narrow)
}

/// Whether every bias is `factor · scale` exactly: a constant zero point.
pub(super) fn are_multiples(
    pool: &Pool,
    biases: &[f32],
    scales: &[f32],
    factor: f32,
) -> Result<bool, BackendError> {
    let failed = std::sync::atomic::AtomicBool::new(false);
    let relaxed = std::sync::atomic::Ordering::Relaxed;
    pool.run(scales.len().div_ceil(CHUNK), &|index, _| {
        let part = index * CHUNK..((index + 1) * CHUNK).min(scales.len());
        let mut pairs = scales[part.clone()].iter().zip(&biases[part]);
        if !pairs.all(|(scale, bias)| *bias == factor * scale) {
            failed.store(true, relaxed);
        }
    })?;
    Ok(!failed.into_inner())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn narrowed(values: &[f32]) -> Constants {
        let mut region = Region::zeroed(values.len(), "a test").unwrap();
        region.copy_from_slice(values);
        Constants::narrow(&Pool::new(2), region).unwrap()
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_little_is_kept(
            kind in 0..3,
            raw in prop::collection::vec(any::<u32>(), 1..200),
        ) {
            let values: Vec<f32> = raw.iter().map(|bits| match kind {
                0 => bf16::from_bits(*bits as u16).to_f32(),
                1 => f16::from_bits(*bits as u16).to_f32(),
                _ => f32::from_bits(*bits),
            }).filter(|x| !x.is_nan()).collect();
            let constants = narrowed(&values);
            for (index, value) in values.iter().enumerate() {
                prop_assert_eq!(constants.get(index).to_bits(), value.to_bits());
            }
            prop_assert!(kind == 2 || constants.width() == 2);
            let is_bf16 = values.iter().all(|x| bf16::from_f32(*x).to_f32().to_bits() == x.to_bits());
            prop_assert_eq!(is_bf16, matches!(constants, Constants::Bf16(_)));
        }
    }

    #[test]
    fn one_wide_value_keeps_all_wide() {
        let mut values = vec![0.5; 3 * CHUNK + 5];
        assert!(matches!(narrowed(&values), Constants::Bf16(_)));
        values[2 * CHUNK + 7] = 1.0 / 1024.0 + 1.0;
        assert!(matches!(narrowed(&values), Constants::F16(_)));
        *values.last_mut().unwrap() = 0.1;
        assert!(matches!(narrowed(&values), Constants::F32(_)));
    }
}
