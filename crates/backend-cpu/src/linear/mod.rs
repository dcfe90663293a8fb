//! `out = x · weightᵀ + bias`: which kernel, cut into which tasks.
//!
//! A task is a run of panels times a block of rows. Inside, a kernel takes a few rows and panels at a time, with one
//! accumulator per output that runs over the input features in order. So the arithmetic of an output depends on
//! neither the number of rows nor the number of threads.

#[cfg(target_arch = "x86_64")]
pub(crate) mod amx;
mod dense;
mod int;

use std::ops::Range;

use millrace_backend::{BackendError, GROUP};

use crate::activations::{Activations, Input};
use crate::level::Isa;
use crate::level::Level;
use crate::pack::{IntPanels, Packed, Panels, with_form};
use crate::pool::Pool;
use crate::shared::SharedMut;
use crate::simd::{Bf16Dot, Bf16Kernel, Kernel, LANES, Simd, prefetch};
use dense::{Bf16Pairs, Bf16Wide, DenseJob, F16Wide, F32Wide, WideWeights};
use int::IntJob;

/// Runs of panels are multiples of this, so that kernels that take several at a time come out even.
const PANEL_STEP: usize = 4;
/// How far in advance weights are asked for: hardware prefetchers stop at the ends of 4 KiB pages.
const PREFETCH_BYTES: usize = 4 << 10;
/// Row blocks are multiples of this: the rows of an AMX tile.
const ROW_STEP: usize = 16;
/// A run of panels is a thread's part of what is left, times 10 / this: long runs while there is much to do, because a
/// run is one stream from memory, and short ones for balance at the end.
const RUN_SHARE: usize = 11;
/// Panels in a run at most: for few rows, which wait for memory, and for many, which compute.
const MAX_RUN: usize = 1024;
const MAX_BUSY_RUN: usize = 16;
/// Many rows.
const BUSY_ROWS: usize = 32;
/// From this many rows on, tiles multiply integers faster than vectors do.
#[cfg(target_arch = "x86_64")]
const TILED_ROWS: usize = 7;
/// Bytes of activations that a task goes through for each run of panels: about half of a core's L2.
const ROW_BLOCK_BYTES: usize = 512 << 10;

/// Where results go: row-major `[rows, cols]`, plus a bias.
#[derive(Clone, Copy)]
pub(crate) struct Output<'a> {
    pub(crate) values: SharedMut<'a, f32>,
    pub(crate) cols: usize,
    pub(crate) bias: Option<&'a [f32]>,
}

impl Output<'_> {
    /// Asks for the place of sixteen outputs, so that storing them does not wait.
    #[inline(always)]
    pub(crate) fn prefetch(&self, row: usize, panel: usize) {
        prefetch(self.values.address(row * self.cols + panel * LANES), 0);
    }

    /// The same for `count` rows from `row` on.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    pub(crate) fn prefetch_rows(&self, row: usize, count: usize, panel: usize) {
        let first = self.values.address(row * self.cols + panel * LANES);
        for index in 0..count {
            prefetch(first, index * self.cols * size_of::<f32>());
        }
    }

    /// Adds the bias and stores sixteen outputs of a row (fewer in the last panel).
    #[inline(always)]
    pub(crate) fn store<S: Simd>(&self, s: S, row: usize, panel: usize, v: S::V) {
        let first = panel * LANES;
        let count = LANES.min(self.cols - first);
        let v = match self.bias {
            Some(bias) => s.add(v, s.load_partial(&bias[first..first + count])),
            None => v,
        };
        // SAFETY: this part of the row belongs to the task that computes it.
        #[allow(unsafe_code)]
        let out = unsafe { self.values.slice(row * self.cols + first, count) };
        match out.as_mut_array::<LANES>() {
            Some(out) => s.store(v, out),
            None => s.store_partial(v, out),
        }
    }
}

/// A linear layer whose inputs are ready.
pub(crate) trait Job<S: Simd>: Sync {
    /// Computes some rows for at most [`PANEL_STEP`] panels.
    fn rows(&self, s: S, rows: Range<usize>, panels: Range<usize>);
}

/// Rows that a kernel takes at a time.
#[derive(Clone, Copy)]
struct Rows {
    row: usize,
    count: usize,
    /// How many times rows have met these panels before, and how many times they will in all.
    pass: usize,
    passes: usize,
}

