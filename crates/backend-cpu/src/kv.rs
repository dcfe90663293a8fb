//! The paged KV cache in the layout that attention streams.
//!
//! Per layer `[block][kv head][block_size / 16]` tiles of sixteen tokens. A tile is K transposed, `[head_dim][16]`,
//! then V, `[16][head_dim padded to 16]`: scores of sixteen tokens are one vector, and so are sixteen elements of V.

use half::bf16;
use millrace_backend::{BackendError, HeadLayout, KvDtype, KvSpec};

use crate::activations::bf16_bits;
use crate::pool::Pool;
use crate::region::Region;
use crate::shared::SharedMut;
use crate::simd::{LANES, Simd};

/// Tokens of a tile.
pub(crate) const TILE: usize = LANES;
/// Elements below which a write is not worth waking threads for.
const PARALLEL: usize = 16 * 1024;

/// An element type of the cache.
pub(crate) trait Element: Copy + Send + Sync {
    fn from_f32(x: f32) -> Self;
    fn load<S: Simd>(s: S, from: &[Self; LANES]) -> S::V;
}

impl Element for f32 {
    #[inline(always)]
    fn from_f32(x: f32) -> Self {
        x
    }
    #[inline(always)]
    fn load<S: Simd>(s: S, from: &[Self; LANES]) -> S::V {
        s.load(from)
    }
}

impl Element for bf16 {
    #[inline(always)]
    fn from_f32(x: f32) -> Self {
        bf16::from_bits(bf16_bits(x))
    }
    #[inline(always)]
    fn load<S: Simd>(s: S, from: &[Self; LANES]) -> S::V {
        s.load_bf16(bytemuck::cast_ref(from))
    }
}

/// One layer's keys and values.
pub(crate) enum LayerKv {
    F32(Layer<f32>),
    Bf16(Layer<bf16>),
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
            })
        });
        Ok(Self { layers: layers.collect::<Result<_, _>>()? })
    }
}

/// Keys and values of a layer with elements of type E.
pub(crate) struct Layer<E> {
    heads: usize,
    dim: usize,
    block_size: usize,
    data: Region<E>,
}

impl<E: Element + bytemuck::Zeroable> Layer<E> {
    fn new(spec: &KvSpec, heads: usize, dim: usize) -> Result<Self, BackendError> {
        let tiles = spec.num_blocks.saturating_mul(heads * spec.block_size / TILE);
        let data = Region::zeroed(tiles.saturating_mul(tile_len(dim)), "the KV cache")?;
        Ok(Self { heads, dim, block_size: spec.block_size, data })
    }

    /// Tokens per block.
    pub(crate) fn block_size(&self) -> usize {
        self.block_size
    }

    /// Where the tile with token `offset` of a block starts.
    #[inline(always)]
    fn tile_start(&self, block: usize, head: usize, offset: usize) -> usize {
        ((block * self.heads + head) * (self.block_size / TILE) + offset / TILE) * tile_len(self.dim)
    }

    /// K `[dim][16]` and V `[16][padded dim / 16][16]` of sixteen tokens, `offset` being one of them.
    #[inline(always)]
    pub(crate) fn tile(&self, block: usize, head: usize, offset: usize) -> (&[[E; LANES]], &[[E; LANES]]) {
        let tile = &self.data[self.tile_start(block, head, offset)..][..tile_len(self.dim)];
        tile.as_chunks().0.split_at(self.dim)
    }

    /// Stores k and v of fused rows (`[q | k | v]`, `cols` columns) at `slots`.
    ///
    /// # Errors
    /// A thread panicked (a slot lies outside of the cache).
    pub(crate) fn write(
        &mut self,
        pool: &Pool,
        rows: &[f32],
        layout: HeadLayout,
        slots: &[u32],
    ) -> Result<(), BackendError> {
        let (cols, q_cols, dim) = (layout.fused_cols(), layout.q_cols(), self.dim);
        let len = tile_len(dim);
        // Each head's tiles are its own, so heads can be written at the same time.
        let whole = SharedMut::new(&mut self.data);
        let (heads, block_size) = (self.heads, self.block_size);
        let write_head = |head: usize| {
            for (slot, row) in slots.iter().zip(rows.chunks_exact(cols)) {
                let (block, offset) = (*slot as usize / block_size, *slot as usize % block_size);
                let tile = (block * heads + head) * (block_size / TILE) + offset / TILE;
                // SAFETY: tiles of a head are written by one task.
                #[allow(unsafe_code)]
                let tile = unsafe { whole.slice(tile * len, len) };
                let (keys, values) = tile.split_at_mut(TILE * dim);
                let (lane, stride) = (offset % TILE, dim.next_multiple_of(LANES));
                let k = &row[q_cols + head * dim..][..dim];
                let v = &row[q_cols + (heads + head) * dim..][..dim];
                for (out, x) in keys.chunks_exact_mut(LANES).zip(k) {
                    out[lane] = E::from_f32(*x);
                }
                for (out, x) in values[lane * stride..].iter_mut().zip(v) {
                    *out = E::from_f32(*x);
                }
            }
        };
        if slots.len() * heads * dim < PARALLEL {
            pool.run(1, &|_, _| (0..heads).for_each(write_head))?;
        } else {
            pool.run(heads, &|head, _| write_head(head))?;
        }
        Ok(())
    }
}

/// Elements of a tile.
fn tile_len(dim: usize) -> usize {
    TILE * (dim + dim.next_multiple_of(LANES))
}
