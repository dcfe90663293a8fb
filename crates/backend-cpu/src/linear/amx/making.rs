//! Weights of the next pair of panels, made into tiles while the last ones are multiplied.

use millrace_backend::GROUP;

use super::finish::Finish;
use super::gemm::{Gemm, Part, Parts};
use super::product::Product;
use super::weights::{TILE, Weights};
use crate::simd::{Bf16Dot, LANES};

/// Tiles of a panel's part in a pass at most.
pub(super) const STEPS: usize = 8;

/// Parts of a pair of panels, and what one stands for in them.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(super) struct Made {
    pub(super) tiles: [[[u16; TILE]; STEPS]; 2],
    pub(super) scales: [[f32; LANES]; 2],
}

/// Work on a part's weights, a [`GROUP`] of a panel's columns at a time.
pub(super) struct Making<'a> {
    part: Part,
    room: &'a mut Made,
    /// What weights are multiplied with on their way.
    factors: [[f32; LANES]; 2],
    /// Panels between this pair and the one after it.
    stride: usize,
    /// How many groups there are, and are made.
    groups: usize,
    done: usize,
    bands: usize,
}

impl<'a> Making<'a> {
    #[inline(always)]
    pub(super) fn new<S: Bf16Dot, W: Weights, F: Finish>(
        s: S,
        parts: &Parts<'_, W, F>,
        index: usize,
        room: &'a mut Made,
    ) -> Self {
        let (part, finish) = (parts.at(index), &parts.gemm.finish);
        let mut factors = [[0.0; LANES]; 2];
        for which in 0..2 {
            let (scale, factor) = parts.gemm.weights.scale(s, part.panels[which], part.cols.clone());
            s.store(scale, &mut room.scales[which]);
            s.store(factor, &mut factors[which]);
        }
        let stride = finish.pair(1)[0] - finish.pair(0)[0];
        let groups = 2 * part.cols.len() / GROUP;
        Self { part, room, factors, stride, groups, done: 0, bands: parts.bands }
    }

    /// Makes a band's share.
    #[inline(always)]
    pub(super) fn go_on<S: Bf16Dot, W: Weights, F>(&mut self, s: S, gemm: &Gemm<'_, W, F>, band: usize) {
        // Elements of 16 bits that a group becomes.
        let made = TILE * GROUP / W::Product::COLS;
        let due = self.groups * (band + 1) / self.bands;
        while self.done < due {
            let (which, group) = (self.done % 2, self.done / 2);
            let out = &mut self.room.tiles[which].as_flattened_mut()[group * made..][..made];
            let (panel, first) = (self.part.panels[which], self.part.cols.start / GROUP);
            gemm.weights.make(s, panel, first + group, self.stride, &self.factors[which], out);
            self.done += 1;
        }
    }

    #[inline(always)]
    pub(super) fn all<S: Bf16Dot, W: Weights, F>(mut self, s: S, gemm: &Gemm<'_, W, F>) {
        self.go_on(s, gemm, self.bands - 1);
    }
}
