//! The paged KV cache in the layout that attention streams.
//!
//! Per layer `[block][kv head][block_size / 16]` tiles of sixteen tokens. A tile is made of *pair vectors* of 32
//! elements: K is `[padded dim / 2]` of them, each two head dimensions of sixteen tokens; V is `[8][⌈dim / 16⌉]`,
//! each two tokens' sixteen elements. bf16 and int8 pairs are interleaved, the order of `vdpbf16ps` and of an AMX B
//! tile, whose 32 input features the head dimension is padded to.
//!
//! A token at the start of a tile clears the tile: what an earlier sequence left there (an infinity, say) must not
//! meet a weight of zero.

use std::ops::Range;

use bytemuck::Zeroable;
use half::bf16;
use millrace_backend::{BackendError, HeadLayout, KvDtype, KvSpec, kv_scale};

use crate::activations::bf16_bits;
use crate::level::Isa;
use crate::pool::Pool;
use crate::region::Region;
use crate::shared::SharedMut;
use crate::simd::{Bf16Dot, Kernel, LANES, LINE, Simd, prefetch_far};

/// Tokens of a tile.
pub(crate) const TILE: usize = LANES;
/// Elements of a pair vector.
pub(crate) const PAIR: usize = 2 * LANES;
/// The head dimension of keys is padded to a multiple of this.
pub(crate) const DIM_STEP: usize = 32;
/// How many heads in advance the memory of single tokens is asked for, which lies far apart.
const AHEAD: usize = 2;
/// Elements below which a write is not worth waking threads for.
const PARALLEL: usize = 2 * 1024;

/// An element type of the cache.
pub(crate) trait Element: Copy + Send + Sync + Zeroable {
    /// Whether every head of every token has a scale.
    const SCALED: bool;
    /// Whether [`Element::write_tile`] is implemented.
    const TILES: bool = false;
    /// Place of the first (0) or second (1) element of a lane in a pair vector.
    fn index(which: usize, lane: usize) -> usize;
    /// `x` in units of the scale, whose inverse is given (1 if there are no scales).
    fn encode(x: f32, inverse: f32) -> Self;
    /// The first and the second elements.
    fn load<S: Simd>(s: S, from: &[Self; PAIR]) -> (S::V, S::V);
    /// Writes [`TILE`] tokens of a head at once.
    #[inline(always)]
    fn write_tile<S: Simd>(
        _s: S,
        _shape: Shape,
        _k: &[&[f32]; TILE],
        _v: &[&[f32]; TILE],
        _data: &mut [Self],
    ) {
    }
}

/// An element type whose values are bf16 numbers.
pub(crate) trait Bf16Element: Element {
    /// Pairs of bf16.
    fn load_pairs<S: Bf16Dot>(s: S, from: &[Self; PAIR]) -> S::B;
    /// The memory itself, if it holds pairs of bf16.
    fn in_place(from: &[[Self; PAIR]]) -> Option<&[[u16; PAIR]]>;
}

impl Element for f32 {
    const SCALED: bool = false;
    #[inline(always)]
    fn index(which: usize, lane: usize) -> usize {
        which * LANES + lane
    }
    #[inline(always)]
    fn encode(x: f32, _: f32) -> Self {
        x
    }
    #[inline(always)]
    fn load<S: Simd>(s: S, from: &[Self; PAIR]) -> (S::V, S::V) {
        let [first, second]: &[[f32; LANES]; 2] = bytemuck::cast_ref(from);
        (s.load(first), s.load(second))
    }
}

