//! Layer normalisation.

use crate::simd::{Kernel, LANES, Simd};

/// `out = (x − mean) / sqrt(variance + eps) * weight + bias` for one row. Sums run over sixteen lanes, in order; the
/// variance is that of the differences, so that a large mean costs no precision.
pub(crate) struct LayerNorm<'a> {
    pub(crate) x: &'a [f32],
    pub(crate) weight: &'a [f32],
    pub(crate) bias: Option<&'a [f32]>,
    pub(crate) eps: f32,
    pub(crate) out: &'a mut [f32],
}

impl Kernel for LayerNorm<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let len = self.x.len() as f32;
        let mean = s.splat(total(s, self.x) / len);
        let (x, x_rest) = self.x.as_chunks::<LANES>();
        let (out, out_rest) = self.out.as_chunks_mut::<LANES>();
        let mut squares = s.splat(0.0);
        for (out, x) in out.iter_mut().zip(x) {
            let difference = s.sub(s.load(x), mean);
            squares = s.fma(difference, difference, squares);
            s.store(difference, out);
        }
        if !out_rest.is_empty() {
            s.store_partial(s.sub(s.load_partial(x_rest), mean), out_rest);
            let difference = s.load_partial(out_rest);
            squares = s.fma(difference, difference, squares);
        }
        let factor = s.splat(1.0 / (s.sum(squares) / len + self.eps).sqrt());
        let (w, w_rest) = self.weight.as_chunks::<LANES>();
        for (out, w) in out.iter_mut().zip(w) {
            s.store(s.mul(s.mul(s.load(out), factor), s.load(w)), out);
        }
        if !out_rest.is_empty() {
            let v = s.mul(s.mul(s.load_partial(out_rest), factor), s.load_partial(w_rest));
            s.store_partial(v, out_rest);
        }
        if let Some(bias) = self.bias {
            self.out.iter_mut().zip(bias).for_each(|(out, bias)| *out += bias);
        }
    }
}

#[inline(always)]
fn total<S: Simd>(s: S, x: &[f32]) -> f32 {
    let (chunks, rest) = x.as_chunks::<LANES>();
    let mut sum = s.splat(0.0);
    for x in chunks {
        sum = s.add(sum, s.load(x));
    }
    s.sum(s.add(sum, s.load_partial(rest)))
}
