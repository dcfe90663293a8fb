//! Grouped integers of generated tokens on tiles: bytes × bytes, sixteen rows at a time.
//!
//! A tile holds the integer sums of one run of [`BAND_COLS`] input features for sixteen rows and sixteen outputs. They
//! become floats as in [`IntJob`], so the bits are the same, and it is only a question of speed which of the two
//! computes a batch.
//!
//! Three products are under way at any time: the tiles multiply one, the sums of the one before go to memory, and
//! those of the one before that become floats. Four-bit weights become bytes a few steps before they are needed, since
//! a tile that was only just stored has to wait for it (`docs/performance.md`).

use std::ops::Range;

use millrace_backend::GROUP;

use crate::activations::{BAND_COLS, BandGroup};
use crate::level::Isa;
use crate::linear::Output;
use crate::linear::int::{IntJob, IntWeights};
use crate::pack::Line;
use crate::simd::{Bf16Dot, Bf16Kernel, LINE, Simd, WHOLE, prefetch_far};
use crate::tile::{Config, ROW, ROWS, Tile, Unit};

/// Groups of [`GROUP`] columns in a tile of weights.
const GROUPS: usize = BAND_COLS / GROUP;
/// Up to so many rows of a band are summed up apart from the rest, which nobody needs.
const FEW_ROWS: usize = 8;
/// Bytes of a tile.
const TILE: usize = ROWS * ROW;
/// How many steps before its product a tile of bytes is made.
const AHEAD: usize = 4;
/// Tiles of bytes in memory if one band uses them, and then nobody.
const RING: usize = 2 * AHEAD;
/// How many steps before its sums are needed a product starts.
const PRODUCT: usize = 2;
/// Fewer input features would be over before the next product starts.
pub(crate) const MIN_COLS: usize = PRODUCT * BAND_COLS;

/// Bytes that [`IntTiles::run`] needs for `k` input features: two panels.
pub(crate) const fn room(k: usize) -> usize {
    let tiles = 2 * k / BAND_COLS;
    TILE * if tiles < RING { RING } else { tiles }
}

/// Where outputs go.
pub(crate) trait Sink: Sync {
    /// Asks for the places of sixteen outputs of `count` rows from `row` on, if they may be far.
    #[inline(always)]
    fn ask_for(&self, _row: usize, _count: usize, _panel: usize) {}
    /// Takes sixteen outputs of a row.
    fn take<S: Simd>(&self, s: S, row: usize, panel: usize, v: S::V);
}

impl Sink for Output<'_> {
    #[inline(always)]
    fn ask_for(&self, row: usize, count: usize, panel: usize) {
        self.prefetch_rows(row, count, panel);
    }

    #[inline(always)]
    fn take<S: Simd>(&self, s: S, row: usize, panel: usize, v: S::V) {
        self.store(s, row, panel, v);
    }
}

/// A linear layer whose scales are shared by [`BAND_COLS`] columns or a multiple of them, of which it has
/// [`MIN_COLS`] or more.
pub(crate) struct IntTiles<'a, K, const FOUR: bool, const AFFINE: bool> {
    pub(crate) weights: IntWeights<'a, FOUR, AFFINE>,
    /// `[bands][k / 64]`.
    pub(crate) x: &'a [BandGroup],
    pub(crate) sink: K,
}

impl<K: Sink, const FOUR: bool, const AFFINE: bool> IntTiles<'_, K, FOUR, AFFINE> {
    /// Computes rows, starting at a multiple of sixteen, for some panels. The room has [`room`] bytes; `then` is the panel
    /// whose weights are asked for at the end.
    ///
    /// # Panics
    /// If the room is too small.
    pub(crate) fn run<U: Unit>(
        &self,
        isa: Isa,
        unit: &mut U,
        rows: Range<usize>,
        panels: Range<usize>,
        then: usize,
        room: &mut [u8],
    ) {
        if rows.is_empty() || panels.is_empty() {
            return;
        }
        let bands = rows.start / ROWS..rows.end.div_ceil(ROWS);
        let weights = &self.weights;
        debug_assert!(weights.groups >= PRODUCT * GROUPS);
        let plan = Plan {
            steps: weights.groups / GROUPS,
            tiles: weights.per_block / GROUPS,
            constants: weights.block_lines() - weights.per_block * IntWeights::<FOUR, AFFINE>::VECTORS,
            lines: weights.panel_bytes() / LINE,
        };
        let sums = [Tile([[0; 16]; ROWS]); 2];
        let then = weights.panel_address(then);
        let weights = weights.panels(panels.clone());
        let room = room.as_chunks_mut().0;
        let run = Run { tiles: self, unit, rows, bands, panels, weights, then, room, plan, sums };
        isa.run_bf16(run);
    }
}

/// What a panel consists of.
#[derive(Clone, Copy)]
struct Plan {
    /// Runs of [`BAND_COLS`] features.
    steps: usize,
    /// Of those in a block of weights.
    tiles: usize,
    /// Lines of constants in a block of weights.
    constants: usize,
    /// Lines of a panel.
    lines: usize,
}

