//! A backend that behaves like an asynchronous device: it records a step's operations, executes them late and in
//! order (inside `wait`), and panics when the host reads back in the middle of a step.
//!
//! Wrapped around another backend in tests, it proves that nothing above the trait depends on early execution. Since
//! it knows when each operation begins and ends, it also tells what they take ([`Recorder::timing`]).

mod times;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::SeqCst},
};
use std::time::Instant;

pub use times::{Op, OpTime, OpTimes};

use crate::{
    Activation, AttentionSpec, Backend, BackendError, Batch, HeadLayout, KvSpec, Mask, Matrix, MatrixSource,
    Mlp, Pool, Projection, QkNorm, Rope, RowIndex, StepResult, Tensor, Ticket, WeightFormat,
};

type Run<B> = Box<dyn FnOnce(&mut B) + Send>;

/// Records operations for `inner`.
pub struct Recorder<B> {
    inner: B,
    ops: Vec<(Op, Run<B>)>,
    state: State,
    steps: u64,
    /// Operations recorded since the start.
    recorded: Arc<AtomicU64>,
    times: Option<OpTimes>,
    /// The step has tokens of prompts.
    prompts: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Idle,
    Recording,
    Submitted(Ticket),
}

impl<B: Backend> Recorder<B> {
    /// Wraps a backend.
    pub fn new(inner: B) -> Self {
        Self {
            inner,
            ops: Vec::new(),
            state: State::Idle,
            steps: 0,
            recorded: Arc::default(),
            times: None,
            prompts: false,
        }
    }

    /// Wraps a backend and adds to `times` what its operations take.
    pub fn timing(inner: B, times: OpTimes) -> Self {
        Self { times: Some(times), ..Self::new(inner) }
    }

    /// How many operations were recorded so far.
    pub fn recorded(&self) -> u64 {
        self.recorded.load(SeqCst)
    }

    /// The same number, for whoever has no access to the backend any more.
    pub fn counter(&self) -> Arc<AtomicU64> {
        self.recorded.clone()
    }

    fn record(&mut self, name: &'static str, run: impl FnOnce(&mut B) + Send + 'static) {
        self.record_weights(name, None, run);
    }

    /// An operation that reads a weight.
    fn record_with(&mut self, name: &'static str, weight: Matrix, run: impl FnOnce(&mut B) + Send + 'static) {
        self.record_weights(name, Some([weight.rows, weight.cols]), run);
    }

    fn record_weights(
        &mut self,
        name: &'static str,
        weights: Option<[usize; 2]>,
        run: impl FnOnce(&mut B) + Send + 'static,
    ) {
        assert_eq!(self.state, State::Recording, "an operation outside of begin … submit");
        self.recorded.fetch_add(1, SeqCst);
        self.ops.push((Op { name, weights, prompts: self.prompts }, Box::new(run)));
    }

    fn assert_idle(&self, what: &str) {
        assert_eq!(self.state, State::Idle, "{what} in the middle of a step");
    }
}

impl<B: Backend> Backend for Recorder<B> {
    fn describe(&self) -> String {
        format!("recording {}", self.inner.describe())
    }
    fn block_multiple(&self) -> usize {
        self.inner.block_multiple()
    }
    fn alloc(&mut self, rows: usize, cols: usize) -> Result<Tensor, BackendError> {
        self.assert_idle("an allocation");
        self.inner.alloc(rows, cols)
    }
    fn load_vector(&mut self, values: &[f32]) -> Result<Tensor, BackendError> {
        self.assert_idle("an upload");
        self.inner.load_vector(values)
    }
    fn load_matrix(
        &mut self,
        source: &mut dyn MatrixSource,
        format: WeightFormat,
    ) -> Result<Matrix, BackendError> {
        self.assert_idle("an upload");
        self.inner.load_matrix(source, format)
    }
    fn alloc_kv(&mut self, spec: &KvSpec) -> Result<(), BackendError> {
        self.assert_idle("an allocation");
        self.inner.alloc_kv(spec)
    }
    fn commit_kv(&mut self) -> Result<(), BackendError> {
        self.assert_idle("an allocation");
        self.inner.commit_kv()
    }
    fn begin(&mut self, batch: &Batch) {
        self.assert_idle("a second begin");
        self.state = State::Recording;
        self.prompts = batch.prompt_rows > 0;
        // The host may reuse its batch at once: a device has copied it by then, and so does this. Masks come later.
        let batch = Batch { masks: Vec::new(), ..batch.clone() };
        self.record("begin", move |b| b.begin(&batch));
    }
    fn embed(&mut self, table: Matrix, out: Tensor) {
        self.record("embed", move |b| b.embed(table, out));
    }
    fn rms_norm(&mut self, x: Tensor, weight: Tensor, eps: f32, out: Tensor) {
        self.record("rms_norm", move |b| b.rms_norm(x, weight, eps, out));
    }
    fn add_rms_norm(&mut self, residual: Tensor, x: Tensor, weight: Tensor, eps: f32, out: Tensor) {
        self.record("add_rms_norm", move |b| b.add_rms_norm(residual, x, weight, eps, out));
    }
    fn add_embedding(&mut self, table: Matrix, index: RowIndex, out: Tensor) {
        self.record("add_embedding", move |b| b.add_embedding(table, index, out));
    }
    fn add(&mut self, sum: Tensor, x: Tensor) {
        self.record("add", move |b| b.add(sum, x));
    }
    fn scale(&mut self, x: Tensor, factor: f32) {
        self.record("scale", move |b| b.scale(x, factor));
    }
    fn layer_norm(&mut self, x: Tensor, weight: Tensor, bias: Option<Tensor>, eps: f32, out: Tensor) {
        self.record("layer_norm", move |b| b.layer_norm(x, weight, bias, eps, out));
    }
    fn logits(&mut self, x: Tensor, head: Matrix, out: Tensor) {
        self.record_with("logits", head, move |b| b.logits(x, head, out));
    }

