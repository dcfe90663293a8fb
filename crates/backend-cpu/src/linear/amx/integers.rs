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
/// How many steps before its product a tile of bytes is made.
const AHEAD: usize = 4;
/// Tiles of bytes in memory.
const RING: usize = 2 * AHEAD;
/// How many steps before its sums are needed a product starts.
const PRODUCT: usize = 2;
/// Fewer input features would be over before the next product starts.
pub(crate) const MIN_COLS: usize = PRODUCT * BAND_COLS;
/// Bytes of panels that several bands meet one after another ([`IntTiles::chunk`]): they stay in the second-level cache
/// together with as many that are asked for, and are long enough for a pass that has to start anew.
pub(crate) const CHUNK: usize = 72 << 10;

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
    /// Bytes of weights that bands go through one after another: [`CHUNK`].
    pub(crate) chunk: usize,
}

impl<K: Sink, const FOUR: bool, const AFFINE: bool> IntTiles<'_, K, FOUR, AFFINE> {
    /// Computes rows, starting at a multiple of sixteen, for some panels. `then` is the panel whose weights are asked for
    /// at the end.
    ///
    /// Several bands go through a few panels one after another, and unpack them anew: that costs less than activations
    /// of all bands for every panel, which the first-level cache does not hold.
    pub(crate) fn run<U: Unit>(
        &self,
        isa: Isa,
        unit: &mut U,
        rows: Range<usize>,
        panels: Range<usize>,
        then: usize,
    ) {
        let bands = rows.start / ROWS..rows.end.div_ceil(ROWS);
        let weights = &self.weights;
        debug_assert!(weights.groups >= PRODUCT * GROUPS);
        let plan = Plan {
            steps: weights.groups / GROUPS,
            tiles: weights.per_block / GROUPS,
            constants: weights.block_lines() - weights.per_block * IntWeights::<FOUR, AFFINE>::VECTORS,
            lines: weights.panel_bytes() / LINE,
        };
        let mut room = Room { bytes: [Bytes([[0; ROW]; ROWS]); RING], sums: [Tile([[0; 16]; ROWS]); 2] };
        // Also for bands with fewer rows: another configuration would cost more than the rows that nobody needs.
        unit.configure(&Config::new(&[(ROWS, ROW); 3]));
        let chunk = if bands.len() == 1 { panels.len() } else { self.chunk / weights.panel_bytes() }.max(1);
        for first in panels.clone().step_by(chunk) {
            let here = first..(first + chunk).min(panels.end);
            let next = if here.end < panels.end { here.end } else { then };
            for (index, band) in bands.clone().enumerate() {
                let asked = match bands.len() {
                    1 => Asked { first: first + 1, last: then, part: 0, parts: 1 },
                    _ => Asked { first: next, last: next + here.len() - 1, part: index, parts: 2 },
                };
                let (rows, panels, room) = (rows.clone(), here.clone(), &mut room);
                let weights = weights.panels(here.clone());
                let x = &self.x[band * plan.steps..][..plan.steps];
                isa.run_bf16(Pass { tiles: self, unit, rows, band, panels, weights, x, asked, room, plan });
            }
        }
    }
}

/// A tile of weights.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Bytes([[u8; ROW]; ROWS]);

/// Memory of a task.
struct Room {
    bytes: [Bytes; RING],
    /// Of two products, in turn.
    sums: [Tile<i32>; 2],
}

/// The panels whose weights a pass asks for: of each a part, if other passes ask for the rest.
#[derive(Clone, Copy)]
struct Asked {
    /// Beside the first panel of the pass; beside others those that follow.
    first: usize,
    /// Beside the last one.
    last: usize,
    part: usize,
    parts: usize,
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
    /// Where its integers begin, among the lines of all panels of the pass.
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

/// Some panels for sixteen rows.
struct Pass<'a, U, K, const FOUR: bool, const AFFINE: bool> {
    tiles: &'a IntTiles<'a, K, FOUR, AFFINE>,
    unit: &'a mut U,
    /// All that are wanted, in this band and in others.
    rows: Range<usize>,
    band: usize,
    panels: Range<usize>,
    /// Of these panels.
    weights: &'a [Line],
    /// Of this band, `[k / 64]`.
    x: &'a [BandGroup],
    asked: Asked,
    room: &'a mut Room,
    plan: Plan,
}

/// How far a pass has come, beside its sums.
#[derive(Clone, Copy)]
struct State {
    /// The step whose bytes are made next, and the tile that they go to.
    made: Place,
    to: usize,
    /// Which sums the product under way goes to.
    turn: usize,
}

