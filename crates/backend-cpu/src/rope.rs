//! q/k normalisation and rotary position embedding.

use millrace_backend::{HeadLayout, Rope};

use crate::elementwise::{for_rows, normalise};
use crate::level::Isa;
use crate::pool::{Pool, TaskPanicked};
use crate::simd::{Kernel, LANES, Simd};

/// Cosines and sines of a step's positions, one table per distinct frequencies: computed by the first layer that asks.
#[derive(Default)]
pub(crate) struct RopeTables {
    tables: Vec<Table>,
}

struct Table {
    /// Buffer of the inverse frequencies, and the bits of the magnitude.
    key: (u32, u32),
    current: bool,
    /// Per token: cos, then sin, `[rotary_dim / 2]` each.
    values: Vec<f32>,
}

impl RopeTables {
    /// A new step with other positions.
    pub(crate) fn forget(&mut self) {
        for table in &mut self.tables {
            table.current = false;
        }
    }

    /// The table for these frequencies, `[T, 2 · inv_freq.len()]`, and its width.
    pub(crate) fn get(
        &mut self,
        pool: &Pool,
        rope: &Rope,
        inv_freq: &[f32],
        positions: &[u32],
    ) -> Result<(&[f32], usize), TaskPanicked> {
        let key = (rope.inv_freq.id, rope.magnitude.to_bits());
        let index = self.tables.iter().position(|table| table.key == key).unwrap_or_else(|| {
            self.tables.push(Table { key, current: false, values: Vec::new() });
            self.tables.len() - 1
        });
        let table = &mut self.tables[index];
        let cols = 2 * inv_freq.len();
        if !table.current {
            // Growing zeroes only what is new; all of it is overwritten.
            table.values.resize(positions.len() * cols, 0.0);
            for_rows(pool, &mut table.values, cols, &|row, values| {
                fill(positions[row] as f32, inv_freq, rope.magnitude, values);
            })?;
            table.current = true;
        }
        Ok((&table.values, cols))
    }
}

/// The angle is a float32 product, as in transformers; its cosine and sine are rounded once from float64.
fn fill(position: f32, inv_freq: &[f32], magnitude: f32, values: &mut [f32]) {
    let (cos, sin) = values.split_at_mut(inv_freq.len());
    for ((frequency, cos), sin) in inv_freq.iter().zip(cos).zip(sin) {
        let (s, c) = f64::from(position * frequency).sin_cos();
        (*cos, *sin) = (c as f32 * magnitude, s as f32 * magnitude);
    }
}

/// Normalises and rotates the q and k heads of fused rows in place.
pub(crate) struct QkNormRope<'a> {
    pub(crate) heads: HeadLayout,
    /// Weights for q and k, and eps.
    pub(crate) norm: Option<(&'a [f32], &'a [f32], f32)>,
    /// From [`RopeTables::get`], and how much of it belongs to a row.
    pub(crate) table: Option<(&'a [f32], usize)>,
}

impl<'a> QkNormRope<'a> {
    /// Processes the rows of `qkv` `[T, fused_cols]`.
    pub(crate) fn run(&self, isa: Isa, pool: &Pool, qkv: &mut [f32]) -> Result<(), TaskPanicked> {
        for_rows(pool, qkv, self.heads.fused_cols(), &|row, values| {
            isa.run(Row { shared: self, table: self.table_of(row), values });
        })
    }

    /// Cosines and sines of a row's position.
    #[inline(always)]
    pub(crate) fn table_of(&self, row: usize) -> Option<&'a [f32]> {
        self.table.map(|(table, width)| &table[row * width..][..width])
    }

    /// Processes head number `index` of a row, of q or k.
    #[inline(always)]
    pub(crate) fn head<S: Simd>(&self, s: S, index: usize, table: Option<&[f32]>, head: &mut [f32]) {
        let dim = head.len();
        if let Some((q, k, eps)) = self.norm {
            normalise(s, head, &(if index < self.heads.q_heads { q } else { k })[..dim], eps);
        }
        match table {
            // Where the caller knows how long a head is, so does this.
            Some(table) if table.len() == dim => rotate(s, head, &table[..dim]),
            Some(table) => rotate(s, head, table),
            None => {}
        }
    }
}

struct Row<'a> {
    shared: &'a QkNormRope<'a>,
    table: Option<&'a [f32]>,
    values: &'a mut [f32],
}

impl Kernel for Row<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let heads = self.shared.heads;
        let rotated = heads.q_heads + heads.kv_heads;
        for (index, head) in self.values.chunks_exact_mut(heads.head_dim).take(rotated).enumerate() {
            self.shared.head(s, index, self.table, head);
        }
    }
}

/// Rotates pairs (i, i + half) of the first `table.len()` elements; the rest stays (partial rotary).
#[inline(always)]
fn rotate<S: Simd>(s: S, head: &mut [f32], table: &[f32]) {
    let half = table.len() / 2;
    let (cos, sin) = table.split_at(half);
    let (a, rest) = head.split_at_mut(half);
    let (a, b) = (a.chunks_mut(LANES), rest[..half].chunks_mut(LANES));
    for (((a, b), cos), sin) in a.zip(b).zip(cos.chunks(LANES)).zip(sin.chunks(LANES)) {
        let (x, y) = (load(s, a), load(s, b));
        let (c, n) = (load(s, cos), load(s, sin));
        store(s, s.sub(s.mul(x, c), s.mul(y, n)), a);
        store(s, s.add(s.mul(y, c), s.mul(x, n)), b);
    }
}

#[inline(always)]
fn load<S: Simd>(s: S, from: &[f32]) -> S::V {
    match from.as_array() {
        Some(from) => s.load(from),
        None => s.load_partial(from),
    }
}

#[inline(always)]
fn store<S: Simd>(s: S, v: S::V, to: &mut [f32]) {
    match to.as_mut_array() {
        Some(to) => s.store(v, to),
        None => s.store_partial(v, to),
    }
}
