//! Linear layers: right, the same bits for a row in any batch, and for integers at any level.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Random, Weights, assert_close, bits, cpu, levels, tensor};
use half::bf16;
use millrace_backend::reference::ReferenceBackend;
use millrace_backend::{
    Activation, Backend, Batch, Encoding, MatrixSource, Mlp, WeightFormat, activation_group,
    quantize_activations,
};
use millrace_backend_cpu::Level;

/// Every way to store a weight whose columns are a multiple of 64, and for integers how many share a scale.
fn formats() -> Vec<(Encoding, WeightFormat, Option<usize>)> {
    let mut formats: Vec<_> = [Encoding::F32, Encoding::F16, Encoding::Bf16]
        .map(|encoding| (encoding, WeightFormat::Native, None))
        .into();
    for (bits, group) in [(4, 32), (4, 64), (8, 32), (8, 64)] {
        formats.push((Encoding::Affine { bits, group }, WeightFormat::Native, Some(group)));
        formats.push((Encoding::F32, WeightFormat::Quantize { bits, group }, Some(group)));
    }
    formats
}

fn linear(
    backend: &mut impl Backend,
    weights: &Weights,
    format: WeightFormat,
    x: &[f32],
    rows: usize,
    bias: Option<&[f32]>,
) -> Vec<f32> {
    let matrix = backend.load_matrix(&mut weights.clone(), format).unwrap();
    let x = tensor(backend, rows, x);
    let bias = bias.map(|bias| backend.load_vector(bias).unwrap());
    let out = backend.alloc(rows, matrix.rows).unwrap();
    backend.begin(&Default::default());
    backend.linear(x, matrix, bias, out);
    let ticket = backend.submit();
    backend.wait(ticket, &mut Default::default()).unwrap();
    backend.read(out)
}

/// What the kernel sees of the activations: as they are, or rounded.
fn seen_by_kernel(
    x: &[f32],
    cols: usize,
    encoding: Encoding,
    integers: Option<usize>,
    level: Level,
) -> Vec<f32> {
    if let Some(group) = integers {
        let group = activation_group(group);
        let groups = cols.div_ceil(group);
        let (mut q, mut scales, mut sums) = (vec![0; cols], vec![0.0; groups], vec![0; groups]);
        let rows = x.chunks(cols).flat_map(|row| {
            quantize_activations(row, group, &mut q, &mut scales, &mut sums);
            q.iter().enumerate().map(|(i, q)| f32::from(*q) * scales[i / group]).collect::<Vec<_>>()
        });
        rows.collect()
    } else if encoding == Encoding::Bf16 && level >= Level::Avx512Bf16 {
        x.iter().map(|x| bf16::from_f32(*x).to_f32()).collect()
    } else {
        x.to_vec()
    }
}

#[test]
fn agrees_with_the_reference() {
    let mut random = Random(1);
    let levels = levels();
    // Odd shapes first: outputs that don't fill a panel, inputs that don't fill a group.
    let shapes = [
        (1usize, 1usize, 1usize),
        (3, 5, 7),
        (9, 17, 33),
        (2, 100, 70),
        (17, 40, 64),
        (40, 130, 192),
        (70, 48, 320),
    ];
    for (rows, out, cols) in shapes {
        for (encoding, format, integers) in formats() {
            let group = match encoding {
                Encoding::Affine { group, .. } => group,
                _ => 1,
            };
            let cols = cols.next_multiple_of(group);
            let mut weights = Weights::random(&mut random, encoding, out, cols);
            let x = random.values(rows * cols);
            let bias = (rows % 2 == 1).then(|| random.values(out));
            let mut magnitudes = vec![0.0f32; rows * out];
            let mut row = vec![0.0; cols];
            for n in 0..out {
                weights.read_dense(n, &mut row).unwrap();
                for m in 0..rows {
                    let products = row.iter().zip(&x[m * cols..]).map(|(w, x)| (w * x).abs());
                    magnitudes[m * out + n] =
                        products.sum::<f32>() + bias.as_ref().map_or(0.0, |b| b[n].abs());
                }
            }
            for level in &levels {
                let seen = seen_by_kernel(&x, cols, encoding, integers, *level);
                let reference = &mut ReferenceBackend::new();
                let expected = linear(reference, &weights, format, &seen, rows, bias.as_deref());
                for threads in [1, 3] {
                    let got = linear(&mut cpu(*level, threads), &weights, format, &x, rows, bias.as_deref());
                    let what = format!("{level:?} {encoding:?} {format:?} {rows}×{out}×{cols}");
                    // float32 accumulation of terms of this magnitude; a few units in the last place each.
                    // Affine integers: q·scale and bias nearly cancel, so the terms are larger than the products.
                    let factor = if integers.is_some() { 3e-5 } else { 4e-6 };
                    assert_close(&what, &got, &expected, |i| factor * magnitudes[i] + 1e-5);
                }
            }
        }
    }
}

