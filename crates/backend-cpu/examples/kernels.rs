//! Times every operation on the shapes of Qwen3-0.6B, beside the ceiling that this machine allows.
//!
//! `cargo run --release -p millrace-backend-cpu --example kernels [-- THREADS [FILTER [LAYER [ROWS]]]]`
//!
//! With a layer's name: that layer with every batch from 1 to 64, or with one, again and again.

#![allow(clippy::print_stdout, clippy::unwrap_used)]

#[path = "../tests/common/mod.rs"]
mod common;

use std::time::Instant;

use common::{Random, tensor};
use millrace_backend::{
    Activation, AttentionSpec, Backend, BackendError, Batch, Encoding, HeadLayout, KvDtype, KvSpec,
    MatrixSource, Mlp, QkNorm, Rope, SeqSpan, Span, WeightFormat,
};
use millrace_backend_cpu::{CpuBackend, bandwidth, default_threads, peak};
use millrace_types::BlockId;

const HEADS: HeadLayout = HeadLayout { q_heads: 16, kv_heads: 8, head_dim: 128 };
/// Name, inputs, outputs.
const LAYERS: [(&str, usize, usize); 5] = [
    ("qkv", 1024, 4096),
    ("o", 2048, 1024),
    ("gate_up", 1024, 6144),
    ("down", 3072, 1024),
    ("lm_head", 1024, 151_936),
];
/// Bytes of all copies of a matrix: servers have caches of hundreds of megabytes.
const COPIES_BYTES: usize = 1 << 30;
/// Rows, and how many of them are tokens of prompts.
const BATCHES: [(usize, usize); 11] =
    [(1, 0), (2, 0), (4, 0), (8, 0), (16, 0), (32, 0), (64, 0), (16, 16), (64, 64), (512, 512), (2048, 2048)];

type Error = Box<dyn std::error::Error>;

fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let threads = arguments.next().map_or(Ok(default_threads()), |n| n.parse())?;
    let filter = arguments.next().unwrap_or_default();
    let layer = arguments.next();
    let rows = arguments.next().map(|n| n.parse()).transpose()?;
    let backend = CpuBackend::new(Some(threads))?;
    let bandwidth = bandwidth::read_bandwidth(backend.level(), backend.pool())?;
    println!("{}: memory {:.1} GB/s", backend.describe(), bandwidth / 1e9);
    let peaks = peak::measure(backend.level(), backend.pool())?;
    for peak in &peaks {
        println!("  {:5} {:7.1} Gop/s from registers", peak.name, peak.ops_per_second / 1e9);
    }
    drop(backend);
    let int = |bits| WeightFormat::Quantize { bits, group: 32 };
    for (name, encoding, format, peak) in [
        ("f32", Encoding::F32, WeightFormat::Native, 0),
        ("f16", Encoding::F16, WeightFormat::Native, 0),
        ("bf16", Encoding::Bf16, WeightFormat::Native, 1),
        ("q8", Encoding::F32, int(8), 2),
        ("q4", Encoding::F32, int(4), 2),
        ("mlx4", Encoding::Affine { bits: 4, group: 64 }, WeightFormat::Native, 2),
    ] {
        if name.contains(&filter) {
            let ceilings = (bandwidth, peaks[peak].ops_per_second);
            linears(threads, name, encoding, format, ceilings, layer.as_deref(), rows)?;
        }
    }
    if "mlp".contains(&filter) {
        mlp(threads)?;
    }
    if "attention".contains(&filter) {
        attention(threads, bandwidth)?;
    }
    if "others".contains(&filter) {
        others(threads)?;
    }
    Ok(())
}

/// Time of a step with these operations, in seconds: the best of many, since other programs only ever slow it down.
fn time(
    backend: &mut CpuBackend,
    batch: &Batch,
    operations: impl Fn(&mut CpuBackend),
) -> Result<f64, BackendError> {
    let (mut times, start) = (Vec::new(), Instant::now());
    while times.len() < 5 || start.elapsed().as_millis() < 200 {
        backend.begin(batch);
        let run = Instant::now();
        operations(backend);
        times.push(run.elapsed().as_secs_f64());
        let ticket = backend.submit();
        backend.wait(ticket, &mut Default::default())?;
    }
    Ok(times.into_iter().fold(f64::INFINITY, f64::min))
}

/// Cheap noise: the values don't matter for the time, but zeros and denormals might.
struct Noise {
    rows: usize,
    cols: usize,
    encoding: Encoding,
    random: Random,
}

impl MatrixSource for Noise {
    fn rows(&self) -> usize {
        self.rows
    }
    fn cols(&self) -> usize {
        self.cols
    }
    fn encoding(&self) -> Encoding {
        self.encoding
    }
    fn read_dense(&mut self, _: usize, out: &mut [f32]) -> Result<(), BackendError> {
        let mut bits = self.random.bits();
        for out in out {
            bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *out = ((bits >> 48) as f32 - 32768.0) / 1_000_000.0;
        }
        Ok(())
    }
    fn read_affine(
        &mut self,
        _: usize,
        q: &mut [u8],
        scales: &mut [f32],
        biases: &mut [f32],
    ) -> Result<(), BackendError> {
        let Encoding::Affine { bits, .. } = self.encoding else {
            return Err(BackendError::Weight("this noise is dense".into()));
        };
        q.iter_mut().for_each(|q| *q = (self.random.bits() >> (64 - bits)) as u8);
        // Numbers that bf16 holds, as in checkpoints; biases of their own, not a zero point times the scale.
        scales.fill(1.0 / 128.0);
        biases.fill(-3.0 / 64.0);
        Ok(())
    }
}

