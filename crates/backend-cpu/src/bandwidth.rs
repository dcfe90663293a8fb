//! How fast memory can be read: the ceiling of decoding.

use std::hint::black_box;
use std::time::{Duration, Instant};

use millrace_backend::BackendError;

use crate::pool::Pool;
use crate::region::Region;

/// Larger than the last-level cache's share of most machines.
const BYTES: usize = 512 << 20;
/// A piece of work for one thread.
const CHUNK: usize = 1 << 20;
/// Passes over the buffer go on for this long.
const TIME: Duration = Duration::from_millis(300);

/// Reads half a GiB with all threads, again and again, and returns the best pass in bytes per second (other
/// programs only ever slow it down).
///
/// # Errors
/// No memory for the buffer.
pub fn read_bandwidth(pool: &Pool) -> Result<f64, BackendError> {
    let mut buffer = Region::<u64>::zeroed(BYTES / 8, "the bandwidth measurement")?;
    // Zero pages may all be one physical page until written.
    for (index, word) in buffer.iter_mut().enumerate() {
        *word = index as u64;
    }
    let chunks: Vec<&[u64]> = buffer.chunks(CHUNK / 8).collect();
    let (start, mut best) = (Instant::now(), f64::INFINITY);
    while start.elapsed() < TIME {
        let pass = Instant::now();
        pool.run(chunks.len(), &|index, _| {
            black_box(sum(chunks[index]));
        })?;
        best = best.min(pass.elapsed().as_secs_f64());
    }
    Ok(BYTES as f64 / best)
}

/// Independent lanes: as fast as loads go.
fn sum(words: &[u64]) -> u64 {
    let mut lanes = [0u64; 32];
    for chunk in words.as_chunks::<32>().0 {
        for (lane, word) in lanes.iter_mut().zip(chunk) {
            *lane ^= word;
        }
    }
    lanes.iter().fold(0, |a, b| a ^ b)
}
