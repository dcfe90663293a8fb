//! Matrix products on tiles: a band of sixteen rows times a pair of panels.
//!
//! Blocked after Goto and van de Geijn (doi 10.1145/1356052.1356053): a task goes through some input features
//! at a time ([`Product::PASS`]). That part of two panels stays in the first-level cache while all bands of the task pass by; that part
//! of the bands stays in the second-level cache while all panels of the task pass by. Sums wait in scratch memory
//! meanwhile, which leaves each of them one chain over the input features, in order. Bytes have scales for each pass:
//! their exact sums become floats after it, and join those of the passes before.
//!
//! Two more things decide the speed (measured on Emerald Rapids, `docs/performance.md`):
//!
//! * While the other thread of a core works too, there are hardly more tile registers than the eight visible ones.
//!   With all eight in use, loads wait for products and products for loads: four products take 100 ns instead of 27.
//!   With four in use (two sums, inputs, weights) they take 53 and 27 ns, although more is loaded.
//! * Vector instructions that stand between products cost next to nothing. So the next pair's weights are made and the
//!   last block's results are stored piece by piece while the tiles work on this block.

use std::ops::Range;

use super::finish::Finish;
use super::product::Product;
use super::weights::{TILE, Weights};
use crate::activations::Tiles;
use crate::level::Isa;
use crate::linear::PREFETCH_BYTES;
use crate::simd::{Bf16Dot, Bf16Kernel, LANES, prefetch};
use crate::tile::{Config, ROW, ROWS, Tile, Unit};

/// Up to so many rows, weights that lie in memory as tiles are read once and straight through.
pub(crate) const FEW_ROWS: usize = 2 * ROWS;
/// Rows and pairs of panels of a task at most: what [`Room`] has room for.
pub(crate) const MAX_ROWS: usize = 512;
pub(crate) const MAX_PAIRS: usize = 8;
/// Tiles of a panel's part in a pass at most.
const STEPS: usize = 8;
/// Rows of a block that are given away together, and how often that is.
const TURN: usize = 2;
const TURNS: usize = ROWS / TURN;

/// Sums of a band and two panels.
type Sums = [Tile<f32>; 2];

/// Parts of a pair of panels, and what one stands for in them.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct Made {
    tiles: [[[u16; TILE]; STEPS]; 2],
    scales: [[f32; LANES]; 2],
}

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
        assert!(one_pass || rows.len() <= MAX_ROWS && pairs.len() <= MAX_PAIRS);
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
        let mut blocks = Blocks { gemm, unit, rows, results: room.results, sums: room.sums, finished: None };
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
                if let Some(making) = &mut making {
                    making.due = making.tiles * (band + 1) / bands;
                }
                let block = Block { band, sums: index % parts.pairs.len() * bands + band, alone: !made };
                blocks.run(s, &part, now, block, making.as_mut());
            }
            std::mem::swap(&mut now, &mut next);
        }
        blocks.end(s);
    }
}

/// A pair of panels in a pass.
struct Part {
    panels: [usize; 2],
    pass: usize,
    cols: Range<usize>,
}

/// All parts of a task: pass by pass, pair by pair.
struct Parts<'a, W, F> {
    gemm: &'a Gemm<'a, W, F>,
    pairs: Range<usize>,
    pass: usize,
    bands: usize,
}

impl<W: Weights, F: Finish> Parts<'_, W, F> {
    fn count(&self) -> usize {
        self.pairs.len() * self.gemm.k.div_ceil(self.pass)
    }

    #[inline(always)]
    fn at(&self, index: usize) -> Part {
        let first = index / self.pairs.len() * self.pass;
        let panels = self.gemm.finish.pair(self.pairs.start + index % self.pairs.len());
        Part { panels, pass: index / self.pairs.len(), cols: first..(first + self.pass).min(self.gemm.k) }
    }
}

/// Work on a part's weights, of which some tiles are due by the end of each block.
struct Making<'a> {
    part: Part,
    room: &'a mut Made,
    /// Panels between this pair and the one after it.
    stride: usize,
    done: usize,
    due: usize,
    tiles: usize,
    /// Tiles between two steps of a block at most.
    at_once: usize,
}

