//! The softmax of one row over a span.

use std::ops::Range;

use super::super::item::first_visible;
use super::super::span::{SLACK, mask};
use super::super::walk::{TILES, Walk};
use super::{BAND, Tiled};
use crate::kv::{Bf16Element, TILE};
use crate::simd::{
    Bf16Dot,
    math::{exp2, exp2_of_weights},
};
use crate::tile;

impl<E: Bf16Element, U: tile::Unit> Tiled<'_, E, U> {
    /// Turns a row's scores into weights 2^(score − max), in bf16, and updates its maximum and sums, seldom its values.
    #[inline(always)]
    pub(super) fn weigh<S: Bf16Dot>(&mut self, s: S, span: &Walk<'_, E>, band: usize, row: usize) {
        if self.bands[band].all {
            self.weigh_seen::<S, true>(s, span, band, row, &(0..0));
        } else {
            let position = self.position(band * BAND + row);
            let bounds = first_visible(position, self.job.spec.window)..position + 1;
            self.weigh_seen::<S, false>(s, span, band, row, &bounds);
        }
    }

    /// `ALL`: the row sees all keys; otherwise those within `bounds`, and the others get no weight.
    #[inline(always)]
    fn weigh_seen<S: Bf16Dot, const ALL: bool>(
        &mut self,
        s: S,
        span: &Walk<'_, E>,
        band: usize,
        row: usize,
        bounds: &Range<usize>,
    ) {
        let scales = |t: usize| if E::SCALED { span.tiles[t].scales } else { None };
        let from = &self.room.scores[band % 2 * TILES..][..TILES];
        let mut scores = [s.splat(f32::NEG_INFINITY); TILES];
        for (t, score) in scores.iter_mut().enumerate() {
            if !ALL && !self.bands[band].here.contains(&t) {
                continue;
            }
            *score = s.load(&from[t][row]);
            if let Some([keys, _]) = scales(t) {
                *score = s.mul(*score, s.load(keys));
            }
            if !ALL {
                *score = mask(s, *score, span.start + t * TILE, bounds);
            }
        }
        let highest = s.max(s.max(scores[0], scores[1]), s.max(scores[2], scores[3]));
        let index = band * BAND + row;
        if s.any_above(highest, s.splat(self.room.max[index] + SLACK)) {
            self.raise(s, band, row, s.max_lane(highest));
        }
        let max = s.splat(self.room.max[index]);
        let mut sums = [s.load(&self.room.sums[index]), s.splat(0.0)];
        for pair in 0..TILES / 2 {
            let mut weights = [max; 2];
            for (which, weight) in weights.iter_mut().enumerate() {
                *weight = exp2_of_weights(s, s.sub(scores[2 * pair + which], max));
                sums[which] = s.add(sums[which], *weight);
                if let Some([_, values]) = scales(2 * pair + which) {
                    *weight = s.mul(*weight, s.load(values));
                }
            }
            let to = &mut self.room.weights[band % 2 * (TILES / 2) + pair][row];
            s.store_bf16_twice(weights[0], weights[1], to);
        }
        s.store(s.add(sums[0], sums[1]), &mut self.room.sums[index]);
    }

    /// A new maximum: sums and values so far count less.
    #[inline(always)]
    fn raise<S: Bf16Dot>(&mut self, s: S, band: usize, row: usize, max: f32) {
        let index = band * BAND + row;
        let factor = exp2(s, s.splat(self.room.max[index] - max));
        self.room.max[index] = max;
        let sums = &mut self.room.sums[index];
        s.store(s.mul(s.load(sums), factor), sums);
        for tile in &mut self.room.values[band * self.sizes.vectors..][..self.sizes.vectors] {
            s.store(s.mul(s.load(&tile[row]), factor), &mut tile[row]);
        }
    }
}