fn linears(
    threads: usize,
    name: &str,
    encoding: Encoding,
    format: WeightFormat,
    (bandwidth, peak): (f64, f64),
    only: Option<&str>,
    only_rows: Option<usize>,
) -> Result<(), Error> {
    println!("\n{name}: µs (GB/s of weights, Gop/s; share of the nearer ceiling)");
    for (layer, cols, rows) in LAYERS.into_iter().filter(|(layer, ..)| only.is_none_or(|name| name == *layer))
    {
        let mut backend = CpuBackend::new(Some(threads))?;
        // Enough copies to leave the caches, as a model does.
        let (mut matrices, mut bytes) = (Vec::new(), 0);
        while matrices.len() * bytes < COPIES_BYTES {
            let mut source = Noise { rows, cols, encoding, random: Random(matrices.len() as u64) };
            matrices.push(backend.load_matrix(&mut source, format)?);
            bytes = backend.matrix_bytes(matrices[0]);
        }
        let (copies, bytes) = (matrices.len(), bytes as f64);
        print!("{layer:8}");
        let batches = match (only, only_rows) {
            (None, _) => BATCHES.to_vec(),
            (Some(_), None) => (1..=64).map(|rows| (rows, 0)).collect(),
            (Some(_), Some(rows)) => vec![(rows, 0); 10],
        };
        for (batch, prompt) in batches {
            if layer == "lm_head" && prompt > 0 {
                continue;
            }
            let x = tensor(&mut backend, batch, &Random(1).values(batch * cols));
            let out = backend.alloc(batch, rows)?;
            let next = std::cell::Cell::new(0);
            let rows_of = Batch { prompt_rows: prompt, ..Batch::default() };
            let seconds = time(&mut backend, &rows_of, |b| {
                next.set(next.get() + 1);
                b.linear(x, matrices[next.get() % copies], None, out);
            })?;
            let operations = 2.0 * (batch * rows * cols) as f64;
            let floor = (bytes / bandwidth).max(operations / peak);
            print!(
                "{}{batch}{}: {:.0} ({:.1}, {:.0}; {:.0}%)",
                if only.is_some() { "\n  " } else { " | " },
                if prompt > 0 { "p" } else { "" },
                seconds * 1e6,
                bytes / seconds / 1e9,
                operations / seconds / 1e9,
                100.0 * floor / seconds
            );
        }
        println!();
    }
    Ok(())
}

/// 1,024 → 2 × 3,072 → 1,024 in MLX's 4 bits.
fn mlp(threads: usize) -> Result<(), Error> {
    println!("\ngated feed-forward, mlx4, µs");
    let mut backend = CpuBackend::new(Some(threads))?;
    let mut layers = Vec::new();
    for copy in 0..32 {
        let encoding = Encoding::Affine { bits: 4, group: 64 };
        let mut load = |rows, cols| {
            let random = Random(copy);
            backend.load_matrix(&mut Noise { rows, cols, encoding, random }, WeightFormat::Native)
        };
        let (gate_up, down) = (load(6144, 1024)?, load(1024, 3072)?);
        let act = Activation::Silu;
        layers.push(Mlp { up: gate_up, up_bias: None, gated: true, act, down, down_bias: None });
    }
    for (rows, prompt) in [(1, 0), (16, 0), (32, 0), (64, 64), (512, 512)] {
        let x = tensor(&mut backend, rows, &Random(1).values(rows * 1024));
        let room = [backend.alloc(rows, 6144)?, backend.alloc(rows, 3072)?];
        let out = backend.alloc(rows, 1024)?;
        let next = std::cell::Cell::new(0);
        let batch = Batch { prompt_rows: prompt, ..Batch::default() };
        let seconds = time(&mut backend, &batch, |b| {
            next.set(next.get() + 1);
            b.mlp(x, &layers[next.get() % layers.len()], room, out);
        })?;
        println!("{rows:4}{} rows {:8.0}", if prompt > 0 { "p" } else { " " }, seconds * 1e6);
    }
    Ok(())
}

