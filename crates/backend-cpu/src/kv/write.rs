//! Tokens on their way into the cache.

use std::ops::Range;

use half::bf16;
use millrace_backend::{BackendError, HeadLayout, kv_scale};

use super::{DIM_STEP, Element, Layer, PAIR, Shape, TILE};
use crate::activations::bf16_bits;
use crate::level::Isa;
use crate::pool::Pool;
use crate::shared::SharedMut;
use crate::simd::{Kernel, LANES, LINE, Simd, prefetch_far};

/// How many heads in advance the memory of single tokens is asked for, which lies far apart.
const AHEAD: usize = 2;
/// Elements below which a write is not worth waking threads for.
const PARALLEL: usize = 2 * 1024;

/// Half of a tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Half {
    Keys,
    Values,
}

/// A layer's cache while tokens go into it, each to its slot. Halves of heads have memory of their own, so that they can
/// be written at the same time.
pub(crate) struct Tokens<'a, E> {
    shape: Shape,
    data: SharedMut<'a, E>,
    scales: SharedMut<'a, f32>,
    slots: &'a [u32],
}

impl<'a, E: Element> Tokens<'a, E> {
    pub(crate) fn new(layer: &'a mut Layer<E>, slots: &'a [u32]) -> Self {
        let Layer { shape, data, scales } = layer;
        Self { shape: *shape, data: SharedMut::new(data), scales: SharedMut::new(scales), slots }
    }

    /// How many tokens from `row` on are written at once: a whole tile's, or one.
    #[inline(always)]
    pub(crate) fn together(&self, row: usize) -> usize {
        if E::TILES && fills_tile(&self.slots[row..]) { TILE } else { 1 }
    }

    /// Stores half of a head of those tokens, each `[dim]`. Nobody else writes this half of this head meanwhile.
    #[inline(always)]
    pub(crate) fn write<S: Simd>(&self, s: S, row: usize, (head, half): (usize, Half), x: &[&[f32]]) {
        let (tile, token) = self.place(row, head);
        let (keys, len) = self.shape.lens();
        let (data, scales) = match half {
            Half::Keys => (0..keys, 0..LANES),
            Half::Values => (keys..len, LANES..2 * LANES),
        };
        let per_tile = if E::SCALED { 2 * LANES } else { 0 };
        let scales = scales.start.min(per_tile)..scales.end.min(per_tile);
        // SAFETY: by the caller's promise.
        #[allow(unsafe_code)]
        let (data, scales) = unsafe {
            (
                self.data.slice(tile * len + data.start, data.len()),
                self.scales.slice(tile * per_tile + scales.start, scales.len()),
            )
        };
        match x.first_chunk() {
            Some(x) => E::write_tile(s, half, x, data),
            None => write_token(half, token, x[0], data, scales),
        }
    }

    /// The tile of a row and head, and which of its tokens that is. Heads of a token lie side by side.
    #[inline(always)]
    fn place(&self, row: usize, head: usize) -> (usize, usize) {
        let slot = self.slots[row] as usize;
        let (block, offset) = (slot / self.shape.block_size, slot % self.shape.block_size);
        (self.shape.tile(block, head, offset), offset % TILE)
    }

    /// Asks for what a single token of a head is going to touch: a part of every line of keys, and a row of values.
    #[inline(always)]
    fn ask_for(&self, row: usize, head: usize) {
        let (tile, token) = self.place(row, head);
        let (keys, all) = self.shape.lens();
        let tile = self.data.address(tile * all);
        let row = self.shape.dim.div_ceil(LANES) * PAIR;
        let values =
            if token == 0 { keys..all } else { keys + token / 2 * row..keys + (token / 2 + 1) * row };
        for part in [0..keys, values] {
            for element in part.step_by(LINE / size_of::<E>()) {
                prefetch_far(tile, element * size_of::<E>());
            }
        }
    }
}

/// Whether slots begin with all those of a tile, in order.
#[inline(always)]
fn fills_tile(slots: &[u32]) -> bool {
    match slots.first_chunk::<TILE>() {
        Some(slots) => {
            let first = slots[0];
            let mut in_order = (first as usize).is_multiple_of(TILE);
            for (index, slot) in slots.iter().enumerate() {
                in_order &= *slot == first.wrapping_add(index as u32);
            }
            in_order
        }
        None => false,
    }
}

impl<E: Element> Layer<E> {
    /// Stores k and v of fused rows (`[q | k | v]`) at `slots`.
    ///
    /// # Errors
    /// A thread panicked (a slot lies outside of the cache).
    pub(crate) fn write(
        &mut self,
        isa: Isa,
        pool: &Pool,
        rows: &[f32],
        layout: HeadLayout,
        slots: &[u32],
    ) -> Result<(), BackendError> {
        let Shape { heads, dim, .. } = self.shape;
        let tokens = Tokens::new(self, slots);
        let few = slots.len() * heads * dim < PARALLEL;
        let each = if few { heads } else { heads.div_ceil(pool.threads()) };
        pool.run(heads.div_ceil(each), &|index, _| {
            let heads = index * each..((index + 1) * each).min(heads);
            isa.run(WriteHeads { tokens: &tokens, rows, layout, heads });
        })?;
        Ok(())
    }
}

/// Writes some heads of all tokens.
struct WriteHeads<'a, E> {
    tokens: &'a Tokens<'a, E>,
    /// Fused, `[slots.len()][layout.fused_cols()]` or more.
    rows: &'a [f32],
    layout: HeadLayout,
    heads: Range<usize>,
}

