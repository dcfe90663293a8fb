//! Attention over the paged cache: right, and the same bits for a row however the work is cut.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Random, assert_close, bits, cpu, levels, tensor};
use millrace_backend::KvDtype::{Bf16, F32, Int8};
use millrace_backend::reference::ReferenceBackend;
use millrace_backend::{AttentionSpec, Backend, Batch, HeadLayout, KvDtype, KvSpec, SeqSpan, Span};
use millrace_backend_cpu::Level;
use millrace_types::BlockId;

/// A sequence's fused rows and where its blocks lie.
struct Sequence {
    rows: Vec<f32>,
    blocks: Vec<u32>,
}

struct Setup {
    heads: HeadLayout,
    window: Option<usize>,
    block_size: usize,
    num_blocks: usize,
    dtype: KvDtype,
    /// All rows are prompts', else generated: they may be computed in different ways.
    prompts: bool,
}

impl Setup {
    fn spec(&self) -> AttentionSpec {
        let scale = 1.0 / (self.heads.head_dim as f32).sqrt();
        AttentionSpec { heads: self.heads, scale, window: self.window }
    }

    fn prepare(&self, backend: &mut impl Backend) {
        backend
            .alloc_kv(&KvSpec {
                layers: vec![(self.heads.kv_heads, self.heads.head_dim)],
                num_blocks: self.num_blocks,
                block_size: self.block_size,
                dtype: self.dtype,
            })
            .unwrap();
    }

    /// Sequences of these lengths, in scattered blocks.
    fn sequences(&self, random: &mut Random, lengths: &[usize]) -> Vec<Sequence> {
        let mut free = random.shuffled(1..self.num_blocks as u32);
        let sequence = |length: &usize| Sequence {
            rows: random.values(length * self.heads.fused_cols()),
            blocks: free.split_off(free.len() - length.div_ceil(self.block_size)),
        };
        lengths.iter().map(sequence).collect()
    }

    /// One step: `parts` are (sequence, first row, rows). Returns attention outputs, row by row.
    fn step(
        &self,
        backend: &mut impl Backend,
        sequences: &[Sequence],
        parts: &[(usize, usize, usize)],
    ) -> Vec<f32> {
        let cols = self.heads.fused_cols();
        let (mut batch, mut rows) = (Batch::default(), Vec::new());
        for (index, first, count) in parts {
            let sequence = &sequences[*index];
            let query = Span { start: batch.slots.len() as u32, len: *count as u32 };
            for position in *first..first + count {
                let block = sequence.blocks[position / self.block_size] as usize;
                batch.slots.push((block * self.block_size + position % self.block_size) as u32);
                batch.tokens.push(0);
                batch.positions.push(position as u32);
            }
            let blocks = Span { start: batch.block_tables.len() as u32, len: sequence.blocks.len() as u32 };
            batch.block_tables.extend(sequence.blocks.iter().map(|b| BlockId(*b)));
            batch.seqs.push(SeqSpan { query, kv_len: (first + count) as u32, blocks });
            rows.extend_from_slice(&sequence.rows[first * cols..(first + count) * cols]);
        }
        let total = batch.slots.len();
        batch.prompt_rows = if self.prompts { total } else { 0 };
        let qkv = tensor(backend, total, &rows);
        let out = backend.alloc(total, self.heads.q_cols()).unwrap();
        backend.begin(&batch);
        backend.kv_write(0, qkv, self.heads);
        backend.attention(0, qkv, &self.spec(), out);
        let ticket = backend.submit();
        backend.wait(ticket, &mut Default::default()).unwrap();
        backend.read(out)
    }
}

fn heads(q_heads: usize, kv_heads: usize, head_dim: usize) -> HeadLayout {
    HeadLayout { q_heads, kv_heads, head_dim }
}

#[test]
fn agrees_with_the_reference() {
    let mut random = Random(10);
    let levels = levels();
    let layouts = [
        heads(2, 1, 16),
        heads(4, 4, 64),
        heads(6, 2, 80),
        heads(7, 1, 96),
        heads(16, 8, 128),
        heads(9, 1, 20),
        heads(4, 1, 256),
    ];
    for (case, layout) in layouts.into_iter().enumerate() {
        for (window, dtype) in
            [(None, F32), (Some(1), F32), (Some(37), Bf16), (None, Bf16), (Some(200), Int8), (None, Int8)]
        {
            let block_size = [16, 32, 48][case % 3];
            let mut setup =
                Setup { heads: layout, window, block_size, num_blocks: 100, dtype, prompts: true };
            let sequences = setup.sequences(&mut random, &[1, 130, 70, 600]);
            let steps: [&[(usize, usize, usize)]; 3] = [
                &[(0, 0, 1), (1, 0, 100), (3, 0, 590)],
                &[(2, 0, 70), (1, 100, 29)],
                &[(1, 129, 1), (3, 590, 10)],
            ];
            let mut reference = ReferenceBackend::new();
            setup.prepare(&mut reference);
            let expected = steps.map(|parts| setup.step(&mut reference, &sequences, parts));
            for (level, prompts) in levels.iter().flat_map(|level| [(level, true), (level, false)]) {
                setup.prompts = prompts;
                let mut backend = cpu(*level, 2);
                setup.prepare(&mut backend);
                for (parts, expected) in steps.iter().zip(&expected) {
                    let got = setup.step(&mut backend, &sequences, parts);
                    // Both sum float32 terms of magnitude one, and caches hold the same rounded values. Units for bf16
                    // also round queries and weights, to eight bits.
                    let rounds = *level >= Level::Avx512Bf16 && dtype != F32;
                    let tolerance = |x: f32| if rounds { 1.2e-2 * (1.0 + x.abs()) } else { 2e-5 };
                    let what = format!("{level:?} {layout:?} {window:?} {dtype:?} {prompts}");
                    assert_close(&what, &got, expected, |i| tolerance(expected[i]));
                }
            }
        }
    }
}

