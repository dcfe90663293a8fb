//! Packing against its definition: an element's place, computed one at a time.

use millrace_backend::{
    BackendError, Encoding, GROUP, MatrixSource, RawFloats, RawRow, WeightFormat, dequantize_row,
    quantize_row,
};
use proptest::prelude::*;

use super::*;
use crate::level::{Isa, Level};
use crate::pool::Pool;
use crate::region::Arena;

/// Bytes as a checkpoint holds them. Shows its rows, none of them, or every other one.
struct Source {
    rows: usize,
    cols: usize,
    encoding: Encoding,
    /// Values or packed integers; integers have float32 scales and biases.
    bytes: Vec<u8>,
    scales: Vec<f32>,
    biases: Vec<f32>,
    shows: fn(usize) -> bool,
}

impl Source {
    fn row_bytes(&self) -> usize {
        self.bytes.len() / self.rows
    }

    fn groups(&self, index: usize) -> (&[f32], &[f32]) {
        let groups = self.scales.len() / self.rows;
        (&self.scales[index * groups..][..groups], &self.biases[index * groups..][..groups])
    }
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
        let size = self.row_bytes() / self.cols;
        for (out, bytes) in out.iter_mut().zip(self.bytes[index * size * self.cols..].chunks(size)) {
            *out = match self.encoding {
                Encoding::F16 => half::f16::from_le_bytes(bytes.try_into().unwrap()).to_f32(),
                Encoding::Bf16 => half::bf16::from_le_bytes(bytes.try_into().unwrap()).to_f32(),
                _ => f32::from_le_bytes(bytes.try_into().unwrap()),
            };
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
        let Encoding::Affine { bits, .. } = self.encoding else { panic!("dense") };
        let row = &self.bytes[index * self.row_bytes()..];
        for (i, q) in q.iter_mut().enumerate() {
            let bit = i * bits as usize;
            *q = row[bit / 8] >> (bit % 8) & ((1u32 << bits) - 1) as u8;
        }
        scales.copy_from_slice(self.groups(index).0);
        biases.copy_from_slice(self.groups(index).1);
        Ok(())
    }
    fn raw_row(&self, index: usize) -> Option<RawRow<'_>> {
        if !(self.shows)(index) {
            return None;
        }
        let q = &self.bytes[index * self.row_bytes()..][..self.row_bytes()];
        Some(match self.encoding {
            Encoding::F32 => RawRow::Dense(RawFloats::F32(q)),
            Encoding::F16 => RawRow::Dense(RawFloats::F16(q)),
            Encoding::Bf16 => RawRow::Dense(RawFloats::Bf16(q)),
            Encoding::Affine { .. } => {
                let (scales, biases) = self.groups(index);
                let floats = |values| RawFloats::F32(bytemuck::cast_slice(values));
                RawRow::Affine { q, scales: floats(scales), biases: floats(biases) }
            }
        })
    }
}

fn random(seed: u64, count: usize) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..count).map(|_| next()).collect()
}

/// Floats near one, in the encoding's bytes.
fn floats(seed: u64, count: usize, encoding: Encoding) -> Vec<u8> {
    let values = random(seed, count * 2);
    let values = values.as_chunks::<2>().0.iter().map(|b| f32::from(i16::from_le_bytes(*b)) / 16384.0);
    match encoding {
        Encoding::F16 => values.flat_map(|x| half::f16::from_f32(x).to_le_bytes()).collect(),
        Encoding::Bf16 => values.flat_map(|x| half::bf16::from_f32(x).to_le_bytes()).collect(),
        _ => values.flat_map(f32::to_le_bytes).collect(),
    }
}

fn source(seed: u64, rows: usize, cols: usize, encoding: Encoding, wide: bool, shows: u8) -> Source {
    let shows = [|_| true, |_| false, |index| index % 2 == 0][shows as usize];
    let (mut scales, mut biases) = (Vec::new(), Vec::new());
    let bytes = match encoding {
        Encoding::Affine { bits, group } => {
            let kind = if wide { Encoding::F32 } else { Encoding::Bf16 };
            for (out, seed) in [(&mut scales, seed ^ 1), (&mut biases, seed ^ 2)] {
                let bytes = floats(seed, rows * cols / group, kind);
                let size = bytes.len() / (rows * cols / group);
                out.extend(bytes.chunks(size).map(|b| match size {
                    2 => half::bf16::from_le_bytes(b.try_into().unwrap()).to_f32(),
                    _ => f32::from_le_bytes(b.try_into().unwrap()),
                }));
            }
            random(seed, rows * cols * bits as usize / 8)
        }
        dense => floats(seed, rows * cols, dense),
    };
    Source { rows, cols, encoding, bytes, scales, biases, shows }
}

