//! Packs floats as they are: a transposition, sixteen rows at a time.

use bytemuck::{Pod, Zeroable};
use millrace_backend::{BackendError, MatrixSource, RawFloats, RawRow};

use super::load::elements;
use super::rows::by_panels;
use crate::pool::Pool;
use crate::region::{Arena, Region};
use crate::shared::SharedMut;
use crate::simd::LANES;

/// Bytes of a panel that are written before the next row is looked at: they stay in the first-level cache.
const BLOCK: usize = 8 << 10;

/// Panels of `k` padded columns. `N` bytes of a row stay together: an element, or a pair of bf16.
pub(super) fn dense<T: Pod + Zeroable + Send, const N: usize>(
    pool: &Pool,
    arena: &mut Arena,
    source: &mut dyn MatrixSource,
    k: usize,
) -> Result<Region<T>, BackendError> {
    let mut packed = arena.zeroed::<T>(elements(source.rows(), k), "weights")?;
    let bytes = SharedMut::new(bytemuck::cast_slice_mut::<T, u8>(&mut packed));
    let panel_bytes = k * LANES * size_of::<T>();
    by_panels(pool, source, |panel, rows| {
        // SAFETY: each panel is packed by one task.
        #[allow(unsafe_code)]
        let out = unsafe { bytes.slice(panel * panel_bytes, panel_bytes) };
        transpose::<N>(rows, out);
    })?;
    Ok(packed)
}

/// `[rows][units]` to `[units][16]`; what is missing stays as it is.
fn transpose<const N: usize>(rows: &[RawRow<'_>], out: &mut [u8]) {
    let units = BLOCK / N / LANES;
    for (index, out) in out.chunks_mut(BLOCK).enumerate() {
        let (out, _) = out.as_chunks_mut::<N>();
        for (lane, row) in rows.iter().enumerate() {
            let RawRow::Dense(RawFloats::F32(row) | RawFloats::F16(row) | RawFloats::Bf16(row)) = row else {
                continue;
            };
            let begin = (index * units * N).min(row.len());
            let (whole, rest) = row[begin..row.len().min(begin + units * N)].as_chunks::<N>();
            let mut places = out.chunks_exact_mut(LANES);
            for (unit, place) in whole.iter().zip(&mut places) {
                place[lane] = *unit;
            }
            // The first half of a pair.
            if let (false, Some(place)) = (rest.is_empty(), places.next()) {
                place[lane][..rest.len()].copy_from_slice(rest);
            }
        }
    }
}
