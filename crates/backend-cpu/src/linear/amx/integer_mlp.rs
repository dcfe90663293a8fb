//! A gated feed-forward of generated tokens in integers.
//!
//! A task multiplies a run of gates, then the features that they open, and quantizes what comes out for the next layer
//! while it is still in the cache. The arithmetic is that of the three operations one after another, so the bits are too.

#![allow(unsafe_code)]

use std::ops::Range;

use millrace_backend::{Activation, BackendError, GROUP};

use super::finish::bias_of;
use super::integers::{CHUNK, IntTiles, Sink};
use super::mlp::TiledMlp;
use super::tasks::ROOM;
use crate::activations::{Activations, BAND_COLS, BandGroup, Bands, Input, QuantizeRuns, Run, Runs};
use crate::elementwise::gated;
use crate::level::Isa;
use crate::linear::int::IntWeights;
use crate::linear::{Linear, PANEL_STEP, runs};
use crate::pack::{IntPanels, Packed, Panels, with_form};
use crate::shared::SharedMut;
use crate::simd::{LANES, Simd};
use crate::tile::{Hardware, ROWS, Unit};

/// Panels of [`BAND_COLS`] features: [`runs`] are multiples of them.
const STEP: usize = BAND_COLS / LANES;
const _: () = assert!(PANEL_STEP.is_multiple_of(STEP));
/// Panels in a run at most: gates and what they open are two streams, and long ones are faster.
const MAX_RUN: usize = 32;
/// Floats of a run's features that stay near.
const KEPT: usize = 32 << 10;

impl TiledMlp<'_> {
    /// Whether so many generated tokens can be computed so.
    pub(crate) fn fits_integers(isa: Isa, gate_up: &Packed, down: &Packed, rows: usize) -> bool {
        let inner = down.cols;
        Linear::takes_integer_tiles(isa, gate_up, rows)
            && Linear::takes_integer_tiles(isa, down, rows)
            && gate_up.rows == 2 * inner
            && inner.is_multiple_of(BAND_COLS)
            && down.k == inner
    }

    /// # Errors
    /// No memory, or weights that don't [fit](TiledMlp::fits_integers).
    pub(crate) fn run_integers(&self, scratch: &mut Activations) -> Result<(), BackendError> {
        let (Panels::Int(gate_up), Panels::Int(down)) = (&self.gate_up.data, &self.down.data) else {
            return Err(BackendError::Unsupported { device: "cpu", what: "such weights as integers".into() });
        };
        let Activations { bands: [inputs, inner], rooms, .. } = scratch;
        let (isa, pool, rows, cols) = (self.isa, self.pool, self.input.rows, self.down.cols);
        let x = self.input.quantized_bands(isa, pool, inputs, self.gate_up.k, gate_up.zero_point())?;
        let bands = Bands::new(inner, rows, cols, down.zero_point())?;
        let most = (KEPT / (rows * LANES)).clamp(STEP, MAX_RUN) / STEP * STEP;
        let kept = most * rows * LANES;
        rooms.reserve(kept * pool.threads(), ROOM)?;
        let memory = SharedMut::new(rooms);
        let (threads, bias) = (pool.threads(), self.gate_up_bias);
        let runs = || runs(cols / LANES, threads, most);
        let (weight, act) = (self.gate_up, self.act);
        let opening = Opening { isa, int: gate_up, weight, x, bands, rows, act, bias };
        pool.run(runs().count(), &|index, thread| {
            // SAFETY: each thread has memory of its own, used by one task at a time.
            let kept = unsafe { memory.slice(thread * kept, kept) };
            if let Some(panels) = runs().nth(index) {
                let unit = &mut Hardware::new(isa);
                with_form!(gate_up, |FOUR, AFFINE| opening.run::<FOUR, AFFINE>(unit, panels, kept));
            }
        })?;
        let input = Input { values: &[], rows, cols };
        let next = Linear { isa, pool, weight: self.down, input, out: self.out, prompt: false };
        with_form!(down, |FOUR, AFFINE| next.multiply_bands::<FOUR, AFFINE>(down, inner))
    }
}