fn encodings() -> impl Strategy<Value = (Encoding, WeightFormat)> {
    let dense = prop::sample::select(vec![Encoding::F32, Encoding::F16, Encoding::Bf16]);
    let integers = || (prop::sample::select(vec![4u32, 8]), prop::sample::select(vec![32usize, 64, 96]));
    prop_oneof![
        dense.clone().prop_map(|encoding| (encoding, WeightFormat::Native)),
        (dense, integers())
            .prop_map(|(encoding, (bits, group))| (encoding, WeightFormat::Quantize { bits, group })),
        integers().prop_map(|(bits, group)| (Encoding::Affine { bits, group }, WeightFormat::Native)),
    ]
}

/// Row `index` as floats, by the definitions.
fn expected(source: &mut Source, format: WeightFormat, index: usize, k: usize) -> Vec<f32> {
    let mut row = vec![0.0; k];
    match (source.encoding, format) {
        (Encoding::Affine { group, .. }, _) => {
            let cols = source.cols;
            let mut q = vec![0; cols];
            let (mut scales, mut biases) = (vec![0.0; cols / group], vec![0.0; cols / group]);
            source.read_affine(index, &mut q, &mut scales, &mut biases).unwrap();
            dequantize_row(&q, group, &scales, &biases, &mut row[..cols]);
        }
        (_, WeightFormat::Native) => source.read_dense(index, &mut row[..source.cols]).unwrap(),
        (_, WeightFormat::Quantize { bits, group }) => {
            let cols = source.cols;
            source.read_dense(index, &mut row[..cols]).unwrap();
            let mut q = vec![0; k];
            let (mut scales, mut biases) = (vec![0.0; k / group], vec![0.0; k / group]);
            quantize_row(&row, bits, group, &mut q, &mut scales, &mut biases);
            dequantize_row(&q, group, &scales, &biases, &mut row);
        }
    }
    row
}

proptest! {
    #[test]
    fn every_element_lies_where_it_should(
        (encoding, format) in encodings(),
        rows in 1usize..70,
        cols in 1usize..300,
        seed: u64,
        wide: bool,
        shows in 0u8..3,
    ) {
        let cols = match encoding {
            Encoding::Affine { group, .. } => cols.next_multiple_of(group),
            _ => cols,
        };
        let mut source = source(seed, rows, cols, encoding, wide, shows);
        for level in Level::supported() {
            let pool = Pool::new(2);
            let packed = load(Isa::new(level).unwrap(), &pool, &mut Arena::default(), &mut source, format).unwrap();
            prop_assert!(packed.k >= cols && packed.k < cols + GROUP.max(96));
            let mut row = vec![0.0; packed.k];
            for index in 0..rows {
                packed.read_row(index, &mut row);
                let expected = expected(&mut source, format, index, packed.k);
                for (column, (got, expected)) in row.iter().zip(&expected).enumerate() {
                    prop_assert_eq!(got.to_bits(), expected.to_bits(), "row {} column {}", index, column);
                }
            }
            if let Panels::Int(int) = &packed.data {
                let affine = matches!(encoding, Encoding::Affine { .. });
                prop_assert_eq!(int.form.affine, affine);
                prop_assert!(int.form.kind.width() == 2 || affine && wide);
            }
        }
    }
}

#[test]
fn rows_of_the_wrong_size_are_refused() {
    struct Short(Source);
    impl MatrixSource for Short {
        fn rows(&self) -> usize {
            self.0.rows
        }
        fn cols(&self) -> usize {
            self.0.cols + 32
        }
        fn encoding(&self) -> Encoding {
            self.0.encoding
        }
        fn read_dense(&mut self, _: usize, _: &mut [f32]) -> Result<(), BackendError> {
            panic!("rows are shown")
        }
        fn read_affine(
            &mut self,
            _: usize,
            _: &mut [u8],
            _: &mut [f32],
            _: &mut [f32],
        ) -> Result<(), BackendError> {
            panic!("rows are shown")
        }
        fn raw_row(&self, index: usize) -> Option<RawRow<'_>> {
            self.0.raw_row(index)
        }
    }
    for encoding in [Encoding::Bf16, Encoding::Affine { bits: 4, group: 32 }] {
        let mut short = Short(source(1, 4, 64, encoding, false, 0));
        let isa = Isa::new(Level::Portable).unwrap();
        let loaded = load(isa, &Pool::new(1), &mut Arena::default(), &mut short, WeightFormat::Native);
        let error = loaded.err().map(|e| e.to_string()).unwrap_or_default();
        assert!(error.contains("wrong size"), "{error}");
    }
}
