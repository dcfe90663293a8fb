//! Attention within a batch, without a cache: whole sequences, causal or in both directions.
//!
//! A task is one KV head of one sequence. It lays out the keys by columns and the values by rows, padded to vectors,
//! and then takes eight query rows at a time: scores of sixteen keys in a vector, softmax, weighted sum of the values.
//!
//! A row's bits depend on its own sequence alone: each score is one chain over the head dimension, sums run over keys
//! in order of position, and keys that only other rows of the eight see have weight zero.

use millrace_backend::{AttentionSpec, BackendError, Batch, Mask, SeqSpan, visible};

use crate::level::Isa;
use crate::pool::Pool;
use crate::region::Region;
use crate::shared::SharedMut;
use crate::simd::{Kernel, LANES, Simd, math};

/// Query rows that meet a key together: enough to hide the latency of a multiply-add.
const ROWS: usize = 8;

/// One layer's attention over a batch.
pub(crate) struct Attend<'a> {
    pub(crate) isa: Isa,
    pub(crate) pool: &'a Pool,
    pub(crate) batch: &'a Batch,
    pub(crate) spec: &'a AttentionSpec,
    pub(crate) mask: Mask,
    /// Fused rows `[T, fused_cols]`.
    pub(crate) qkv: &'a [f32],
    /// `[T, q_cols]`.
    pub(crate) out: &'a mut [f32],
}

impl Attend<'_> {
    /// Computes all rows; `scratch` is kept from call to call.
    pub(crate) fn run(self, scratch: &mut Region<f32>) -> Result<(), BackendError> {
        let heads = self.spec.heads;
        let longest = self.batch.seqs.iter().map(|seq| seq.query.len as usize).max().unwrap_or(0);
        let per_thread = Layout::new(longest, heads.head_dim).total;
        scratch.reserve(self.pool.threads() * per_thread, "attention scratch")?;
        let (out, memory) = (SharedMut::new(self.out), SharedMut::new(scratch));
        self.pool.run(self.batch.seqs.len() * heads.kv_heads, &|index, thread| {
            // SAFETY: each thread uses its own part, one task at a time.
            #[allow(unsafe_code)]
            let memory = unsafe { memory.slice(thread * per_thread, per_thread) };
            self.isa.run(Task {
                seq: &self.batch.seqs[index / heads.kv_heads],
                kv_head: index % heads.kv_heads,
                spec: self.spec,
                mask: self.mask,
                qkv: self.qkv,
                memory,
                out,
            });
        })?;
        Ok(())
    }
}

/// How a thread's memory is cut up, in floats.
struct Layout {
    /// Keys, padded to vectors.
    keys: usize,
    /// Elements of a head, padded to vectors.
    dim: usize,
    total: usize,
}

impl Layout {
    fn new(len: usize, head_dim: usize) -> Self {
        let (keys, dim) = (len.next_multiple_of(LANES), head_dim.next_multiple_of(LANES));
        Self { keys, dim, total: keys * (head_dim + dim + ROWS) }
    }
}

/// One KV head of one sequence.
struct Task<'a> {
    seq: &'a SeqSpan,
    kv_head: usize,
    spec: &'a AttentionSpec,
    mask: Mask,
    qkv: &'a [f32],
    memory: &'a mut [f32],
    out: SharedMut<'a, f32>,
}

impl Kernel for Task<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let heads = self.spec.heads;
        let (first, len) = (self.seq.query.start as usize, self.seq.query.len as usize);
        let layout = Layout::new(len, heads.head_dim);
        let (keys, memory) = self.memory.split_at_mut(layout.keys * heads.head_dim);
        let (values, memory) = memory.split_at_mut(layout.keys * layout.dim);
        let scores = &mut memory[..ROWS * layout.keys];
        let cols = heads.fused_cols();
        let rows = &self.qkv[first * cols..(first + len) * cols];
        let key_head = heads.q_heads + self.kv_head;
        lay_out_keys(rows, cols, key_head * heads.head_dim, heads.head_dim, keys);
        lay_out_values(rows, cols, (key_head + heads.kv_heads) * heads.head_dim, heads.head_dim, values);
        let group = heads.q_heads / heads.kv_heads;
        for head in self.kv_head * group..(self.kv_head + 1) * group {
            for start in (0..len).step_by(ROWS) {
                // The last rows of a sequence are computed again rather than by another kernel.
                let start = start.min(len.saturating_sub(ROWS));
                let tile = Tile {
                    queries: &rows[head * heads.head_dim..],
                    cols,
                    start,
                    count: ROWS.min(len),
                    seen: std::array::from_fn(|row| {
                        visible(self.mask, self.spec.window, (start + row).min(len - 1), len)
                    }),
                    scale: self.spec.scale,
                    head_dim: heads.head_dim,
                };
                let (from, to) = tile.scores(s, keys, scores);
                let sums = tile.softmax(s, scores, layout.keys, from, to);
                tile.weigh(s, values, layout.dim, scores, layout.keys, |row, at, sum| {
                    let row_first = (first + start + row) * heads.q_cols() + head * heads.head_dim;
                    let count = LANES.min(heads.head_dim - at);
                    // SAFETY: rows of a sequence and columns of a query head belong to one task.
                    #[allow(unsafe_code)]
                    let out = unsafe { self.out.slice(row_first + at, count) };
                    let v = s.mul(sum, s.splat(1.0 / sums[row]));
                    match out.as_mut_array() {
                        Some(out) => s.store(v, out),
                        None => s.store_partial(v, out),
                    }
                });
            }
        }
    }
}