impl Element for bf16 {
    const SCALED: bool = false;
    const TILES: bool = true;
    #[inline(always)]
    fn index(which: usize, lane: usize) -> usize {
        2 * lane + which
    }
    #[inline(always)]
    fn encode(x: f32, _: f32) -> Self {
        bf16::from_bits(bf16_bits(x))
    }
    #[inline(always)]
    fn load<S: Simd>(s: S, from: &[Self; PAIR]) -> (S::V, S::V) {
        s.load_bf16_pairs(bytemuck::cast_ref(from))
    }
    /// Keys are transposed, two head dimensions at a time; of values, neighbouring tokens are interleaved.
    #[inline(always)]
    fn write_tile<S: Simd>(s: S, shape: Shape, k: &[&[f32]; TILE], v: &[&[f32]; TILE], data: &mut [Self]) {
        let (keys, values) = data.split_at_mut(shape.lens().0);
        for (index, places) in keys.as_chunks_mut::<{ PAIR * LANES }>().0.iter_mut().enumerate() {
            let pairs: &mut [[u32; LANES]; TILE] = bytemuck::cast_mut(places);
            for (pairs, k) in pairs.iter_mut().zip(k) {
                let left = &k[index * DIM_STEP..];
                *pairs = bytemuck::cast(encode::<Self>(&left[..left.len().min(DIM_STEP)], 1.0));
            }
            s.transpose(pairs);
        }
        let vectors = shape.dim.div_ceil(LANES);
        let places = values.as_chunks_mut::<PAIR>().0.chunks_exact_mut(vectors);
        for (places, v) in places.zip(v.as_chunks::<2>().0) {
            for (index, places) in places.chunks_mut(DIM_STEP / LANES).enumerate() {
                let left = index * DIM_STEP..shape.dim.min((index + 1) * DIM_STEP);
                let (first, second) =
                    (encode::<Self>(&v[0][left.clone()], 1.0), encode::<Self>(&v[1][left], 1.0));
                let lanes = first.as_chunks::<LANES>().0.iter().zip(second.as_chunks::<LANES>().0);
                for (place, (first, second)) in places.iter_mut().zip(lanes) {
                    let pairs: &mut [u32; LANES] = bytemuck::cast_mut(place);
                    for (pair, (first, second)) in pairs.iter_mut().zip(first.iter().zip(second)) {
                        *pair = u32::from(first.to_bits()) | u32::from(second.to_bits()) << 16;
                    }
                }
            }
        }
    }
}

impl Bf16Element for bf16 {
    #[inline(always)]
    fn load_pairs<S: Bf16Dot>(s: S, from: &[Self; PAIR]) -> S::B {
        s.bytes(bytemuck::cast_ref(from))
    }
    fn in_place(from: &[[Self; PAIR]]) -> Option<&[[u16; PAIR]]> {
        Some(bytemuck::cast_slice(from))
    }
}

impl Element for i8 {
    const SCALED: bool = true;
    #[inline(always)]
    fn index(which: usize, lane: usize) -> usize {
        2 * lane + which
    }
    #[inline(always)]
    fn encode(x: f32, inverse: f32) -> Self {
        (x * inverse).round_ties_even() as Self
    }
    #[inline(always)]
    fn load<S: Simd>(s: S, from: &[Self; PAIR]) -> (S::V, S::V) {
        s.load_i8_pairs(from)
    }
}

impl Bf16Element for i8 {
    #[inline(always)]
    fn load_pairs<S: Bf16Dot>(s: S, from: &[Self; PAIR]) -> S::B {
        // Whole numbers of eight bits are bf16 numbers.
        let (first, second) = s.load_i8_pairs(from);
        s.join_bf16(first, second)
    }
    fn in_place(_: &[[Self; PAIR]]) -> Option<&[[u16; PAIR]]> {
        None
    }
}

/// One layer's keys and values.
pub(crate) enum LayerKv {
    F32(Layer<f32>),
    Bf16(Layer<bf16>),
    Int8(Layer<i8>),
}

/// The whole cache.
pub(crate) struct KvCache {
    pub(crate) layers: Vec<LayerKv>,
}

impl KvCache {
    /// Lazily zeroed.
    pub(crate) fn new(spec: &KvSpec) -> Result<Self, BackendError> {
        if spec.block_size == 0 || !spec.block_size.is_multiple_of(TILE) {
            return Err(BackendError::Unsupported {
                device: "cpu",
                what: format!("a KV block of {} tokens; use a multiple of {TILE}", spec.block_size),
            });
        }
        let layers = spec.layers.iter().map(|(heads, dim)| {
            Ok::<_, BackendError>(match spec.dtype {
                KvDtype::F32 => LayerKv::F32(Layer::new(spec, *heads, *dim)?),
                KvDtype::Bf16 => LayerKv::Bf16(Layer::new(spec, *heads, *dim)?),
                KvDtype::Int8 => LayerKv::Int8(Layer::new(spec, *heads, *dim)?),
            })
        });
        Ok(Self { layers: layers.collect::<Result<_, _>>()? })
    }

    /// Takes all memory, with all threads.
    pub(crate) fn commit(&self, pool: &Pool) -> Result<(), BackendError> {
        pool.run(self.layers.len(), &|layer, _| match &self.layers[layer] {
            LayerKv::F32(layer) => layer.data.commit(),
            LayerKv::Bf16(layer) => layer.data.commit(),
            LayerKv::Int8(layer) => layer.data.commit(),
        })?;
        Ok(())
    }
}

