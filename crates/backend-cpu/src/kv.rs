//! The paged KV cache in the layout that attention streams.
//!
//! Per layer `[block][kv head][block_size / 16]` tiles of sixteen tokens. A tile is made of *pair vectors* of 32
//! elements: K is `[padded dim / 2]` of them, each two head dimensions of sixteen tokens; V is `[8][⌈dim / 16⌉]`,
//! each two tokens' sixteen elements. bf16 and int8 pairs are interleaved, the order of `vdpbf16ps` and of an AMX B
//! tile, whose 32 input features the head dimension is padded to.
//!
//! A token at the start of a tile clears the tile: what an earlier sequence left there (an infinity, say) must not
//! meet a weight of zero.

mod write;

use bytemuck::Zeroable;
use half::bf16;
use millrace_backend::{BackendError, KvDtype, KvSpec};

use crate::activations::bf16_bits;
use crate::pool::Pool;
use crate::region::Region;
use crate::simd::{Bf16Dot, LANES, Simd};
pub(crate) use write::{Half, Tokens};

/// Tokens of a tile.
pub(crate) const TILE: usize = LANES;
/// Elements of a pair vector.
pub(crate) const PAIR: usize = 2 * LANES;
/// The head dimension of keys is padded to a multiple of this.
pub(crate) const DIM_STEP: usize = 32;
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
    /// Writes half of a head of [`TILE`] tokens at once, each `[dim]`.
    #[inline(always)]
    fn write_tile<S: Simd>(_s: S, _half: Half, _x: &[&[f32]; TILE], _data: &mut [Self]) {}
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
    fn write_tile<S: Simd>(s: S, half: Half, x: &[&[f32]; TILE], data: &mut [Self]) {
        match half {
            Half::Keys => write::transposed(s, x, data),
            Half::Values => write::interleaved(x, data),
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
}

#[cfg(test)]
mod tests;
