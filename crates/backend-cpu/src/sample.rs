//! Sampling: rows over threads, each by the shared definition.

use millrace_backend::{Batch, SampledRow, StepResult, sampling};

use crate::pool::{Pool, TaskPanicked};
use crate::shared::SharedMut;

/// Samples rows of `logits` `[n, vocab]` by `batch.samples[first..]` into `result`, which was prepared.
pub(crate) fn sample(
    pool: &Pool,
    logits: &mut [f32],
    vocab: usize,
    batch: &Batch,
    first: usize,
    result: &mut StepResult,
    scratch: &mut Vec<sampling::Scratch>,
) -> Result<(), TaskPanicked> {
    scratch.resize_with(pool.threads(), sampling::Scratch::default);
    let count = logits.len() / vocab;
    // Rows are dealt out beforehand: whose scratch memory grows does not depend on chance.
    let tasks = count.min(pool.threads());
    let (logits, scratch) = (SharedMut::new(logits), SharedMut::new(scratch));
    let (rows, top) = (SharedMut::new(&mut result.rows), SharedMut::new(&mut result.top));
    pool.run(tasks, &|task, _| {
        // SAFETY: each scratch belongs to one task.
        #[allow(unsafe_code)]
        let scratch = unsafe { &mut scratch.slice(task, 1)[0] };
        for index in (task..count).step_by(tasks) {
            // SAFETY: each row, its result and its span of likely tokens belong to one task.
            #[allow(unsafe_code)]
            let (logits, row) =
                unsafe { (logits.slice(index * vocab, vocab), &mut rows.slice(first + index, 1)[0]) };
            let span = row.top;
            // SAFETY: as above.
            #[allow(unsafe_code)]
            let top = unsafe { top.slice(span.start as usize, span.len as usize) };
            let sampled = sampling::sample_row(logits, &batch.samples[first + index], batch, top, scratch);
            *row = SampledRow { top: span, ..sampled };
        }
    })
}
