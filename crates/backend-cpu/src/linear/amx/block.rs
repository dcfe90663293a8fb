//! One band times one pair of panels in a pass, and what becomes of the block before meanwhile.
//!
//! Two things decide the speed (measured on Emerald Rapids, `docs/performance.md`):
//!
//! * While the other thread of a core works too, there are hardly more tile registers than the eight visible ones.
//!   With all eight in use, loads wait for products and products for loads: four products take 100 ns instead of 27.
//!   With four in use (two sums, inputs, weights) they take 53 and 27 ns, although more is loaded.
//! * Vector instructions that stand between products cost next to nothing as long as they are few, those for addresses and bounds
//!   included. So what can be known before a block begins is.

use std::ops::Range;

use super::finish::{Finish, Place};
use super::gemm::{Gemm, Part};
use super::making::{Made, Making, STEPS};
use super::product::Product;
use super::weights::{TILE, Weights};
use crate::linear::PREFETCH_BYTES;
use crate::simd::{Bf16Dot, LANES, prefetch};
use crate::tile::{ROW, ROWS, Tile, Unit};

/// How often products make way for rows of the block before.
const TURNS: usize = 4;
/// Those rows.
const TURN: usize = ROWS / TURNS;

/// Sums of a band and two panels.
pub(crate) type Sums = [Tile<f32>; 2];

/// A band in a part.
#[derive(Clone, Copy)]
pub(super) struct Block {
    pub(super) band: usize,
    /// Where its sums wait between passes, if there are any.
    pub(super) sums: usize,
    /// Nobody makes or asks for weights ahead.
    pub(super) alone: bool,
}

/// A block whose results wait to be given away.
#[derive(Clone, Copy)]
pub(super) struct Finished<'a> {
    place: Place,
    rows: usize,
    /// No pass came before; none follows, and results are not kept.
    first: bool,
    last: bool,
    /// What one stands for in this pass.
    inputs: &'a [f32; ROWS],
    scales: [[f32; LANES]; 2],
    /// Where they wait, and where sums do.
    at: usize,
    sums: usize,
}

/// What computes blocks.
pub(super) struct Blocks<'a, W, F, U> {
    pub(super) gemm: &'a Gemm<'a, W, F>,
    pub(super) unit: &'a mut U,
    pub(super) rows: Range<usize>,
    /// Of this block and of the last one.
    pub(super) results: &'a mut [Sums],
    pub(super) sums: &'a mut [Sums],
    pub(super) finished: Option<Finished<'a>>,
}

impl<'a, W: Weights, F: Finish, U: Unit> Blocks<'a, W, F, U> {
    /// Sums go on where they were left.
    #[inline(always)]
    pub(super) fn run<S: Bf16Dot>(
        &mut self,
        s: S,
        part: &Part,
        made: &Made,
        block: Block,
        making: Option<&mut Making<'_>>,
    ) {
        let Self { gemm, unit, results, sums, finished, .. } = self;
        let (gemm, cols) = (*gemm, &part.cols);
        let row = self.rows.start + block.band * ROWS;
        let (per_band, steps) = (gemm.k / W::Product::COLS, cols.len() / W::Product::COLS);
        let tiles: &[[u16; TILE]] = gemm.x.tiles.as_chunks().0;
        let x = &tiles[row / ROWS * per_band + cols.start / W::Product::COLS..][..steps];
        let weights = |which: usize| {
            let here = gemm.weights.in_place(part.panels[which], cols.clone());
            &here.map_or(&made.tiles[which][..], |here| here.as_chunks().0)[..steps]
        };
        let weights = [weights(0), weights(1)];
        let asks = block.alone && block.band == 0;
        let (first, last) = (part.pass == 0, cols.end == gemm.k && !F::KEPT);
        let place = gemm.finish.place(row, part.panels);
        if let Some(making) = making {
            making.go_on(s, gemm, block.band);
        }
        // SAFETY: configured by `config`; a tile is read from each of the slices' elements and stored to each sum.
        unsafe {
            if W::Product::SCALED || first {
                unit.zero::<0>();
                unit.zero::<1>();
            } else {
                unit.load::<0>((&raw const sums[block.sums][0]).cast(), ROW);
                unit.load::<1>((&raw const sums[block.sums][1]).cast(), ROW);
            }
            let whole = Steps::new(x, weights);
            if whole.is_none() {
                for ((x, first), second) in x.iter().zip(weights[0]).zip(weights[1]) {
                    if asks {
                        ask_for(first);
                        ask_for(second);
                    }
                    multiply::<W::Product, U>(unit, x, [first, second]);
                }
            }
            for turn in 0..TURNS {
                if let Some(Steps { x, weights }) = whole {
                    for step in turn * STEPS / TURNS..(turn + 1) * STEPS / TURNS {
                        multiply::<W::Product, U>(unit, &x[step], [&weights[0][step], &weights[1][step]]);
                    }
                }
                if last {
                    gemm.finish.ask_for(&place, turn * TURN..(turn + 1) * TURN);
                }
                if let Some(before) = finished {
                    before.give::<S, W::Product, F>(s, &gemm.finish, turn, results, sums);
                }
            }
            let at = finished.take().map_or(0, |before| 1 - before.at);
            let done = W::Product::SCALED || last;
            let to = if done { &mut results[at] } else { &mut sums[block.sums] };
            unit.store::<0>((&raw mut to[0]).cast(), ROW);
            unit.store::<1>((&raw mut to[1]).cast(), ROW);
            if done {
                let inputs = match W::Product::SCALED {
                    true => gemm.x.scales(row / ROWS, gemm.k.div_ceil(W::Product::PASS), part.pass),
                    false => &[1.0; ROWS],
                };
                let (rows, scales, sums) = ((self.rows.end - row).min(ROWS), made.scales, block.sums);
                *finished = Some(Finished { place, rows, first, last, inputs, scales, at, sums });
            }
        }
    }

