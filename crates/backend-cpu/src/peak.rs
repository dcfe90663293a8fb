//! How fast the units multiply: the ceiling of prefill. Measured by running the real kernels on data that stays in the
//! caches.

use std::time::{Duration, Instant};

use millrace_backend::{BackendError, Encoding, MatrixSource, WeightFormat};

use crate::activations::{Activations, Input};
use crate::level::{Isa, Level};
use crate::linear::{Linear, Output};
use crate::pack;
use crate::pool::Pool;
use crate::region::Region;
use crate::shared::SharedMut;

/// A layer small enough for a core's caches, large enough to hide the start of a task.
const ROWS: usize = 512;
const FEATURES: usize = 1024;
/// Time for each type.
const TIME: Duration = Duration::from_millis(200);

/// Operations per second (a multiplication and an addition are two) of the matrix kernels of `level`.
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
/// The level does not work here, or memory is out.
pub fn measure(level: Level, pool: &Pool) -> Result<[Peak; 3], BackendError> {
    let isa = Isa::new(level)?;
    let quantize = WeightFormat::Quantize { bits: 8, group: 32 };
    Ok([
        Peak { name: "f32", ops_per_second: run(isa, pool, Encoding::F32, WeightFormat::Native)? },
        Peak { name: "bf16", ops_per_second: run(isa, pool, Encoding::Bf16, WeightFormat::Native)? },
        Peak { name: "int8", ops_per_second: run(isa, pool, Encoding::F32, quantize)? },
    ])
}

fn run(isa: Isa, pool: &Pool, encoding: Encoding, format: WeightFormat) -> Result<f64, BackendError> {
    let weight = pack::load(isa, pool, &mut Ramp(encoding), format)?;
    let values: Vec<f32> = (0..ROWS * FEATURES).map(ramp).collect();
    let mut out = Region::zeroed(ROWS * FEATURES, "the speed measurement")?;
    let mut scratch = Activations::default();
    let (start, mut best) = (Instant::now(), f64::INFINITY);
    while start.elapsed() < TIME {
        let pass = Instant::now();
        let input = Input { values: &values, rows: ROWS, cols: FEATURES };
        let out = Output { values: SharedMut::new(&mut out), cols: FEATURES, bias: None };
        Linear { isa, pool, weight: &weight, input, out }.run(&mut scratch)?;
        best = best.min(pass.elapsed().as_secs_f64());
    }
    Ok(2.0 * (ROWS * FEATURES * FEATURES) as f64 / best)
}

fn ramp(index: usize) -> f32 {
    (index % 251) as f32 / 251.0 - 0.5
}

/// A square weight with no particular values.
struct Ramp(Encoding);

impl MatrixSource for Ramp {
    fn rows(&self) -> usize {
        FEATURES
    }
    fn cols(&self) -> usize {
        FEATURES
    }
    fn encoding(&self) -> Encoding {
        self.0
    }
    fn read_dense(&mut self, index: usize, out: &mut [f32]) -> Result<(), BackendError> {
        for (column, out) in out.iter_mut().enumerate() {
            *out = ramp(index * 7 + column);
        }
        Ok(())
    }
    fn read_affine(
        &mut self,
        _: usize,
        _: &mut [u8],
        _: &mut [f32],
        _: &mut [f32],
    ) -> Result<(), BackendError> {
        Err(BackendError::Weight("a dense weight was read as integers".into()))
    }
}
