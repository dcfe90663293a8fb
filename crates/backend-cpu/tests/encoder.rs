//! What models that read whole texts need, against the reference with random shapes.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Random, Weights, assert_close, bits, cpu, levels};
use millrace_backend::reference::ReferenceBackend;
use millrace_backend::{
    Activation, AttentionSpec, Backend, Batch, Encoding, HeadLayout, Mask, Pool, RowIndex, SeqSpan, Span,
    StepResult, Tensor, WeightFormat,
};

/// Runs the same operations on the reference and on every level; `run` returns what to compare.
fn compare(what: &str, tolerance: f32, run: impl Fn(&mut dyn Backend) -> Vec<f32>) {
    let expected = run(&mut ReferenceBackend::new());
    for level in levels() {
        let one = run(&mut cpu(level, 1));
        assert_close(&format!("{what} at {level:?}"), &one, &expected, |i| {
            tolerance * (1.0 + expected[i].abs())
        });
        assert_eq!(bits(&run(&mut cpu(level, 3))), bits(&one), "{what} at {level:?} on three threads");
    }
}

fn input(backend: &mut dyn Backend, rows: usize, values: &[f32]) -> Tensor {
    let tensor = backend.alloc(rows, values.len() / rows).unwrap();
    backend.write(tensor, values);
    tensor
}

fn finish(backend: &mut dyn Backend) -> StepResult {
    let ticket = backend.submit();
    let mut result = StepResult::default();
    backend.wait(ticket, &mut result).unwrap();
    result
}

/// Sequences of these lengths.
fn batch(lengths: &[usize]) -> Batch {
    let mut batch = Batch::default();
    for len in lengths {
        let query = Span { start: batch.tokens.len() as u32, len: *len as u32 };
        batch.seqs.push(SeqSpan { query, kv_len: query.len, blocks: Span::default() });
        batch.tokens.extend(0..query.len);
    }
    batch
}

#[test]
fn layer_norms() {
    let mut random = Random(40);
    for (rows, cols) in [(1, 1), (2, 5), (3, 16), (1, 1024), (70, 520), (9, 768)] {
        // A mean far from zero must not cost precision.
        let x: Vec<f32> = random.values(rows * cols).iter().map(|x| x + 3.0).collect();
        let (weight, bias) = (random.values(cols), random.values(cols));
        for with_bias in [true, false] {
            compare("layer_norm", 4e-6, |b| {
                let (x, w) = (input(b, rows, &x), b.load_vector(&weight).unwrap());
                let bias = with_bias.then(|| b.load_vector(&bias).unwrap());
                let out = b.alloc(rows, cols).unwrap();
                b.begin(&Batch::default());
                b.layer_norm(x, w, bias, 1e-5, out);
                finish(b);
                b.read(out)
            });
        }
    }
}

#[test]
fn activations() {
    let mut random = Random(41);
    for (rows, cols) in [(1, 1), (3, 17), (2, 3072), (65, 300)] {
        let x: Vec<f32> = random.values(rows * cols).iter().map(|x| x * 4.0).collect();
        for act in
            [Activation::Gelu, Activation::Relu, Activation::Tanh, Activation::Silu, Activation::GeluTanh]
        {
            compare(&format!("{act:?}"), 2e-6, |b| {
                let (x, out) = (input(b, rows, &x), b.alloc(rows, cols).unwrap());
                b.begin(&Batch::default());
                b.activate(x, act, out);
                finish(b);
                b.read(out)
            });
        }
    }
}

#[test]
fn activations_of_numbers_out_of_the_common() {
    let x = [-100.0, -20.0, -9.0, -0.0, 0.0, 1e-30, 9.0, 20.0, 100.0, 1e30];
    for act in [Activation::Gelu, Activation::Relu, Activation::Tanh] {
        compare(&format!("{act:?}"), 2e-6, |b| {
            let (x, out) = (input(b, 1, &x), b.alloc(1, x.len()).unwrap());
            b.begin(&Batch::default());
            b.activate(x, act, out);
            finish(b);
            b.read(out)
        });
    }
}

