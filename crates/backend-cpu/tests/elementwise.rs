//! Norms, rotations, activations, gathering and sampling against the reference.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Random, assert_close, bits, cpu, levels, tensor};
use millrace_backend::reference::ReferenceBackend;
use millrace_backend::{
    Activation, Backend, Batch, HeadLayout, Penalties, QkNorm, Rope, SampleKind, SampleSpec, Span,
    StepResult, TokenCount,
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

fn input(backend: &mut dyn Backend, rows: usize, values: &[f32]) -> millrace_backend::Tensor {
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

#[test]
fn norms() {
    let mut random = Random(20);
    for (rows, cols) in [(1, 1), (2, 5), (3, 16), (1, 1024), (70, 520), (9, 4096)] {
        let (x, y, weight) = (random.values(rows * cols), random.values(rows * cols), random.values(cols));
        compare("rms_norm", 2e-6, |b| {
            let (x, w, out) =
                (input(b, rows, &x), b.load_vector(&weight).unwrap(), b.alloc(rows, cols).unwrap());
            b.begin(&Batch::default());
            b.rms_norm(x, w, 1e-6, out);
            finish(b);
            b.read(out)
        });
        compare("add_rms_norm", 2e-6, |b| {
            let (residual, x) = (input(b, rows, &x), input(b, rows, &y));
            let (w, out) = (b.load_vector(&weight).unwrap(), b.alloc(rows, cols).unwrap());
            b.begin(&Batch::default());
            b.add_rms_norm(residual, x, w, 1e-5, out);
            finish(b);
            [b.read(residual), b.read(out)].concat()
        });
    }
}

#[test]
fn normalisation_and_rotation_of_heads() {
    let mut random = Random(21);
    for (heads, rotary) in
        [((2, 1, 16), 16), ((4, 2, 80), 80), ((3, 3, 96), 32), ((16, 8, 128), 128), ((2, 2, 20), 12)]
    {
        let heads = HeadLayout { q_heads: heads.0, kv_heads: heads.1, head_dim: heads.2 };
        for tokens in [1, 37] {
            let positions: Vec<u32> = (0..tokens).map(|_| random.below(40_000) as u32).collect();
            let batch = Batch { positions, ..Batch::default() };
            let qkv = random.values(tokens * heads.fused_cols());
            let (wq, wk) = (random.values(heads.head_dim), random.values(heads.head_dim));
            let inv_freq: Vec<f32> =
                (0..rotary / 2).map(|i| 1e6f32.powf(-2.0 * i as f32 / rotary as f32)).collect();
            for (with_norm, with_rope, magnitude) in
                [(true, true, 1.0), (false, true, 1.3), (true, false, 1.0), (false, false, 1.0)]
            {
                compare("qk_norm_rope", 3e-6, |b| {
                    let qkv = input(b, tokens, &qkv);
                    let (q, k) = (b.load_vector(&wq).unwrap(), b.load_vector(&wk).unwrap());
                    let inv_freq = b.load_vector(&inv_freq).unwrap();
                    b.begin(&batch);
                    let norm = with_norm.then_some(QkNorm { q, k, eps: 1e-6 });
                    b.qk_norm_rope(qkv, heads, norm, with_rope.then_some(Rope { inv_freq, magnitude }));
                    finish(b);
                    b.read(qkv)
                });
            }
        }
    }
}

#[test]
fn rotations_follow_the_positions_of_each_step() {
    let mut random = Random(22);
    let heads = HeadLayout { q_heads: 2, kv_heads: 1, head_dim: 16 };
    let qkv = random.values(3 * heads.fused_cols());
    compare("qk_norm_rope over steps", 3e-6, |b| {
        let buffer = b.alloc(3, heads.fused_cols()).unwrap();
        let (one, two) = (b.load_vector(&[1.0; 8]).unwrap(), b.load_vector(&[0.3; 8]).unwrap());
        let mut all = Vec::new();
        for positions in [vec![5, 6, 7], vec![100], vec![0, 2]] {
            b.write(buffer, &qkv);
            b.begin(&Batch { positions, ..Batch::default() });
            for inv_freq in [one, two, one] {
                b.qk_norm_rope(buffer, heads, None, Some(Rope { inv_freq, magnitude: 1.0 }));
            }
            finish(b);
            all.extend(b.read(buffer));
        }
        all
    });
}

#[test]
fn gated_activations() {
    let mut random = Random(23);
    for (rows, cols) in [(1, 1), (3, 17), (2, 3072), (65, 300)] {
        let both: Vec<f32> = random.values(rows * 2 * cols).iter().map(|x| x * 6.0).collect();
        for act in [Activation::Silu, Activation::GeluTanh] {
            compare("gated_activation", 2e-6, |b| {
                let (x, out) = (input(b, rows, &both), b.alloc(rows, cols).unwrap());
                b.begin(&Batch::default());
                b.gated_activation(x, act, out);
                finish(b);
                b.read(out)
            });
        }
    }
}

#[test]
fn gathers_the_sampled_rows() {
    let x = Random(24).values(10 * 33);
    let batch = Batch { samples: [7, 0, 7, 9].map(SampleSpec::greedy).into(), ..Batch::default() };
    compare("gather_rows", 0.0, |b| {
        let (x, out) = (input(b, 10, &x), b.alloc(3, 33).unwrap());
        b.begin(&batch);
        b.gather_rows(x, 1, out);
        finish(b);
        b.read(out)
    });
}

#[test]
fn samples_like_the_reference() {
    let (mut random, vocab) = (Random(25), 1000);
    let mut batch =
        Batch { masks: vec![0xaaaa_5555; 32], bias: vec![(3, 9.0)], banned: vec![5], ..Batch::default() };
    batch.seen.push(TokenCount { token: 3, generated: 2 });
    for i in 0..40 {
        batch.samples.push(SampleSpec {
            kind: if i % 9 == 8 { SampleKind::Score(i * 3) } else { SampleKind::Sample },
            temperature: [0.0, 0.7, 1.0, 1.5][i as usize % 4],
            top_k: [0, 0, 5][i as usize % 3],
            top_p: [1.0, 0.9][i as usize % 2],
            uniform: i as f32 / 40.0,
            penalties: Penalties { repetition: 1.2, frequency: 0.5, presence: 0.1 },
            seen: Span { start: 0, len: i % 2 },
            bias: Span { start: 0, len: u32::from(i % 5 == 0) },
            banned: Span { start: 0, len: 1 },
            mask: Span { start: 0, len: if i % 7 == 0 { 32 } else { 0 } },
            logprobs: (i % 3 == 0).then_some(i % 6),
            ..SampleSpec::greedy(0)
        });
    }
    let mut logits = random.values(40 * vocab);
    // Ties go to the lowest id.
    logits[10] = 50.0;
    logits[900] = 50.0;
    let run = |b: &mut dyn Backend| {
        b.begin(&batch);
        b.masks(&batch.masks);
        // In two calls, as a decoder with a small buffer of logits does.
        for (first, count) in [(0, 25), (25, 15)] {
            let logits = input(b, count, &logits[first * vocab..(first + count) * vocab]);
            b.sample(logits, first);
        }
        finish(b)
    };
    let expected = run(&mut ReferenceBackend::new());
    assert_eq!(expected.rows.len(), 40);
    for level in levels() {
        for threads in [1, 3] {
            let got = run(&mut cpu(level, threads));
            assert_eq!(got.rows, expected.rows, "{level:?}");
            assert_eq!(got.top, expected.top, "{level:?}");
        }
    }
}

#[test]
fn a_failed_step_reports_and_the_next_one_works() {
    for level in levels() {
        let mut backend = cpu(level, 2);
        let x = tensor(&mut backend, 1, &[1.0; 16]);
        let weight = backend.load_vector(&[1.0; 16]).unwrap();
        let out = backend.alloc(1, 16).unwrap();
        // A sample row that does not exist: the task panics, the step fails.
        backend.begin(&Batch { samples: vec![SampleSpec::greedy(99)], ..Batch::default() });
        backend.gather_rows(x, 0, out);
        backend.rms_norm(x, weight, 0.0, out);
        let ticket = backend.submit();
        assert!(backend.wait(ticket, &mut StepResult::default()).is_err());
        backend.begin(&Batch::default());
        backend.rms_norm(x, weight, 0.0, out);
        finish(&mut backend);
        assert_eq!(backend.read(out), [1.0; 16]);
    }
}