/// Sixteen tokens of a head.
#[derive(Clone, Copy)]
pub(crate) struct TileView<'a, E> {
    /// `[padded dim / 2]`.
    pub(crate) keys: &'a [[E; PAIR]],
    /// `[8][⌈dim / 16⌉]`.
    pub(crate) values: &'a [[E; PAIR]],
    /// Of keys and of values, by token.
    pub(crate) scales: Option<&'a [[f32; LANES]; 2]>,
}

impl<E> TileView<'_, E> {
    /// No tokens.
    pub(crate) const fn absent() -> Self {
        Self { keys: &[], values: &[], scales: None }
    }
}

/// Keys and values of a layer with elements of type E.
pub(crate) struct Layer<E> {
    shape: Shape,
    data: Region<E>,
    /// `[tile][2][16]` if E is scaled, else empty.
    scales: Region<f32>,
}

#[derive(Clone, Copy)]
pub(crate) struct Shape {
    heads: usize,
    dim: usize,
    block_size: usize,
}

impl Shape {
    /// The tile of a block and head with token `offset`.
    #[inline(always)]
    fn tile(&self, block: usize, head: usize, offset: usize) -> usize {
        (block * self.heads + head) * (self.block_size / TILE) + offset / TILE
    }

    /// Elements of a tile's keys, and of a tile.
    #[inline(always)]
    fn lens(&self) -> (usize, usize) {
        let keys = TILE * self.dim.next_multiple_of(DIM_STEP);
        (keys, keys + TILE * self.dim.next_multiple_of(LANES))
    }
}

impl<E: Element> Layer<E> {
    fn new(spec: &KvSpec, heads: usize, dim: usize) -> Result<Self, BackendError> {
        let shape = Shape { heads, dim, block_size: spec.block_size };
        let tiles = spec.num_blocks.saturating_mul(heads * spec.block_size / TILE);
        let data = Region::zeroed(tiles.saturating_mul(shape.lens().1), "the KV cache")?;
        let scales = if E::SCALED { tiles * 2 * LANES } else { 0 };
        Ok(Self { shape, data, scales: Region::zeroed(scales, "the KV cache's scales")? })
    }

    /// Tokens per block.
    pub(crate) fn block_size(&self) -> usize {
        self.shape.block_size
    }

    /// The sixteen tokens around token `offset` of a block.
    #[inline(always)]
    pub(crate) fn tile(&self, block: usize, head: usize, offset: usize) -> TileView<'_, E> {
        let tile = self.shape.tile(block, head, offset);
        let (keys, len) = self.shape.lens();
        let (keys, values) = self.data[tile * len..][..len].as_chunks().0.split_at(keys / PAIR);
        let scales = if E::SCALED { self.scales[tile * 2 * LANES..].as_chunks().0 } else { &[] };
        TileView { keys, values, scales: scales.first_chunk() }
    }

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
        let (data, scales) = (SharedMut::new(&mut self.data), SharedMut::new(&mut self.scales));
        let writing = Writing { shape: self.shape, data, scales, rows, layout, slots };
        let few = slots.len() * heads * dim < PARALLEL;
        let each = if few { heads } else { heads.div_ceil(pool.threads()) };
        pool.run(heads.div_ceil(each), &|index, _| {
            let heads = index * each..((index + 1) * each).min(heads);
            isa.run(WriteHeads { writing: &writing, heads });
        })?;
        Ok(())
    }
}

/// Tokens on their way into a layer's cache.
struct Writing<'a, E> {
    shape: Shape,
    data: SharedMut<'a, E>,
    scales: SharedMut<'a, f32>,
    /// Fused, `[slots.len()][layout.fused_cols()]` or more.
    rows: &'a [f32],
    layout: HeadLayout,
    slots: &'a [u32],
}

/// Writes some heads of all tokens. Each head's tiles are its own, so heads can be written at the same time.
struct WriteHeads<'a, E> {
    writing: &'a Writing<'a, E>,
    heads: Range<usize>,
}

