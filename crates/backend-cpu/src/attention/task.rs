//! One item's work, from queries to results.

use super::item::{Item, Job};
use super::span::Spans;
use super::units::Unit;
use super::{Memory, State};
use crate::kv::{DIM_STEP, Element};
use crate::simd::Simd;

/// What is done with an item.
pub(super) enum Work<'a> {
    /// All chunks, one after another.
    Whole,
    /// One chunk, kept for [`Work::Merge`].
    Piece { chunk: usize, state: &'a mut [f32] },
    /// Merges the item's pieces in order: the first of `pieces`, then every `stride` floats.
    Merge { pieces: &'a [f32], stride: usize },
}

/// An item, something to do with it, and memory.
pub(super) struct Task<'a, E> {
    pub(super) job: &'a Job<'a, E>,
    pub(super) item: Item,
    pub(super) memory: Memory<'a>,
    pub(super) work: Work<'a>,
}

impl<E: Element> Task<'_, E> {
    #[inline(always)]
    pub(super) fn go<S: Simd, U: Unit<S, E>>(self, s: S, unit: &mut U) {
        let Self { job, item, memory, work } = self;
        let (dim, rows) = (job.spec.heads.head_dim, job.rows(item));
        let Memory { queries, scores, weights, span, total, part, rows: capacity } = memory;
        if let Work::Merge { pieces, stride } = work {
            let size = total.len();
            total.copy_from_slice(&pieces[..size]);
            let mut total = State::new(total, capacity);
            for index in 1..job.chunks(item).len() {
                total.merge_raw(s, &pieces[index * stride..][..size], rows);
            }
            return job.finish(s, item, &total);
        }
        let queries = bytemuck::cast_slice_mut(queries);
        job.load_queries(item, queries, dim.next_multiple_of(DIM_STEP));
        let mut spans = Spans::new(job, item, queries, scores, weights, span);
        match work {
            Work::Piece { chunk, state } => spans.chunk(s, unit, chunk, &mut State::new(state, capacity)),
            _ => {
                let (mut total, mut part) = (State::new(total, capacity), State::new(part, capacity));
                let chunks = job.chunks(item);
                // Merging into nothing would change nothing: the first chunk is the total.
                spans.chunk(s, unit, chunks.start, &mut total);
                for chunk in chunks.start + 1..chunks.end {
                    spans.chunk(s, unit, chunk, &mut part);
                    total.merge(s, &part, rows);
                }
                job.finish(s, item, &total);
            }
        }
    }
}
