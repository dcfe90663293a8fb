//! Matrix products on tiles: a band of sixteen rows times a pair of panels.
//!
//! Blocked after Goto and van de Geijn (doi 10.1145/1356052.1356053): a task goes through some input features
//! at a time ([`Product::PASS`]). That part of two panels stays in the first-level cache while all bands of the task pass by; that part
//! of the bands stays in the second-level cache while all panels of the task pass by. Sums wait in scratch memory
//! meanwhile, which leaves each of them one chain over the input features, in order. Bytes have scales for each pass:
//! their exact sums become floats after it, and join those of the passes before.

use std::ops::Range;

use super::block::{Block, Blocks, Sums};
use super::finish::Finish;
use super::making::{Made, Making};
use super::product::Product;
use super::weights::Weights;
use crate::activations::Tiles;
use crate::level::Isa;
use crate::simd::{Bf16Dot, Bf16Kernel};
use crate::tile::{Config, ROW, ROWS, Unit};

/// Up to so many rows, weights that lie in memory as tiles are read once and straight through.
pub(crate) const FEW_ROWS: usize = 2 * ROWS;
/// Rows and pairs of panels of a task at most: what [`Room`] has room for.
pub(crate) const MAX_ROWS: usize = 512;
pub(crate) const MAX_PAIRS: usize = 8;

/// A thread's memory for one task.
pub(crate) struct Room<'a> {
    /// This pair of panels and the next one.
    weights: [&'a mut Made; 2],
    /// Results of this block and of the last one.
    results: &'a mut [Sums],
    /// `[pair][band]` for several passes.
    sums: &'a mut [Sums],
}

impl<'a> Room<'a> {
    const WEIGHTS: usize = 2 * size_of::<Made>() / size_of::<f32>();
    const SUMS: usize = size_of::<Sums>() / size_of::<f32>();
    /// Floats that it takes.
    pub(crate) const SIZE: usize = Self::WEIGHTS + Self::SUMS * (2 + MAX_ROWS / ROWS * MAX_PAIRS);

    /// # Panics
    /// If the memory is not [`Room::SIZE`] long or not aligned to 64 bytes.
    pub(crate) fn new(memory: &'a mut [f32]) -> Self {
        let (weights, sums) = memory.split_at_mut(Self::WEIGHTS);
        let (first, second) = weights.split_at_mut(Self::WEIGHTS / 2);
        let weights = [first, second].map(|half| bytemuck::from_bytes_mut(bytemuck::cast_slice_mut(half)));
        let (results, sums) = bytemuck::cast_slice_mut(sums).split_at_mut(2);
        Self { weights, results, sums }
    }
}

/// A linear layer on tiles.
pub(crate) struct Gemm<'a, W, F> {
    pub(crate) isa: Isa,
    pub(crate) weights: W,
    /// Columns: whole tiles.
    pub(crate) k: usize,
    /// Inputs: `[bands]` of them.
    pub(crate) x: Tiles<'a>,
    pub(crate) finish: F,
}

impl<W: Weights, F: Finish> Gemm<'_, W, F> {
    /// Whether so many rows go through all input features at once, as they read the weights once, straight through.
    pub(crate) fn one_pass(&self, rows: usize) -> bool {
        W::IN_PLACE && rows <= FEW_ROWS
    }

    /// Computes, unless in one pass, at most [`MAX_ROWS`] rows (starting at a multiple of 16) for at most
    /// [`MAX_PAIRS`] pairs of panels.
    ///
    /// # Panics
    /// If there are more of them.
    pub(crate) fn run<U: Unit>(&self, unit: &mut U, rows: Range<usize>, pairs: Range<usize>, room: Room<'_>) {
        if rows.is_empty() || pairs.is_empty() {
            return;
        }
        let one_pass = self.one_pass(rows.len());
        let fits = rows.len() <= MAX_ROWS && pairs.len() <= MAX_PAIRS;
        assert!(fits || one_pass && !F::KEPT);
        let pass = if one_pass { self.k } else { W::Product::PASS };
        self.isa.run_bf16(Task { gemm: self, unit, rows, pairs, room, pass });
    }
}

struct Task<'a, W, F, U> {
    gemm: &'a Gemm<'a, W, F>,
    unit: &'a mut U,
    rows: Range<usize>,
    pairs: Range<usize>,
    room: Room<'a>,
    /// Input features of a pass.
    pass: usize,
}

impl<W: Weights, F: Finish, U: Unit> Bf16Kernel for Task<'_, W, F, U> {
    type Out = ();
    #[inline(always)]
    fn run<S: Bf16Dot>(self, s: S) {
        let Self { gemm, unit, rows, pairs, room, pass } = self;
        let [mut now, mut next] = room.weights;
        let parts = Parts { pairs, pass, bands: rows.len().div_ceil(ROWS), gemm };
        let (bands, count) = (parts.bands, parts.count());
        unit.configure(&config(rows.len().min(ROWS)));
        let (results, sums) = (room.results, room.sums);
        let mut blocks = Blocks { gemm, unit, rows: rows.clone(), results, sums, finished: None };
        // What is read straight through from memory asks for itself.
        let made = pass <= W::Product::PASS;
        if made {
            Making::new(s, &parts, 0, now).all(s, gemm);
        }
        for index in 0..count {
            let part = parts.at(index);
            let mut making = match made && index + 1 < count {
                true => Some(Making::new(s, &parts, index + 1, next)),
                false => None,
            };
            for band in 0..bands {
                // In one pass no sums wait, and there may be more of them than the room has place for.
                let waits = count > parts.pairs.len() || F::KEPT;
                let sums = if waits { index % parts.pairs.len() * bands + band } else { 0 };
                let block = Block { band, sums, alone: !made };
                blocks.run(s, &part, now, block, making.as_mut());
            }
            std::mem::swap(&mut now, &mut next);
        }
        let sums = blocks.end(s);
        gemm.finish.kept(rows, parts.pairs, sums);
    }
}

/// A pair of panels in a pass.
pub(super) struct Part {
    pub(super) panels: [usize; 2],
    pub(super) pass: usize,
    pub(super) cols: Range<usize>,
}

/// All parts of a task: pass by pass, pair by pair.
pub(super) struct Parts<'a, W, F> {
    pub(super) gemm: &'a Gemm<'a, W, F>,
    pairs: Range<usize>,
    pass: usize,
    pub(super) bands: usize,
}

impl<W: Weights, F: Finish> Parts<'_, W, F> {
    fn count(&self) -> usize {
        self.pairs.len() * self.gemm.k.div_ceil(self.pass)
    }

    #[inline(always)]
    pub(super) fn at(&self, index: usize) -> Part {
        let first = index / self.pairs.len() * self.pass;
        let panels = self.gemm.finish.pair(self.pairs.start + index % self.pairs.len());
        Part { panels, pass: index / self.pairs.len(), cols: first..(first + self.pass).min(self.gemm.k) }
    }
}

/// Accumulators 0 and 1, inputs 2 (all of so many rows), weights 3.
fn config(rows: usize) -> Config {
    Config::new(&[(rows, ROW), (rows, ROW), (rows, ROW), (ROWS, ROW)])
}