impl<'a> Making<'a> {
    #[inline(always)]
    fn new<S: Bf16Dot, W: Weights, F: Finish>(
        s: S,
        parts: &Parts<'_, W, F>,
        index: usize,
        room: &'a mut Made,
    ) -> Self {
        let (part, finish) = (parts.at(index), &parts.gemm.finish);
        for (scale, panel) in room.scales.iter_mut().zip(part.panels) {
            s.store(parts.gemm.weights.scale(s, panel, part.cols.clone()), scale);
        }
        let tiles = 2 * part.cols.len() / W::Product::COLS;
        // Steps of a block in the last pass, which may be shorter.
        let steps = parts.at(parts.count() - 1).cols.len() / W::Product::COLS;
        let at_once = tiles.div_ceil(parts.bands).div_ceil(steps);
        Self { part, room, stride: finish.pair(1)[0] - finish.pair(0)[0], done: 0, due: 0, tiles, at_once }
    }

    #[inline(always)]
    fn all<S: Bf16Dot, W: Weights, F>(mut self, s: S, gemm: &Gemm<'_, W, F>) {
        self.due = self.tiles;
        while self.done < self.due {
            self.some(s, gemm);
        }
    }

    /// Makes some of the tiles that are due.
    #[inline(always)]
    fn some<S: Bf16Dot, W: Weights, F>(&mut self, s: S, gemm: &Gemm<'_, W, F>) {
        for _ in 0..self.at_once {
            if self.done < self.due {
                let (which, tile) = (self.done % 2, self.done / 2);
                let room = &mut self.room.tiles[which][tile];
                let tile = self.part.cols.start / W::Product::COLS + tile;
                let scale = &self.room.scales[which];
                gemm.weights.make(s, self.part.panels[which], tile, self.stride, scale, room);
                self.done += 1;
            }
        }
    }
}

/// A band in a part.
#[derive(Clone, Copy)]
struct Block {
    band: usize,
    /// Where its sums wait between passes.
    sums: usize,
    /// Nobody makes or asks for weights ahead.
    alone: bool,
}

/// A block whose results wait to be given away.
#[derive(Clone, Copy)]
struct Finished<'a> {
    row: usize,
    rows: usize,
    panels: [usize; 2],
    pass: usize,
    /// No pass follows.
    last: bool,
    /// What one stands for in this pass.
    inputs: &'a [f32; ROWS],
    scales: [[f32; LANES]; 2],
    /// Where they wait, and where sums do.
    at: usize,
    sums: usize,
}

/// What computes blocks.
struct Blocks<'a, W, F, U> {
    gemm: &'a Gemm<'a, W, F>,
    unit: &'a mut U,
    rows: Range<usize>,
    results: &'a mut [Sums],
    sums: &'a mut [Sums],
    finished: Option<Finished<'a>>,
}

impl<W: Weights, F: Finish, U: Unit> Blocks<'_, W, F, U> {
    /// Sums go on where they were left.
    #[inline(always)]
    fn run<S: Bf16Dot>(
        &mut self,
        s: S,
        part: &Part,
        made: &Made,
        block: Block,
        mut making: Option<&mut Making<'_>>,
    ) {
        let (gemm, cols) = (self.gemm, &part.cols);
        let row = self.rows.start + block.band * ROWS;
        let rows = (self.rows.end - row).min(ROWS);
        let (per_band, steps) = (gemm.k / W::Product::COLS, cols.len() / W::Product::COLS);
        let x =
            &gemm.x.tiles[(row / ROWS * per_band + cols.start / W::Product::COLS) * TILE..][..steps * TILE];
        let weights = |which: usize| {
            let here = gemm.weights.in_place(part.panels[which], cols.clone());
            here.unwrap_or_else(|| made.tiles[which][..steps].as_flattened())
        };
        let weights = [weights(0), weights(1)];
        assert!(weights.iter().all(|weights| weights.len() == x.len()));
        let last = cols.end == gemm.k;
        let turns_at_once = TURNS.div_ceil(steps);
        // SAFETY: configured by `config`; each load reads a tile inside the slices above, each store writes a tile.
        unsafe {
            if W::Product::SCALED || part.pass == 0 {
                self.unit.zero::<0>();
                self.unit.zero::<1>();
            } else {
                self.unit.load::<0>((&raw const self.sums[block.sums][0]).cast(), ROW);
                self.unit.load::<1>((&raw const self.sums[block.sums][1]).cast(), ROW);
            }
            for step in 0..steps {
                let at = step * TILE;
                if block.alone && block.band == 0 {
                    weights.iter().for_each(|weights| ask_for(&weights[at..][..TILE]));
                }
                self.unit.load::<2>(x.as_ptr().add(at).cast(), ROW);
                self.unit.load::<3>(weights[0].as_ptr().add(at).cast(), ROW);
                W::Product::dot::<U, 0, 2, 3>(self.unit);
                self.unit.load::<3>(weights[1].as_ptr().add(at).cast(), ROW);
                W::Product::dot::<U, 1, 2, 3>(self.unit);
                if let Some(making) = making.as_deref_mut() {
                    making.some(s, gemm);
                }
                for turn in step * turns_at_once..((step + 1) * turns_at_once).min(TURNS) {
                    if last {
                        gemm.finish.ask_for(
                            row + turn_rows(turn, rows).start,
                            turn_rows(turn, rows).len(),
                            part.panels,
                        );
                    }
                    if let Some(before) = &self.finished {
                        give(s, gemm, before, turn, self.results, self.sums);
                    }
                }
            }
            let at = self.finished.take().map_or(0, |before| 1 - before.at);
            let done = W::Product::SCALED || last;
            let to = if done { &mut self.results[at] } else { &mut self.sums[block.sums] };
            self.unit.store::<0>((&raw mut to[0]).cast(), ROW);
            self.unit.store::<1>((&raw mut to[1]).cast(), ROW);
            if done {
                let (panels, pass, scales, sums) = (part.panels, part.pass, made.scales, block.sums);
                let inputs = match W::Product::SCALED {
                    true => gemm.x.scales(row / ROWS, gemm.k.div_ceil(W::Product::PASS), pass),
                    false => &[1.0; ROWS],
                };
                self.finished = Some(Finished { row, rows, panels, pass, last, inputs, scales, at, sums });
            }
        }
    }

    /// Gives away what the last block left.
    #[inline(always)]
    fn end<S: Bf16Dot>(self, s: S) {
        if let Some(last) = &self.finished {
            for turn in 0..TURNS {
                give(s, self.gemm, last, turn, self.results, self.sums);
            }
        }
    }
}