impl Rows {
    /// `most` at a time.
    #[inline(always)]
    fn cut(rows: Range<usize>, most: usize) -> impl Iterator<Item = Self> {
        let (end, passes) = (rows.end, rows.len().div_ceil(most));
        let cut = rows.step_by(most).enumerate();
        cut.map(move |(pass, row)| Self { row, count: most.min(end - row), pass, passes })
    }

    /// Nobody before has brought the panels from memory.
    #[inline(always)]
    fn is_first(&self) -> bool {
        self.pass == 0
    }
}

/// A task: these rows and panels of a job.
struct Task<'a, J> {
    job: &'a J,
    rows: Range<usize>,
    panels: Range<usize>,
}

impl<J> Task<'_, J> {
    #[inline(always)]
    fn go<S: Simd>(self, s: S)
    where
        J: Job<S>,
    {
        for first in self.panels.clone().step_by(PANEL_STEP) {
            let panels = first..(first + PANEL_STEP).min(self.panels.end);
            self.job.rows(s, self.rows.clone(), panels);
        }
    }
}

/// Jobs that every level has a kernel for.
macro_rules! any_level {
    ($($job:ty),*) => {$(
        impl Kernel for Task<'_, $job> {
            type Out = ();
            #[inline(always)]
            fn run<S: Simd>(self, s: S) {
                self.go(s);
            }
        }
    )*};
}

any_level!(DenseJob<'_, F32Wide>, DenseJob<'_, F16Wide>, DenseJob<'_, Bf16Wide>);

impl Bf16Kernel for Task<'_, DenseJob<'_, Bf16Pairs>> {
    type Out = ();
    #[inline(always)]
    fn run<S: Bf16Dot>(self, s: S) {
        self.go(s);
    }
}

/// Where a linear layer runs and what it reads and writes.
pub(crate) struct Linear<'a> {
    pub(crate) isa: Isa,
    pub(crate) pool: &'a Pool,
    pub(crate) weight: &'a Packed,
    pub(crate) input: Input<'a>,
    pub(crate) out: Output<'a>,
    /// Rows are tokens of prompts ([`millrace_backend::Batch::prompt_rows`]).
    pub(crate) prompt: bool,
}

