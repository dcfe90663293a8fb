//! Points and the matrices that move them.

/// A point or a direction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Point {
    pub(crate) x: f64,
    pub(crate) y: f64,
}

impl Point {
    pub(crate) fn dot(self, other: Self) -> f64 {
        self.x * other.x + self.y * other.y
    }
}

/// `[a b c d e f]`: x' = a·x + c·y + e, y' = b·x + d·y + f.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Matrix(pub(crate) [f64; 6]);

impl Matrix {
    pub(crate) const IDENTITY: Self = Self([1.0, 0.0, 0.0, 1.0, 0.0, 0.0]);

    pub(crate) fn translation(x: f64, y: f64) -> Self {
        Self([1.0, 0.0, 0.0, 1.0, x, y])
    }

    /// First this, then `next`.
    pub(crate) fn then(self, next: Self) -> Self {
        let ([a, b, c, d, e, f], [g, h, i, j, k, l]) = (self.0, next.0);
        Self([
            a * g + b * i,
            a * h + b * j,
            c * g + d * i,
            c * h + d * j,
            e * g + f * i + k,
            e * h + f * j + l,
        ])
    }

    /// Where the point (x, 0) comes to lie.
    pub(crate) fn along(self, x: f64) -> Point {
        let [a, b, .., e, f] = self.0;
        Point { x: a * x + e, y: b * x + f }
    }

    /// The direction of the x axis, of length 1.
    pub(crate) fn direction(self) -> Point {
        let [a, b, ..] = self.0;
        let length = a.hypot(b);
        if length > 0.0 && length.is_finite() {
            Point { x: a / length, y: b / length }
        } else {
            Point { x: 1.0, y: 0.0 }
        }
    }

    /// How long an upright line of length 1 becomes.
    pub(crate) fn height(self) -> f64 {
        let [_, _, c, d, ..] = self.0;
        c.hypot(d)
    }
}
