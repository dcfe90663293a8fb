//! Sampling by the shared definition: many rows are dealt out to the threads, few rows are shared by all of them.

use std::cell::Cell;

use millrace_backend::{
    Batch, SampledRow, StepResult,
    sampling::{self, CHUNK, Sweep, Term},
};

use crate::level::Isa;
use crate::pool::{Pool, TaskPanicked};
use crate::shared::SharedMut;
use crate::simd::{Kernel, Simd};

/// Chunks that are worth waking another thread for: a sweep over them takes a microsecond or more.
const LEAST_CHUNKS: usize = 64;

/// Samples rows of `logits` `[n, vocab]` by `batch.samples[first..]` into `result`, which was prepared.
pub(crate) struct Sampling<'a> {
    pub(crate) isa: Isa,
    pub(crate) pool: &'a Pool,
    pub(crate) batch: &'a Batch,
    pub(crate) vocab: usize,
    pub(crate) first: usize,
}

impl Sampling<'_> {
    pub(crate) fn run(
        &self,
        logits: &mut [f32],
        result: &mut StepResult,
        scratch: &mut Vec<sampling::Scratch>,
    ) -> Result<(), TaskPanicked> {
        // One by one, since a pool must not be captured by what it runs.
        let Self { isa, pool, batch, vocab, first } = *self;
        let threads = pool.threads();
        scratch.resize_with(threads, sampling::Scratch::default);
        let count = logits.len() / vocab;
        let (logits, scratch) = (SharedMut::new(logits), SharedMut::new(scratch));
        let (rows, top) = (SharedMut::new(&mut result.rows), SharedMut::new(&mut result.top));
        let sample = |index: usize, worker: usize, sweep: &dyn Sweep| {
            // SAFETY: each worker's scratch, each row, its result and its span of likely tokens belong to one task.
            #[allow(unsafe_code)]
            let (scratch, logits, row) = unsafe {
                let row = &mut rows.slice(first + index, 1)[0];
                (&mut scratch.slice(worker, 1)[0], logits.slice(index * vocab, vocab), row)
            };
            let span = row.top;
            // SAFETY: as above.
            #[allow(unsafe_code)]
            let top = unsafe { top.slice(span.start as usize, span.len as usize) };
            let spec = &batch.samples[first + index];
            let sampled = sampling::sample_row(logits, spec, batch, top, scratch, sweep);
            *row = SampledRow { top: span, ..sampled };
        };
        if 2 * count <= threads {
            let shared = Shared { isa, pool, panicked: Cell::new(None) };
            (0..count).for_each(|index| sample(index, 0, &shared));
            return shared.panicked.into_inner().map_or(Ok(()), Err);
        }
        // Rows are dealt out beforehand: whose scratch memory grows does not depend on chance.
        let tasks = count.min(threads);
        pool.run(tasks, &|task, _| {
            (task..count).step_by(tasks).for_each(|index| sample(index, task, &Alone(isa)));
        })
    }
}

/// One thread, with this level's instructions.
struct Alone(Isa);

impl Sweep for Alone {
    fn maxima(&self, logits: &[f32], out: &mut [f32]) {
        self.0.run(Maxima { logits, out });
    }

    fn sums(&self, logits: &[f32], term: Term, out: &mut [u64]) {
        self.0.run(Sums { logits, term, out });
    }
}

/// All threads, each with some of a row's chunks.
struct Shared<'a> {
    isa: Isa,
    pool: &'a Pool,
    panicked: Cell<Option<TaskPanicked>>,
}

impl Sweep for Shared<'_> {
    fn maxima(&self, logits: &[f32], out: &mut [f32]) {
        let isa = self.isa;
        self.share(logits, out, &|logits, out| isa.run(Maxima { logits, out }));
    }

    fn sums(&self, logits: &[f32], term: Term, out: &mut [u64]) {
        let isa = self.isa;
        self.share(logits, out, &|logits, out| isa.run(Sums { logits, term, out }));
    }
}

impl Shared<'_> {
    fn share<T: Send>(&self, logits: &[f32], out: &mut [T], sweep: &(dyn Fn(&[f32], &mut [T]) + Sync)) {
        let chunks = out.len();
        let tasks = (chunks / LEAST_CHUNKS).clamp(1, self.pool.threads());
        let out = SharedMut::new(out);
        let done = self.pool.run(tasks, &|task, _| {
            let (start, end) = (task * chunks / tasks, (task + 1) * chunks / tasks);
            // SAFETY: the chunks of different tasks don't overlap.
            #[allow(unsafe_code)]
            let out = unsafe { out.slice(start, end - start) };
            sweep(&logits[start * CHUNK..(end * CHUNK).min(logits.len())], out);
        });
        self.panicked.set(self.panicked.get().or(done.err()));
    }
}

struct Maxima<'a> {
    logits: &'a [f32],
    out: &'a mut [f32],
}

impl Kernel for Maxima<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        sampling::maxima(self.logits, self.out);
    }
}

struct Sums<'a> {
    logits: &'a [f32],
    term: Term,
    out: &'a mut [u64],
}

impl Kernel for Sums<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        sampling::sums(self.logits, self.term, self.out);
    }
}

#[cfg(test)]
#[path = "sample_tests.rs"]
mod tests;