/// A step of a panel.
#[derive(Clone, Copy)]
struct Place {
    /// Where its integers begin, among the lines of all panels of the task.
    line: usize,
    /// Steps left in its block.
    left: usize,
}

impl Plan {
    fn panel(&self, index: usize) -> Place {
        Place { line: index * self.lines, left: self.tiles }
    }

    /// The step after that, whose integers take so many lines: at the end of a panel, the first one of the next.
    #[inline(always)]
    fn next(&self, at: Place, lines: usize) -> Place {
        let (line, left) = (at.line + lines, at.left - 1);
        if left == 0 { Place { line: line + self.constants, left: self.tiles } } else { Place { line, left } }
    }
}

struct Run<'a, U, K, const FOUR: bool, const AFFINE: bool> {
    tiles: &'a IntTiles<'a, K, FOUR, AFFINE>,
    unit: &'a mut U,
    rows: Range<usize>,
    bands: Range<usize>,
    panels: Range<usize>,
    /// Of these panels.
    weights: &'a [Line],
    /// The panel that is probably needed after them.
    then: *const Line,
    /// Tiles of bytes.
    room: &'a mut [[u8; TILE]],
    plan: Plan,
    /// Of two products, in turn.
    sums: [Tile<i32>; 2],
}

/// How far a task has come, beside its sums.
#[derive(Clone, Copy)]
struct State {
    /// The step whose bytes are made next, and the tile that they go to.
    made: Place,
    to: usize,
    /// Which sums the product under way goes to.
    turn: usize,
}

impl<U: Unit, K: Sink, const FOUR: bool, const AFFINE: bool> Bf16Kernel for Run<'_, U, K, FOUR, AFFINE> {
    type Out = ();
    #[inline(always)]
    fn run<S: Bf16Dot>(mut self, s: S) {
        // Also for bands with fewer rows: another configuration would cost more than the rows that nobody needs.
        self.unit.configure(&Config::new(&[(ROWS, ROW); 3]));
        let mut state = State { made: self.plan.panel(0), to: 0, turn: 0 };
        // Never so far that a panel's bytes are made while those of the one before the last are still needed.
        let ahead = if self.bands.len() == 1 { AHEAD } else { AHEAD.min(self.plan.steps) };
        for _ in 0..ahead {
            state = self.make(s, state);
        }
        let x = &self.tiles.x[self.bands.start * self.plan.steps..];
        let first = self.plan.panel(0);
        self.multiply(&x[0], 0, first.line);
        self.store(state.turn);
        state.turn = 1 - state.turn;
        self.multiply(&x[1], 1, self.plan.next(first, Self::LINES).line);
        for panel in 0..self.panels.len() {
            for band in self.bands.clone() {
                let few = self.rows.end - band * ROWS <= FEW_ROWS;
                state = match (few, self.bands.len() > 1) {
                    (true, false) => self.band::<S, FEW_ROWS, false>(s, state, panel, band),
                    (false, false) => self.band::<S, ROWS, false>(s, state, panel, band),
                    (true, true) => self.band::<S, FEW_ROWS, true>(s, state, panel, band),
                    (false, true) => self.band::<S, ROWS, true>(s, state, panel, band),
                };
            }
        }
    }
}

