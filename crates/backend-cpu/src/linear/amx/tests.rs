//! The tile kernels on a software model of the tile unit, so that everything but the instructions themselves is
//! tested on machines without them (with them, `tests/` runs the same kernels at level Amx).

use std::ops::Range;

use millrace_backend::{Activation, BackendError, Encoding, GROUP, MatrixSource, WeightFormat};

use super::block::Sums;
use super::bytes::ByteWeights;
use super::finish::{Gate, Keep, Store};
use super::gemm::{Gemm, Room};
use super::integer_mlp::Opening;
use super::integers::IntTiles;
use super::product::Product;
use super::weights::{Bf16Weights, Weights};
use crate::activations::{Activations, BYTE_PASS, Bands, Input, TILE_COLS};
use crate::elementwise::Gated;
use crate::level::{Isa, Level};
use crate::linear::Output;
use crate::linear::int::{IntJob, IntWeights};
use crate::pack::{self, IntPanels, Packed, Panels};
use crate::pool::Pool;
use crate::region::{Arena, Region};
use crate::shared::SharedMut;
use crate::simd::LANES;
use crate::tile::{ROWS, model::Model};

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

/// Elements of a tile.
const TILE: usize = ROWS * TILE_COLS;
const OUT: usize = 70;
const PANELS: usize = 5;
/// More than one pass of the tile kernels.
const COLS: usize = 448;
/// More than one pass of bytes, the last one short.
const MORE_COLS: usize = 2 * BYTE_PASS + 64;

fn best_isa() -> Isa {
    Isa::new(*Level::supported().last().unwrap()).unwrap()
}

fn inputs(rows: usize) -> Vec<f32> {
    (0..rows * COLS).map(|i| value(i + 5)).collect()
}

/// Products of all rows in one piece, after making sure that they are those of each row alone.
fn products<W: Weights>(weight: &Packed, weights: impl Fn() -> W, values: &[f32]) -> Vec<f32> {
    let (isa, pool) = (best_isa(), Pool::new(1));
    let run = |first: usize, rows: usize| {
        let mut results = vec![0.0; rows * OUT];
        let mut scratch = Activations::default();
        let cols = weight.cols;
        let input = Input { values: &values[first * cols..], rows, cols };
        let x = match W::Product::SCALED {
            true => scratch.byte_tiles(isa, &pool, &input, rows, weight.k),
            false => scratch.bf16_tiles(isa, &pool, input, weight.k),
        };
        let x = x.unwrap();
        let out = Output { values: SharedMut::new(&mut results), cols: OUT, bias: None };
        let finish = Store { out };
        let pairs = finish.pairs();
        let job = Gemm { isa, weights: weights(), k: weight.k, x, finish };
        let mut memory = Region::zeroed(Room::SIZE, "a test").unwrap();
        // Two tasks: a block of rows may start in the middle, and an odd number of panels is left over.
        let middle = (rows / 2).next_multiple_of(ROWS).min(rows);
        for rows in [0..middle, middle..rows] {
            job.run(&mut Model::new(), rows, 0..pairs, Room::new(&mut memory));
        }
        // Whole pairs that stay where sums wait are the same.
        let taker = |rows: Range<usize>, pairs: Range<usize>, kept: &[Sums]| {
            let bands = rows.len().div_ceil(ROWS);
            for (row, pair) in rows.clone().flat_map(|row| pairs.clone().map(move |pair| (row, pair))) {
                let (index, first) = (row - rows.start, pair * 2 * LANES);
                let kept = &kept[(pair - pairs.start) * bands + index / ROWS];
                let kept = kept.map(|tile| tile.0[index % ROWS].map(f32::to_bits));
                let stored = &results[row * OUT + first..][..2 * LANES];
                assert!(
                    kept.iter().flatten().copied().eq(stored.iter().map(|x| x.to_bits())),
                    "row {row}, pair {pair}"
                );
            }
        };
        let job = Gemm { isa, weights: weights(), k: weight.k, x, finish: Keep { step: 1, taker: &taker } };
        for rows in [0..middle, middle..rows] {
            job.run(&mut Model::new(), rows, 1..OUT / (2 * LANES), Room::new(&mut memory));
        }
        results
    };
    let whole = run(0, ROWS_OF_GEMM);
    for row in 0..ROWS_OF_GEMM {
        assert_eq!(run(row, 1), whole[row * OUT..][..OUT], "row {row}");
    }
    whole
}

