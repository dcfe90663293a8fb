//! Packs integers: a checkpoint's own, or those that dense rows are quantized to.

use millrace_backend::{BackendError, Encoding, GROUP, MatrixSource, RawFloats, RawRow, quantize_row};

use super::form::are_multiples;
use super::rows::{Widen, by_panels, constant, count};
use super::{Form, IntPanels, Kind, Line, zero_point};
use crate::level::Isa;
use crate::pool::Pool;
use crate::region::{Arena, Region};
use crate::shared::SharedMut;
use crate::simd::{Kernel, LANES, Simd};

/// Repacks an affine source as it is, or quantizes a dense one (padded with zeros to `k` columns, whole blocks).
///
/// What constants need is known when all of them are. Until then the form is that of most weights like these; if that
/// proves wrong, blocks move once more.
pub(super) fn integers(
    isa: Isa,
    pool: &Pool,
    arena: &mut Arena,
    source: &mut dyn MatrixSource,
    k: usize,
    bits: u32,
    group: usize,
) -> Result<IntPanels, BackendError> {
    let guess = Form::new(bits, group, is_affine(source, bits)?, Kind::Bf16, k);
    let (panels, constants) = (source.rows().div_ceil(LANES), k / group * LANES);
    let mut lines = blocks(arena, guess, panels, k)?;
    // These two last for one matrix.
    let mut scales = Region::<f32>::zeroed(panels.saturating_mul(constants), "weight scales")?;
    let mut biases = Region::<f32>::zeroed(panels.saturating_mul(constants), "weight biases")?;
    let shared = (SharedMut::new(&mut lines), SharedMut::new(&mut scales), SharedMut::new(&mut biases));
    let count = guess.panel_lines(k);
    by_panels(pool, source, |panel, rows| {
        // SAFETY: each panel is packed by one task.
        #[allow(unsafe_code)]
        let panel = unsafe {
            Panel {
                form: guess,
                lines: shared.0.slice(panel * count, count),
                scales: shared.1.slice(panel * constants, constants),
                biases: shared.2.slice(panel * constants, constants),
            }
        };
        isa.run(PackPanel { panel, rows, k });
    })?;
    let affine = !are_multiples(pool, &biases, &scales, -(zero_point(bits) as f32))?;
    let kind = Kind::narrowest(pool, [&scales, if affine { &biases } else { &[] }])?;
    let form = Form::new(bits, group, affine, kind, k);
    if !form.is_laid_out_like(guess) {
        lines = moved(pool, arena, &lines, guess, form, panels, k)?;
    }
    let (count, shared) = (form.panel_lines(k), SharedMut::new(&mut lines));
    pool.run(panels, &|panel, _| {
        // SAFETY: each panel belongs to one task.
        #[allow(unsafe_code)]
        let blocks = unsafe { shared.slice(panel * count, count) }.chunks_exact_mut(form.lines());
        let constants = panel * constants..(panel + 1) * constants;
        let per_block = form.scales() * LANES;
        let constants =
            scales[constants.clone()].chunks_exact(per_block).zip(biases[constants].chunks_exact(per_block));
        for (block, (scales, biases)) in blocks.zip(constants) {
            form.store(block, scales, biases);
        }
    })?;
    Ok(IntPanels { form, lines })
}

/// Whether the first row says that scales have biases of their own.
fn is_affine(source: &mut dyn MatrixSource, bits: u32) -> Result<bool, BackendError> {
    let cols = source.cols();
    let groups = match source.encoding() {
        Encoding::Affine { group, .. } if cols.is_multiple_of(group) => cols / group,
        _ => return Ok(false),
    };
    let differs = |scale: f32, bias: f32| bias != -(zero_point(bits) as f32) * scale;
    if let Some(row) = source.raw_row(0) {
        let RawRow::Affine { scales, biases, .. } = row else { return Ok(false) };
        let groups = groups.min(count(scales)).min(count(biases));
        return Ok((0..groups).any(|group| differs(constant(scales, group), constant(biases, group))));
    }
    let (mut scales, mut biases) = (vec![0.0; groups], vec![0.0; groups]);
    source.read_affine(0, &mut vec![0; cols], &mut scales, &mut biases)?;
    Ok(scales.iter().zip(&biases).any(|(scale, bias)| differs(*scale, *bias)))
}

/// Memory for so many panels.
fn blocks(arena: &mut Arena, form: Form, panels: usize, k: usize) -> Result<Region<Line>, BackendError> {
    arena.zeroed(panels.saturating_mul(form.panel_lines(k)), "weights")
}

/// The integers of blocks in blocks of another form.
fn moved(
    pool: &Pool,
    arena: &mut Arena,
    lines: &[Line],
    from: Form,
    to: Form,
    panels: usize,
    k: usize,
) -> Result<Region<Line>, BackendError> {
    let mut out = blocks(arena, to, panels, k)?;
    let (before, after) = (from.panel_lines(k), to.panel_lines(k));
    let shared = SharedMut::new(&mut out);
    let lines_of = |form: Form| form.vectors() / form.groups;
    pool.run(panels, &|panel, _| {
        // SAFETY: each panel belongs to one task.
        #[allow(unsafe_code)]
        let out = unsafe { shared.slice(panel * after, after) }.chunks_exact_mut(to.lines());
        let blocks = lines[panel * before..][..before].chunks_exact(from.lines());
        let groups = blocks.flat_map(|block| block[..from.vectors()].chunks_exact(lines_of(from)));
        let places = out.flat_map(|block| block[..to.vectors()].chunks_exact_mut(lines_of(to)));
        places.zip(groups).for_each(|(out, group)| out.copy_from_slice(group));
    })?;
    Ok(out)
}

/// Sixteen outputs under construction.
struct Panel<'a> {
    form: Form,
    /// Zeroed.
    lines: &'a mut [Line],
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
                    // Columns that pad the last block have none.
                    let of = |floats, g| if g < count(floats) { constant(floats, g) } else { 0.0 };
                    panel.write(lane, q, |g| (of(scales, g), of(biases, g)));
                }
                RawRow::Dense(row) => {
                    floats.resize(k, 0.0);
                    quantized.row(s, row, &mut floats, panel.form.bits, panel.form.group);
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
        let form = self.form;
        let blocks = self.lines.chunks_exact_mut(form.lines()).map(|block| &mut block[..form.vectors()]);
        let groups = blocks.flat_map(|block| block.chunks_exact_mut(form.vectors() / form.groups));
        if form.bits == 4 {
            for (group, out) in q.as_chunks::<{ GROUP / 2 }>().0.iter().zip(groups) {
                put(&interleave(group), lane, out);
            }
        } else {
            for (group, out) in q.as_chunks::<GROUP>().0.iter().zip(groups) {
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
fn put(bytes: &[u8], lane: usize, out: &mut [Line]) {
    for (line, bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
        line[lane] = u32::from_ne_bytes(*bytes);
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
