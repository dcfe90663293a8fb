//! What becomes of the results of tiles, a row of two panels at a time.

#![allow(unsafe_code)]

use std::ops::Range;

use millrace_backend::Activation;

use super::block::Sums;
use crate::activations::{TILE_COLS, TILE_ROWS};
use crate::elementwise::gated;
use crate::linear::Output;
use crate::shared::SharedMut;
use crate::simd::{Bf16Dot, LANES, Simd, prefetch};

/// Which panels are multiplied together, and where their results go.
pub(crate) trait Finish: Sync {
    /// Results stay where sums wait until their task is done, for [`Finish::kept`]; they have no other place.
    const KEPT: bool = false;
    /// Tasks have a multiple of so many pairs.
    fn step(&self) -> usize {
        1
    }
    /// Panels of pair number `index`; the second is the first again if there is none. Pairs are equally far apart.
    fn pair(&self, index: usize) -> [usize; 2];
    /// Where results of a band that begins with `row` go.
    fn place(&self, _row: usize, _panels: [usize; 2]) -> Place {
        Place::default()
    }
    /// Asks for the places of some of its rows.
    fn ask_for(&self, _place: &Place, _rows: Range<usize>) {}
    /// Takes sixteen outputs of each panel for one of its rows.
    fn row<S: Bf16Dot>(&self, _s: S, _place: &Place, _row: usize, _values: [S::V; 2]) {}
    /// Takes a task's results, `[pair][band]`.
    fn kept(&self, _rows: Range<usize>, _pairs: Range<usize>, _results: &[Sums]) {}
}

/// Where results of a band and a pair of panels go, and what is added to them.
#[derive(Clone, Copy, Default)]
pub(crate) struct Place {
    /// The first row's, by panel.
    first: [usize; 2],
    /// From a row to the next.
    stride: usize,
    /// Outputs of each panel.
    lanes: [usize; 2],
    biases: [[f32; LANES]; 2],
}

/// The bias of a panel, zeros where there is none.
#[inline(always)]
fn biases(bias: Option<&[f32]>, panels: [usize; 2]) -> [[f32; LANES]; 2] {
    let mut biases = [[0.0; LANES]; 2];
    if let Some(bias) = bias {
        for (out, panel) in biases.iter_mut().zip(panels) {
            let bias = &bias[panel * LANES..];
            let count = bias.len().min(LANES);
            out[..count].copy_from_slice(&bias[..count]);
        }
    }
    biases
}

/// Neighbours; results are stored as they are.
pub(crate) struct Store<'a> {
    pub(crate) out: Output<'a>,
}

impl Store<'_> {
    pub(crate) fn pairs(&self) -> usize {
        self.out.cols.div_ceil(2 * LANES)
    }
}

impl Finish for Store<'_> {
    #[inline(always)]
    fn pair(&self, index: usize) -> [usize; 2] {
        let last = self.out.cols.div_ceil(LANES) - 1;
        [2 * index, (2 * index + 1).min(last)]
    }

    #[inline(always)]
    fn place(&self, row: usize, panels: [usize; 2]) -> Place {
        let (cols, bias) = (self.out.cols, self.out.bias);
        Place {
            first: panels.map(|panel| row * cols + panel * LANES),
            stride: cols,
            lanes: panels.map(|panel| (cols - panel * LANES).min(LANES)),
            biases: biases(bias, panels),
        }
    }

    #[inline(always)]
    fn ask_for(&self, place: &Place, rows: Range<usize>) {
        for row in rows {
            for first in place.first {
                prefetch(self.out.values.address(first + row * place.stride), 0);
            }
        }
    }

    #[inline(always)]
    fn row<S: Bf16Dot>(&self, s: S, place: &Place, row: usize, values: [S::V; 2]) {
        for which in 0..2 {
            let value = s.add(values[which], s.load(&place.biases[which]));
            // SAFETY: this part of the row belongs to the task that computes it.
            let out =
                unsafe { self.out.values.slice(place.first[which] + row * place.stride, place.lanes[which]) };
            match out.as_mut_array() {
                Some(out) => s.store(value, out),
                None => s.store_partial(value, out),
            }
        }
    }
}