/// Products of all rows agree with plain sums.
fn check_gemm<W: Weights>(weight: &Packed, weights: impl Fn() -> W, exact: impl Fn(usize, &mut [f32])) {
    // Needs an instruction that rounds to bf16.
    if !best_isa().has_bf16_dot() {
        return;
    }
    let values = inputs(ROWS_OF_GEMM);
    let whole = products(weight, weights, &values);
    let round = |x: f32| half::bf16::from_f32(x).to_f32();
    let mut w = vec![0.0; COLS];
    for n in 0..OUT {
        exact(n, &mut w);
        for row in 0..ROWS_OF_GEMM {
            let sum: f32 = w.iter().zip(&values[row * COLS..]).map(|(w, x)| w * round(*x)).sum();
            assert!((whole[row * OUT + n] - sum).abs() < 1e-4 * (1.0 + sum.abs()), "row {row}, output {n}");
        }
    }
}

const ROWS_OF_GEMM: usize = 70;

#[test]
fn bf16_products_are_right_and_independent_of_the_batch() {
    let mut source = Source { rows: OUT, cols: COLS, encoding: Encoding::Bf16 };
    let weight =
        pack::load(best_isa(), &Pool::new(1), &mut Arena::default(), &mut source, WeightFormat::Native)
            .unwrap();
    let Panels::Bf16(panels) = &weight.data else { panic!("bf16") };
    check_gemm(&weight, || Bf16Weights { panels, k: weight.k }, |n, w| weight.read_row(n, w));
}

#[test]
fn bf16_weights_are_read_in_one_pass_however_many_they_are() {
    // More pairs of panels than there is room for sums between passes.
    let (rows, out, cols) = (20, 300 * 2 * LANES, 64);
    let (isa, pool) = (best_isa(), Pool::new(1));
    let mut source = Source { rows: out, cols, encoding: Encoding::Bf16 };
    let weight = pack::load(isa, &pool, &mut Arena::default(), &mut source, WeightFormat::Native).unwrap();
    let Panels::Bf16(panels) = &weight.data else { panic!("bf16") };
    let values: Vec<f32> = (0..rows * cols).map(|i| value(i + 3)).collect();
    let mut scratch = Activations::default();
    let x = scratch.bf16_tiles(isa, &pool, Input { values: &values, rows, cols }, weight.k).unwrap();
    let mut memory = Region::zeroed(Room::SIZE, "a test").unwrap();
    let mut run = |each: usize| {
        let mut results = vec![0.0; rows * out];
        let output = Output { values: SharedMut::new(&mut results), cols: out, bias: None };
        let finish = Store { out: output };
        let pairs = finish.pairs();
        let job = Gemm { isa, weights: Bf16Weights { panels, k: weight.k }, k: weight.k, x, finish };
        for first in (0..pairs).step_by(each) {
            let pairs = first..(first + each).min(pairs);
            job.run(&mut Model::new(), 0..rows, pairs, Room::new(&mut memory));
        }
        results
    };
    assert_eq!(run(300), run(7));
}

fn check_dequantized<const FOUR: bool, const AFFINE: bool>(weight: &Packed) {
    let Panels::Int(int) = &weight.data else { panic!("integers") };
    let weights = || IntWeights::<FOUR, AFFINE>::new(int, weight.k / GROUP);
    check_gemm(weight, weights, |n, w| {
        weight.read_row(n, w);
        w.iter_mut().for_each(|w| *w = half::bf16::from_f32(*w).to_f32());
    });
}

#[test]
fn dequantized_products_are_right_and_independent_of_the_batch() {
    let pool = Pool::new(1);
    for group in [32, 64] {
        let mut dense = Source { rows: OUT, cols: COLS, encoding: Encoding::F32 };
        let mut load = |bits| {
            pack::load(
                best_isa(),
                &pool,
                &mut Arena::default(),
                &mut dense,
                WeightFormat::Quantize { bits, group },
            )
            .unwrap()
        };
        check_dequantized::<false, false>(&load(8));
        check_dequantized::<true, false>(&load(4));
        let load = |bits| {
            let mut source = Source { rows: OUT, cols: COLS, encoding: Encoding::Affine { bits, group } };
            pack::load(best_isa(), &pool, &mut Arena::default(), &mut source, WeightFormat::Native).unwrap()
        };
        check_dequantized::<false, true>(&load(8));
        check_dequantized::<true, true>(&load(4));
    }
}