/// `[dim][keys]`: sixteen keys' elements lie side by side. Keys are padded with zeros.
#[inline(always)]
fn lay_out_keys(rows: &[f32], cols: usize, at: usize, dim: usize, out: &mut [f32]) {
    let padded = out.len() / dim;
    let len = rows.len() / cols;
    for (d, line) in out.chunks_exact_mut(padded).enumerate() {
        for (key, to) in line.iter_mut().take(len).enumerate() {
            *to = rows[key * cols + at + d];
        }
        line[len..].fill(0.0);
    }
}

/// `[keys][padded dim]`.
#[inline(always)]
fn lay_out_values(rows: &[f32], cols: usize, at: usize, dim: usize, out: &mut [f32]) {
    let padded = dim.next_multiple_of(LANES);
    for (row, to) in rows.chunks_exact(cols).zip(out.chunks_exact_mut(padded)) {
        to[..dim].copy_from_slice(&row[at..][..dim]);
        to[dim..].fill(0.0);
    }
}

/// Eight query rows of a head; where the sequence has fewer, the last one stands for the missing.
struct Tile<'a> {
    /// Begins at the head's first element of the sequence's first row.
    queries: &'a [f32],
    /// From row to row.
    cols: usize,
    /// Position of the first row.
    start: usize,
    /// Rows that there are.
    count: usize,
    seen: [std::ops::Range<usize>; ROWS],
    scale: f32,
    head_dim: usize,
}

impl Tile<'_> {
    /// Fills `scores[row][key]` for the keys that any row sees, rounded out to vectors; says which those are.
    #[inline(always)]
    fn scores<S: Simd>(&self, s: S, keys: &[f32], scores: &mut [f32]) -> (usize, usize) {
        let (padded, scale) = (scores.len() / ROWS, s.splat(self.scale));
        let from = self.seen.iter().map(|seen| seen.start).min().unwrap_or(0) / LANES * LANES;
        let to = self.seen.iter().map(|seen| seen.end).max().unwrap_or(0).next_multiple_of(LANES);
        let queries: [&[f32]; ROWS] = std::array::from_fn(|row| {
            let position = self.start + row.min(self.count - 1);
            &self.queries[position * self.cols..][..self.head_dim]
        });
        for at in (from..to).step_by(LANES) {
            let mut sums = [s.splat(0.0); ROWS];
            for d in 0..self.head_dim {
                let key = load(s, keys, d * padded + at);
                for row in 0..ROWS {
                    sums[row] = s.fma(s.splat(queries[row][d]), key, sums[row]);
                }
            }
            for row in 0..ROWS {
                store(s, s.mul(sums[row], scale), scores, row * padded + at);
            }
        }
        (from, to)
    }

    /// Turns scores into weights e^(score − max), zero for keys that a row doesn't see; gives their sums.
    #[inline(always)]
    fn softmax<S: Simd>(
        &self,
        s: S,
        scores: &mut [f32],
        padded: usize,
        from: usize,
        to: usize,
    ) -> [f32; ROWS] {
        std::array::from_fn(|row| {
            let line = &mut scores[row * padded..][from..to];
            line[..self.seen[row].start - from].fill(f32::NEG_INFINITY);
            line[self.seen[row].end - from..].fill(f32::NEG_INFINITY);
            let (vectors, _) = line.as_chunks_mut::<LANES>();
            let mut max = s.splat(f32::NEG_INFINITY);
            for v in vectors.iter() {
                max = s.max(max, s.load(v));
            }
            let (max, mut sum) = (s.splat(s.max_lane(max)), s.splat(0.0));
            for v in vectors {
                let weight = math::exp(s, s.sub(s.load(v), max));
                sum = s.add(sum, weight);
                s.store(weight, v);
            }
            s.sum(sum)
        })
    }

    /// Calls `put(row, first column, Σ weight · value)` for each of the tile's rows and each vector of columns.
    #[inline(always)]
    fn weigh<S: Simd>(
        &self,
        s: S,
        values: &[f32],
        dim: usize,
        weights: &[f32],
        padded: usize,
        put: impl Fn(usize, usize, S::V),
    ) {
        let from = self.seen.iter().map(|seen| seen.start).min().unwrap_or(0);
        let to = self.seen.iter().map(|seen| seen.end).max().unwrap_or(0);
        for at in (0..dim).step_by(LANES) {
            let mut sums = [s.splat(0.0); ROWS];
            for key in from..to {
                let value = load(s, values, key * dim + at);
                for row in 0..ROWS {
                    sums[row] = s.fma(s.splat(weights[row * padded + key]), value, sums[row]);
                }
            }
            for row in 0..self.count {
                put(row, at, sums[row]);
            }
        }
    }
}

#[inline(always)]
fn load<S: Simd>(s: S, from: &[f32], at: usize) -> S::V {
    let (vector, _) = from[at..at + LANES].as_chunks::<LANES>();
    s.load(&vector[0])
}

#[inline(always)]
fn store<S: Simd>(s: S, v: S::V, to: &mut [f32], at: usize) {
    let (vector, _) = to[at..at + LANES].as_chunks_mut::<LANES>();
    s.store(v, &mut vector[0]);
}
