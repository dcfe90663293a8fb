//! The products of a band with a span, in pieces.

#![allow(unsafe_code)]

use super::super::walk::{TILES, Walk};
use super::room::HalfTile;
use super::{BAND, Tiled};
use crate::kv::{Bf16Element, PAIR, TILE};
use crate::simd::{Bf16Dot, LANES};
use crate::tile::{self, Config, ROW, ROWS};

/// Pairs of positions of a tile.
const PAIRS: usize = TILE / 2;

impl<E: Bf16Element, U: tile::Unit> Tiled<'_, E, U> {
    /// Sums 0 and 1 and inputs 2 of as many rows as a band has, keys or values 3: no more registers than that, see
    /// `linear/amx/block.rs`.
    pub(super) fn configure(&mut self) {
        let (a, b) = ((self.rows.min(BAND), ROW), (ROWS, ROW));
        self.unit.configure(&Config::new(&[a, a, a, b]));
    }

    /// Copies V, and keys that aren't bf16.
    #[inline(always)]
    pub(super) fn prepare<S: Bf16Dot>(&mut self, s: S, span: &Walk<'_, E>) {
        let vectors = self.job.spec.heads.head_dim.div_ceil(LANES);
        let copy = |to: &mut [u16; PAIR], from: &[E; PAIR]| {
            s.store_bytes(E::load_pairs(s, from), bytemuck::cast_mut(to));
        };
        for (t, tile) in span.tiles.iter().enumerate() {
            let v = &mut self.room.v[t / 2 * self.sizes.vectors..][..self.sizes.vectors];
            let first = t % 2 * PAIRS;
            if tile.values.is_empty() {
                // Their weights are zero too.
                v.iter_mut().for_each(|v| v[first..first + PAIRS].fill([0; PAIR]));
            }
            for (pair, values) in tile.values.chunks_exact(vectors).enumerate() {
                for (to, from) in v.iter_mut().zip(values) {
                    copy(&mut to[first + pair], from);
                }
            }
            if E::in_place(tile.keys).is_none() {
                let keys = self.room.keys[t * self.sizes.steps..].as_flattened_mut();
                for (to, from) in keys.iter_mut().zip(tile.keys) {
                    copy(to, from);
                }
            }
        }
    }

    /// A piece of a band's scores: a step of the head dimension for two tiles of keys.
    #[inline(always)]
    pub(super) fn score(&mut self, span: &Walk<'_, E>, band: usize, [pair, step]: [usize; 2]) {
        let steps = self.sizes.steps;
        let here = [2 * pair, 2 * pair + 1].map(|t| self.bands[band].here.contains(&t));
        if here == [false; 2] {
            return;
        }
        let keys = |t: usize| -> *const u8 {
            let converted = &self.room.keys[t * steps + step];
            let place =
                E::in_place(span.tiles[t].keys).and_then(|keys| keys[step * ROWS..].first_chunk::<ROWS>());
            place.unwrap_or(converted).as_ptr().cast()
        };
        let query: *const HalfTile = &raw const self.room.queries[band * steps + step];
        let scores = self.room.scores[band % 2 * TILES + 2 * pair..][..2].as_mut_ptr();
        // SAFETY: configured for a band's rows, up to sixteen. All pointers are to whole tiles.
        unsafe {
            if step == 0 {
                self.unit.zero::<0>();
                self.unit.zero::<1>();
            }
            self.unit.load::<2>(query.cast(), ROW);
            if here[0] {
                self.unit.load::<3>(keys(2 * pair), ROW);
                self.unit.dot_bf16::<0, 2, 3>();
            }
            if here[1] {
                self.unit.load::<3>(keys(2 * pair + 1), ROW);
                self.unit.dot_bf16::<1, 2, 3>();
            }
            if step + 1 == steps {
                self.unit.store::<0>(scores.cast(), ROW);
                self.unit.store::<1>(scores.add(1).cast(), ROW);
            }
        }
    }

    /// A piece of values += weights · V: two tiles of keys for two vectors of the head dimension.
    #[inline(always)]
    pub(super) fn add_values(&mut self, band: usize, piece: usize) {
        let vectors = self.sizes.vectors;
        let (halves, here) = (TILES / 2, self.bands[band].here.clone());
        let (vector, half) = (piece / halves * 2, piece % halves);
        let to = self.room.values[band * vectors + vector..][..2].as_mut_ptr();
        let weights: *const HalfTile = &raw const self.room.weights[band % 2 * halves + half];
        let v = self.room.v[half * vectors + vector..][..2].as_ptr();
        // SAFETY: as above.
        unsafe {
            if half == 0 {
                self.unit.load::<0>(to.cast(), ROW);
                self.unit.load::<1>(to.add(1).cast(), ROW);
            }
            if here.start < 2 * half + 2 && here.end > 2 * half {
                self.unit.load::<2>(weights.cast(), ROW);
                self.unit.load::<3>(v.cast(), ROW);
                self.unit.dot_bf16::<0, 2, 3>();
                self.unit.load::<3>(v.add(1).cast(), ROW);
                self.unit.dot_bf16::<1, 2, 3>();
            }
            if half + 1 == halves {
                self.unit.store::<0>(to.cast(), ROW);
                self.unit.store::<1>(to.add(1).cast(), ROW);
            }
        }
    }
}
