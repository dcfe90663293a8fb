//! One item's work, from queries to results.

use super::item::{Item, Job};
use super::{Memory, State};
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

/// Goes through the keys of an item.
pub(super) trait Chunks<S: Simd> {
    /// Makes `state` that of one chunk.
    fn chunk(&mut self, s: S, chunk: usize, state: &mut State<'_>);
}

impl<'a, E> Task<'a, E> {
    /// Does the work; `chunks` makes what goes through the keys, in the room that it has.
    #[inline(always)]
    pub(super) fn go<S: Simd, C: Chunks<S>>(
        self,
        s: S,
        chunks: impl FnOnce(&'a Job<'a, E>, Item, &'a mut [f32]) -> C,
    ) {
        let Self { job, item, memory, work } = self;
        let rows = job.rows(item);
        let Memory { room, total, part, rows: capacity } = memory;
        if let Work::Merge { pieces, stride } = work {
            let size = total.len();
            total.copy_from_slice(&pieces[..size]);
            let mut total = State::new(total, capacity);
            for index in 1..job.chunks(item).len() {
                total.merge_raw(s, &pieces[index * stride..][..size], rows);
            }
            return job.finish(s, item, &total);
        }
        let mut way = chunks(job, item, room);
        match work {
            Work::Piece { chunk, state } => way.chunk(s, chunk, &mut State::new(state, capacity)),
            _ => {
                let (mut total, mut part) = (State::new(total, capacity), State::new(part, capacity));
                let chunks = job.chunks(item);
                // Merging into nothing would change nothing: the first chunk is the total.
                way.chunk(s, chunks.start, &mut total);
                for chunk in chunks.start + 1..chunks.end {
                    way.chunk(s, chunk, &mut part);
                    total.merge(s, &part, rows);
                }
                job.finish(s, item, &total);
            }
        }
    }
}