/// Takes the results of a task: its rows, its pairs, and `[pair][band]`.
pub(crate) type Taker<'a> = dyn Fn(Range<usize>, Range<usize>, &[Sums]) + Sync + 'a;

/// Neighbours; somebody takes what a task leaves.
pub(crate) struct Keep<'a> {
    pub(crate) step: usize,
    pub(crate) taker: &'a Taker<'a>,
}

impl Finish for Keep<'_> {
    const KEPT: bool = true;

    fn step(&self) -> usize {
        self.step
    }

    #[inline(always)]
    fn pair(&self, index: usize) -> [usize; 2] {
        [2 * index, 2 * index + 1]
    }

    fn kept(&self, rows: Range<usize>, pairs: Range<usize>, results: &[Sums]) {
        (self.taker)(rows, pairs, results);
    }
}

/// A gate and what it opens: `act(gate) * up` goes, in bf16, to the next layer's tiles.
pub(crate) struct Gate<'a> {
    pub(crate) act: Activation,
    /// Gated features; a multiple of 32. Weights have twice as many outputs, gates first.
    pub(crate) cols: usize,
    /// `[2 · cols]`.
    pub(crate) bias: Option<&'a [f32]>,
    /// `[⌈rows / 16⌉][cols / 32]` tiles.
    pub(crate) tiles: SharedMut<'a, u16>,
}

impl Gate<'_> {
    pub(crate) fn pairs(&self) -> usize {
        self.cols / LANES
    }

    /// Where a row's sixteen features of a panel lie; those of the band's next row, [`TILE_COLS`] further on.
    #[inline(always)]
    fn first(&self, row: usize, panel: usize) -> usize {
        let tile = row / TILE_ROWS * (self.cols / TILE_COLS) + panel * LANES / TILE_COLS;
        (tile * TILE_ROWS + row % TILE_ROWS) * TILE_COLS + panel * LANES % TILE_COLS
    }
}

/// The bias of a whole panel, zeros if there is none.
#[inline(always)]
pub(super) fn bias_of<S: Simd>(s: S, bias: Option<&[f32]>, panel: usize) -> S::V {
    // No closure: it might become a function of its own, which has no vector instructions.
    match bias.and_then(|bias| bias[panel * LANES..].first_chunk()) {
        Some(bias) => s.load(bias),
        None => s.splat(0.0),
    }
}

impl Finish for Gate<'_> {
    #[inline(always)]
    fn pair(&self, index: usize) -> [usize; 2] {
        [index, index + self.cols / LANES]
    }

    #[inline(always)]
    fn place(&self, row: usize, panels: [usize; 2]) -> Place {
        let first = [self.first(row, panels[0]); 2];
        Place { first, stride: TILE_COLS, lanes: [LANES; 2], biases: biases(self.bias, panels) }
    }

    #[inline(always)]
    fn ask_for(&self, place: &Place, rows: Range<usize>) {
        for row in rows {
            prefetch(self.tiles.address(place.first[0] + row * place.stride), 0);
        }
    }

    #[inline(always)]
    fn row<S: Bf16Dot>(&self, s: S, place: &Place, row: usize, values: [S::V; 2]) {
        let gate = s.add(values[0], s.load(&place.biases[0]));
        let up = s.add(values[1], s.load(&place.biases[1]));
        // SAFETY: this part of the row belongs to the task that computes it.
        let out = unsafe { self.tiles.slice(place.first[0] + row * place.stride, LANES) };
        if let Some(out) = out.as_mut_array() {
            s.store_bf16(gated(s, self.act, gate, up), out);
        }
    }
}
