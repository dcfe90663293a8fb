//! One row out of the rows of a sequence.

use millrace_backend::Pool;

use crate::simd::{Kernel, LANES, Simd};

/// Pools `rows` `[n, cols]`, n at least 1, into `out` `[cols]`. Rows are taken in order.
pub(crate) struct PoolRows<'a> {
    pub(crate) rows: &'a [f32],
    pub(crate) how: Pool,
    pub(crate) out: &'a mut [f32],
}

impl Kernel for PoolRows<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let cols = self.out.len();
        let count = self.rows.len() / cols;
        match self.how {
            Pool::First => self.out.copy_from_slice(&self.rows[..cols]),
            Pool::Last => self.out.copy_from_slice(&self.rows[(count - 1) * cols..]),
            Pool::Mean => {
                fold(s, self.rows, self.out, |a, b| s.add(a, b));
                let divisor = count as f32;
                self.out.iter_mut().for_each(|sum| *sum /= divisor);
            }
            Pool::MeanSqrtLen => {
                fold(s, self.rows, self.out, |a, b| s.add(a, b));
                let divisor = (count as f32).sqrt();
                self.out.iter_mut().for_each(|sum| *sum /= divisor);
            }
            Pool::Max => fold(s, self.rows, self.out, |a, b| s.max(a, b)),
        }
    }
}

/// Column by column, row after row.
#[inline(always)]
fn fold<S: Simd>(s: S, rows: &[f32], out: &mut [f32], join: impl Fn(S::V, S::V) -> S::V) {
    let cols = out.len();
    out.copy_from_slice(&rows[..cols]);
    for row in rows[cols..].chunks_exact(cols) {
        let (out, out_rest) = out.as_chunks_mut::<LANES>();
        let (row, row_rest) = row.as_chunks::<LANES>();
        for (out, x) in out.iter_mut().zip(row) {
            s.store(join(s.load(out), s.load(x)), out);
        }
        if !out_rest.is_empty() {
            s.store_partial(join(s.load_partial(out_rest), s.load_partial(row_rest)), out_rest);
        }
    }
}
