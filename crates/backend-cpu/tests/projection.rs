//! Queries, keys and values in one pass: the same bits as step by step, in the rows and in the cache.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Random, Weights, bits, cpu, levels, tensor};
use millrace_backend::{
    AttentionSpec, Backend, Batch, Encoding, HeadLayout, KvDtype, KvSpec, Matrix, Projection, QkNorm, Rope,
    SeqSpan, Span, WeightFormat,
};
use millrace_backend_cpu::{CpuBackend, Level};
use millrace_types::BlockId;

const BLOCK: usize = 32;
/// Blocks of a sequence.
const BLOCKS: usize = 20;

/// Sequences one after another: the position of the first row, and how many there are.
fn batch(parts: &[(usize, usize)], prompt_rows: usize) -> Batch {
    let mut batch = Batch { prompt_rows, ..Batch::default() };
    // Blocks of a sequence are neighbours in reverse.
    let block = |seq: usize, index: usize| (seq + 1) * BLOCKS - 1 - index;
    for (seq, (first, count)) in parts.iter().enumerate() {
        let query = Span { start: batch.slots.len() as u32, len: *count as u32 };
        for position in *first..first + count {
            batch.slots.push((block(seq, position / BLOCK) * BLOCK + position % BLOCK) as u32);
            batch.tokens.push(0);
            batch.positions.push(position as u32);
        }
        let blocks = Span { start: batch.block_tables.len() as u32, len: BLOCKS as u32 };
        batch.block_tables.extend((0..BLOCKS).map(|index| BlockId(block(seq, index) as u32)));
        batch.seqs.push(SeqSpan { query, kv_len: (first + count) as u32, blocks });
    }
    batch
}

/// A projection of `heads` with everything that can be there, or nothing.
fn projection(
    backend: &mut CpuBackend,
    random: &mut Random,
    qkv: Matrix,
    heads: HeadLayout,
    all: bool,
) -> Projection {
    let mut vector = |len: usize| backend.load_vector(&random.values(len)).unwrap();
    let dim = heads.head_dim;
    let norm = QkNorm { q: vector(dim), k: vector(dim), eps: 1e-5 };
    let (bias, rope) = (vector(heads.fused_cols()), Rope { inv_freq: vector(dim / 2), magnitude: 1.1 });
    let (bias, norm, rope) = if all { (Some(bias), Some(norm), Some(rope)) } else { (None, None, None) };
    Projection { qkv, bias, heads, norm, rope, layer: None }
}

#[test]
fn a_projection_is_its_steps() {
    // Rows of two blocks of a task that share tiles of the cache; tiles that begin or end in the middle; single tokens.
    let parts = [(0, 77), (5, 600 - 77), (64, 16), (31, 1), (32, 1), (40, 1)];
    let rows: usize = parts.iter().map(|(_, count)| count).sum();
    let formats = [
        (Encoding::Bf16, 192),
        (Encoding::Affine { bits: 4, group: 64 }, 2 * 512 + 64),
        (Encoding::Affine { bits: 4, group: 32 }, 192),
        (Encoding::Affine { bits: 8, group: 32 }, 192),
    ];
    let layouts = [(4, 2, 128), (6, 3, 64), (2, 1, 256), (2, 1, 80)];
    for level in levels() {
        for (case, (encoding, hidden)) in formats.into_iter().enumerate() {
            for (q_heads, kv_heads, head_dim) in layouts {
                // Below, there is but one way.
                if level < Level::Amx && (case > 1 || head_dim != 64) {
                    continue;
                }
                let heads = HeadLayout { q_heads, kv_heads, head_dim };
                let dtype = [KvDtype::Bf16, KvDtype::Int8, KvDtype::F32][(case + q_heads) % 3];
                let (mut random, mut backend) = (Random(7), cpu(level, 2));
                let mut weights = Weights::random(&mut random, encoding, heads.fused_cols(), hidden);
                let qkv = backend.load_matrix(&mut weights, WeightFormat::Native).unwrap();
                let layers = vec![(kv_heads, head_dim); 2];
                let num_blocks = parts.len() * BLOCKS;
                backend.alloc_kv(&KvSpec { layers, num_blocks, block_size: BLOCK, dtype }).unwrap();
                let x = tensor(&mut backend, rows, &random.values(rows * hidden));
                let fused = backend.alloc(rows, heads.fused_cols()).unwrap();
                let out = backend.alloc(rows, heads.q_cols()).unwrap();
                let spec = AttentionSpec { heads, scale: 0.1, window: None };
                for (all, prompt_rows) in
                    [(true, rows - 3), (false, rows - 3), (true, rows), (true, 40), (true, 0)]
                {
                    let projection = projection(&mut backend, &mut random, qkv, heads, all);
                    let batch = batch(&parts, prompt_rows);
                    let mut run = |steps: bool| {
                        let layer = usize::from(steps);
                        let projection = Projection { layer: Some(layer), ..projection };
                        backend.begin(&batch);
                        match steps {
                            true => projection.in_steps(&mut backend, x, fused),
                            false => backend.project(x, &projection, fused),
                        }
                        backend.attention(layer, fused, &spec, out);
                        let ticket = backend.submit();
                        backend.wait(ticket, &mut Default::default()).unwrap();
                        let fused = backend.read(fused);
                        let queries = fused.chunks_exact(heads.fused_cols());
                        let queries: Vec<_> = queries.flat_map(|row| bits(&row[..heads.q_cols()])).collect();
                        (queries, bits(&backend.read(out)))
                    };
                    let (got, expected) = (run(false), run(true));
                    let what = format!(
                        "{level:?} {encoding:?} {dtype:?} {heads:?}, {prompt_rows} of prompts, {all}"
                    );
                    assert!(got.0 == expected.0, "queries, {what}");
                    assert!(got.1 == expected.1, "keys or values, {what}");
                }
            }
        }
    }
}