impl Linear<'_> {
    /// Whether tokens of prompts are computed in another way than generated ones: integer weights as tiles of bf16 or
    /// bytes, with activations likewise, which takes many rows to pay.
    pub(crate) fn tells_prompts_apart(isa: Isa, weight: &Packed) -> bool {
        isa.level() == Level::Amx && matches!(weight.data, Panels::Int(_))
    }

    /// Whether so many generated tokens meet such weights as integers on tiles.
    #[cfg(target_arch = "x86_64")]
    fn takes_integer_tiles(isa: Isa, weight: &Packed, rows: usize) -> bool {
        let shared = matches!(&weight.data, Panels::Int(int) if int.shared() > 1);
        isa.level() == Level::Amx && rows >= TILED_ROWS && shared && weight.k >= amx::MIN_COLS
    }

    /// Converts the inputs and computes the outputs.
    pub(crate) fn run(self, scratch: &mut Activations) -> Result<(), BackendError> {
        let isa = self.isa;
        match &self.weight.data {
            Panels::F32(w) => {
                let job = self.wide_job::<F32Wide>(scratch, w)?;
                self.tasks(8, |rows, panels, _| isa.run(Task { job: &job, rows, panels }))
            }
            Panels::F16(w) => {
                let job = self.wide_job::<F16Wide>(scratch, w)?;
                self.tasks(8, |rows, panels, _| isa.run(Task { job: &job, rows, panels }))
            }
            #[cfg(target_arch = "x86_64")]
            Panels::Bf16(w) if isa.level() == Level::Amx => match self.input.rows {
                ..=amx::FEW_ROWS => self.one_pass(w, scratch),
                _ => self.layer(scratch),
            },
            Panels::Bf16(w) if isa.has_bf16_dot() => {
                let x = scratch.bf16(isa, self.pool, self.input, self.weight.k)?;
                let x = x.as_chunks::<2>().0;
                let job = DenseJob::<Bf16Pairs>::new(w, self.weight, x, self.weight.k / 2, self.out);
                self.tasks(4, |rows, panels, _| isa.run_bf16(Task { job: &job, rows, panels }))
            }
            Panels::Bf16(w) => {
                let job = self.wide_job::<Bf16Wide>(scratch, w)?;
                self.tasks(8, |rows, panels, _| isa.run(Task { job: &job, rows, panels }))
            }
            Panels::Int(int) => {
                with_form!(int, |FOUR, AFFINE| self.integers::<FOUR, AFFINE>(int, scratch))
            }
        }
    }

    /// A job with float32 activations: the caller's own, or a copy with an even number of columns.
    fn wide_job<'b, D: WideWeights>(
        &'b self,
        scratch: &'b mut Activations,
        weights: &'b [D::Stored],
    ) -> Result<DenseJob<'b, D>, BackendError> {
        let cols = self.input.cols;
        let stride = cols.next_multiple_of(2);
        let x = if stride == cols {
            &self.input.values[..self.input.rows * cols]
        } else {
            scratch.padded(self.pool, self.input, stride)?
        };
        Ok(DenseJob::new(weights, self.weight, x.as_chunks::<2>().0, stride / 2, self.out))
    }

    fn integers<const FOUR: bool, const AFFINE: bool>(
        &self,
        int: &IntPanels,
        scratch: &mut Activations,
    ) -> Result<(), BackendError> {
        let (isa, groups) = (self.isa, self.weight.k / GROUP);
        #[cfg(target_arch = "x86_64")]
        if isa.level() == Level::Amx && self.prompt {
            return self.layer(scratch);
        }
        #[cfg(target_arch = "x86_64")]
        if Self::takes_integer_tiles(isa, self.weight, self.input.rows) {
            return self.integer_tiles::<FOUR, AFFINE>(int, scratch);
        }
        let x = scratch.quantized(isa, self.pool, self.input, groups, int.shared(), int.zero_point())?;
        let job = IntJob::<FOUR, AFFINE>::new(int, groups, x, self.out);
        self.tasks(3, |rows, panels, _| job.run(isa, rows, panels))
    }

    /// Cuts the layer into tasks; an input row has about `half_bytes / 2` bytes per column (halves: quantized ones
    /// have one and a half).
    fn tasks(
        &self,
        half_bytes: usize,
        task: impl Fn(Range<usize>, Range<usize>, usize) + Sync,
    ) -> Result<(), BackendError> {
        let most = if self.input.rows < BUSY_ROWS { MAX_RUN } else { MAX_BUSY_RUN };
        self.tasks_of(half_bytes, most, task)
    }

    /// The same with runs of at most so many panels.
    fn tasks_of(
        &self,
        half_bytes: usize,
        most: usize,
        task: impl Fn(Range<usize>, Range<usize>, usize) + Sync,
    ) -> Result<(), BackendError> {
        let (rows, panels) = (self.input.rows, self.weight.panels());
        let fitting = ROW_BLOCK_BYTES * 2 / (self.weight.k * half_bytes);
        let block = (fitting / ROW_STEP).max(2) * ROW_STEP;
        let blocks = rows.div_ceil(block);
        let threads = self.pool.threads();
        let runs = runs(panels, threads, most).count();
        self.pool.run(blocks * runs, &|index, thread| {
            let row = index / runs * block;
            if let Some(panels) = self::runs(panels, threads, most).nth(index % runs) {
                task(row..(row + block).min(rows), panels, thread);
            }
        })?;
        Ok(())
    }
}

/// Cuts panels into runs, in order.
fn runs(panels: usize, threads: usize, most: usize) -> impl Iterator<Item = Range<usize>> {
    let mut first = 0;
    std::iter::from_fn(move || {
        let left = panels - first;
        let run = (left * 10 / (RUN_SHARE * threads))
            .next_multiple_of(PANEL_STEP)
            .clamp(PANEL_STEP, most)
            .min(left);
        first += run;
        (run > 0).then_some(first - run..first)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_cover_all_panels_and_shrink() {
        for panels in [1, 3, 4, 63, 64, 65, 384, 9496] {
            for threads in [1, 2, 7, 64] {
                let runs: Vec<_> = runs(panels, threads, 64).collect();
                assert_eq!((runs[0].start, runs[runs.len() - 1].end), (0, panels));
                for pair in runs.windows(2) {
                    assert_eq!(pair[0].end, pair[1].start);
                    assert!(pair[0].len() >= pair[1].len() && pair[0].len() <= 64);
                }
            }
        }
    }
}
