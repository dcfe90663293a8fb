//! A software model of the tile unit, for tests on machines without one.

#![allow(clippy::expect_used, clippy::unwrap_used)]

use super::{Config, ROW, ROWS, Unit};

/// The architecture's rules, checked, and its arithmetic.
pub(crate) struct Model {
    config: Option<Config>,
    tiles: [[u8; ROW * ROWS]; 8],
}

impl Model {
    pub(crate) fn new() -> Self {
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
    unsafe fn dot_signed<const ACC: u8, const A: u8, const B: u8>(&mut self) {
        self.multiply([ACC, A, B], |acc, a, b| {
            let terms = a.iter().zip(b).map(|(a, b)| i32::from(a.cast_signed()) * i32::from(b.cast_signed()));
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
