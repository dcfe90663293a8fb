//! How fast memory can be read: the ceiling of decoding.

use std::hint::black_box;
use std::time::{Duration, Instant};

use millrace_backend::BackendError;

use crate::level::{Isa, Level};
use crate::pool::Pool;
use crate::region::Region;
use crate::simd::{Kernel, LANES, LINE, Simd, prefetch};

/// Larger than the last-level cache's share of most machines.
const BYTES: usize = 512 << 20;
/// A piece of work for one thread.
const CHUNK: usize = 1 << 20;
/// How far in advance lines are asked for. The prefetchers of CPUs stop at the ends of pages and keep fewer lines under
/// way than a core can: without this, a core reads a sixth less (`docs/performance.md`).
const PREFETCH_BYTES: usize = 1 << 10;
/// Passes over the buffer go on for this long.
const TIME: Duration = Duration::from_millis(300);

/// Reads half a GiB with all threads, again and again, and returns the best pass in bytes per second (other
/// programs only ever slow it down).
///
/// # Errors
/// No memory for the buffer; the level does not work here.
pub fn read_bandwidth(level: Level, pool: &Pool) -> Result<f64, BackendError> {
    let isa = Isa::new(level)?;
    let mut buffer = Region::<f32>::zeroed(BYTES / size_of::<f32>(), "the bandwidth measurement")?;
    // Zero pages may all be one physical page until written.
    for (index, word) in buffer.iter_mut().enumerate() {
        *word = index as f32;
    }
    let chunks: Vec<_> = buffer.as_chunks().0.chunks(CHUNK / LINE).collect();
    let (start, mut best) = (Instant::now(), f64::INFINITY);
    while start.elapsed() < TIME {
        let pass = Instant::now();
        pool.run(chunks.len(), &|index, _| {
            black_box(isa.run(Largest(chunks[index])));
        })?;
        best = best.min(pass.elapsed().as_secs_f64());
    }
    Ok(BYTES as f64 / best)
}

/// The largest number of all, in lanes of their own: as fast as loads go.
struct Largest<'a>(&'a [[f32; LANES]]);

impl Kernel for Largest<'_> {
    type Out = f32;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let mut lanes = [s.splat(0.0); 8];
        for vectors in self.0.as_chunks::<8>().0 {
            for (lanes, vector) in lanes.iter_mut().zip(vectors) {
                prefetch(vector, PREFETCH_BYTES);
                *lanes = s.max(s.load(vector), *lanes);
            }
        }
        let mut all = lanes[0];
        for lanes in lanes {
            all = s.max(lanes, all);
        }
        s.max_lane(all)
    }
}