    /// Gives away what the last block left, or leaves it with the others.
    #[inline(always)]
    pub(super) fn end<S: Bf16Dot>(self, s: S) -> &'a [Sums] {
        if let Some(last) = &self.finished {
            for turn in 0..TURNS {
                last.give::<S, W::Product, F>(s, &self.gemm.finish, turn, self.results, self.sums);
            }
        }
        self.sums
    }
}

/// The tiles of a whole pass: of inputs and of each panel.
#[derive(Clone, Copy)]
struct Steps<'a> {
    x: &'a [[u16; TILE]; STEPS],
    weights: [&'a [[u16; TILE]; STEPS]; 2],
}

impl<'a> Steps<'a> {
    /// `None` if there are more or less.
    #[inline(always)]
    fn new(x: &'a [[u16; TILE]], weights: [&'a [[u16; TILE]]; 2]) -> Option<Self> {
        Some(Self { x: x.as_array()?, weights: [weights[0].as_array()?, weights[1].as_array()?] })
    }
}

/// A tile of inputs times a tile of each panel.
///
/// # Safety
/// Registers are configured by [`config`](super::gemm::config).
#[inline(always)]
unsafe fn multiply<P: Product, U: Unit>(unit: &mut U, x: &[u16; TILE], weights: [&[u16; TILE]; 2]) {
    // SAFETY: whole tiles are read; the rest, by the caller's promise.
    unsafe {
        unit.load::<2>(x.as_ptr().cast(), ROW);
        unit.load::<3>(weights[0].as_ptr().cast(), ROW);
        P::dot::<U, 0, 2, 3>(unit);
        unit.load::<3>(weights[1].as_ptr().cast(), ROW);
        P::dot::<U, 1, 2, 3>(unit);
    }
}

/// Asks for the tile that lies [`PREFETCH_BYTES`] further on.
#[inline(always)]
fn ask_for(tile: &[u16; TILE]) {
    for line in tile.as_chunks::<{ ROW / 2 }>().0 {
        prefetch(line, PREFETCH_BYTES);
    }
}

impl Finished<'_> {
    /// Gives some rows away, or adds them to sums.
    #[inline(always)]
    fn give<S: Bf16Dot, P: Product, F: Finish>(
        &self,
        s: S,
        finish: &F,
        turn: usize,
        results: &[Sums],
        sums: &mut [Sums],
    ) {
        let (results, sums) = (&results[self.at], &mut sums[self.sums]);
        match (self.first, self.last) {
            _ if !P::SCALED => self.rows::<S, P, F, true, true>(s, finish, turn, results, sums),
            (true, true) => self.rows::<S, P, F, true, true>(s, finish, turn, results, sums),
            (true, false) => self.rows::<S, P, F, true, false>(s, finish, turn, results, sums),
            (false, true) => self.rows::<S, P, F, false, true>(s, finish, turn, results, sums),
            (false, false) => self.rows::<S, P, F, false, false>(s, finish, turn, results, sums),
        }
    }

    /// The same, with what is known of the pass.
    #[inline(always)]
    fn rows<S: Bf16Dot, P: Product, F: Finish, const FIRST: bool, const LAST: bool>(
        &self,
        s: S,
        finish: &F,
        turn: usize,
        results: &Sums,
        sums: &mut Sums,
    ) {
        let inputs: &[f32; TURN] = &self.inputs.as_chunks().0[turn];
        let scales = [s.load(&self.scales[0]), s.load(&self.scales[1])];
        for (index, input) in inputs.iter().enumerate() {
            let (row, input) = (turn * TURN + index, s.splat(*input));
            let mut values = [input; 2];
            for which in 0..2 {
                let result = &results[which].0[row];
                if !P::SCALED {
                    values[which] = s.load(result);
                    continue;
                }
                let before = if FIRST { s.splat(0.0) } else { s.load(&sums[which].0[row]) };
                let dot = s.to_f32(s.load_i32(bytemuck::cast_ref(result)));
                values[which] = s.fma(dot, s.mul(input, scales[which]), before);
            }
            if !LAST {
                s.store(values[0], &mut sums[0].0[row]);
                s.store(values[1], &mut sums[1].0[row]);
            } else if row < self.rows {
                finish.row(s, &self.place, row, values);
            }
        }
    }
}
