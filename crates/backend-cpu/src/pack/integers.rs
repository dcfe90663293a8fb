//! Packs integers: a checkpoint's own, or those that dense rows are quantized to.

use millrace_backend::{BackendError, GROUP, MatrixSource, RawFloats, RawRow, quantize_row};

use super::constants::are_multiples;
use super::load::elements;
use super::rows::{Widen, by_panels, constant};
use super::{Constants, IntPanels, group_bytes, zero_point};
use crate::level::Isa;
use crate::pool::Pool;
use crate::region::Region;
use crate::shared::SharedMut;
use crate::simd::{Kernel, LANES, Simd};

/// Repacks an affine source as it is, or quantizes a dense one (padded with zeros to `k` columns).
pub(super) fn integers(
    isa: Isa,
    pool: &Pool,
    source: &mut dyn MatrixSource,
    k: usize,
    bits: u32,
    group: usize,
) -> Result<IntPanels, BackendError> {
    let total = elements(source.rows(), k);
    let mut q = Region::zeroed(total / 8 * bits as usize, "weights")?;
    // Constants are narrowed when all are known: these two last for one matrix.
    let mut scales = Region::<f32>::zeroed(total / group, "weight scales")?;
    let mut biases = Region::<f32>::zeroed(total / group, "weight biases")?;
    let (bytes, constants) = (k / GROUP * group_bytes(bits), k / group * LANES);
    let shared = (SharedMut::new(&mut q), SharedMut::new(&mut scales), SharedMut::new(&mut biases));
    by_panels(pool, source, |panel, rows| {
        // SAFETY: each panel is packed by one task.
        #[allow(unsafe_code)]
        let panel = unsafe {
            Panel {
                bits,
                group,
                q: shared.0.slice(panel * bytes, bytes),
                scales: shared.1.slice(panel * constants, constants),
                biases: shared.2.slice(panel * constants, constants),
            }
        };
        isa.run(PackPanel { panel, rows, k });
    })?;
    let symmetric = are_multiples(pool, &biases, &scales, -(zero_point(bits) as f32))?;
    let biases = match symmetric {
        true => None,
        false => Some(Constants::narrow(pool, biases)?),
    };
    Ok(IntPanels { bits, group, q, scales: Constants::narrow(pool, scales)?, biases })
}

/// Sixteen outputs under construction.
struct Panel<'a> {
    bits: u32,
    group: usize,
    /// Zeroed.
    q: &'a mut [u8],
    scales: &'a mut [f32],
    biases: &'a mut [f32],
}

/// Fills a panel from its rows.
struct PackPanel<'a> {
    panel: Panel<'a>,
    rows: &'a [RawRow<'a>],
    k: usize,
}

impl Kernel for PackPanel<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { mut panel, rows, k } = self;
        let mut floats = Vec::new();
        let mut quantized = Quantized::default();
        for (lane, row) in rows.iter().enumerate() {
            match *row {
                RawRow::Affine { q, scales, biases } => {
                    panel.write(lane, q, |g| (constant(scales, g), constant(biases, g)));
                }
                RawRow::Dense(row) => {
                    floats.resize(k, 0.0);
                    quantized.row(s, row, &mut floats, panel.bits, panel.group);
                    let (scales, biases) = (&quantized.scales, &quantized.biases);
                    panel.write(lane, &quantized.packed, |g| (scales[g], biases[g]));
                }
            }
        }
    }
}

impl Panel<'_> {
    /// Writes a row of integers that lie as in a checkpoint ([`RawRow::Affine`]).
    #[inline(always)]
    fn write(&mut self, lane: usize, q: &[u8], constants: impl Fn(usize) -> (f32, f32)) {
        let places = self.q.as_chunks_mut::<4>().0;
        if self.bits == 4 {
            let groups = q.as_chunks::<{ GROUP / 2 }>().0;
            for (group, out) in groups.iter().zip(places.chunks_exact_mut(GROUP / 8 * LANES)) {
                put(&interleave(group), lane, out);
            }
        } else {
            for (group, out) in
                q.as_chunks::<GROUP>().0.iter().zip(places.chunks_exact_mut(GROUP / 4 * LANES))
            {
                put(group, lane, out);
            }
        }
        let pairs = self.scales.chunks_exact_mut(LANES).zip(self.biases.chunks_exact_mut(LANES));
        for (index, (scales, biases)) in pairs.enumerate() {
            (scales[lane], biases[lane]) = constants(index);
        }
    }
}

/// Puts four bytes into the lane's place in each vector.
#[inline(always)]
fn put(bytes: &[u8], lane: usize, out: &mut [[u8; 4]]) {
    for (step, bytes) in bytes.as_chunks::<4>().0.iter().enumerate() {
        out[step * LANES + lane] = *bytes;
    }
}

/// From integers 2i and 2i + 1 in byte i to integers i and i + 16: low and high nibbles.
#[inline(always)]
fn interleave(q: &[u8; GROUP / 2]) -> [u8; GROUP / 2] {
    let mut out = [0; GROUP / 2];
    for i in 0..GROUP / 4 {
        let (first, second) = (q[i], q[i + GROUP / 4]);
        out[2 * i] = first & 15 | second << 4;
        out[2 * i + 1] = first >> 4 | second & 0xf0;
    }
    out
}

/// A row that was just quantized.
#[derive(Default)]
struct Quantized {
    q: Vec<u8>,
    /// The same, as a checkpoint would hold it.
    packed: Vec<u8>,
    scales: Vec<f32>,
    biases: Vec<f32>,
}

impl Quantized {
    /// `floats` `[k]` is scratch whose end stays zero.
    #[inline(always)]
    fn row<S: Simd>(&mut self, s: S, row: RawFloats<'_>, floats: &mut [f32], bits: u32, group: usize) {
        Widen { floats: row, out: floats }.run(s);
        self.q.resize(floats.len(), 0);
        self.scales.resize(floats.len() / group, 0.0);
        self.biases.resize(floats.len() / group, 0.0);
        quantize_row(floats, bits, group, &mut self.q, &mut self.scales, &mut self.biases);
        if bits == 8 {
            self.packed.clone_from(&self.q);
        } else {
            self.packed.clear();
            self.packed.extend(self.q.as_chunks::<2>().0.iter().map(|pair| pair[0] | pair[1] << 4));
        }
    }
}
