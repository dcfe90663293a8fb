//! The reference backend: plain loops over float32 that define every operation.
//!
//! Weights are kept as floats (quantized ones dequantized), the KV cache as float32 rows in slot order. Slow on
//! purpose: it is read more often than it is run. Other backends are tested against it.

mod pooling;

use crate::{
    Activation, AttentionSpec, Backend, BackendError, Batch, Encoding, HeadLayout, KvDtype, KvScale, KvSpec,
    Mask, Matrix, MatrixSource, Pool, QkNorm, Rope, RowIndex, StepResult, Tensor, Ticket, WeightFormat,
    dequantize_row, kv_scale, quantize_row, sampling,
};
use pooling::{erf, layer_normalise, pool_rows};

/// Executes each operation at once, on one thread.
#[derive(Debug, Default)]
pub struct ReferenceBackend {
    tensors: Vec<Vec<f32>>,
    /// Row-major `[rows, cols]`.
    matrices: Vec<Vec<f32>>,
    /// Per layer: `[slots, kv_heads · head_dim]` keys, then values.
    kv: Vec<(Vec<f32>, Vec<f32>)>,
    block_size: usize,
    kv_dtype: Option<KvDtype>,
    batch: Batch,
    result: StepResult,
    scratch: sampling::Scratch,
    steps: u64,
}

impl ReferenceBackend {
    /// An empty backend.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a buffer out of the table, so that others can be read while it is written.
    fn take(&mut self, tensor: Tensor) -> Vec<f32> {
        std::mem::take(&mut self.tensors[tensor.id as usize])
    }

    fn put(&mut self, tensor: Tensor, values: Vec<f32>) {
        self.tensors[tensor.id as usize] = values;
    }

    fn row(&self, tensor: Tensor, row: usize) -> &[f32] {
        &self.tensors[tensor.id as usize][row * tensor.cols..][..tensor.cols]
    }

    /// Rounds a head's key or value to the cache's precision.
    fn cached(&self, head: &[f32], out: &mut [f32]) {
        let KvScale { scale, inverse } = kv_scale(head);
        for (out, x) in out.iter_mut().zip(head) {
            *out = match self.kv_dtype {
                Some(KvDtype::Bf16) => half::bf16::from_f32(*x).to_f32(),
                Some(KvDtype::Int8) => (x * inverse).round_ties_even() * scale,
                Some(KvDtype::F32) | None => *x,
            };
        }
    }
}

impl Backend for ReferenceBackend {
    fn describe(&self) -> String {
        "reference (1 thread)".into()
    }

    fn block_multiple(&self) -> usize {
        1
    }

    fn is_host(&self) -> bool {
        true
    }

    fn alloc(&mut self, rows: usize, cols: usize) -> Result<Tensor, BackendError> {
        self.tensors.push(vec![f32::NAN; rows * cols]);
        Ok(Tensor { id: self.tensors.len() as u32 - 1, rows, cols })
    }

    fn load_vector(&mut self, values: &[f32]) -> Result<Tensor, BackendError> {
        self.tensors.push(values.to_vec());
        Ok(Tensor { id: self.tensors.len() as u32 - 1, rows: 1, cols: values.len() })
    }

    fn load_matrix(
        &mut self,
        source: &mut dyn MatrixSource,
        format: WeightFormat,
    ) -> Result<Matrix, BackendError> {
        let (rows, cols) = (source.rows(), source.cols());
        let mut values = vec![0.0; rows * cols];
        for (index, row) in values.chunks_exact_mut(cols).enumerate() {
            source.read_dense(index, row)?;
            let dense = !matches!(source.encoding(), Encoding::Affine { .. });
            if let WeightFormat::Quantize { bits, group } = format
                && dense
            {
                // A last partial group is padded with zeros, which every group can represent.
                let mut padded = row.to_vec();
                padded.resize(cols.next_multiple_of(group), 0.0);
                let groups = padded.len() / group;
                let (mut q, mut scales, mut biases) =
                    (vec![0; padded.len()], vec![0.0; groups], vec![0.0; groups]);
                quantize_row(&padded, bits, group, &mut q, &mut scales, &mut biases);
                dequantize_row(&q, group, &scales, &biases, &mut padded);
                row.copy_from_slice(&padded[..cols]);
            }
        }
        self.matrices.push(values);
        Ok(Matrix { id: self.matrices.len() as u32 - 1, rows, cols })
    }