/// The bytes that a run of columns becomes, and what one stands for.
fn bytes(values: &[f32]) -> (Vec<i32>, f32) {
    let max = values.iter().fold(0.0f32, |max, x| max.max(x.abs()));
    (values.iter().map(|x| (x * (127.0 / max)).round_ties_even() as i32).collect(), max / 127.0)
}

/// Products of bytes are those of their definition, and not far from those of the weights.
fn check_bytes<const AFFINE: bool>(weight: &Packed) {
    if !best_isa().has_bf16_dot() {
        return;
    }
    let Panels::Int(int) = &weight.data else { panic!("integers") };
    let values: Vec<f32> =
        (0..ROWS_OF_GEMM * MORE_COLS).map(|i| half::bf16::from_f32(value(i + 5)).to_f32()).collect();
    let all = IntWeights::<true, AFFINE>::new(int, weight.k / GROUP);
    let weights = || ByteWeights::new(&all).unwrap();
    let whole = products(weight, weights, &values);
    let mut w = vec![0.0; MORE_COLS];
    for n in 0..OUT {
        weight.read_row(n, &mut w);
        for (row, x) in values.chunks_exact(MORE_COLS).enumerate() {
            let (mut sum, mut plain, mut bound) = (0.0f32, 0.0f32, 0.0f32);
            for (pass, (w, x)) in w.chunks(BYTE_PASS).zip(x.chunks(BYTE_PASS)).enumerate() {
                let (x_bytes, x_unit) = bytes(x);
                let first = pass * BYTE_PASS;
                let w_unit = largest(int, n, first..first + w.len()) * (1.0 / 127.0);
                let inverse = 256.0 / w_unit;
                let w_bytes = w.iter().enumerate().map(|(column, w)| {
                    let (scale, bias) = constants(int, n, (first + column) / int.form.group);
                    let factor = (scale * inverse).round_ties_even() as i32;
                    let offset = bias.mul_add(inverse, 128.0).round_ties_even() as i32;
                    (((w - bias) / scale).round() as i32 * factor + offset).div_euclid(256)
                });
                let dot: i32 = w_bytes.zip(&x_bytes).map(|(w, x)| w * x).sum();
                sum = (dot as f32).mul_add(x_unit * w_unit, sum);
                for (w, x) in w.iter().zip(x) {
                    plain += w * x;
                    bound += 0.55 * (x.abs() * w_unit + w.abs() * x_unit) + 0.3 * w_unit * x_unit;
                }
            }
            let got = whole[row * OUT + n];
            assert_eq!(got, sum, "row {row}, output {n}");
            assert!((got - plain).abs() <= bound, "row {row}, output {n}: {got}, {plain}, bound {bound}");
        }
    }
}

/// The largest weight that the groups of an output can hold which have a share in these columns.
fn largest(int: &IntPanels, output: usize, cols: Range<usize>) -> f32 {
    let ends = (cols.start / int.form.group..cols.end.div_ceil(int.form.group)).flat_map(|group| {
        let (scale, bias) = constants(int, output, group);
        [bias, scale.mul_add(15.0, bias)]
    });
    ends.fold(0.0, |most: f32, end| most.max(end.abs()))
}

/// Scale and bias.
fn constants(int: &IntPanels, output: usize, group: usize) -> (f32, f32) {
    let lines = int.form.panel_lines(MORE_COLS);
    let (per_block, block_lines) = (int.form.scales(), int.form.lines());
    let block = &int.lines[output / LANES * lines + group / per_block * block_lines..][..block_lines];
    int.form.constants(block, group % per_block, output % LANES)
}

#[test]
fn products_of_bytes_are_right_and_independent_of_the_batch() {
    let pool = Pool::new(1);
    for group in [32, 64] {
        let mut dense = Source { rows: OUT, cols: MORE_COLS, encoding: Encoding::F32 };
        let format = WeightFormat::Quantize { bits: 4, group };
        check_bytes::<false>(
            &pack::load(best_isa(), &pool, &mut Arena::default(), &mut dense, format).unwrap(),
        );
        let mut source = Source { rows: OUT, cols: MORE_COLS, encoding: Encoding::Affine { bits: 4, group } };
        check_bytes::<true>(
            &pack::load(best_isa(), &pool, &mut Arena::default(), &mut source, WeightFormat::Native).unwrap(),
        );
    }
}

