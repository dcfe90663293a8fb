//! Handles: plain numbers that name memory owned by a backend.

/// Float32 activations or constants, `[rows, cols]`, row-major as seen from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tensor {
    /// Index into the backend's table of buffers.
    pub id: u32,
    /// Rows of this view.
    pub rows: usize,
    /// Elements per row.
    pub cols: usize,
}

impl Tensor {
    /// The same memory seen as its first `rows` rows.
    pub fn first(self, rows: usize) -> Self {
        assert!(rows <= self.rows, "a view of {rows} rows of a tensor with {}", self.rows);
        Self { rows, ..self }
    }
}

/// A packed weight, `[rows, cols]` = (out features, in features).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Matrix {
    /// Index into the backend's table of weights.
    pub id: u32,
    /// Output features.
    pub rows: usize,
    /// Input features.
    pub cols: usize,
}

/// Names a submitted step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket(pub u64);
