//! AMX: sixteen rows × sixteen positions (or elements of V) × 32 products at a time, in bf16.
//!
//! K is read where it lies (int8: from a converted copy). V is copied once per span, so that 32 positions follow each
//! other, as a B tile wants them.

#![allow(unsafe_code)]

use super::super::span::Table;
use super::super::{BAND, SPAN};
use super::{Band, FEW_ROWS, Runs, TILES, Task, Unit, ask_for};
use crate::kv::{Bf16Element, DIM_STEP, PAIR, TILE, TileView};
use crate::level::Isa;
use crate::simd::{Bf16Dot, Bf16Kernel, LANES};
use crate::tile::{self, Config, Hardware, ROW, ROWS};

/// bf16 queries and weights in tiles, on a tile unit.
pub(in super::super) struct Tiles<U> {
    unit: U,
    /// Rows that the registers are configured for; 0: not yet.
    rows: usize,
}

impl<U> Tiles<U> {
    pub(in super::super) fn new(unit: U) -> Self {
        Self { unit, rows: 0 }
    }
}

impl<E: Bf16Element> Runs<E> for Tiles<Hardware> {
    type Number = u16;
    const ROWS: usize = 128;
    fn run(isa: Isa, task: Task<'_, E>) {
        isa.run_bf16(OnLevel(task, Self::new(Hardware::new(isa))));
    }
}

/// A task and its unit.
pub(in super::super) struct OnLevel<'a, E, U>(
    pub(in super::super) Task<'a, E>,
    pub(in super::super) Tiles<U>,
);

impl<E: Bf16Element, U: tile::Unit> Bf16Kernel for OnLevel<'_, E, U> {
    type Out = ();
    #[inline(always)]
    fn run<S: Bf16Dot>(mut self, s: S) {
        self.0.go(s, &mut self.1);
    }
}

/// K `[tile][padded dim / 2][32]` (if it had to be converted), then V `[span / 2][⌈dim / 16⌉][32]`.
#[inline(always)]
fn split_room(room: &[f32], values: usize) -> (&[[u16; PAIR]], &[[u16; PAIR]]) {
    let room: &[[u16; PAIR]] = bytemuck::cast_slice(room);
    (&room[..room.len() - values], &room[room.len() - values..])
}

/// Pair vectors of V in a span.
#[inline(always)]
fn value_pairs(dim: usize) -> usize {
    SPAN / 2 * dim.div_ceil(LANES)
}

impl<S: Bf16Dot, E: Bf16Element, U: tile::Unit> Unit<S, E> for Tiles<U> {
    type Number = u16;