    fn linear(&mut self, x: Tensor, weight: Matrix, bias: Option<Tensor>, out: Tensor) {
        self.record_with("linear", weight, move |b| b.linear(x, weight, bias, out));
    }
    fn qk_norm_rope(&mut self, qkv: Tensor, heads: HeadLayout, norm: Option<QkNorm>, rope: Option<Rope>) {
        self.record("qk_norm_rope", move |b| b.qk_norm_rope(qkv, heads, norm, rope));
    }
    fn kv_write(&mut self, layer: usize, qkv: Tensor, heads: HeadLayout) {
        self.record("kv_write", move |b| b.kv_write(layer, qkv, heads));
    }
    fn project(&mut self, x: Tensor, projection: &Projection, out: Tensor) {
        let projection = *projection;
        self.record_with("project", projection.qkv, move |b| b.project(x, &projection, out));
    }
    fn attention(&mut self, layer: usize, qkv: Tensor, spec: &AttentionSpec, out: Tensor) {
        let spec = *spec;
        self.record("attention", move |b| b.attention(layer, qkv, &spec, out));
    }
    fn attend(&mut self, qkv: Tensor, spec: &AttentionSpec, mask: Mask, out: Tensor) {
        let spec = *spec;
        self.record("attend", move |b| b.attend(qkv, &spec, mask, out));
    }
    fn activate(&mut self, x: Tensor, act: Activation, out: Tensor) {
        self.record("activate", move |b| b.activate(x, act, out));
    }
    fn gated_activation(&mut self, gate_up: Tensor, act: Activation, out: Tensor) {
        self.record("gated_activation", move |b| b.gated_activation(gate_up, act, out));
    }
    fn mlp(&mut self, x: Tensor, mlp: &Mlp, room: [Tensor; 2], out: Tensor) {
        let mlp = *mlp;
        self.record("mlp", move |b| b.mlp(x, &mlp, room, out));
    }
    fn gather_rows(&mut self, x: Tensor, first: usize, out: Tensor) {
        self.record("gather_rows", move |b| b.gather_rows(x, first, out));
    }
    fn pool(&mut self, x: Tensor, how: Pool, first: usize, out: Tensor) {
        self.record("pool", move |b| b.pool(x, how, first, out));
    }
    fn collect(&mut self, x: Tensor) {
        self.record("collect", move |b| b.collect(x));
    }
    fn masks(&mut self, masks: &[u32]) {
        let masks = masks.to_vec();
        self.record("masks", move |b| b.masks(&masks));
    }
    fn sample(&mut self, logits: Tensor, first: usize) {
        self.record("sample", move |b| b.sample(logits, first));
    }
    fn submit(&mut self) -> Ticket {
        assert_eq!(self.state, State::Recording, "submit without begin");
        self.steps += 1;
        self.state = State::Submitted(Ticket(self.steps));
        Ticket(self.steps)
    }
    fn wait(&mut self, ticket: Ticket, result: &mut StepResult) -> Result<(), BackendError> {
        assert_eq!(self.state, State::Submitted(ticket), "a read-back in the middle of a step");
        for (op, run) in self.ops.drain(..) {
            let begun = Instant::now();
            run(&mut self.inner);
            if let Some(times) = &self.times {
                times.add(op, begun.elapsed());
            }
        }
        self.state = State::Idle;
        let inner = self.inner.submit();
        self.inner.wait(inner, result)
    }
    fn read(&mut self, tensor: Tensor) -> Vec<f32> {
        self.assert_idle("a read-back");
        self.inner.read(tensor)
    }
    fn write(&mut self, tensor: Tensor, values: &[f32]) {
        self.assert_idle("an upload");
        self.inner.write(tensor, values);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::ReferenceBackend;

    #[test]
    fn executes_late_and_in_order() {
        let mut device = Recorder::new(ReferenceBackend::new());
        let (x, out) = (device.alloc(1, 2).unwrap(), device.alloc(1, 2).unwrap());
        let (ones, twos) =
            (device.load_vector(&[1.0, 1.0]).unwrap(), device.load_vector(&[2.0, 2.0]).unwrap());
        device.write(x, &[3.0, 3.0]);
        device.begin(&Batch::default());
        device.rms_norm(x, ones, 0.0, out);
        device.rms_norm(out, twos, 0.0, x);
        let ticket = device.submit();
        device.wait(ticket, &mut StepResult::default()).unwrap();
        assert_eq!(device.read(out), [1.0, 1.0]);
        assert_eq!(device.read(x), [2.0, 2.0]);
    }

    #[test]
    #[should_panic(expected = "in the middle of a step")]
    fn refuses_a_read_back_inside_a_step() {
        let mut device = Recorder::new(ReferenceBackend::new());
        let x = device.alloc(1, 2).unwrap();
        device.begin(&Batch::default());
        device.read(x);
    }
}
