//! The tile kernels on a software model of the tile unit, so that everything but the instructions themselves is
//! tested on machines without them (with them, `tests/` runs the same kernels at level Amx).

use millrace_backend::{BackendError, Encoding, GROUP, MatrixSource, WeightFormat};

use super::int::int_task_on;
use super::tile::{Config, ROW, ROWS, Unit};
use super::*;
use crate::activations::{Activations, Input};
use crate::level::{Isa, Level};
use crate::linear::int::IntJob;
use crate::linear::{Linear, Output};
use crate::pack::{self, Packed, Panels};
use crate::pool::Pool;
use crate::shared::SharedMut;

/// The architecture's rules, checked, and its arithmetic.
struct Model {
    config: Option<Config>,
    tiles: [[u8; ROW * ROWS]; 8],
}

impl Model {
    fn new() -> Self {
        Self { config: None, tiles: [[0; ROW * ROWS]; 8] }
    }

    /// Rows and bytes per row of a register.
    fn shape(&self, tile: u8) -> (usize, usize) {
        let config = self.config.expect("tiles are configured before they are used");
        let (rows, bytes) = (config.rows[tile as usize], config.row_bytes[tile as usize]);
        assert!((1..=16).contains(&rows) && (1..=64).contains(&bytes) && bytes % 4 == 0, "no shape: a fault");
        (rows as usize, bytes as usize)
    }

    fn word(&self, tile: u8, row: usize, column: usize) -> [u8; 4] {
        self.tiles[tile as usize][row * ROW + column * 4..][..4].try_into().unwrap()
    }

    /// acc = product(acc, a, b) over four bytes of the common dimension at a time.
    fn multiply(&mut self, [acc, a, b]: [u8; 3], product: impl Fn([u8; 4], [u8; 4], [u8; 4]) -> [u8; 4]) {
        let (rows, bytes) = self.shape(acc);
        let (a_rows, a_bytes) = self.shape(a);
        let (b_rows, b_bytes) = self.shape(b);
        assert_eq!((rows, bytes, a_bytes / 4), (a_rows, b_bytes, b_rows), "shapes don't fit: a fault");
        for m in 0..rows {
            for k in 0..b_rows {
                for n in 0..bytes / 4 {
                    let sum = product(self.word(acc, m, n), self.word(a, m, k), self.word(b, k, n));
                    self.tiles[acc as usize][m * ROW + n * 4..][..4].copy_from_slice(&sum);
                }
            }
        }
    }
}

impl Unit for Model {
    fn configure(&mut self, config: &Config) {
        assert_eq!(config.palette, 1);
        self.config = Some(*config);
        self.tiles = [[0; ROW * ROWS]; 8];
    }
    unsafe fn zero<const T: u8>(&mut self) {
        self.shape(T);
        self.tiles[T as usize].fill(0);
    }
    unsafe fn load<const T: u8>(&mut self, from: *const u8, stride: usize) {
        let (rows, bytes) = self.shape(T);
        self.tiles[T as usize].fill(0);
        for row in 0..rows {
            // SAFETY: by the caller's promise.
            let from = unsafe { std::slice::from_raw_parts(from.add(row * stride), bytes) };
            self.tiles[T as usize][row * ROW..][..bytes].copy_from_slice(from);
        }
    }
    unsafe fn store<const T: u8>(&mut self, to: *mut u8, stride: usize) {
        let (rows, bytes) = self.shape(T);
        for row in 0..rows {
            // SAFETY: by the caller's promise.
            let to = unsafe { std::slice::from_raw_parts_mut(to.add(row * stride), bytes) };
            to.copy_from_slice(&self.tiles[T as usize][row * ROW..][..bytes]);
        }
    }
    unsafe fn dot_bytes<const ACC: u8, const A: u8, const B: u8>(&mut self) {
        self.multiply([ACC, A, B], |acc, a, b| {
            let terms = a.iter().zip(b).map(|(a, b)| i32::from(a.cast_signed()) * i32::from(b));
            (i32::from_le_bytes(acc) + terms.sum::<i32>()).to_le_bytes()
        });
    }
    unsafe fn dot_bf16<const ACC: u8, const A: u8, const B: u8>(&mut self) {
        let float = |low: u8, high: u8| half::bf16::from_le_bytes([low, high]).to_f32();
        self.multiply([ACC, A, B], |acc, a, b| {
            let terms = float(a[0], a[1]) * float(b[0], b[1]) + float(a[2], a[3]) * float(b[2], b[3]);
            (f32::from_le_bytes(acc) + terms).to_le_bytes()
        });
    }
}

/// Values without a pattern that an index error could hide in.
fn value(index: usize) -> f32 {
    let bits = (index as u32).wrapping_mul(2_654_435_761) >> 8;
    (bits & 0xffff) as f32 / 65536.0 - 0.5
}

struct Source {
    rows: usize,
    cols: usize,
    encoding: Encoding,
}