impl<E: Element> Kernel for WriteHeads<'_, E> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { tokens, rows, layout, heads } = self;
        let (count, dim, cols) = (tokens.slots.len(), layout.head_dim, layout.fused_cols());
        let mut row = 0;
        while row < count {
            let together = tokens.together(row);
            for head in heads.clone() {
                let next = head - heads.start + AHEAD;
                let (down, right) = (next / heads.len(), next % heads.len());
                if together == 1 && row + down < count {
                    tokens.ask_for(row + down, heads.start + right);
                }
                let halves = [(Half::Keys, head), (Half::Values, layout.kv_heads + head)];
                for (half, place) in halves {
                    let mut x = [&[][..]; TILE];
                    for (token, x) in x.iter_mut().enumerate().take(together) {
                        *x = &rows[(row + token) * cols + layout.q_cols() + place * dim..][..dim];
                    }
                    tokens.write(s, row, (head, half), &x[..together]);
                }
            }
            row += together;
        }
    }
}

/// Writes half of a token of a head into its tile's half; `scales` are those of the half, empty if there are none. Elements
/// are encoded many at a time and then put into their places, one by one.
#[inline(always)]
fn write_token<E: Element>(half: Half, token: usize, x: &[f32], data: &mut [E], scales: &mut [f32]) {
    if token == 0 {
        data.fill(E::zeroed());
        scales.fill(0.0);
    }
    let inverse = match scales.get_mut(token) {
        Some(place) => {
            let scale = kv_scale(x);
            *place = scale.scale;
            scale.inverse
        }
        None => 1.0,
    };
    let places = data.as_chunks_mut::<PAIR>().0;
    match half {
        Half::Keys => {
            let index = [E::index(0, token), E::index(1, token)];
            for (places, x) in places.chunks_mut(DIM_STEP / 2).zip(x.chunks(DIM_STEP)) {
                let encoded = encode::<E>(x, inverse);
                for (pair, x) in places.iter_mut().zip(encoded[..x.len()].as_chunks::<2>().0) {
                    pair[index[0]] = x[0];
                    pair[index[1]] = x[1];
                }
            }
        }
        Half::Values => {
            let vectors = x.len().div_ceil(LANES);
            let places = &mut places[token / 2 * vectors..][..vectors];
            for (places, x) in places.chunks_mut(DIM_STEP / LANES).zip(x.chunks(DIM_STEP)) {
                let encoded = encode::<E>(x, inverse);
                for (pair, x) in places.iter_mut().zip(encoded[..x.len()].chunks(LANES)) {
                    for (lane, x) in x.iter().enumerate() {
                        pair[E::index(token % 2, lane)] = *x;
                    }
                }
            }
        }
    }
}

/// Keys of a tile's tokens: two head dimensions of all of them side by side.
#[inline(always)]
pub(super) fn transposed<S: Simd>(s: S, k: &[&[f32]; TILE], keys: &mut [bf16]) {
    for (index, places) in keys.as_chunks_mut::<{ PAIR * LANES }>().0.iter_mut().enumerate() {
        let mut pairs = [[0; LANES]; TILE];
        for (pairs, k) in pairs.iter_mut().zip(k) {
            let k: [_; DIM_STEP] = some(k, index * DIM_STEP);
            for (lane, place) in pairs.iter_mut().enumerate() {
                *place = pair(k[2 * lane], k[2 * lane + 1]);
            }
        }
        s.transpose(&mut pairs);
        *bytemuck::cast_mut(places) = pairs;
    }
}

/// Values of a tile's tokens: two neighbours' elements side by side.
#[inline(always)]
pub(super) fn interleaved(v: &[&[f32]; TILE], values: &mut [bf16]) {
    let vectors = v[0].len().div_ceil(LANES);
    let places = values.as_chunks_mut::<PAIR>().0.chunks_exact_mut(vectors);
    for (places, [first, second]) in places.zip(v.as_chunks::<2>().0) {
        for (index, places) in places.iter_mut().enumerate() {
            let [first, second]: [[_; LANES]; 2] = [first, second].map(|x| some(x, index * LANES));
            let mut pairs = [0; LANES];
            for (lane, place) in pairs.iter_mut().enumerate() {
                *place = pair(first[lane], second[lane]);
            }
            *bytemuck::cast_mut(places) = pairs;
        }
    }
}

/// Two values as bf16, the first in the lower half.
#[inline(always)]
fn pair(first: f32, second: f32) -> u32 {
    u32::from(bf16_bits(first)) | u32::from(bf16_bits(second)) << 16
}

/// N values from `first` on; zeros where there are none.
#[inline(always)]
fn some<const N: usize>(x: &[f32], first: usize) -> [f32; N] {
    let left = x.get(first..).unwrap_or_default();
    let mut some = [0.0; N];
    match left.first_chunk() {
        Some(all) => some = *all,
        None => some[..left.len()].copy_from_slice(left),
    }
    some
}

/// Up to [`DIM_STEP`] elements.
#[inline(always)]
fn encode<E: Element>(x: &[f32], inverse: f32) -> [E; DIM_STEP] {
    let mut encoded = [E::zeroed(); DIM_STEP];
    for (encoded, x) in encoded.iter_mut().zip(x) {
        *encoded = E::encode(*x, inverse);
    }
    encoded
}