/// The first layer.
pub(super) struct Opening<'a> {
    pub(super) isa: Isa,
    /// Gates first, and its integers.
    pub(super) weight: &'a Packed,
    pub(super) int: &'a IntPanels,
    /// `[bands][k / 64]`.
    pub(super) x: &'a [BandGroup],
    pub(super) rows: usize,
    /// `[outputs]`.
    pub(super) bias: Option<&'a [f32]>,
    pub(super) act: Activation,
    /// What comes out.
    pub(super) bands: Bands<'a>,
}

impl Opening<'_> {
    /// Some panels of gates, with memory for features `[panels][rows][16]`.
    pub(super) fn run<const FOUR: bool, const AFFINE: bool>(
        &self,
        unit: &mut impl Unit,
        panels: Range<usize>,
        kept: &mut [f32],
    ) {
        let Self { isa, x, rows, bias, act, bands, .. } = *self;
        let gates = self.weight.rows / 2 / LANES;
        let kept = Kept { values: SharedMut::new(kept), first: panels.start, rows };
        let opened = gates + panels.start..gates + panels.end;
        let (then, after) = (opened.start, opened.end);
        let weights = || IntWeights::<FOUR, AFFINE>::new(self.int, self.weight.k / GROUP);
        let first = IntTiles { weights: weights(), x, sink: Gates { kept, bias }, chunk: CHUNK };
        first.run(isa, unit, 0..rows, panels.clone(), then);
        let second =
            IntTiles { weights: weights(), x, sink: Opened { kept, bias, act, gates }, chunk: CHUNK };
        second.run(isa, unit, 0..rows, opened, after);
        let runs = panels.start / STEP..panels.end / STEP;
        for band in 0..rows.div_ceil(ROWS) {
            isa.run(QuantizeRuns { bands, from: &kept, band, runs: runs.clone() });
        }
    }
}

/// Features of a run of panels: `[panels][rows][16]`.
#[derive(Clone, Copy)]
struct Kept<'a> {
    values: SharedMut<'a, f32>,
    /// The first panel.
    first: usize,
    rows: usize,
}

impl<'a> Kept<'a> {
    #[inline(always)]
    fn place(&self, row: usize, panel: usize) -> &'a mut [f32; LANES] {
        let at = ((panel - self.first) * self.rows + row) * LANES;
        // SAFETY: one thread uses this memory, and nothing else in it while it stores or loads one place.
        unsafe { &mut *self.values.slice(at, LANES).as_mut_ptr().cast() }
    }
}

impl Runs for Kept<'_> {
    #[inline(always)]
    fn run(&self, row: usize, index: usize) -> Run {
        let mut run = Run::default();
        for (offset, values) in run.iter_mut().enumerate() {
            *values = *self.place(row, index * STEP + offset);
        }
        run
    }
}

/// Keeps gates.
struct Gates<'a> {
    kept: Kept<'a>,
    bias: Option<&'a [f32]>,
}

impl Sink for Gates<'_> {
    #[inline(always)]
    fn take<S: Simd>(&self, s: S, row: usize, panel: usize, v: S::V) {
        s.store(s.add(v, bias_of(s, self.bias, panel)), self.kept.place(row, panel));
    }
}

/// Opens what belongs to gates that are kept, and puts it into their place.
struct Opened<'a> {
    kept: Kept<'a>,
    bias: Option<&'a [f32]>,
    act: Activation,
    /// Panels of gates.
    gates: usize,
}

impl Sink for Opened<'_> {
    #[inline(always)]
    fn take<S: Simd>(&self, s: S, row: usize, panel: usize, v: S::V) {
        let place = self.kept.place(row, panel - self.gates);
        let value = s.add(v, bias_of(s, self.bias, panel));
        s.store(gated(s, self.act, s.load(place), value), place);
    }
}
