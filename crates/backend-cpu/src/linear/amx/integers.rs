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
use crate::linear::int::{IntJob, IntWeights};
use crate::pack::Line;
use crate::simd::{Bf16Dot, Bf16Kernel, WHOLE};
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

/// A linear layer whose scales are shared by [`BAND_COLS`] columns or a multiple of them.
pub(crate) struct IntTiles<'a, const FOUR: bool, const AFFINE: bool> {
    /// Weights and results.
    pub(crate) job: IntJob<'a, FOUR, AFFINE>,
    /// `[bands][k / 64]`.
    pub(crate) x: &'a [BandGroup],
}

impl<const FOUR: bool, const AFFINE: bool> IntTiles<'_, FOUR, AFFINE> {
    /// Bytes that [`IntTiles::run`] needs for `k` input features: two panels.
    pub(crate) const fn room(k: usize) -> usize {
        let tiles = 2 * k / BAND_COLS;
        TILE * if tiles < RING { RING } else { tiles }
    }

    /// Computes rows, starting at a multiple of sixteen, for some panels.
    ///
    /// # Panics
    /// If the room is too small.
    pub(crate) fn run<U: Unit>(
        &self,
        isa: Isa,
        unit: &mut U,
        rows: Range<usize>,
        panels: Range<usize>,
        room: &mut [u8],
    ) {
        if rows.is_empty() || panels.is_empty() {
            return;
        }
        let bands = rows.start / ROWS..rows.end.div_ceil(ROWS);
        let weights = &self.job.weights;
        let plan = Plan {
            steps: weights.groups / GROUPS,
            first_band: bands.start,
            bands: bands.len(),
            last_panel: panels.end - 1,
            vectors: GROUPS * IntWeights::<FOUR, AFFINE>::VECTORS,
            tiles: weights.per_block / GROUPS,
            constants: weights.block_lines() - weights.per_block * IntWeights::<FOUR, AFFINE>::VECTORS,
        };
        let first = plan.first(panels.start);
        let sums = [Tile([[0; 16]; ROWS]); 2];
        let (made, multiplied) = (Some(first), Some(first));
        let run = Run { tiles: self, unit, rows, panels, room, plan, sums, made, multiplied, turn: 0 };
        isa.run_bf16(run);
    }
}

/// What a task goes through: panels, their bands, their runs of features.
#[derive(Clone, Copy)]
struct Plan {
    /// Runs of [`BAND_COLS`] features.
    steps: usize,
    first_band: usize,
    bands: usize,
    last_panel: usize,
    /// Lines of integers in a run.
    vectors: usize,
    /// Runs in a block of weights.
    tiles: usize,
    /// Lines of constants in a block of weights.
    constants: usize,
}

/// One of the products of a task.
#[derive(Clone, Copy)]
struct At {
    panel: usize,
    band: usize,
    step: usize,
    /// Where the panel's integers of this step begin.
    line: usize,
    /// Steps left in their block.
    left: usize,
}

impl Plan {
    fn first(&self, panel: usize) -> At {
        At { panel, band: self.first_band, step: 0, line: 0, left: self.tiles }
    }

    /// The same band's next step, if there is one.
    #[inline(always)]
    fn next_step(&self, at: At) -> Option<At> {
        if at.step + 1 == self.steps {
            return None;
        }
        let (line, step) = (at.line + self.vectors, at.step + 1);
        Some(match at.left {
            1 => At { step, line: line + self.constants, left: self.tiles, ..at },
            left => At { step, line, left: left - 1, ..at },
        })
    }

    #[inline(always)]
    fn next_panel(&self, at: At) -> Option<At> {
        (at.panel < self.last_panel).then(|| self.first(at.panel + 1))
    }

    /// The next product of the task.
    #[inline(always)]
    fn next(&self, at: At) -> Option<At> {
        self.next_step(at).or_else(|| match at.band + 1 - self.first_band {
            bands if bands < self.bands => Some(At { band: at.band + 1, ..self.first(at.panel) }),
            _ => self.next_panel(at),
        })
    }

    /// How many steps before its product a tile of bytes is made: never so many that a panel's are made while those of
    /// the one before the last are still needed.
    fn ahead(&self) -> usize {
        if self.bands == 1 { AHEAD } else { AHEAD.min(self.steps) }
    }

    /// Which of the room's tiles holds the bytes of a step.
    #[inline(always)]
    fn place(&self, at: At, first_panel: usize) -> usize {
        let panel = at.panel - first_panel;
        if self.bands == 1 { (panel * self.steps + at.step) % RING } else { panel % 2 * self.steps + at.step }
    }
}

struct Run<'a, U, const FOUR: bool, const AFFINE: bool> {
    tiles: &'a IntTiles<'a, FOUR, AFFINE>,
    unit: &'a mut U,
    rows: Range<usize>,
    panels: Range<usize>,
    /// Tiles of bytes.
    room: &'a mut [u8],
    plan: Plan,
    /// Of a product and the one before.
    sums: [Tile<i32>; 2],
    /// Whose bytes will be made next, and which product comes next.
    made: Option<At>,
    multiplied: Option<At>,
    /// Which sums the next product to be stored goes to.
    turn: usize,
}

