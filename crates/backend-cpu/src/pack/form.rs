//! How grouped integers lie in memory.

use half::f16;
use millrace_backend::{BackendError, GROUP};

use super::group_bytes;
use crate::pool::Pool;
use crate::simd::{LANES, LINE};

/// A cache line.
pub(crate) type Line = [u32; LINE / 4];

/// Values that a task looks at.
const CHUNK: usize = 64 << 10;
/// Columns of a block at least: with fewer, constants would end in the middle of lines.
const MIN_COLS: usize = 2 * GROUP;

/// A panel is a row of blocks. A block has the integers of `groups` × [`GROUP`] columns, then their one or two scales,
/// each with its bias if there are any, in whole cache lines: sixteen outputs are one stream from memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Form {
    /// 4 or 8.
    pub(crate) bits: u32,
    /// Columns per scale; a multiple of [`GROUP`].
    pub(crate) group: usize,
    /// Whether scales have biases; else every bias is −2^(bits−1) · scale: a constant zero point.
    pub(crate) affine: bool,
    /// Of scales and biases.
    pub(crate) kind: Kind,
    /// Groups of [`GROUP`] columns in a block.
    pub(crate) groups: usize,
}

/// The type of scales and biases: the narrowest that holds all of them exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Bf16,
    F16,
    F32,
}

/// What the number of columns has to be a multiple of.
pub(super) fn block_cols(group: usize) -> usize {
    group.max(MIN_COLS)
}

impl Form {
    /// For panels of `k` columns, a multiple of [`block_cols`].
    pub(super) fn new(bits: u32, group: usize, affine: bool, kind: Kind, k: usize) -> Self {
        // Lone scales of 16 bits fill half a line; so two blocks become one if that comes out even.
        let alone = group >= MIN_COLS && !affine && kind.width() == 2;
        let cols = if alone && k.is_multiple_of(2 * group) { 2 * group } else { block_cols(group) };
        Self { bits, group, affine, kind, groups: cols / GROUP }
    }

    /// Scales in a block: one or two.
    pub(crate) fn scales(self) -> usize {
        self.groups * GROUP / self.group
    }

    /// Lines of integers in a block.
    pub(crate) fn vectors(self) -> usize {
        self.groups * group_bytes(self.bits) / LINE
    }

    /// Lines of a block.
    pub(crate) fn lines(self) -> usize {
        let constants = self.scales() * if self.affine { 2 } else { 1 };
        self.vectors() + (constants * LANES * self.kind.width()).div_ceil(LINE)
    }

    /// Lines of a panel of `k` columns, which are whole blocks.
    pub(crate) fn panel_lines(self, k: usize) -> usize {
        k / GROUP / self.groups * self.lines()
    }

    /// Whether blocks have the same size, and their parts the same places.
    pub(super) fn is_laid_out_like(self, other: Self) -> bool {
        Self { kind: other.kind, ..self } == other && self.kind.width() == other.kind.width()
    }

    /// Scale number `index` of a block and its bias, for one output.
    pub(crate) fn constants(self, block: &[Line], index: usize, lane: usize) -> (f32, f32) {
        let bytes: &[u8] = bytemuck::cast_slice(&block[self.vectors()..]);
        let get = |vector: usize| self.kind.get(&bytes[(vector * LANES + lane) * self.kind.width()..]);
        if self.affine {
            return (get(2 * index), get(2 * index + 1));
        }
        let scale = get(index);
        (scale, -(super::zero_point(self.bits) as f32) * scale)
    }

    /// Stores scales and biases `[scales][16]` of a block, rounding nothing.
    pub(super) fn store(self, block: &mut [Line], scales: &[f32], biases: &[f32]) {
        let out: &mut [u8] = bytemuck::cast_slice_mut(&mut block[self.vectors()..]);
        let mut places = out.chunks_exact_mut(LANES * self.kind.width());
        for (scales, biases) in scales.chunks_exact(LANES).zip(biases.chunks_exact(LANES)) {
            for values in [Some(scales), self.affine.then_some(biases)].into_iter().flatten() {
                if let Some(place) = places.next() {
                    self.kind.put(values, place);
                }
            }
        }
    }
}

impl Kind {
    /// Bytes of a value.
    pub(crate) fn width(self) -> usize {
        match self {
            Self::Bf16 | Self::F16 => 2,
            Self::F32 => 4,
        }
    }

