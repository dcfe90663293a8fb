//! The tile kernels on a software model of the tile unit (on a machine with one, `tests/attention.rs` runs the same
//! kernels at level Amx).

#![allow(clippy::unwrap_used)]

use millrace_backend::{HeadLayout, KvDtype, KvSpec, SeqSpan, Span};
use millrace_types::BlockId;

use super::tiled::OnLevel;
use super::*;
use crate::kv::KvCache;
use crate::tile::{Hardware, model::Model};

struct Modelled;

impl<E: Bf16Element> Runs<E> for Modelled {
    const ROWS: usize = <tiled::OnTiles<Hardware> as Runs<E>>::ROWS;
    fn room(dim: usize, rows: usize) -> usize {
        <tiled::OnTiles<Hardware> as Runs<E>>::room(dim, rows)
    }
    fn run(isa: Isa, task: Task<'_, E>) {
        isa.run_bf16(OnLevel(task, Model::new()));
    }
}

/// Values without a pattern that an index error could hide in.
fn value(index: usize) -> f32 {
    let bits = (index as u32).wrapping_mul(2_654_435_761) >> 8;
    (bits & 0xffff) as f32 / 32768.0 - 1.0
}

/// Attention of the last `count` of `context` rows.
fn attend<E: Element, U: Runs<E>>(
    isa: Isa,
    kv: &Layer<E>,
    rows: &[f32],
    spec: &AttentionSpec,
    (context, count): (usize, usize),
) -> Vec<f32> {
    let blocks = context.div_ceil(16);
    let batch = Batch {
        block_tables: (0..blocks as u32).map(|b| BlockId(blocks as u32 - b)).collect(),
        seqs: vec![SeqSpan {
            query: Span { start: 0, len: count as u32 },
            kv_len: context as u32,
            blocks: Span { start: 0, len: blocks as u32 },
        }],
        ..Batch::default()
    };
    let mut out = vec![0.0; count * spec.heads.q_cols()];
    let qkv = &rows[(context - count) * spec.heads.fused_cols()..];
    let attention = Attention { isa, pool: &Pool::new(2), batch: &batch, spec, qkv, out: &mut out };
    attention.over::<E, U>(kv, &mut Scratch::default()).unwrap();
    out
}

fn compare<E: Bf16Element>(isa: Isa, kv: &Layer<E>, rows: &[f32], spec: &AttentionSpec, context: usize) {
    let wide = attend::<E, Wide>(isa, kv, rows, spec, (context, context));
    let tiles = attend::<E, Modelled>(isa, kv, rows, spec, (context, context));
    for (index, (a, b)) in wide.iter().zip(&tiles).enumerate() {
        // Queries and weights are rounded to eight bits.
        assert!((a - b).abs() < 6e-3, "{index}: {a} became {b} ({spec:?})");
    }
    for count in [1, 7, 33] {
        let last = attend::<E, Modelled>(isa, kv, rows, spec, (context, count));
        assert_eq!(last, tiles[tiles.len() - last.len()..], "{count} rows alone ({spec:?})");
    }
}

#[test]
fn tiles_agree_with_plain_arithmetic_and_with_themselves() {
    // The conversions around the tiles need a real instruction.
    let Ok(isa) = Isa::new(Level::Avx512Bf16) else { return };
    for (q_heads, kv_heads, head_dim, window) in
        [(4, 2, 64, None), (8, 1, 128, Some(90)), (3, 3, 80, None), (2, 1, 20, Some(3))]
    {
        let heads = HeadLayout { q_heads, kv_heads, head_dim };
        let spec = AttentionSpec { heads, scale: 1.0 / (head_dim as f32).sqrt(), window };
        let context = 150;
        let rows: Vec<f32> = (0..context * heads.fused_cols()).map(value).collect();
        let blocks = context.div_ceil(16);
        let slots: Vec<u32> = (0..context).map(|p| ((blocks - p / 16) * 16 + p % 16) as u32).collect();
        for dtype in [KvDtype::Bf16, KvDtype::Int8] {
            let layers = vec![(kv_heads, head_dim)];
            let mut kv =
                KvCache::new(&KvSpec { layers, num_blocks: blocks + 1, block_size: 16, dtype }).unwrap();
            match &mut kv.layers[0] {
                LayerKv::Bf16(layer) => {
                    layer.write(isa, &Pool::new(1), &rows, heads, &slots).unwrap();
                    compare(isa, layer, &rows, &spec, context);
                }
                LayerKv::Int8(layer) => {
                    layer.write(isa, &Pool::new(1), &rows, heads, &slots).unwrap();
                    compare(isa, layer, &rows, &spec, context);
                }
                LayerKv::F32(_) => unreachable!(),
            }
        }
    }
}