impl<U: Unit, K: Sink, const FOUR: bool, const AFFINE: bool> Bf16Kernel for Pass<'_, U, K, FOUR, AFFINE> {
    type Out = ();
    #[inline(always)]
    fn run<S: Bf16Dot>(mut self, s: S) {
        let mut state = State { made: self.plan.panel(0), to: 0, turn: 0 };
        for _ in 0..AHEAD {
            state = self.make(s, state);
        }
        let first = self.plan.panel(0);
        self.multiply(0, 0, first.line);
        self.store(state.turn);
        state.turn = 1 - state.turn;
        self.multiply(1, 1, self.plan.next(first, Self::LINES).line);
        for panel in 0..self.panels.len() {
            state = match self.rows.end - self.band * ROWS {
                ..=FEW_ROWS => self.panel::<S, FEW_ROWS>(s, state, panel),
                _ => self.panel::<S, ROWS>(s, state, panel),
            };
        }
    }
}

impl<U: Unit, K: Sink, const FOUR: bool, const AFFINE: bool> Pass<'_, U, K, FOUR, AFFINE> {
    /// Lines of integers in a step.
    const LINES: usize = GROUPS * IntWeights::<FOUR, AFFINE>::VECTORS;

    /// Makes the next tile of bytes, if there is one.
    #[inline(always)]
    fn make<S: Bf16Dot>(&mut self, s: S, state: State) -> State {
        if !FOUR || state.made.line >= self.weights.len() {
            return state;
        }
        let vectors = IntWeights::<FOUR, AFFINE>::VECTORS;
        let tile = &mut self.room.bytes[state.to].0;
        let lines = &self.weights[state.made.line..][..Self::LINES];
        for group in 0..GROUPS {
            for line in 0..vectors {
                let (low, high) = s.nibbles(bytemuck::cast_ref(&lines[group * vectors + line]));
                s.store_bytes(low, &mut tile[2 * group * vectors + line]);
                s.store_bytes(high, &mut tile[(2 * group + 1) * vectors + line]);
            }
        }
        State { made: self.plan.next(state.made, Self::LINES), to: (state.to + 1) % RING, ..state }
    }

    /// Starts a product of a run of activations with weights: bytes in the room, or if they are bytes already, where they
    /// lie.
    #[inline(always)]
    fn multiply(&mut self, run: usize, tile: usize, line: usize) {
        let bytes: *const u8 = match FOUR {
            true => (&raw const self.room.bytes[tile % RING]).cast(),
            false => self.weights[line..][..ROWS].as_ptr().cast(),
        };
        let x = &self.x[run];
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
            self.unit.store::<0>((&raw mut self.room.sums[turn % 2]).cast(), ROW);
        }
    }

    /// Asks for a step's lines of another panel to come into the second-level cache. `from` is where that panel lies, minus
    /// where this one does.
    #[inline(always)]
    fn ask(&self, at: Place, from: *const Line) {
        let Asked { part, parts, .. } = self.asked;
        match (part, parts) {
            (_, 1) => Self::ask_for(from, at.line, Self::LINES),
            (..2, _) => Self::ask_for(from, at.line + part * Self::LINES / 2, Self::LINES / 2),
            _ => return,
        }
        if part == 0 && at.left == 1 {
            Self::ask_for(from, at.line + Self::LINES, self.plan.constants);
        }
    }

    /// The same for some lines.
    #[inline(always)]
    fn ask_for(from: *const Line, line: usize, count: usize) {
        let first = from.wrapping_add(line);
        (0..count).for_each(|index| prefetch_far(first, index * LINE));
    }

    /// Sixteen outputs of the band, whose first R rows are wanted.
    #[inline(always)]
    fn panel<S: Bf16Dot, const R: usize>(&mut self, s: S, mut state: State, panel: usize) -> State {
        let (sink, weights, plan) = (&self.tiles.sink, &self.tiles.weights, self.plan);
        let (row, count) = (self.band * ROWS, (self.rows.end - self.band * ROWS).min(R));
        sink.ask_for(row, count, self.panels.start + panel);
        let last = panel + 1 == self.panels.len();
        let asked = if last { self.asked.last } else { self.asked.first + panel };
        let asked = weights.panel_address(asked).wrapping_sub(panel * plan.lines);
        // Products go on into the next panel.
        let products = if last { plan.steps } else { plan.steps + PRODUCT };
        let mut bytes = plan.next(plan.next(plan.panel(panel), Self::LINES), Self::LINES);
        let mut at = plan.panel(panel);
        let mut acc = [s.splat(0.0); R];
        for step in 0..plan.steps {
            self.ask(at, asked);
            state = self.make(s, state);
            self.store(state.turn);
            state.turn = 1 - state.turn;
            let product = step + PRODUCT;
            if product < products {
                let run = if product < plan.steps { product } else { product - plan.steps };
                self.multiply(run, panel * plan.steps + product, bytes.line);
                bytes = plan.next(bytes, Self::LINES);
            }
            let scale = weights.scale_of((plan.tiles - at.left) * GROUPS);
            let constants = weights.constants(s, &self.weights[at.line + at.left * Self::LINES..], scale);
            let x = &self.x[step];
            let sums = &self.room.sums[state.turn % 2].0;
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