/// Those rows of a turn that a band with so many rows has.
#[inline(always)]
fn turn_rows(turn: usize, rows: usize) -> Range<usize> {
    (turn * TURN).min(rows)..((turn + 1) * TURN).min(rows)
}

/// Gives a turn's rows of results away, or adds them to sums.
#[inline(always)]
fn give<S: Bf16Dot, W: Weights, F: Finish>(
    s: S,
    gemm: &Gemm<'_, W, F>,
    block: &Finished<'_>,
    turn: usize,
    results: &mut [Sums],
    sums: &mut [Sums],
) {
    let results = &mut results[block.at];
    if W::Product::SCALED {
        let sums = &mut sums[block.sums];
        match (block.pass == 0, block.last) {
            (true, true) => settle::<S, true, true>(s, block, turn, results, sums),
            (true, false) => settle::<S, true, false>(s, block, turn, results, sums),
            (false, true) => settle::<S, false, true>(s, block, turn, results, sums),
            (false, false) => settle::<S, false, false>(s, block, turn, results, sums),
        }
    }
    let rows = turn_rows(turn, block.rows);
    if block.last && !rows.is_empty() {
        let values = [&results[0].0[rows.clone()], &results[1].0[rows.clone()]];
        gemm.finish.rows(s, block.row + rows.start, block.panels, values);
    }
}

/// Makes integers floats, and adds them to those of earlier passes.
#[inline(always)]
fn settle<S: Bf16Dot, const FIRST: bool, const LAST: bool>(
    s: S,
    block: &Finished<'_>,
    turn: usize,
    results: &mut Sums,
    sums: &mut Sums,
) {
    let inputs: &[f32; TURN] = &block.inputs.as_chunks().0[turn];
    for which in 0..2 {
        let weights = s.load(&block.scales[which]);
        let results: &mut [_; TURN] = &mut results[which].0.as_chunks_mut().0[turn];
        let sums: &mut [_; TURN] = &mut sums[which].0.as_chunks_mut().0[turn];
        for row in 0..TURN {
            let before = if FIRST { s.splat(0.0) } else { s.load(&sums[row]) };
            let dot = s.to_f32(s.load_i32(bytemuck::cast_ref::<[f32; LANES], _>(&results[row])));
            let value = s.fma(dot, s.mul(s.splat(inputs[row]), weights), before);
            s.store(value, if LAST { &mut results[row] } else { &mut sums[row] });
        }
    }
}

/// Asks for the tile that lies [`PREFETCH_BYTES`] further on.
#[inline(always)]
fn ask_for(tile: &[u16]) {
    for line in tile.as_chunks::<{ ROW / 2 }>().0 {
        prefetch(line, PREFETCH_BYTES);
    }
}

/// Accumulators 0 and 1, inputs 2 (all of so many rows), weights 3.
fn config(rows: usize) -> Config {
    Config::new(&[(rows, ROW), (rows, ROW), (rows, ROW), (ROWS, ROW)])
}