impl MatrixSource for Source {
    fn rows(&self) -> usize {
        self.rows
    }
    fn cols(&self) -> usize {
        self.cols
    }
    fn encoding(&self) -> Encoding {
        self.encoding
    }
    fn read_dense(&mut self, index: usize, out: &mut [f32]) -> Result<(), BackendError> {
        for (column, out) in out.iter_mut().enumerate() {
            *out = value(index * 1000 + column);
        }
        Ok(())
    }
    fn read_affine(
        &mut self,
        index: usize,
        q: &mut [u8],
        scales: &mut [f32],
        biases: &mut [f32],
    ) -> Result<(), BackendError> {
        for (column, q) in q.iter_mut().enumerate() {
            *q = (value(index * 77 + column) * 16.0 + 8.0) as u8;
        }
        for (group, (scale, bias)) in scales.iter_mut().zip(biases).enumerate() {
            (*scale, *bias) = (value(index + group), value(index * group));
        }
        Ok(())
    }
}

const OUT: usize = 70;
const PANELS: usize = 5;
const COLS: usize = 192;

fn best_isa() -> Isa {
    Isa::new(*Level::supported().last().unwrap()).unwrap()
}

fn inputs(rows: usize) -> Vec<f32> {
    (0..rows * COLS).map(|i| value(i + 5)).collect()
}

/// The kernel under test, then the vector kernels, on the same inputs.
fn both<const FOUR: bool, const AFFINE: bool>(weight: &Packed, rows: usize) -> [Vec<f32>; 2] {
    let Panels::Int(int) = &weight.data else { panic!("integers") };
    let (isa, pool, values) = (best_isa(), Pool::new(1), inputs(rows));
    let input = Input { values: &values, rows, cols: COLS };
    let (mut tiles, mut vectors) = (vec![0.0; rows * OUT], vec![0.0; rows * OUT]);
    let mut scratch = Activations::default();
    let groups = weight.k / GROUP;
    let x = scratch.quantized(isa, &pool, input, groups, int.zero_point()).unwrap();
    let out = Output { values: SharedMut::new(&mut tiles), cols: OUT, bias: None };
    let job = IntJob::<FOUR, AFFINE>::new(int, groups, x, out);
    int_task_on(&mut Model::new(), isa, &job, 0..rows, 0..PANELS);
    let out = Output { values: SharedMut::new(&mut vectors), cols: OUT, bias: None };
    // A level below Amx, so that this never takes the kernel under test.
    let isa = Isa::new(isa.level().min(Level::Avx512Bf16)).unwrap();
    Linear { isa, pool: &pool, weight, input, out }.run(&mut scratch).unwrap();
    [tiles, vectors]
}

#[test]
fn integers_have_the_bits_of_the_vector_kernels() {
    let pool = Pool::new(1);
    for rows in [1, 6, 16, 17, 40] {
        for group in [32, 64] {
            let mut dense = Source { rows: OUT, cols: COLS, encoding: Encoding::F32 };
            let mut load = |bits| {
                pack::load(best_isa(), &pool, &mut dense, WeightFormat::Quantize { bits, group }).unwrap()
            };
            let [tiles, vectors] = both::<false, false>(&load(8), rows);
            assert_eq!(tiles, vectors);
            let [tiles, vectors] = both::<true, false>(&load(4), rows);
            assert_eq!(tiles, vectors);
            let load = |bits| {
                let encoding = Encoding::Affine { bits, group };
                let mut source = Source { rows: OUT, cols: COLS, encoding };
                pack::load(best_isa(), &pool, &mut source, WeightFormat::Native).unwrap()
            };
            let [tiles, vectors] = both::<false, true>(&load(8), rows);
            assert_eq!(tiles, vectors);
            let [tiles, vectors] = both::<true, true>(&load(4), rows);
            assert_eq!(tiles, vectors);
        }
    }
}

#[test]
fn bf16_products_are_right_and_independent_of_the_batch() {
    let (isa, pool) = (best_isa(), Pool::new(1));
    let mut source = Source { rows: OUT, cols: COLS, encoding: Encoding::Bf16 };
    let weight = pack::load(best_isa(), &pool, &mut source, WeightFormat::Native).unwrap();
    let Panels::Bf16(weights) = &weight.data else { panic!("bf16") };
    let values = inputs(50);
    let run = |first: usize, rows: usize| {
        let mut results = vec![0.0; rows * OUT];
        let mut scratch = Activations::default();
        let input = Input { values: &values[first * COLS..], rows, cols: COLS };
        let x = scratch.bf16_tiles(isa, &pool, input, weight.k).unwrap();
        let out = Output { values: SharedMut::new(&mut results), cols: OUT, bias: None };
        // Two tasks: a block of rows may start in the middle, and an odd number of panels is left over.
        let job = Bf16Job { isa, weights, k: weight.k, x, out };
        let middle = (rows / 2).next_multiple_of(ROWS).min(rows);
        job.run_on(&mut Model::new(), 0..middle, 0..PANELS);
        job.run_on(&mut Model::new(), middle..rows, 0..PANELS);
        results
    };
    let whole = run(0, 50);
    for row in 0..50 {
        assert_eq!(run(row, 1), whole[row * OUT..][..OUT], "row {row}");
    }
    let round = |x: f32| half::bf16::from_f32(x).to_f32();
    let mut w = vec![0.0; COLS];
    for n in 0..OUT {
        weight.read_row(n, &mut w);
        for row in 0..50 {
            let exact: f32 = w.iter().zip(&values[row * COLS..]).map(|(w, x)| w * round(*x)).sum();
            assert!((whole[row * OUT + n] - exact).abs() < 1e-4);
        }
    }
}