/// Tiles and vectors give the same bits.
fn check_integers<const FOUR: bool, const AFFINE: bool>(weight: &Packed) {
    let isa = best_isa();
    // Nibbles are stored, which the tiles need vectors of that level for.
    if !isa.has_bf16_dot() {
        return;
    }
    let Panels::Int(int) = &weight.data else { panic!("integers") };
    let (pool, values, groups) = (Pool::new(1), inputs(ROWS_OF_GEMM), weight.k / GROUP);
    let input = Input { values: &values, rows: ROWS_OF_GEMM, cols: COLS };
    let bias: Vec<f32> = (0..OUT).map(value).collect();
    let compute = |run: &dyn Fn(Output<'_>)| {
        let mut results = vec![0.0; ROWS_OF_GEMM * OUT];
        run(Output { values: SharedMut::new(&mut results), cols: OUT, bias: Some(&bias) });
        results
    };
    let by_vectors = compute(&|out| {
        let mut scratch = Activations::default();
        let x = scratch.quantized(isa, &pool, input, groups, int.shared(), int.zero_point()).unwrap();
        IntJob::<FOUR, AFFINE>::new(int, groups, x, out).run(isa, 0..ROWS_OF_GEMM, 0..PANELS);
    });
    let by_tiles = compute(&|out| {
        let mut scratch = Activations::default();
        let memory = &mut scratch.bands[0];
        let x = input.quantized_bands(isa, &pool, memory, weight.k, int.zero_point()).unwrap();
        let weights = IntWeights::<FOUR, AFFINE>::new(int, groups);
        // Chunks of two panels.
        let chunk = 2 * weights.panel_bytes();
        let tiles = IntTiles { weights, x, sink: out, chunk };
        for rows in [0..32, 32..ROWS_OF_GEMM] {
            for panels in [0..3, 3..PANELS] {
                tiles.run(isa, &mut Model::new(), rows.clone(), panels, 0);
            }
        }
    });
    assert_eq!(by_vectors, by_tiles);
}

#[test]
fn integers_are_the_same_on_tiles_and_in_vectors() {
    let pool = Pool::new(1);
    for group in [64, 448] {
        let mut dense = Source { rows: OUT, cols: COLS, encoding: Encoding::F32 };
        let mut load = |bits| {
            pack::load(
                best_isa(),
                &pool,
                &mut Arena::default(),
                &mut dense,
                WeightFormat::Quantize { bits, group },
            )
            .unwrap()
        };
        check_integers::<false, false>(&load(8));
        check_integers::<true, false>(&load(4));
        let load = |bits| {
            let mut source = Source { rows: OUT, cols: COLS, encoding: Encoding::Affine { bits, group } };
            pack::load(best_isa(), &pool, &mut Arena::default(), &mut source, WeightFormat::Native).unwrap()
        };
        check_integers::<false, true>(&load(8));
        check_integers::<true, true>(&load(4));
    }
}

/// Gates, what they open and its quantization in one pass are what three steps make.
fn check_opening<const FOUR: bool, const AFFINE: bool>(weight: &Packed) {
    let (isa, rows, inner) = (best_isa(), 23, weight.rows / 2);
    if !isa.has_bf16_dot() {
        return;
    }
    let Panels::Int(int) = &weight.data else { panic!("integers") };
    let (pool, values, groups, zero) = (Pool::new(1), inputs(rows), weight.k / GROUP, 8);
    let input = Input { values: &values, rows, cols: COLS };
    let bias: Vec<f32> = (0..weight.rows).map(value).collect();
    let mut scratch = Activations::default();
    let x = scratch.quantized(isa, &pool, input, groups, int.shared(), int.zero_point()).unwrap();
    let (mut plain, mut gated) = (vec![0.0; rows * weight.rows], vec![0.0; rows * inner]);
    let out = Output { values: SharedMut::new(&mut plain), cols: weight.rows, bias: Some(&bias) };
    IntJob::<FOUR, AFFINE>::new(int, groups, x, out).run(isa, 0..rows, 0..weight.panels());
    for (out, row) in gated.chunks_exact_mut(inner).zip(plain.chunks_exact(weight.rows)) {
        let (gate, up) = row.split_at(inner);
        isa.run(Gated { gate, up, act: Activation::Silu, out });
    }
    let [mut of_steps, mut of_one, mut of_input] = [(); 3].map(|()| Region::empty());
    let steps = Input { values: &gated, rows, cols: inner };
    let expected = steps.quantized_bands(isa, &pool, &mut of_steps, inner, zero).unwrap();
    let x = input.quantized_bands(isa, &pool, &mut of_input, weight.k, int.zero_point()).unwrap();
    let bands = Bands::new(&mut of_one, rows, inner, zero).unwrap();
    let (bias, act) = (Some(&bias[..]), Activation::Silu);
    let opening = Opening { isa, weight, int, x, rows, bias, act, bands };
    for panels in [0..4, 4..inner / LANES] {
        let mut kept = vec![0.0; panels.len() * rows * LANES];
        opening.run::<FOUR, AFFINE>(&mut Model::new(), panels, &mut kept);
    }
    for (index, (got, expected)) in of_one.iter().zip(expected).enumerate() {
        assert!(bytemuck::bytes_of(got) == bytemuck::bytes_of(expected), "group {index}");
    }
}

