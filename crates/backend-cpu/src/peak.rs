//! How fast the units multiply when nothing has to be loaded: the ceiling of prefill.

use std::hint::black_box;
use std::time::{Duration, Instant};

use millrace_backend::BackendError;

use crate::level::{Isa, Level};
use crate::pool::Pool;
use crate::simd::{Bf16Dot, Bf16Kernel, Kernel, LANES, Simd};

/// Time for each type.
const TIME: Duration = Duration::from_millis(100);
/// Multiplications of each accumulator in a run.
const STEPS: usize = 20_000;
/// Accumulators: more than latency × units on any CPU, fewer than registers.
const SUMS: usize = 12;

/// Operations per second (a multiplication and an addition are two) of the units that `level` uses.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Peak {
    /// `f32`, `bf16` or `int8`.
    pub name: &'static str,
    /// Best of several runs.
    pub ops_per_second: f64,
}

/// Measures each type.
///
/// # Errors
/// The level does not work here.
pub fn measure(level: Level, pool: &Pool) -> Result<[Peak; 3], BackendError> {
    let isa = Isa::new(level)?;
    let lanes = (SUMS * STEPS * LANES) as f64;
    let f32 = best(pool, 2.0 * lanes, || isa.run(Floats))?;
    #[cfg(target_arch = "x86_64")]
    if level == Level::Amx {
        let products = (tiles::SUMS * STEPS * 16 * 16) as f64;
        let bf16 = best(pool, 2.0 * 32.0 * products, || tiles::bf16(isa))?;
        let int8 = best(pool, 2.0 * 64.0 * products, || tiles::int8(isa))?;
        return Ok(named(f32, bf16, int8));
    }
    // Without an instruction for bf16, it is multiplied as float32.
    let bf16 = if isa.has_bf16_dot() { best(pool, 4.0 * lanes, || isa.run_bf16(Pairs))? } else { f32 };
    Ok(named(f32, bf16, best(pool, 8.0 * lanes, || isa.run(Bytes))?))
}

fn named(f32: f64, bf16: f64, int8: f64) -> [Peak; 3] {
    [("f32", f32), ("bf16", bf16), ("int8", int8)].map(|(name, ops_per_second)| Peak { name, ops_per_second })
}

/// Runs `work`, so many operations, on all threads at once, again and again.
fn best(pool: &Pool, operations: f64, work: impl Fn() + Sync) -> Result<f64, BackendError> {
    let (start, mut best) = (Instant::now(), f64::INFINITY);
    while start.elapsed() < TIME {
        let pass = Instant::now();
        pool.run(pool.threads(), &|_, _| work())?;
        best = best.min(pass.elapsed().as_secs_f64());
    }
    Ok(operations * pool.threads() as f64 / best)
}

struct Floats;

impl Kernel for Floats {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (x, y) = (s.splat(black_box(0.5)), s.splat(black_box(0.25)));
        let mut sums = [y; SUMS];
        for _ in 0..STEPS {
            for sum in &mut sums {
                *sum = s.fma(*sum, x, y);
            }
        }
        finish(s, sums);
    }
}

struct Bytes;

impl Kernel for Bytes {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (w, x) = (s.bytes(&black_box([3; 64])), black_box(0x0101_0101));
        let mut sums = [s.sums(s.splat_i32(0)); SUMS];
        for _ in 0..STEPS {
            for sum in &mut sums {
                *sum = s.dot4(*sum, w, x);
            }
        }
        finish(s, sums.map(|sum| s.to_f32(s.total(sum))));
    }
}

struct Pairs;

impl Bf16Kernel for Pairs {
    type Out = ();
    #[inline(always)]
    fn run<S: Bf16Dot>(self, s: S) {
        let (w, x) = (s.bytes(&black_box([1; 64])), black_box([0x3f80, 0x3f80]));
        let mut sums = [s.splat(0.0); SUMS];
        for _ in 0..STEPS {
            for sum in &mut sums {
                *sum = s.dot_bf16(*sum, w, x);
            }
        }
        finish(s, sums);
    }
}

/// Uses the results, so that nothing is optimised away.
#[inline(always)]
fn finish<S: Simd>(s: S, sums: [S::V; SUMS]) {
    let mut out = [[0.0; LANES]; SUMS];
    for (out, sum) in out.iter_mut().zip(sums) {
        s.store(sum, out);
    }
    black_box(out);
}

/// Tile products of registers.
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod tiles {
    use super::STEPS;
    use crate::level::Isa;
    use crate::tile::{Config, Hardware, ROW, ROWS, Unit};

    /// Accumulators.
    pub(super) const SUMS: usize = 4;

    pub(super) fn bf16(isa: Isa) {
        let mut unit = ready(isa);
        for _ in 0..STEPS {
            // SAFETY: all registers are configured as whole tiles.
            unsafe {
                unit.dot_bf16::<0, 4, 6>();
                unit.dot_bf16::<1, 4, 7>();
                unit.dot_bf16::<2, 5, 6>();
                unit.dot_bf16::<3, 5, 7>();
            }
        }
    }

    pub(super) fn int8(isa: Isa) {
        let mut unit = ready(isa);
        for _ in 0..STEPS {
            // SAFETY: all registers are configured as whole tiles.
            unsafe {
                unit.dot_bytes::<0, 4, 6>();
                unit.dot_bytes::<1, 4, 7>();
                unit.dot_bytes::<2, 5, 6>();
                unit.dot_bytes::<3, 5, 7>();
            }
        }
    }

    /// A unit with eight zeroed tiles.
    fn ready(isa: Isa) -> Hardware {
        let mut unit = Hardware::new(isa);
        unit.configure(&Config::new(&[(ROWS, ROW); 8]));
        unit
    }
}
