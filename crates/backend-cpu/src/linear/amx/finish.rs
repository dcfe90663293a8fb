//! What becomes of the results of tiles, a row of two panels at a time.

#![allow(unsafe_code)]

use millrace_backend::Activation;

use crate::activations::{TILE_COLS, TILE_ROWS};
use crate::elementwise::gated;
use crate::linear::Output;
use crate::shared::SharedMut;
use crate::simd::{Bf16Dot, LANES, Simd, prefetch};

/// Which panels are multiplied together, and where their results go.
pub(crate) trait Finish: Sync {
    /// Panels of pair number `index`; the second is the first again if there is none. Pairs are equally far apart.
    fn pair(&self, index: usize) -> [usize; 2];
    /// Asks for the places of results of `count` rows of a band.
    fn ask_for(&self, row: usize, count: usize, panels: [usize; 2]);
    /// Takes sixteen outputs of each panel of a pair for some rows of a band from `row` on.
    fn rows<S: Bf16Dot>(&self, s: S, row: usize, panels: [usize; 2], values: [&[[f32; LANES]]; 2]);
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
    fn ask_for(&self, row: usize, count: usize, panels: [usize; 2]) {
        for panel in panels {
            self.out.prefetch_rows(row, count, panel);
        }
    }

    #[inline(always)]
    fn rows<S: Bf16Dot>(&self, s: S, row: usize, panels: [usize; 2], values: [&[[f32; LANES]]; 2]) {
        self.out.store_rows(s, row, panels[0], values[0]);
        if panels[1] != panels[0] {
            self.out.store_rows(s, row, panels[1], values[1]);
        }
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
    fn place(&self, row: usize, panel: usize) -> usize {
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
    fn ask_for(&self, row: usize, count: usize, [gate, _]: [usize; 2]) {
        let first = self.tiles.address(self.place(row, gate));
        for index in 0..count {
            prefetch(first, index * size_of::<[u16; TILE_COLS]>());
        }
    }

    #[inline(always)]
    fn rows<S: Bf16Dot>(&self, s: S, row: usize, [gate, up]: [usize; 2], values: [&[[f32; LANES]]; 2]) {
        let biases = [bias_of(s, self.bias, gate), bias_of(s, self.bias, up)];
        let first = self.place(row, gate);
        for (index, (opened, value)) in values[0].iter().zip(values[1]).enumerate() {
            let (opened, value) = (s.add(s.load(opened), biases[0]), s.add(s.load(value), biases[1]));
            // SAFETY: this part of the row belongs to the task that computes it.
            let place = unsafe { self.tiles.slice(first + index * TILE_COLS, LANES) };
            if let Some(place) = place.as_mut_array() {
                s.store_bf16(gated(s, self.act, opened, value), place);
            }
        }
    }
}