#[test]
fn a_feed_forward_opens_in_one_pass() {
    let (pool, rows) = (Pool::new(1), 384);
    for bits in [4, 8] {
        let load = |encoding, format| {
            let mut source = Source { rows, cols: COLS, encoding };
            pack::load(best_isa(), &pool, &mut Arena::default(), &mut source, format).unwrap()
        };
        let dense = load(Encoding::F32, WeightFormat::Quantize { bits, group: 64 });
        let affine = load(Encoding::Affine { bits, group: 64 }, WeightFormat::Native);
        if bits == 4 {
            check_opening::<true, false>(&dense);
            check_opening::<true, true>(&affine);
        } else {
            check_opening::<false, false>(&dense);
            check_opening::<false, true>(&affine);
        }
    }
}

/// Gated features in tiles are those of plain results, rounded.
#[test]
fn gates_go_to_tiles() {
    if !best_isa().has_bf16_dot() {
        return;
    }
    const INNER: usize = 64;
    let (isa, pool, rows) = (best_isa(), Pool::new(1), 37);
    let mut source =
        Source { rows: 2 * INNER, cols: COLS, encoding: Encoding::Affine { bits: 4, group: 64 } };
    let weight = pack::load(isa, &pool, &mut Arena::default(), &mut source, WeightFormat::Native).unwrap();
    let Panels::Int(int) = &weight.data else { panic!("integers") };
    let bias: Vec<f32> = (0..2 * INNER).map(value).collect();
    let (values, mut scratch) = (inputs(rows), Activations::default());
    let input = Input { values: &values, rows, cols: COLS };
    let x = scratch.bf16_tiles(isa, &pool, input, weight.k).unwrap();
    let mut memory = Region::zeroed(Room::SIZE, "a test").unwrap();
    let weights = || IntWeights::<true, true>::new(int, weight.k / GROUP);
    let mut plain = vec![0.0; rows * 2 * INNER];
    let out = Output { values: SharedMut::new(&mut plain), cols: 2 * INNER, bias: Some(&bias) };
    let store = Gemm { isa, weights: weights(), k: weight.k, x, finish: Store { out } };
    store.run(&mut Model::new(), 0..rows, 0..store.finish.pairs(), Room::new(&mut memory));
    for act in [Activation::Silu, Activation::GeluTanh] {
        let mut tiles = vec![0; rows.next_multiple_of(ROWS) * INNER];
        let finish = Gate { act, cols: INNER, bias: Some(&bias), tiles: SharedMut::new(&mut tiles) };
        let gate = Gemm { isa, weights: weights(), k: weight.k, x, finish };
        gate.run(&mut Model::new(), 0..rows, 0..gate.finish.pairs(), Room::new(&mut memory));
        let mut expected = vec![0.0; rows * INNER];
        for (row, out) in expected.chunks_exact_mut(INNER).enumerate() {
            let (gate, up) = plain[row * 2 * INNER..][..2 * INNER].split_at(INNER);
            isa.run(Gated { gate, up, act, out });
        }
        let input = Input { values: &expected, rows, cols: INNER };
        let mut other = Activations::default();
        let expected = other.bf16_tiles(isa, &pool, input, INNER).unwrap();
        for (at, (got, expected)) in tiles.iter().zip(expected.tiles).enumerate() {
            let row = at / (ROWS * INNER) * ROWS + at % TILE / TILE_COLS;
            // Tiles take denormal numbers for zeros, and so does the instruction that rounds for them.
            let flushed = |bits: u16| if bits & 0x7f80 == 0 { 0 } else { bits };
            let (got, expected) = (flushed(*got), flushed(*expected));
            assert!(row >= rows || got == expected, "{act:?}, row {row}, element {at}: {got} {expected}");
        }
    }
}