#[test]
fn a_row_has_the_same_bits_in_every_batch() {
    let (out, cols, most) = (84, 192, 70);
    for level in levels() {
        for (encoding, format, _) in formats() {
            let mut random = Random(2);
            let mut weights = Weights::random(&mut random, encoding, out, cols);
            let x = random.values(most * cols);
            let mut backend = cpu(level, 2);
            let matrix = backend.load_matrix(&mut weights, format).unwrap();
            let mut run = |first: usize, rows: usize| {
                let x = tensor(&mut backend, rows, &x[first * cols..(first + rows) * cols]);
                let result = backend.alloc(rows, out).unwrap();
                backend.begin(&Default::default());
                backend.linear(x, matrix, None, result);
                let ticket = backend.submit();
                backend.wait(ticket, &mut Default::default()).unwrap();
                bits(&backend.read(result))
            };
            let alone: Vec<_> = (0..most).map(|row| run(row, 1)).collect();
            for rows in 1..=most {
                let first = rows * 7 % (most - rows + 1);
                let together = run(first, rows);
                for row in 0..rows {
                    assert_eq!(
                        together[row * out..][..out],
                        alone[first + row],
                        "{level:?} {encoding:?} {format:?}: row {row} of {rows}"
                    );
                }
            }
        }
    }
}

#[test]
fn large_batches_are_cut_without_changing_bits() {
    // Enough activations for several row blocks.
    let (rows, out, cols) = (150, 40, 4096);
    for level in levels() {
        for (encoding, format, _) in formats() {
            let mut random = Random(3);
            let weights = Weights::random(&mut random, encoding, out, cols);
            let x = random.values(rows * cols);
            let whole = linear(&mut cpu(level, 2), &weights, format, &x, rows, None);
            for row in [0, 15, 16, 77, 149] {
                let alone = linear(&mut cpu(level, 1), &weights, format, &x[row * cols..][..cols], 1, None);
                assert_eq!(
                    bits(&whole[row * out..][..out]),
                    bits(&alone),
                    "{level:?} {encoding:?} {format:?}"
                );
            }
        }
    }
}

#[test]
fn levels_agree_to_the_bit() {
    // Portable has no fused multiply-add; bf16 is multiplied differently by each level that has instructions for it.
    let levels: Vec<_> = levels().into_iter().filter(|level| *level != Level::Portable).collect();
    let mut random = Random(4);
    for (encoding, format, _) in formats().into_iter().filter(|(e, ..)| *e != Encoding::Bf16) {
        for rows in [1, 5, 35] {
            let weights = Weights::random(&mut random, encoding, 50, 256);
            let x = random.values(rows * 256);
            let mut first = None;
            for level in &levels {
                let got = bits(&linear(&mut cpu(*level, 2), &weights, format, &x, rows, None));
                assert_eq!(*first.get_or_insert(got.clone()), got, "{level:?} {encoding:?} {format:?}");
            }
        }
    }
}

#[test]
fn embeds_rows_of_the_packed_weight() {
    let mut random = Random(5);
    for (encoding, format, _) in formats() {
        let weights = Weights::random(&mut random, encoding, 50, 128);
        let tokens = vec![0, 49, 17, 17, 33];
        let batch = millrace_backend::Batch { tokens: tokens.clone(), ..Default::default() };
        let embed = |backend: &mut dyn Backend| {
            let table = backend.load_matrix(&mut weights.clone(), format).unwrap();
            let out = backend.alloc(8, 128).unwrap().first(tokens.len());
            backend.begin(&batch);
            backend.embed(table, out);
            let ticket = backend.submit();
            backend.wait(ticket, &mut Default::default()).unwrap();
            backend.read(out)
        };
        let expected = embed(&mut ReferenceBackend::new());
        for level in levels() {
            assert_eq!(embed(&mut cpu(level, 2)), expected, "{level:?} {encoding:?} {format:?}");
        }
    }
}

