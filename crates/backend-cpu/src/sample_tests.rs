//! Rows over threads, chunks over threads and one thread give the same bits at every level.

#![allow(clippy::unwrap_used)]

use millrace_backend::{Backend, Batch, Penalties, SampleKind, SampleSpec, Span, StepResult, TokenCount};
use millrace_backend::{reference::ReferenceBackend, sampling};

use crate::{CpuBackend, Level};

/// Two shares of chunks for three threads, and a ragged end.
const VOCAB: usize = 3 * super::LEAST_CHUNKS * sampling::CHUNK - 77;

fn logits(rows: usize) -> Vec<f32> {
    let mut state = 5u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    (0..rows * VOCAB)
        .map(|_| 8.0 * (random() + random() + random()) + f32::from(random() < 1e-4) * 6.0)
        .collect()
}

fn batch() -> Batch {
    let drawn = SampleSpec { temperature: 0.9, logprobs: Some(4), ..SampleSpec::greedy(0) };
    let penalties = Penalties { repetition: 1.3, frequency: 0.2, presence: 0.1 };
    let mut specs = vec![
        SampleSpec::greedy(0),
        drawn,
        SampleSpec { min_p: 0.01, ..drawn },
        SampleSpec { top_k: 40, ..drawn },
        SampleSpec { top_p: 0.9, ..drawn },
        SampleSpec { top_p: 0.05, typical_p: 0.5, logprobs: None, ..drawn },
        SampleSpec { top_k: 3000, top_p: 0.8, typical_p: 0.9, ..drawn },
        SampleSpec { penalties, seen: Span { start: 0, len: 3 }, bias: Span { start: 0, len: 2 }, ..drawn },
        SampleSpec { mask: Span { start: 0, len: VOCAB.div_ceil(32) as u32 }, ..drawn },
        SampleSpec { kind: SampleKind::Score(VOCAB as u32 - 1), ..drawn },
    ];
    for (index, spec) in specs.iter_mut().enumerate() {
        spec.uniform = (index as f32 * 0.37).fract();
    }
    let masks = (0..VOCAB.div_ceil(32)).map(|word| [0, 0x0f0f_1234, u32::MAX][word % 3]).collect();
    Batch {
        samples: specs,
        seen: (0..3).map(|i| TokenCount { token: i * 1000, generated: i }).collect(),
        bias: vec![(9, 11.0), (40_000, -3.0)],
        masks,
        ..Batch::default()
    }
}

/// All rows of the batch, `at_once` at a time.
fn sample(backend: &mut dyn Backend, batch: &Batch, logits: &[f32], at_once: usize) -> StepResult {
    let rows = batch.samples.len();
    let tensor = backend.alloc(at_once, VOCAB).unwrap();
    backend.begin(batch);
    backend.masks(&batch.masks);
    for first in (0..rows).step_by(at_once) {
        let count = at_once.min(rows - first);
        let part = tensor.first(count);
        backend.write(part, &logits[first * VOCAB..(first + count) * VOCAB]);
        backend.sample(part, first);
    }
    let ticket = backend.submit();
    let mut result = StepResult::default();
    backend.wait(ticket, &mut result).unwrap();
    result
}

#[test]
fn a_row_gives_the_same_bits_however_it_is_shared_out() {
    let batch = batch();
    let logits = logits(batch.samples.len());
    let expected = sample(&mut ReferenceBackend::new(), &batch, &logits, batch.samples.len());
    for level in Level::supported() {
        for (threads, at_once) in [(1, 1), (3, 1), (3, 2), (3, batch.samples.len()), (8, 4)] {
            let mut backend = CpuBackend::with_level(level, threads).unwrap();
            let result = sample(&mut backend, &batch, &logits, at_once);
            let context = format!("{level:?}, {threads} threads, {at_once} rows at once");
            assert_eq!(result.rows, expected.rows, "{context}");
            assert_eq!(result.top, expected.top, "{context}");
        }
    }
}