    /// The narrowest kind that holds all of these exactly.
    pub(super) fn narrowest(pool: &Pool, values: [&[f32]; 2]) -> Result<Self, BackendError> {
        let all = |property: fn(f32) -> bool| {
            Ok::<_, BackendError>(all(pool, values[0], property)? && all(pool, values[1], property)?)
        };
        if all(|x| x.to_bits() & 0xffff == 0)? {
            return Ok(Self::Bf16);
        }
        if all(|x| f16::from_f32(x).to_f32().to_bits() == x.to_bits())? {
            return Ok(Self::F16);
        }
        Ok(Self::F32)
    }

    fn get(self, bytes: &[u8]) -> f32 {
        let word = || u16::from_le_bytes([bytes[0], bytes[1]]);
        match self {
            Self::Bf16 => half::bf16::from_bits(word()).to_f32(),
            Self::F16 => f16::from_bits(word()).to_f32(),
            Self::F32 => f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]),
        }
    }

    fn put(self, values: &[f32], out: &mut [u8]) {
        let words = out.as_chunks_mut().0;
        match self {
            Self::Bf16 => {
                for (out, x) in words.iter_mut().zip(values) {
                    *out = ((x.to_bits() >> 16) as u16).to_le_bytes();
                }
            }
            Self::F16 => {
                for (out, x) in words.iter_mut().zip(values) {
                    *out = f16::from_f32(*x).to_le_bytes();
                }
            }
            Self::F32 => {
                for (out, x) in out.as_chunks_mut().0.iter_mut().zip(values) {
                    *out = x.to_le_bytes();
                }
            }
        }
    }
}

/// Whether all values have a property.
fn all(pool: &Pool, values: &[f32], property: fn(f32) -> bool) -> Result<bool, BackendError> {
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
    use half::bf16;
    use proptest::prelude::*;

    use super::*;

    fn narrowest(values: &[f32]) -> Kind {
        Kind::narrowest(&Pool::new(2), [values, &values[..values.len() / 2]]).unwrap()
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_little_is_kept(
            kind in 0..3,
            raw in prop::collection::vec(any::<u32>(), 4 * LANES),
            bits in prop::sample::select(vec![4, 8]),
            group in prop::sample::select(vec![32, 64, 96, 256]),
            affine: bool,
            k in 1usize..5,
        ) {
            let values: Vec<f32> = raw.iter().map(|bits| match kind {
                0 => bf16::from_bits(*bits as u16).to_f32(),
                1 => f16::from_bits(*bits as u16).to_f32(),
                _ => f32::from_bits(*bits),
            }).map(|x| if x.is_nan() { 1.0 } else { x }).collect();
            let found = narrowest(&values);
            prop_assert!(kind == 2 || found.width() == 2);
            let is_bf16 = values.iter().all(|x| bf16::from_f32(*x).to_f32().to_bits() == x.to_bits());
            prop_assert_eq!(is_bf16, found == Kind::Bf16);
            let form = Form::new(bits, group, affine, found, k * block_cols(group));
            let mut block = vec![[u32::MAX; LINE / 4]; form.lines()];
            let (scales, biases) = values.split_at(2 * LANES);
            let count = form.scales() * LANES;
            form.store(&mut block, &scales[..count], &biases[..count]);
            let bytes = count * found.width() * if affine { 2 } else { 1 };
            let room = (form.lines() - form.vectors()) * LINE;
            prop_assert!(room == bytes || room == bytes + LINE / 2 && k % 2 == 1 && !affine);
            prop_assert!(block[..form.vectors()].iter().all(|line| *line == [u32::MAX; LINE / 4]));
            for at in 0..count {
                let (scale, bias) = form.constants(&block, at / LANES, at % LANES);
                prop_assert_eq!(scale.to_bits(), scales[at].to_bits());
                let zero = -(1i32 << (bits - 1)) as f32;
                let expected = if affine { biases[at] } else { zero * scales[at] };
                prop_assert_eq!(bias.to_bits(), expected.to_bits());
            }
        }
    }

    #[test]
    fn one_wide_value_keeps_all_wide() {
        let mut values = vec![0.5; 3 * CHUNK + 5];
        assert_eq!(narrowest(&values), Kind::Bf16);
        values[2 * CHUNK + 7] = 1.0 / 1024.0 + 1.0;
        assert_eq!(narrowest(&values), Kind::F16);
        *values.last_mut().unwrap() = 0.1;
        assert_eq!(narrowest(&values), Kind::F32);
    }
}