    fn alloc_kv(&mut self, spec: &KvSpec) -> Result<(), BackendError> {
        let slots = spec.num_blocks * spec.block_size;
        self.kv =
            spec.layers.iter().map(|(h, d)| (vec![0.0; slots * h * d], vec![0.0; slots * h * d])).collect();
        self.block_size = spec.block_size;
        self.kv_dtype = Some(spec.dtype);
        Ok(())
    }

    fn begin(&mut self, batch: &Batch) {
        self.batch.clone_from(batch);
        self.batch.masks.clear();
        self.result.clear();
    }

    fn embed(&mut self, table: Matrix, out: Tensor) {
        let mut values = self.take(out);
        for (token, row) in self.batch.tokens.iter().zip(values.chunks_exact_mut(out.cols)) {
            row.copy_from_slice(
                &self.matrices[table.id as usize][*token as usize * table.cols..][..table.cols],
            );
        }
        self.put(out, values);
    }

    fn rms_norm(&mut self, x: Tensor, weight: Tensor, eps: f32, out: Tensor) {
        let mut values = self.take(out);
        for (i, row) in values.chunks_exact_mut(out.cols).take(out.rows).enumerate() {
            row.copy_from_slice(self.row(x, i));
            normalise(row, self.row(weight, 0), eps);
        }
        self.put(out, values);
    }

    fn add_rms_norm(&mut self, residual: Tensor, x: Tensor, weight: Tensor, eps: f32, out: Tensor) {
        let mut values = self.take(residual);
        for (i, row) in values.chunks_exact_mut(residual.cols).take(out.rows).enumerate() {
            for (sum, x) in row.iter_mut().zip(self.row(x, i)) {
                *sum += x;
            }
        }
        self.put(residual, values);
        self.rms_norm(residual, weight, eps, out);
    }

    fn add_embedding(&mut self, table: Matrix, index: RowIndex, out: Tensor) {
        let mut values = self.take(out);
        let rows = match index {
            RowIndex::Positions => &self.batch.positions,
            RowIndex::TokenTypes => &self.batch.token_types,
        };
        for (index, row) in rows.iter().zip(values.chunks_exact_mut(out.cols)) {
            let added = &self.matrices[table.id as usize][*index as usize * table.cols..][..table.cols];
            row.iter_mut().zip(added).for_each(|(sum, x)| *sum += x);
        }
        self.put(out, values);
    }

    fn add(&mut self, sum: Tensor, x: Tensor) {
        let mut values = self.take(sum);
        for (i, row) in values.chunks_exact_mut(sum.cols).take(sum.rows).enumerate() {
            row.iter_mut().zip(self.row(x, i)).for_each(|(sum, x)| *sum += x);
        }
        self.put(sum, values);
    }

    fn scale(&mut self, x: Tensor, factor: f32) {
        let mut values = self.take(x);
        values[..x.rows * x.cols].iter_mut().for_each(|value| *value *= factor);
        self.put(x, values);
    }

    fn layer_norm(&mut self, x: Tensor, weight: Tensor, bias: Option<Tensor>, eps: f32, out: Tensor) {
        let mut values = self.take(out);
        for (i, row) in values.chunks_exact_mut(out.cols).take(out.rows).enumerate() {
            row.copy_from_slice(self.row(x, i));
            layer_normalise(row, self.row(weight, 0), bias.map(|bias| self.row(bias, 0)), eps);
        }
        self.put(out, values);
    }

    fn logits(&mut self, x: Tensor, head: Matrix, out: Tensor) {
        self.linear(x, head, None, out);
    }

    fn linear(&mut self, x: Tensor, weight: Matrix, bias: Option<Tensor>, out: Tensor) {
        let mut values = self.take(out);
        for (i, row) in values.chunks_exact_mut(out.cols).take(out.rows).enumerate() {
            let x = self.row(x, i);
            for (n, out) in row.iter_mut().enumerate() {
                let w = &self.matrices[weight.id as usize][n * weight.cols..][..weight.cols];
                *out = dot(x, w) + bias.map_or(0.0, |b| self.row(b, 0)[n]);
            }
        }
        self.put(out, values);
    }

    fn qk_norm_rope(&mut self, qkv: Tensor, heads: HeadLayout, norm: Option<QkNorm>, rope: Option<Rope>) {
        let mut values = self.take(qkv);
        let rotated = heads.q_heads + heads.kv_heads;
        for (position, row) in self.batch.positions.iter().zip(values.chunks_exact_mut(qkv.cols)) {
            for (index, head) in row.chunks_exact_mut(heads.head_dim).take(rotated).enumerate() {
                if let Some(norm) = norm {
                    let weight = if index < heads.q_heads { norm.q } else { norm.k };
                    normalise(head, self.row(weight, 0), norm.eps);
                }
                if let Some(rope) = rope {
                    rotate(head, *position as f32, self.row(rope.inv_freq, 0), rope.magnitude);
                }
            }
        }
        self.put(qkv, values);
    }

