//! Operations on rows: norms, activations.

use millrace_backend::Activation;

use crate::pool::{Pool, TaskPanicked};
use crate::shared::SharedMut;
use crate::simd::{Kernel, LANES, Simd, math};

/// Elements per task; fewer than two tasks' worth stay on the calling thread.
const PER_TASK: usize = 8 * 1024;

/// Calls `f(row index, row)` for the rows of `out` `[_, cols]`, over threads if it pays.
pub(crate) fn for_rows(
    pool: &Pool,
    out: &mut [f32],
    cols: usize,
    f: &(dyn Fn(usize, &mut [f32]) + Sync),
) -> Result<(), TaskPanicked> {
    let rows = out.len() / cols;
    let per_task = (PER_TASK / cols).max(1);
    let out = SharedMut::new(out);
    pool.run(rows.div_ceil(per_task), &|task, _| {
        for row in task * per_task..((task + 1) * per_task).min(rows) {
            // SAFETY: each row belongs to one task.
            #[allow(unsafe_code)]
            let values = unsafe { out.slice(row * cols, cols) };
            f(row, values);
        }
    })
}

/// `out = x / sqrt(mean(x²) + eps) * weight` for one row. Squares are summed in sixteen lanes, in order.
pub(crate) struct RmsNorm<'a> {
    pub(crate) x: &'a [f32],
    pub(crate) weight: &'a [f32],
    pub(crate) eps: f32,
    pub(crate) out: &'a mut [f32],
}

impl Kernel for RmsNorm<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let factor = norm_factor(s, self.x, self.eps);
        let (x, x_rest) = self.x.as_chunks();
        let (w, w_rest) = self.weight.as_chunks();
        let (out, out_rest) = self.out.as_chunks_mut();
        for ((out, x), w) in out.iter_mut().zip(x).zip(w) {
            s.store(s.mul(s.mul(s.load(x), factor), s.load(w)), out);
        }
        if !out_rest.is_empty() {
            let v = s.mul(s.mul(s.load_partial(x_rest), factor), s.load_partial(w_rest));
            s.store_partial(v, out_rest);
        }
    }
}

/// The same in place.
#[inline(always)]
pub(crate) fn normalise<S: Simd>(s: S, row: &mut [f32], weight: &[f32], eps: f32) {
    let factor = norm_factor(s, row, eps);
    let (x, rest) = row.as_chunks_mut();
    let (w, w_rest) = weight.as_chunks();
    for (x, w) in x.iter_mut().zip(w) {
        s.store(s.mul(s.mul(s.load(x), factor), s.load(w)), x);
    }
    if !rest.is_empty() {
        let v = s.mul(s.mul(s.load_partial(rest), factor), s.load_partial(w_rest));
        s.store_partial(v, rest);
    }
}

#[inline(always)]
fn norm_factor<S: Simd>(s: S, x: &[f32], eps: f32) -> S::V {
    let (chunks, rest) = x.as_chunks();
    let mut squares = s.splat(0.0);
    for x in chunks {
        let x = s.load(x);
        squares = s.fma(x, x, squares);
    }
    if !rest.is_empty() {
        let x = s.load_partial(rest);
        squares = s.fma(x, x, squares);
    }
    let mean = s.sum(squares) / x.len() as f32;
    s.splat(1.0 / (mean + eps).sqrt())
}

/// `sum += x`.
pub(crate) struct AddAssign<'a> {
    pub(crate) sum: &'a mut [f32],
    pub(crate) x: &'a [f32],
}

impl Kernel for AddAssign<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        for (sum, x) in self.sum.iter_mut().zip(self.x) {
            *sum += x;
        }
    }
}

/// `out = act(gate) * up` for one row.
pub(crate) struct Gated<'a> {
    pub(crate) gate: &'a [f32],
    pub(crate) up: &'a [f32],
    pub(crate) act: Activation,
    pub(crate) out: &'a mut [f32],
}

impl Kernel for Gated<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (gate, gate_rest) = self.gate.as_chunks::<LANES>();
        let (up, up_rest) = self.up.as_chunks::<LANES>();
        let (out, out_rest) = self.out.as_chunks_mut::<LANES>();
        for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
            s.store(gated(s, self.act, s.load(gate), s.load(up)), out);
        }
        if !out_rest.is_empty() {
            let v = gated(s, self.act, s.load_partial(gate_rest), s.load_partial(up_rest));
            s.store_partial(v, out_rest);
        }
    }
}

/// `act(gate) * up`.
#[inline(always)]
pub(crate) fn gated<S: Simd>(s: S, act: Activation, gate: S::V, up: S::V) -> S::V {
    s.mul(activated(s, act, gate), up)
}

#[inline(always)]
fn activated<S: Simd>(s: S, act: Activation, x: S::V) -> S::V {
    match act {
        Activation::Silu => math::silu(s, x),
        Activation::GeluTanh => math::gelu_tanh(s, x),
        Activation::Gelu => math::gelu(s, x),
        Activation::Relu => s.max(x, s.splat(0.0)),
        Activation::Tanh => math::tanh(s, x),
    }
}

/// `out = act(x)` for one row.
pub(crate) struct Activate<'a> {
    pub(crate) x: &'a [f32],
    pub(crate) act: Activation,
    pub(crate) out: &'a mut [f32],
}

impl Kernel for Activate<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (x, x_rest) = self.x.as_chunks::<LANES>();
        let (out, out_rest) = self.out.as_chunks_mut::<LANES>();
        for (out, x) in out.iter_mut().zip(x) {
            s.store(activated(s, self.act, s.load(x)), out);
        }
        if !out_rest.is_empty() {
            s.store_partial(activated(s, self.act, s.load_partial(x_rest)), out_rest);
        }
    }
}
