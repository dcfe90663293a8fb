//! A step that repeats an earlier one's shapes allocates nothing, on any thread.

#![allow(unsafe_code, clippy::unwrap_used)]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use common::{Random, Weights, cpu, levels, tensor};
use millrace_backend::{
    Activation, AttentionSpec, Backend, Batch, Encoding, HeadLayout, KvDtype, KvSpec, Mlp, Penalties,
    Projection, QkNorm, Rope, SampleKind, SampleSpec, SeqSpan, Span, StepResult, WeightFormat,
};
use millrace_types::BlockId;

/// Until the first allocation, which is the one that says most.
static WATCHING: AtomicBool = AtomicBool::new(false);
static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);
static FIRST: Mutex<Option<Backtrace>> = Mutex::new(None);

struct Counting;

// SAFETY: passes everything on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if WATCHING.swap(false, SeqCst) {
            let mut first = FIRST.lock().unwrap();
            ALLOCATIONS.fetch_add(1, SeqCst);
            *first = Some(Backtrace::force_capture());
        }
        // SAFETY: the caller's promise is handed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Two sequences: one prefills twenty rows, one decodes.
fn batch() -> Batch {
    let block_tables = (1..9).map(BlockId).collect();
    let mut batch = Batch { block_tables, prompt_rows: 20, ..Batch::default() };
    batch.seqs.push(SeqSpan {
        query: Span { start: 0, len: 20 },
        kv_len: 20,
        blocks: Span { start: 4, len: 4 },
    });
    batch.seqs.push(SeqSpan {
        query: Span { start: 20, len: 1 },
        kv_len: 30,
        blocks: Span { start: 0, len: 4 },
    });
    batch.slots.extend((0..20).map(|i| 5 * 16 + i));
    batch.slots.push(2 * 16 + 13);
    batch.positions.extend(0..20);
    batch.positions.push(29);
    batch.tokens.extend((0..21).map(|i| i * 7));
    for (row, temperature) in [(20, 0.0), (19, 0.8)] {
        batch.samples.push(SampleSpec {
            row,
            kind: SampleKind::Sample,
            temperature,
            top_k: 20,
            top_p: 0.9,
            min_p: 0.0,
            typical_p: 1.0,
            uniform: 0.3,
            penalties: Penalties { repetition: 1.0, frequency: 0.0, presence: 0.0 },
            seen: Span::default(),
            bias: Span::default(),
            banned: Span::default(),
            mask: Span::default(),
            logprobs: Some(3),
        });
    }
    batch
}

#[test]
fn a_steady_step_does_not_allocate() {
    let heads = HeadLayout { q_heads: 4, kv_heads: 2, head_dim: 64 };
    let (hidden, vocab) = (96, 256);
    for level in levels() {
        let mut random = Random(30);
        let mut backend = cpu(level, 3);
        let mut matrix = |backend: &mut dyn Backend, encoding, format, rows, cols| {
            backend.load_matrix(&mut Weights::random(&mut random, encoding, rows, cols), format).unwrap()
        };
        let native = WeightFormat::Native;
        let table = matrix(&mut backend, Encoding::Bf16, native, vocab, hidden);
        let to_qkv = matrix(
            &mut backend,
            Encoding::F32,
            WeightFormat::Quantize { bits: 4, group: 32 },
            heads.fused_cols(),
            hidden,
        );
        let from_heads = matrix(&mut backend, Encoding::F16, native, hidden, heads.q_cols());
        let up = matrix(&mut backend, Encoding::F32, native, 2 * 64, hidden);
        let down =
            matrix(&mut backend, Encoding::F32, WeightFormat::Quantize { bits: 8, group: 64 }, hidden, 64);
        backend
            .alloc_kv(&KvSpec { layers: vec![(2, 64)], num_blocks: 9, block_size: 16, dtype: KvDtype::Bf16 })
            .unwrap();
        let ones = backend.load_vector(&[1.0; 96]).unwrap();
        let inv_freq = backend.load_vector(&[0.1; 32]).unwrap();
        let mut buffer = |cols: usize| tensor(&mut backend, 32, &vec![0.0; 32 * cols]);
        let (x, normed, qkv) = (buffer(hidden), buffer(hidden), buffer(heads.fused_cols()));
        let (attended, gate_up, act, logits) =
            (buffer(heads.q_cols()), buffer(128), buffer(64), buffer(vocab));
        let head_norm = ones_of(ones, 64);
        let batch = batch();
        let mut result = StepResult::default();
        let mut step = |backend: &mut dyn Backend| {
            let rows = batch.tokens.len();
            backend.begin(&batch);
            backend.embed(table, x.first(rows));
            backend.rms_norm(x, ones, 1e-6, normed.first(rows));
            let norm = QkNorm { q: head_norm, k: head_norm, eps: 1e-6 };
            let rope = Rope { inv_freq, magnitude: 1.0 };
            let projection = Projection {
                qkv: to_qkv,
                bias: None,
                heads,
                norm: Some(norm),
                rope: Some(rope),
                layer: Some(0),
            };
            backend.project(normed, &projection, qkv.first(rows));
            backend.attention(0, qkv, &AttentionSpec { heads, scale: 0.2, window: None }, attended);
            backend.linear(attended, from_heads, None, normed.first(rows));
            backend.add_rms_norm(x, normed, ones, 1e-6, normed.first(rows));
            let mlp = Mlp { up, up_bias: None, gated: true, act: Activation::Silu, down, down_bias: None };
            backend.mlp(normed, &mlp, [gate_up, act].map(|room| room.first(rows)), normed.first(rows));
            backend.gather_rows(normed, 0, x.first(2));
            backend.linear(x, table, None, logits.first(2));
            backend.sample(logits.first(2), 0);
            let ticket = backend.submit();
            backend.wait(ticket, &mut result).unwrap();
        };
        // The result's memory is swapped with the backend's, and any thread may get either sampled row.
        for _ in 0..50 {
            step(&mut backend);
        }
        WATCHING.store(true, SeqCst);
        step(&mut backend);
        step(&mut backend);
        WATCHING.store(false, SeqCst);
        if ALLOCATIONS.load(SeqCst) != 0 {
            panic!("allocated at {level:?}:\n{}", FIRST.lock().unwrap().take().unwrap());
        }
        assert_eq!(result.rows.len(), 2);
    }
}

/// The first elements of a constant.
fn ones_of(tensor: millrace_backend::Tensor, cols: usize) -> millrace_backend::Tensor {
    millrace_backend::Tensor { cols, ..tensor }
}