impl<U: Unit, const FOUR: bool, const AFFINE: bool> Bf16Kernel for Run<'_, U, FOUR, AFFINE> {
    type Out = ();
    #[inline(always)]
    fn run<S: Bf16Dot>(mut self, s: S) {
        // Also for bands with fewer rows: another configuration would cost more than the rows that nobody needs.
        self.unit.configure(&Config::new(&[(ROWS, ROW); 3]));
        for _ in 0..self.plan.ahead() {
            self.make(s);
        }
        self.multiply();
        self.store();
        self.multiply();
        for panel in self.panels.clone() {
            let first = self.plan.first(panel);
            for band in first.band..first.band + self.plan.bands {
                let at = At { band, ..first };
                match self.rows.end - band * ROWS {
                    ..=FEW_ROWS => self.band::<S, FEW_ROWS>(s, at),
                    _ => self.band::<S, ROWS>(s, at),
                }
            }
        }
    }
}

impl<U: Unit, const FOUR: bool, const AFFINE: bool> Run<'_, U, FOUR, AFFINE> {
    /// Makes the next tile of bytes.
    #[inline(always)]
    fn make<S: Bf16Dot>(&mut self, s: S) {
        let Some(at) = self.made else { return };
        if FOUR {
            let vectors = IntWeights::<FOUR, AFFINE>::VECTORS;
            let place = self.plan.place(at, self.panels.start);
            let tile: &mut [[u8; ROW]; ROWS] = &mut self.room.as_chunks_mut().0.as_chunks_mut().0[place];
            let lines = &self.tiles.job.weights.panel(at.panel)[at.line..][..GROUPS * vectors];
            for (q, out) in lines.chunks_exact(vectors).zip(tile.chunks_exact_mut(2 * vectors)) {
                let (first, second) = out.split_at_mut(vectors);
                for (q, (first, second)) in q.iter().zip(first.iter_mut().zip(second)) {
                    let (low, high) = s.nibbles(bytemuck::cast_ref(q));
                    s.store_bytes(low, first);
                    s.store_bytes(high, second);
                }
            }
        }
        self.made = self.plan.next_step(at).or_else(|| self.plan.next_panel(at));
    }

    /// Starts the next product.
    #[inline(always)]
    fn multiply(&mut self) {
        let Some(at) = self.multiplied else { return };
        let x = &self.tiles.x[at.band * self.plan.steps + at.step];
        let bytes: &[u8; TILE] = if FOUR {
            &self.room.as_chunks().0[self.plan.place(at, self.panels.start)]
        } else {
            let lines: &[[Line; ROWS]] = self.tiles.job.weights.panel(at.panel)[at.line..].as_chunks().0;
            bytemuck::cast_ref(&lines[0])
        };
        // SAFETY: configured; activations and weights are tiles of sixteen rows in memory.
        #[allow(unsafe_code)]
        unsafe {
            self.unit.zero::<0>();
            self.unit.load::<1>((&raw const x.q).cast(), ROW);
            self.unit.load::<2>(bytes.as_ptr(), ROW);
            self.unit.dot_bytes::<0, 1, 2>();
        }
        self.multiplied = self.plan.next(at);
    }

    /// Stores the sums of the product under way.
    #[inline(always)]
    fn store(&mut self) {
        // SAFETY: configured; sums are a tile of sixteen rows in memory.
        #[allow(unsafe_code)]
        unsafe {
            self.unit.store::<0>((&raw mut self.sums[self.turn]).cast(), ROW);
        }
        self.turn = 1 - self.turn;
    }

    /// Sixteen outputs of a band whose first R rows are wanted.
    #[inline(always)]
    fn band<S: Bf16Dot, const R: usize>(&mut self, s: S, first: At) {
        let (job, weights, plan) = (&self.tiles.job, &self.tiles.job.weights, self.plan);
        let (band, panel) = (first.band, weights.panel(first.panel));
        let (row, count) = (band * ROWS, (self.rows.end - band * ROWS).min(R));
        job.out.prefetch_rows(row, count, first.panel);
        let mut acc = [s.splat(0.0); R];
        // All bands together ask for the whole next panel.
        let ask_count = panel.len().div_ceil(plan.steps * plan.bands);
        let mut ask = (band - plan.first_band) * plan.steps * ask_count;
        let mut next = Some(first);
        while let Some(at) = next {
            weights.ask_for_lines(at.panel + 1, ask, ask_count);
            ask += ask_count;
            if band == plan.first_band {
                self.make(s);
            }
            let done = 1 - self.turn;
            self.store();
            self.multiply();
            let scale = weights.scale_of((plan.tiles - at.left) * GROUPS);
            let constants = weights.constants(s, &panel[at.line + at.left * plan.vectors..], scale);
            let (x, sums) = (&self.tiles.x[band * plan.steps + at.step], &self.sums[done].0);
            for row in 0..R {
                let offset = s.splat_i32(if AFFINE { WHOLE } else { x.start[row] });
                let dot = s.offset_to_f32(s.add_i32(s.load_i32(&sums[row]), offset));
                let of_x = (x.scale[row], x.bias_factor[row]);
                acc[row] = IntJob::<FOUR, AFFINE>::accumulate(s, acc[row], dot, constants, of_x);
            }
            next = plan.next_step(at);
        }
        for (index, acc) in acc.iter().enumerate().take(count) {
            job.out.store(s, row + index, first.panel, *acc);
        }
    }
}