impl<U: Unit, K: Sink, const FOUR: bool, const AFFINE: bool> Run<'_, U, K, FOUR, AFFINE> {
    /// Lines of integers in a step.
    const LINES: usize = GROUPS * IntWeights::<FOUR, AFFINE>::VECTORS;

    /// Tiles of bytes in use: a few, or those of two panels, which several bands meet.
    #[inline(always)]
    fn ring(&self) -> usize {
        if self.bands.len() == 1 { RING } else { 2 * self.plan.steps }
    }

    /// Makes the next tile of bytes, if there is one.
    #[inline(always)]
    fn make<S: Bf16Dot>(&mut self, s: S, state: State) -> State {
        if !FOUR || state.made.line >= self.weights.len() {
            return state;
        }
        let vectors = IntWeights::<FOUR, AFFINE>::VECTORS;
        let tile: &mut [[u8; ROW]; ROWS] = bytemuck::cast_mut(&mut self.room[state.to]);
        let lines = &self.weights[state.made.line..][..Self::LINES];
        for group in 0..GROUPS {
            for line in 0..vectors {
                let (low, high) = s.nibbles(bytemuck::cast_ref(&lines[group * vectors + line]));
                s.store_bytes(low, &mut tile[2 * group * vectors + line]);
                s.store_bytes(high, &mut tile[(2 * group + 1) * vectors + line]);
            }
        }
        let to = if state.to + 1 == self.ring() { 0 } else { state.to + 1 };
        State { made: self.plan.next(state.made, Self::LINES), to, ..state }
    }

    /// Starts a product. Weights: bytes in the room, or if they are bytes already, where they lie.
    #[inline(always)]
    fn multiply(&mut self, x: &BandGroup, tile: usize, line: usize) {
        let bytes: *const u8 =
            if FOUR { self.room[tile].as_ptr() } else { self.weights[line..][..ROWS].as_ptr().cast() };
        // SAFETY: configured; activations and weights are tiles of sixteen rows in memory.
        #[allow(unsafe_code)]
        unsafe {
            self.unit.zero::<0>();
            self.unit.load::<1>((&raw const x.q).cast(), ROW);
            self.unit.load::<2>(bytes, ROW);
            self.unit.dot_bytes::<0, 1, 2>();
        }
    }

    /// Stores the sums of the product under way.
    #[inline(always)]
    fn store(&mut self, turn: usize) {
        // SAFETY: configured; sums are a tile of sixteen rows in memory.
        #[allow(unsafe_code)]
        unsafe {
            self.unit.store::<0>((&raw mut self.sums[turn % 2]).cast(), ROW);
        }
    }

    /// Asks for a step's lines of the next panel to come into the second-level cache. `from` is where that panel lies, minus
    /// where this one does. Two bands share that.
    #[inline(always)]
    fn ask(&self, at: Place, from: *const Line, band: usize, many: bool) {
        if band >= 2 {
            return;
        }
        let (count, line) = if many { (Self::LINES / 2, band * Self::LINES / 2) } else { (Self::LINES, 0) };
        for index in 0..count {
            prefetch_far(from, (at.line + line + index) * LINE);
        }
        if band == 0 && at.left == 1 {
            for index in 0..self.plan.constants {
                prefetch_far(from, (at.line + Self::LINES + index) * LINE);
            }
        }
    }

    /// Sixteen outputs of a band whose first R rows are wanted. MANY: there are other bands.
    #[inline(always)]
    fn band<S: Bf16Dot, const R: usize, const MANY: bool>(
        &mut self,
        s: S,
        mut state: State,
        panel: usize,
        band: usize,
    ) -> State {
        let (sink, weights, plan) = (&self.tiles.sink, &self.tiles.weights, self.plan);
        let (steps, index) = (plan.steps, band - self.bands.start);
        let (row, count) = (band * ROWS, (self.rows.end - band * ROWS).min(R));
        sink.ask_for(row, count, self.panels.start + panel);
        // What follows: the next band, or the first one with the next panel.
        let (last_band, last_panel) = (index + 1 == self.bands.len(), panel + 1 == self.panels.len());
        let (next_band, next_panel) =
            if last_band { (self.bands.start, panel + 1) } else { (band + 1, panel) };
        let asked = match last_panel {
            true => self.then.wrapping_sub(panel * plan.lines),
            false => self.weights.as_ptr().wrapping_add(plan.lines),
        };
        let x = &self.tiles.x[band * steps..][..steps];
        let next_x = &self.tiles.x[next_band * steps..][..steps];
        // Products go on into what follows.
        let products = if last_band && last_panel { steps } else { steps + PRODUCT };
        let mut bytes = plan.next(plan.next(plan.panel(panel), Self::LINES), Self::LINES);
        let mut at = plan.panel(panel);
        let mut acc = [s.splat(0.0); R];
        for step in 0..steps {
            self.ask(at, asked, index, MANY);
            if !MANY || index == 0 {
                state = self.make(s, state);
            }
            self.store(state.turn);
            state.turn = 1 - state.turn;
            let product = step + PRODUCT;
            if product < products {
                let inside = product < steps;
                let x = if inside { &x[product] } else { &next_x[product - steps] };
                if product == steps {
                    bytes = plan.panel(next_panel);
                }
                let tile = match (MANY, inside) {
                    (false, _) => (panel * steps + product) % RING,
                    (true, true) => panel % 2 * steps + product,
                    (true, false) => next_panel % 2 * steps + product - steps,
                };
                self.multiply(x, tile, bytes.line);
                bytes = plan.next(bytes, Self::LINES);
            }
            let scale = weights.scale_of((plan.tiles - at.left) * GROUPS);
            let constants = weights.constants(s, &self.weights[at.line + at.left * Self::LINES..], scale);
            let (x, sums) = (&x[step], &self.sums[state.turn % 2].0);
            for row in 0..R {
                let offset = s.splat_i32(if AFFINE { WHOLE } else { x.start[row] });
                let dot = s.offset_to_f32(s.add_i32(s.load_i32(&sums[row]), offset));
                let of_x = (x.scale[row], x.bias_factor[row]);
                acc[row] = IntJob::<FOUR, AFFINE>::accumulate(s, acc[row], dot, constants, of_x);
            }
            at = plan.next(at, Self::LINES);
        }
        // Every row by its number: a loop over some of them would keep all in memory.
        for index in 0..R {
            if index < count {
                sink.take(s, row + index, self.panels.start + panel, acc[index]);
            }
        }
        state
    }
}
