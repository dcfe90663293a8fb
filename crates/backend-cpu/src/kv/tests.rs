use half::bf16;
use millrace_backend::HeadLayout;

use super::*;
use crate::level::{Isa, Level};

const HEADS: usize = 2;
const TOKENS: usize = 75;

/// Whatever is written at once is what tokens one by one write.
fn check<E: Element + PartialEq + std::fmt::Debug>(dtype: KvDtype, dim: usize, first: u32) {
    let spec = KvSpec { layers: vec![(HEADS, dim)], num_blocks: 4, block_size: 32, dtype };
    let layout = HeadLayout { q_heads: HEADS, kv_heads: HEADS, head_dim: dim };
    let cols = layout.fused_cols();
    let rows: Vec<f32> = (0..TOKENS * cols).map(|i| (i * 37 % 101) as f32 * 0.31 - 15.0).collect();
    let slots: Vec<u32> = (first..).take(TOKENS).collect();
    let pool = Pool::new(1);
    for level in Level::supported() {
        let isa = Isa::new(level).unwrap();
        let (mut together, mut alone) =
            (Layer::<E>::new(&spec, HEADS, dim).unwrap(), Layer::<E>::new(&spec, HEADS, dim).unwrap());
        together.write(isa, &pool, &rows, layout, &slots).unwrap();
        for (row, slot) in rows.chunks_exact(cols).zip(&slots) {
            alone.write(isa, &pool, row, layout, &[*slot]).unwrap();
        }
        assert!(together.data[..] == alone.data[..], "{level:?} {dtype:?}, dim {dim}, from {first}");
        assert!(together.scales[..] == alone.scales[..], "{level:?} {dtype:?}, dim {dim}, from {first}");
    }
}

#[test]
fn tiles_are_their_tokens() {
    // A whole number of steps of keys; half a step; part of a vector.
    for dim in [64, 80, 36] {
        for first in [0, 5, 16] {
            check::<f32>(KvDtype::F32, dim, first);
            check::<bf16>(KvDtype::Bf16, dim, first);
            check::<i8>(KvDtype::Int8, dim, first);
        }
    }
}