fn attention(threads: usize, bandwidth: f64) -> Result<(), Error> {
    println!("\nattention over bf16 keys, 16 query heads, 8 KV heads of 128");
    // Sequences, query rows each, context.
    for (seqs, query, context) in [
        (1, 1, 128),
        (1, 1, 4096),
        (4, 1, 160),
        (16, 1, 160),
        (16, 1, 320),
        (32, 1, 160),
        (1, 512, 512),
        (1, 512, 2048),
    ] {
        let mut backend = CpuBackend::new(Some(threads))?;
        let blocks = context / 16;
        let layers = (256 << 20) / (seqs * context * 2048) + 1;
        backend.alloc_kv(&KvSpec {
            layers: vec![(HEADS.kv_heads, HEADS.head_dim); layers],
            num_blocks: seqs * blocks + 1,
            block_size: 16,
            dtype: KvDtype::Bf16,
        })?;
        let mut batch = Batch::default();
        let order = Random(2).shuffled(1..(seqs * blocks) as u32 + 1);
        let tables: Vec<BlockId> = order.into_iter().map(BlockId).collect();
        for position in 0..context {
            for seq in 0..seqs {
                let block = tables[seq * blocks + position / 16].0;
                batch.slots.push(block * 16 + (position % 16) as u32);
            }
        }
        // Fill the cache with something finite.
        let filler = tensor(&mut backend, context * seqs, &vec![0.1; context * seqs * HEADS.fused_cols()]);
        backend.begin(&batch);
        (0..layers).for_each(|layer| backend.kv_write(layer, filler, HEADS));
        batch.clear();
        batch.block_tables = tables;
        for seq in 0..seqs {
            batch.tokens.extend(vec![0; query]);
            batch.seqs.push(SeqSpan {
                query: Span { start: (seq * query) as u32, len: query as u32 },
                kv_len: context as u32,
                blocks: Span { start: (seq * blocks) as u32, len: blocks as u32 },
            });
        }
        let qkv = tensor(&mut backend, seqs * query, &Random(3).values(seqs * query * HEADS.fused_cols()));
        let out = backend.alloc(seqs * query, HEADS.q_cols())?;
        let spec = AttentionSpec { heads: HEADS, scale: 0.088, window: None };
        let next = std::cell::Cell::new(0);
        let seconds = time(&mut backend, &batch, |b| {
            next.set(next.get() + 1);
            b.attention(next.get() % layers, qkv, &spec, out);
        })?;
        let bytes = (seqs * context * 2 * HEADS.kv_heads * HEADS.head_dim * 2) as f64;
        let pairs = seqs * query * (context - query / 2);
        let operations = 4.0 * (pairs * HEADS.q_heads * HEADS.head_dim) as f64;
        println!(
            "{seqs:3} × {query:3} rows over {context:4}: {:8.0} µs, {:5.1} GB/s ({:.0}% of memory), {:5.1} GFLOP/s",
            seconds * 1e6,
            bytes / seconds / 1e9,
            100.0 * bytes / seconds / bandwidth,
            operations / seconds / 1e9
        );
    }
    Ok(())
}

fn others(threads: usize) -> Result<(), Error> {
    println!("\nothers, µs for 1, 16 and 512 rows");
    let mut backend = CpuBackend::new(Some(threads))?;
    backend.alloc_kv(&KvSpec {
        layers: vec![(8, 128)],
        num_blocks: 64,
        block_size: 16,
        dtype: KvDtype::Bf16,
    })?;
    let embedding = backend.load_matrix(
        &mut Noise { rows: 8192, cols: 1024, encoding: Encoding::Bf16, random: Random(4) },
        WeightFormat::Native,
    )?;
    let weight = backend.load_vector(&[1.0; 1024])?;
    let head = backend.load_vector(&[1.0; 128])?;
    let inv_freq = backend.load_vector(&[0.01; 64])?;
    let mut buffer = |cols: usize| tensor(&mut backend, 512, &Random(5).values(512 * cols));
    let (hidden, normed, qkv, gate_up, act) =
        (buffer(1024), buffer(1024), buffer(4096), buffer(6144), buffer(3072));
    type Operation<'a> = (&'a str, Box<dyn Fn(&mut CpuBackend, usize) + 'a>);
    let norm = QkNorm { q: head, k: head, eps: 1e-6 };
    let rope = Rope { inv_freq, magnitude: 1.0 };
    let operations: [Operation<'_>; 6] = [
        ("embed", Box::new(move |b, n| b.embed(embedding, hidden.first(n)))),
        ("rms_norm", Box::new(move |b, n| b.rms_norm(hidden, weight, 1e-6, normed.first(n)))),
        ("add_rms_norm", Box::new(move |b, n| b.add_rms_norm(hidden, normed, weight, 1e-6, normed.first(n)))),
        ("qk_norm_rope", Box::new(move |b, _| b.qk_norm_rope(qkv, HEADS, Some(norm), Some(rope)))),
        ("kv_write", Box::new(move |b, _| b.kv_write(0, qkv, HEADS))),
        (
            "gated_activation",
            Box::new(move |b, n| b.gated_activation(gate_up, Activation::Silu, act.first(n))),
        ),
    ];
    for (name, operation) in operations {
        print!("{name:18}");
        for rows in [1usize, 16, 512] {
            let batch = Batch {
                tokens: (0..rows as u32).collect(),
                positions: (0..rows as u32).collect(),
                slots: (16..16 + rows as u32).collect(),
                ..Batch::default()
            };
            print!(" {:8.1}", time(&mut backend, &batch, |b| operation(b, rows))? * 1e6);
        }
        println!();
    }
    Ok(())
}