impl<E: Element> Kernel for WriteHeads<'_, E> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Writing { shape, data, scales, rows, layout, slots } = self.writing;
        let (len, dim) = (shape.lens().1, shape.dim);
        let scales_len = if E::SCALED { 2 * LANES } else { 0 };
        let cols = layout.fused_cols();
        // Heads of a token lie side by side.
        let place = |row: usize, head: usize| {
            let slot = slots[row] as usize;
            let (block, offset) = (slot / shape.block_size, slot % shape.block_size);
            (shape.tile(block, head, offset), offset % TILE)
        };
        let mut row = 0;
        while row < slots.len() {
            let whole = E::TILES && fills_tile(&slots[row..]);
            for head in self.heads.clone() {
                let (tile, token) = place(row, head);
                let (first_k, first_v) =
                    (layout.q_cols() + head * dim, layout.q_cols() + (shape.heads + head) * dim);
                // SAFETY: tiles of a head are written by one task.
                #[allow(unsafe_code)]
                let (tile_data, scales) =
                    unsafe { (data.slice(tile * len, len), scales.slice(tile * scales_len, scales_len)) };
                if whole {
                    let (mut k, mut v) = ([&[][..]; TILE], [&[][..]; TILE]);
                    for (token, (k, v)) in k.iter_mut().zip(&mut v).enumerate() {
                        let row = &rows[(row + token) * cols..][..cols];
                        (*k, *v) = (&row[first_k..][..dim], &row[first_v..][..dim]);
                    }
                    E::write_tile(s, *shape, &k, &v, tile_data);
                    continue;
                }
                let next = head - self.heads.start + AHEAD;
                let (down, right) = (next / self.heads.len(), next % self.heads.len());
                if row + down < slots.len() {
                    let (tile, token) = place(row + down, self.heads.start + right);
                    ask_for::<E>(*shape, data.address(tile * len), token);
                }
                let values = &rows[row * cols..][..cols];
                let (k, v) = (&values[first_k..][..dim], &values[first_v..][..dim]);
                write_token(*shape, token, k, v, tile_data, scales);
            }
            row += if whole { TILE } else { 1 };
        }
    }
}

/// Asks for what [`write_token`] is going to touch: a part of every line of keys, and a row of values.
#[inline(always)]
fn ask_for<E>(shape: Shape, tile: *const E, token: usize) {
    let (keys, all) = shape.lens();
    let row = shape.dim.div_ceil(LANES) * PAIR;
    let values = if token == 0 { keys..all } else { keys + token / 2 * row..keys + (token / 2 + 1) * row };
    for part in [0..keys, values] {
        for element in part.step_by(LINE / size_of::<E>()) {
            prefetch_far(tile, element * size_of::<E>());
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

/// Writes one token of a head into its tile; `scales` are the tile's, empty if there are none. Elements are encoded many
/// at a time and then put into their places, one by one.
#[inline(always)]
fn write_token<E: Element>(
    shape: Shape,
    token: usize,
    k: &[f32],
    v: &[f32],
    data: &mut [E],
    scales: &mut [f32],
) {
    if token == 0 {
        data.fill(E::zeroed());
        scales.fill(0.0);
    }
    let (key_inverse, value_inverse) = match scales.as_chunks_mut::<LANES>().0 {
        [keys, values] => {
            let (key, value) = (kv_scale(k), kv_scale(v));
            (keys[token], values[token]) = (key.scale, value.scale);
            (key.inverse, value.inverse)
        }
        _ => (1.0, 1.0),
    };
    let (keys, values) = data.split_at_mut(shape.lens().0);
    let index = [E::index(0, token), E::index(1, token)];
    let places = keys.as_chunks_mut::<PAIR>().0;
    for (places, x) in places.chunks_mut(DIM_STEP / 2).zip(k.chunks(DIM_STEP)) {
        let encoded = encode::<E>(x, key_inverse);
        for (pair, x) in places.iter_mut().zip(encoded[..x.len()].as_chunks::<2>().0) {
            pair[index[0]] = x[0];
            pair[index[1]] = x[1];
        }
    }
    let vectors = shape.dim.div_ceil(LANES);
    let places = &mut values.as_chunks_mut::<PAIR>().0[token / 2 * vectors..][..vectors];
    for (places, x) in places.chunks_mut(DIM_STEP / LANES).zip(v.chunks(DIM_STEP)) {
        let encoded = encode::<E>(x, value_inverse);
        for (pair, x) in places.iter_mut().zip(encoded[..x.len()].chunks(LANES)) {
            for (lane, x) in x.iter().enumerate() {
                pair[E::index(token % 2, lane)] = *x;
            }
        }
    }
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

#[cfg(test)]
mod tests;