    fn kv_write(&mut self, layer: usize, qkv: Tensor, heads: HeadLayout) {
        let (q, kv) = (heads.q_cols(), heads.kv_heads * heads.head_dim);
        let (mut keys, mut vals) = std::mem::take(&mut self.kv[layer]);
        for (t, slot) in self.batch.slots.iter().enumerate() {
            let row = self.row(qkv, t);
            for first in (0..kv).step_by(heads.head_dim) {
                let (head, at) = (heads.head_dim, *slot as usize * kv + first);
                self.cached(&row[q + first..][..head], &mut keys[at..][..head]);
                self.cached(&row[q + kv + first..][..head], &mut vals[at..][..head]);
            }
        }
        self.kv[layer] = (keys, vals);
    }

    fn attention(&mut self, layer: usize, qkv: Tensor, spec: &AttentionSpec, out: Tensor) {
        let mut values = self.take(out);
        let HeadLayout { q_heads, kv_heads, head_dim } = spec.heads;
        let (keys, vals) = &self.kv[layer];
        let kv_cols = kv_heads * head_dim;
        for seq in &self.batch.seqs {
            let blocks = seq.blocks.of(&self.batch.block_tables);
            for i in 0..seq.query.len {
                let row = (seq.query.start + i) as usize;
                let position = (seq.kv_len - seq.query.len + i) as usize;
                let first = spec.window.map_or(0, |w| (position + 1).saturating_sub(w));
                for head in 0..q_heads {
                    let q = &self.row(qkv, row)[head * head_dim..][..head_dim];
                    let offset = head / (q_heads / kv_heads) * head_dim;
                    let at = |p: usize| {
                        (blocks[p / self.block_size].0 as usize * self.block_size + p % self.block_size)
                            * kv_cols
                            + offset
                    };
                    let mut weights: Vec<f32> =
                        (first..=position).map(|p| spec.scale * dot(q, &keys[at(p)..][..head_dim])).collect();
                    softmax(&mut weights);
                    let out = &mut values[row * out.cols + head * head_dim..][..head_dim];
                    out.fill(0.0);
                    for (p, weight) in (first..=position).zip(weights) {
                        for (out, v) in out.iter_mut().zip(&vals[at(p)..][..head_dim]) {
                            *out += weight * v;
                        }
                    }
                }
            }
        }
        self.put(out, values);
    }

    fn attend(&mut self, qkv: Tensor, spec: &AttentionSpec, mask: Mask, out: Tensor) {
        let mut values = self.take(out);
        let HeadLayout { q_heads, kv_heads, head_dim } = spec.heads;
        for seq in &self.batch.seqs {
            let (first, len) = (seq.query.start as usize, seq.query.len as usize);
            for (position, head) in (0..len).flat_map(|p| (0..q_heads).map(move |h| (p, h))) {
                let seen = crate::visible(mask, spec.window, position, len);
                let kv_head = head / (q_heads / kv_heads);
                let part = |row: usize, head: usize| &self.row(qkv, row)[head * head_dim..][..head_dim];
                let q = part(first + position, head);
                let key = |p: usize| part(first + p, q_heads + kv_head);
                let mut weights: Vec<f32> = seen.clone().map(|p| spec.scale * dot(q, key(p))).collect();
                softmax(&mut weights);
                let out = &mut values[(first + position) * out.cols + head * head_dim..][..head_dim];
                out.fill(0.0);
                for (p, weight) in seen.zip(weights) {
                    let v = part(first + p, q_heads + kv_heads + kv_head);
                    out.iter_mut().zip(v).for_each(|(out, v)| *out += weight * v);
                }
            }
        }
        self.put(out, values);
    }

    fn activate(&mut self, x: Tensor, act: Activation, out: Tensor) {
        let mut values = self.take(out);
        for (i, row) in values.chunks_exact_mut(out.cols).take(out.rows).enumerate() {
            row.iter_mut().zip(self.row(x, i)).for_each(|(out, x)| *out = activate(act, *x));
        }
        self.put(out, values);
    }

