//! Which layout a source gets.

use millrace_backend::{BackendError, Encoding, GROUP, MatrixSource, WeightFormat};

use super::dense::dense;
use super::form::block_cols;
use super::integers::integers;
use super::{Packed, Panels};
use crate::level::Isa;
use crate::pool::Pool;
use crate::region::Arena;
use crate::simd::LANES;

/// Packs a weight. Peak memory: the packed copy and a little; the packed copy twice if the first row says the wrong
/// thing about the biases of integers.
pub(crate) fn load(
    isa: Isa,
    pool: &Pool,
    arena: &mut Arena,
    source: &mut dyn MatrixSource,
    format: WeightFormat,
) -> Result<Packed, BackendError> {
    let (rows, cols) = (source.rows(), source.cols());
    if rows == 0 || cols == 0 {
        return Err(unsupported(format!("an empty weight of {rows} × {cols}")));
    }
    let (data, k) = match (source.encoding(), format) {
        (Encoding::Affine { bits, group }, _) | (_, WeightFormat::Quantize { bits, group }) => {
            check_integers(bits, group)?;
            let k = cols.next_multiple_of(block_cols(group));
            (Panels::Int(integers(isa, pool, arena, source, k, bits, group)?), k)
        }
        (Encoding::F32, _) => {
            let k = cols.next_multiple_of(2);
            (Panels::F32(dense::<f32, 4>(pool, arena, source, k)?), k)
        }
        (Encoding::F16, _) => {
            let k = cols.next_multiple_of(2);
            (Panels::F16(dense::<u16, 2>(pool, arena, source, k)?), k)
        }
        (Encoding::Bf16, _) => {
            let k = cols.next_multiple_of(GROUP);
            (Panels::Bf16(dense::<u16, 4>(pool, arena, source, k)?), k)
        }
    };
    Ok(Packed { rows, cols, k, data })
}

pub(super) fn unsupported(what: String) -> BackendError {
    BackendError::Unsupported { device: "cpu", what }
}

fn check_integers(bits: u32, group: usize) -> Result<(), BackendError> {
    if !matches!(bits, 4 | 8) || group == 0 || !group.is_multiple_of(GROUP) {
        return Err(unsupported(format!(
            "{bits}-bit weights in groups of {group}; use 4 or 8 bits and a multiple of {GROUP}"
        )));
    }
    Ok(())
}

/// Elements of a padded weight; an overflow becomes a size that the allocator refuses.
pub(super) fn elements(rows: usize, k: usize) -> usize {
    rows.next_multiple_of(LANES).saturating_mul(k)
}