#[test]
fn refuses_what_it_cannot_store() {
    let mut backend = cpu(Level::Portable, 1);
    let mut random = Random(6);
    let mut dense = Weights::random(&mut random, Encoding::F32, 4, 64);
    for (bits, group) in [(3, 32), (4, 0), (4, 20), (16, 32)] {
        let error = backend.load_matrix(&mut dense, WeightFormat::Quantize { bits, group }).unwrap_err();
        assert!(error.to_string().contains("use 4 or 8 bits"), "{error}");
    }
    let mut wide = Weights::random(&mut random, Encoding::Affine { bits: 8, group: 32 }, 4, 64);
    if let Weights::Affine { bits, .. } = &mut wide {
        *bits = 4;
    }
    let error = backend.load_matrix(&mut wide, WeightFormat::Native).unwrap_err();
    assert!(error.to_string().contains("not a 4-bit integer"), "{error}");
}

#[test]
fn a_feed_forward_is_its_steps() {
    let (hidden, inner, rows) = (192, 320, 70);
    for level in levels() {
        for (encoding, format, _) in formats() {
            let mut random = Random(31);
            let mut backend = cpu(level, 2);
            let mut weight = |rows: usize, cols: usize| {
                let mut weights = Weights::random(&mut random, encoding, rows, cols);
                backend.load_matrix(&mut weights, format).unwrap()
            };
            let (up, down) = (weight(2 * inner, hidden), weight(hidden, inner));
            let mut bias = |count| Some(backend.load_vector(&random.values(count)).unwrap());
            let (up_bias, down_bias) = (bias(2 * inner), bias(hidden));
            let mlp = Mlp { up, up_bias, gated: true, act: Activation::Silu, down, down_bias };
            let x = tensor(&mut backend, rows, &random.values(rows * hidden));
            let room = [2 * inner, inner].map(|cols| backend.alloc(rows, cols).unwrap());
            let out = backend.alloc(rows, hidden).unwrap();
            for prompt_rows in [0, 1, 40, rows] {
                let mut run = |steps: bool| {
                    backend.begin(&Batch { prompt_rows, ..Batch::default() });
                    match steps {
                        true => mlp.in_steps(&mut backend, x, room, out),
                        false => backend.mlp(x, &mlp, room, out),
                    }
                    let ticket = backend.submit();
                    backend.wait(ticket, &mut Default::default()).unwrap();
                    bits(&backend.read(out))
                };
                assert_eq!(
                    run(false),
                    run(true),
                    "{level:?} {encoding:?} {format:?}, {prompt_rows} of a prompt"
                );
            }
        }
    }
}

/// The last rows of weights.
fn tail(weights: &Weights, rows: usize) -> Weights {
    let mut tail = weights.clone();
    let from = weights.rows() - rows;
    match &mut tail {
        Weights::Dense { cols, values, .. } => drop(values.drain(..from * *cols)),
        Weights::Affine { group, cols, q, scales, biases, .. } => {
            let groups = *cols / *group;
            q.drain(..from * *cols);
            scales.drain(..from * groups);
            biases.drain(..from * groups);
        }
    }
    tail
}

#[test]
fn as_many_outputs_as_a_vocabulary_are_their_parts() {
    let (out, cols, last) = (20_000, 64, 100);
    let mut random = Random(51);
    for (encoding, format, _) in formats() {
        let weights = Weights::random(&mut random, encoding, out, cols);
        let part = tail(&weights, last);
        let x = random.values(40 * cols);
        for level in levels() {
            for rows in [1, 8, 20, 40] {
                let x = &x[..rows * cols];
                let run = |weights| linear(&mut cpu(level, 1), weights, format, x, rows, None);
                let (all, part) = (run(&weights), run(&part));
                let ends: Vec<f32> = all.chunks(out).flat_map(|row| &row[out - last..]).copied().collect();
                assert_eq!(bits(&ends), bits(&part), "{level:?} {encoding:?} {format:?}, {rows} rows");
            }
        }
    }
}