    fn gated_activation(&mut self, gate_up: Tensor, act: Activation, out: Tensor) {
        let mut values = self.take(out);
        for (i, row) in values.chunks_exact_mut(out.cols).take(out.rows).enumerate() {
            let (gate, up) = self.row(gate_up, i).split_at(out.cols);
            for ((out, g), u) in row.iter_mut().zip(gate).zip(up) {
                *out = activate(act, *g) * u;
            }
        }
        self.put(out, values);
    }

    fn gather_rows(&mut self, x: Tensor, first: usize, out: Tensor) {
        let mut values = self.take(out);
        for (i, row) in values.chunks_exact_mut(out.cols).take(out.rows).enumerate() {
            row.copy_from_slice(self.row(x, self.batch.samples[first + i].row as usize));
        }
        self.put(out, values);
    }

    fn pool(&mut self, x: Tensor, how: Pool, first: usize, out: Tensor) {
        let mut values = self.take(out);
        for (i, row) in values.chunks_exact_mut(out.cols).take(out.rows).enumerate() {
            let query = self.batch.seqs[first + i].query;
            pool_rows((query.start..query.start + query.len).map(|at| self.row(x, at as usize)), how, row);
        }
        self.put(out, values);
    }

    fn collect(&mut self, x: Tensor) {
        let rows = &self.tensors[x.id as usize][..x.rows * x.cols];
        self.result.collected.extend_from_slice(rows);
    }

    fn masks(&mut self, masks: &[u32]) {
        self.batch.masks = masks.to_vec();
    }

    fn sample(&mut self, logits: Tensor, first: usize) {
        let mut values = self.take(logits);
        if self.result.rows.is_empty() {
            sampling::prepare(&self.batch, logits.cols, &mut self.result);
        }
        for (i, row) in values.chunks_exact_mut(logits.cols).take(logits.rows).enumerate() {
            let spec = &self.batch.samples[first + i];
            let span = self.result.rows[first + i].top;
            let top = &mut self.result.top[span.start as usize..(span.start + span.len) as usize];
            let (row, scratch) = (&mut row.to_vec(), &mut self.scratch);
            let sampled = sampling::sample_row(row, spec, &self.batch, top, scratch, &sampling::OneThread);
            self.result.rows[first + i] = crate::SampledRow { top: span, ..sampled };
        }
        self.put(logits, values);
    }

    fn submit(&mut self) -> Ticket {
        self.steps += 1;
        Ticket(self.steps)
    }

    fn wait(&mut self, ticket: Ticket, result: &mut StepResult) -> Result<(), BackendError> {
        assert_eq!(ticket.0, self.steps, "tickets are waited for in order");
        std::mem::swap(result, &mut self.result);
        Ok(())
    }

    fn read(&mut self, tensor: Tensor) -> Vec<f32> {
        self.tensors[tensor.id as usize][..tensor.rows * tensor.cols].to_vec()
    }

    fn write(&mut self, tensor: Tensor, values: &[f32]) {
        self.tensors[tensor.id as usize][..values.len()].copy_from_slice(values);
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>() as f32
}

fn normalise(row: &mut [f32], weight: &[f32], eps: f32) {
    let mean = row.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>() / row.len() as f64;
    let factor = 1.0 / (mean as f32 + eps).sqrt();
    for (x, w) in row.iter_mut().zip(weight) {
        *x = *x * factor * w;
    }
}

/// Rotates the first `2 · inv_freq.len()` elements of a head; the rest stays (partial rotary).
fn rotate(head: &mut [f32], position: f32, inv_freq: &[f32], magnitude: f32) {
    let half = inv_freq.len();
    for i in 0..half {
        let (sin, cos) = (position * inv_freq[i]).sin_cos();
        let (a, b) = (head[i], head[half + i]);
        head[i] = (a * cos - b * sin) * magnitude;
        head[half + i] = (b * cos + a * sin) * magnitude;
    }
}

fn softmax(scores: &mut [f32]) {
    let max = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    for s in scores.iter_mut() {
        *s = (*s - max).exp();
    }
    let sum: f32 = scores.iter().sum();
    for s in scores {
        *s /= sum;
    }
}

fn activate(act: Activation, x: f32) -> f32 {
    match act {
        Activation::Silu => x / (1.0 + (-x).exp()),
        Activation::GeluTanh => {
            let inner = (2.0 / std::f32::consts::PI).sqrt() * (x + 0.044_715 * x * x * x);
            0.5 * x * (1.0 + inner.tanh())
        }
        Activation::Gelu => x * (0.5 * (1.0 + erf(f64::from(x) / std::f64::consts::SQRT_2))) as f32,
        Activation::Relu => x.max(0.0),
        Activation::Tanh => x.tanh(),
    }
}