#[test]
fn embeddings_sums_and_factors() {
    let mut random = Random(42);
    let (tokens, hidden) = (7, 52);
    let table = Weights::random(&mut random, Encoding::F32, 20, hidden);
    let (x, y) = (random.values(tokens * hidden), random.values(tokens * hidden));
    let mut batch = batch(&[tokens]);
    batch.positions = (0..tokens as u32).map(|p| 19 - p).collect();
    batch.token_types = vec![0, 0, 1, 1, 1, 0, 1];
    compare("add_embedding", 1e-6, |b| {
        let table = b.load_matrix(&mut table.clone(), WeightFormat::Native).unwrap();
        let (x, y) = (input(b, tokens, &x), input(b, tokens, &y));
        b.begin(&batch);
        b.add_embedding(table, RowIndex::Positions, x);
        b.add_embedding(table, RowIndex::TokenTypes, x);
        b.scale(x, 1.7);
        // Only the first rows.
        b.add(x.first(3), y);
        finish(b);
        b.read(x)
    });
}

#[test]
fn attention_within_a_batch() {
    let mut random = Random(43);
    for (q_heads, kv_heads, head_dim) in [(2, 2, 16), (4, 2, 32), (3, 1, 20), (1, 1, 64), (6, 6, 8)] {
        let heads = HeadLayout { q_heads, kv_heads, head_dim };
        for lengths in [vec![1], vec![3, 1, 40], vec![7, 8, 9, 17], vec![100, 33]] {
            let batch = batch(&lengths);
            let tokens = batch.tokens.len();
            let qkv: Vec<f32> = random.values(tokens * heads.fused_cols()).iter().map(|x| x * 2.0).collect();
            for (mask, window) in [
                (Mask::Bidirectional, None),
                (Mask::Bidirectional, Some(1)),
                (Mask::Bidirectional, Some(1 + random.below(40))),
                (Mask::Causal, None),
                (Mask::Causal, Some(1 + random.below(40))),
            ] {
                let spec = AttentionSpec { heads, scale: 0.3, window };
                compare(&format!("{mask:?} {window:?} {lengths:?} {heads:?}"), 2e-5, |b| {
                    let (qkv, out) = (input(b, tokens, &qkv), b.alloc(tokens, heads.q_cols()).unwrap());
                    b.begin(&batch);
                    b.attend(qkv, &spec, mask, out);
                    finish(b);
                    b.read(out)
                });
            }
        }
    }
}

#[test]
fn a_sequences_attention_does_not_depend_on_its_neighbours() {
    let mut random = Random(44);
    let heads = HeadLayout { q_heads: 2, kv_heads: 1, head_dim: 24 };
    let spec = AttentionSpec { heads, scale: 0.2, window: None };
    let qkv = random.values(150 * heads.fused_cols());
    for level in levels() {
        let run = |lengths: &[usize], qkv: &[f32]| {
            let mut b = cpu(level, 2);
            let batch = batch(lengths);
            let tokens = batch.tokens.len();
            let (qkv, out) = (input(&mut b, tokens, qkv), b.alloc(tokens, heads.q_cols()).unwrap());
            b.begin(&batch);
            b.attend(qkv, &spec, Mask::Bidirectional, out);
            finish(&mut b);
            b.read(out)
        };
        let all = run(&[90, 13, 47], &qkv);
        let alone = run(&[13], &qkv[90 * heads.fused_cols()..103 * heads.fused_cols()]);
        assert_eq!(bits(&all[90 * heads.q_cols()..103 * heads.q_cols()]), bits(&alone), "{level:?}");
    }
}

#[test]
fn pooling_and_collecting() {
    let mut random = Random(45);
    for (lengths, cols) in [(vec![1], 1), (vec![5, 1, 30], 20), (vec![2, 9, 3, 1], 384)] {
        let batch = batch(&lengths);
        let x = random.values(batch.tokens.len() * cols);
        for how in [Pool::First, Pool::Last, Pool::Mean, Pool::MeanSqrtLen, Pool::Max] {
            compare(&format!("{how:?}"), 2e-6, |b| {
                let x = input(b, batch.tokens.len(), &x);
                let out = b.alloc(2, cols).unwrap();
                b.begin(&batch);
                for first in (0..lengths.len()).step_by(2) {
                    let out = out.first(2.min(lengths.len() - first));
                    b.pool(x, how, first, out);
                    b.collect(out);
                }
                finish(b).collected
            });
        }
    }
}