/// The outputs of every row of every sequence, cut into steps by `cut(sequence, position) -> rows to take`.
fn outputs(
    setup: &Setup,
    level: Level,
    threads: usize,
    sequences: &[Sequence],
    together: bool,
    mut cut: impl FnMut(usize) -> usize,
) -> Vec<Vec<u32>> {
    let mut backend = cpu(level, threads);
    setup.prepare(&mut backend);
    let cols = setup.heads.q_cols();
    let lengths: Vec<usize> = sequences.iter().map(|s| s.rows.len() / setup.heads.fused_cols()).collect();
    let mut done = vec![0; sequences.len()];
    let mut outputs = vec![Vec::new(); sequences.len()];
    while done != lengths {
        let mut parts = Vec::new();
        for index in 0..sequences.len() {
            if done[index] < lengths[index] && (together || parts.is_empty()) {
                parts.push((index, done[index], cut(lengths[index] - done[index])));
            }
        }
        let mut rows = &setup.step(&mut backend, sequences, &parts)[..];
        for (index, _, count) in parts {
            outputs[index].extend(bits(&rows[..count * cols]));
            rows = &rows[count * cols..];
            done[index] += count;
        }
    }
    outputs
}

#[test]
fn bits_do_not_depend_on_chunks_batches_blocks_or_threads() {
    for (layout, window) in [
        (heads(4, 2, 32), None),
        (heads(8, 1, 64), Some(100)),
        (heads(3, 3, 16), None),
        (heads(12, 2, 80), Some(520)),
    ] {
        for (dtype, prompts) in
            [F32, Bf16, Int8].into_iter().flat_map(|dtype| [(dtype, true), (dtype, false)])
        {
            let setup = Setup { heads: layout, window, block_size: 16, num_blocks: 200, dtype, prompts };
            let mut random = Random(11);
            let sequences = setup.sequences(&mut random, &[1100, 65, 530]);
            // The same rows, elsewhere in a cache with larger blocks.
            let moved = Setup { block_size: 64, ..setup };
            let mut elsewhere = moved.sequences(&mut Random(12), &[1100, 65, 530]);
            for (to, from) in elsewhere.iter_mut().zip(&sequences) {
                to.rows.clone_from(&from.rows);
            }
            for level in levels() {
                let whole = outputs(&setup, level, 2, &sequences, false, |left| left);
                let mut random = Random(13);
                let chunked = |left: usize| left.min([1, 2, 3, 8, 64, 100, 300][random.below(7)]);
                assert_eq!(
                    outputs(&setup, level, 2, &sequences, true, chunked),
                    whole,
                    "{level:?} {layout:?} {prompts}"
                );
                let mut random = Random(14);
                let chunked = |left: usize| left.min(1 + random.below(400));
                assert_eq!(
                    outputs(&moved, level, 5, &elsewhere, true, chunked),
                    whole,
                    "{level:?} {layout:?} {prompts}"
                );
            }
        }
    }
}

#[test]
fn decoding_a_long_sequence_on_many_threads_is_split_and_stays_the_same() {
    let setup = |prompts| Setup {
        heads: heads(4, 1, 64),
        window: None,
        block_size: 16,
        num_blocks: 300,
        dtype: KvDtype::Bf16,
        prompts,
    };
    let sequences = setup(true).sequences(&mut Random(15), &[4100]);
    for (level, setup) in levels().into_iter().flat_map(|level| [(level, setup(true)), (level, setup(false))])
    {
        let run = |threads: usize| {
            let mut backend = cpu(level, threads);
            setup.prepare(&mut backend);
            setup.step(&mut backend, &sequences, &[(0, 0, 4099)]);
            bits(&setup.step(&mut backend, &sequences, &[(0, 4099, 1)]))
        };
        let one = run(1);
        assert!(one.iter().any(|bits| f32::from_bits(*bits) != 0.0));
        assert_eq!(run(2), one);
        assert_eq!(run(7), one);
    }
}

#[test]
fn what_other_sequences_left_behind_has_no_influence() {
    // A cache full of infinities and NaN: masked keys must not leak through 0 · NaN.
    let setup = Setup {
        heads: heads(4, 2, 32),
        window: Some(20),
        block_size: 32,
        num_blocks: 6,
        dtype: KvDtype::F32,
        prompts: true,
    };
    let mut random = Random(16);
    let sequences = setup.sequences(&mut random, &[70]);
    for level in levels() {
        let mut clean = cpu(level, 1);
        setup.prepare(&mut clean);
        let expected = setup.step(&mut clean, &sequences, &[(0, 0, 70)]);
        let mut dirty = cpu(level, 1);
        setup.prepare(&mut dirty);
        let poison = Sequence {
            rows: (0..160 * setup.heads.fused_cols()).map(|i| [f32::NAN, f32::INFINITY][i % 2]).collect(),
            blocks: vec![1, 2, 3, 4, 5],
        };
        setup.step(&mut dirty, &[poison], &[(0, 0, 160)]);
        assert_eq!(bits(&setup.step(&mut dirty, &sequences, &[(0, 0, 70)])), bits(&expected));
    }
}

#[test]
fn refuses_blocks_that_are_not_tiles() {
    let spec = KvSpec { layers: vec![(1, 16)], num_blocks: 2, block_size: 24, dtype: KvDtype::F32 };
    let error = cpu(Level::Portable, 1).alloc_kv(&spec).unwrap_err();
    assert!(error.to_string().contains("multiple of 16"), "{error}");
}