    #[inline(always)]
    fn prepare(&mut self, s: S, tiles: &[TileView<'_, E>; TILES], room: &mut [f32]) {
        let room: &mut [[u16; PAIR]] = bytemuck::cast_slice_mut(room);
        let present = tiles.iter().map(|tile| tile.values.len()).max().unwrap_or(0);
        let (keys, values) = room.split_at_mut(room.len() - TILES * present);
        let copy = |to: &mut [[u16; PAIR]], from: &[[E; PAIR]]| {
            for (to, from) in to.iter_mut().zip(from) {
                s.store_bytes(E::load_pairs(s, from), bytemuck::cast_mut(to));
            }
        };
        let stride = keys.len() / TILES;
        for (t, tile) in tiles.iter().enumerate() {
            let values = &mut values[t * present..][..present];
            // Zeros for tiles without keys: their weights are zero too.
            values[tile.values.len()..].fill([0; PAIR]);
            copy(values, tile.values);
            if E::in_place(tile.keys).is_none() {
                copy(&mut keys[t * stride..], tile.keys);
            }
        }
    }

    #[inline(always)]
    fn score(&mut self, _: S, band: &Band<'_, E, u16>, room: &[f32], scores: &mut Table<f32>) {
        self.configure(band.rows);
        let padded = band.dim.next_multiple_of(DIM_STEP);
        let (copies, _) = split_room(room, value_pairs(band.dim));
        let stride = copies.len() / TILES;
        let mut keys: [&[[u16; PAIR]]; TILES] = [&[]; TILES];
        for t in band.here.clone() {
            keys[t] = E::in_place(band.tiles[t].keys).unwrap_or(&copies[t * stride..]);
        }
        assert!(band.rows <= BAND && band.queries.len() == band.rows * padded);
        let to: *mut u8 = scores.as_mut_ptr().cast();
        for first in (0..TILES).step_by(2) {
            let here = [first, first + 1].map(|t| band.here.contains(&t));
            if here == [false; 2] {
                continue;
            }
            // SAFETY: configured for these rows. Queries are `rows` rows, `padded` elements apart; a step of 32
            // dimensions of a tile's keys is sixteen pair vectors; scores have sixteen rows, 64 floats apart.
            unsafe {
                self.unit.zero::<0>();
                self.unit.zero::<1>();
                for step in 0..padded / DIM_STEP {
                    let at = step * ROWS;
                    if band.rows <= FEW_ROWS {
                        for t in [first, first + 1] {
                            (at..at + ROWS).for_each(|line| ask_for(band.rows, band.next[t].keys, line));
                        }
                    }
                    self.unit.load::<2>(band.queries.as_ptr().add(step * DIM_STEP).cast(), padded * 2);
                    if here[0] {
                        self.unit.load::<3>(keys[first][at..at + ROWS].as_ptr().cast(), ROW);
                        self.unit.dot_bf16::<0, 2, 3>();
                    }
                    if here[1] {
                        self.unit.load::<3>(keys[first + 1][at..at + ROWS].as_ptr().cast(), ROW);
                        self.unit.dot_bf16::<1, 2, 3>();
                    }
                }
                self.unit.store::<0>(to.add(first * TILE * 4), SPAN * 4);
                self.unit.store::<1>(to.add((first + 1) * TILE * 4), SPAN * 4);
            }
        }
    }

    #[inline(always)]
    fn accumulate(
        &mut self,
        _: S,
        band: &Band<'_, E, u16>,
        room: &[f32],
        weights: &Table<u16>,
        values: &mut [[f32; LANES]],
    ) {
        let vectors = band.dim.div_ceil(LANES);
        let (_, v) = split_room(room, value_pairs(band.dim));
        if band.rows <= FEW_ROWS {
            for t in band.here.clone() {
                (0..band.next[t].values.len()).for_each(|i| ask_for(band.rows, band.next[t].values, i));
            }
        }
        let mut vector = 0;
        while vector + 2 <= vectors {
            self.values::<E, 2>(band, v, weights, vector, values);
            vector += 2;
        }
        if vector < vectors {
            self.values::<E, 1>(band, v, weights, vector, values);
        }
    }
}

impl<U: tile::Unit> Tiles<U> {
    /// Accumulators 0 and 1 and inputs 2 of so many rows, keys or values 3: no more registers than that, see
    /// `linear/amx/gemm.rs`.
    #[inline(always)]
    fn configure(&mut self, rows: usize) {
        if self.rows != rows {
            let (a, b) = ((rows, ROW), (ROWS, ROW));
            self.unit.configure(&Config::new(&[a, a, a, b]));
            self.rows = rows;
        }
    }

    /// C (2 or 1) vectors of the head dimension from `vector` on.
    #[inline(always)]
    fn values<E, const C: usize>(
        &mut self,
        band: &Band<'_, E, u16>,
        v: &[[u16; PAIR]],
        weights: &Table<u16>,
        vector: usize,
        values: &mut [[f32; LANES]],
    ) {
        let vectors = band.dim.div_ceil(LANES);
        let stride = vectors * ROW;
        assert!(
            vector + C <= vectors && values.len() == band.rows * vectors && v.len() == SPAN / 2 * vectors
        );
        let to: *mut u8 = values[vector..].as_mut_ptr().cast();
        let (v, weights): (*const u8, *const u8) = (v[vector..].as_ptr().cast(), weights.as_ptr().cast());
        // SAFETY: configured (by `score`) for these rows. Values are `rows` rows and V `SPAN / 2` rows of `vectors`
        // vectors of 64 bytes, of which C follow `vector`; weights are sixteen rows of 128 bytes.
        unsafe {
            self.unit.load::<0>(to, stride);
            if C == 2 {
                self.unit.load::<1>(to.add(ROW), stride);
            }
            // Two tiles of keys at a time.
            for half in band.here.start / 2..band.here.end.div_ceil(2) {
                let v = v.add(half * ROWS * stride);
                self.unit.load::<2>(weights.add(half * ROW), SPAN * 2);
                self.unit.load::<3>(v, stride);
                self.unit.dot_bf16::<0, 2, 3>();
                if C == 2 {
                    self.unit.load::<3>(v.add(ROW), stride);
                    self.unit.dot_bf16::<1, 2, 3>();
                }
            }
            self.unit.store::<0>(to, stride);
            if C == 2 {
                self.unit.store::<1>(to.add(ROW), stride);
            }
        }
    }
}
