//! Weights in memory: panels of sixteen output features, one layout per element type for every level.
//!
//! * f32, f16: `[panel][k][16]`
//! * bf16: `[panel][k / 2][16][2]`, the order of `vdpbf16ps` and of an AMX B tile
//! * int8: `[panel]` blocks ([`Form`]) of groups of 32 columns, `[8][16][4]`, the order of `vpdpbusd` and of an AMX B
//!   tile, and their scales (and biases) `[16]`, in 16 bits if that is exact
//! * int4: the same with groups of `[4][16][4]` bytes; byte vector j holds step j in its low and step j + 4 in its high
//!   nibbles
//!
//! Outputs and inputs are padded with zeros.

mod dense;
mod form;
mod integers;
mod load;
mod rows;
#[cfg(test)]
mod tests;

use millrace_backend::{GROUP, activation_group};

use crate::region::Region;
use crate::simd::{LANES, LINE};

pub(crate) use form::{Form, Kind, Line};
pub(crate) use load::load;

/// A packed weight `[rows, cols]` (out features, in features).
pub(crate) struct Packed {
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    /// Columns including padding.
    pub(crate) k: usize,
    pub(crate) data: Panels,
}

/// The elements.
pub(crate) enum Panels {
    F32(Region<f32>),
    F16(Region<u16>),
    Bf16(Region<u16>),
    Int(IntPanels),
}

/// Grouped integers: value = scale · q + bias.
pub(crate) struct IntPanels {
    pub(crate) form: Form,
    /// `[panels][k / columns of a block]` blocks.
    pub(crate) lines: Region<Line>,
}

impl IntPanels {
    /// What q stands for zero, if biases don't say; else 0.
    pub(crate) fn zero_point(&self) -> i32 {
        if self.form.affine { 0 } else { zero_point(self.form.bits) }
    }

    /// How many groups of [`GROUP`] activations beside these weights share a scale.
    pub(crate) fn shared(&self) -> usize {
        activation_group(self.form.group) / GROUP
    }
}

/// Calls `$body` with two constants: whether integers have four bits, and whether scales have biases.
macro_rules! with_form {
    ($int:expr, |$four:ident, $affine:ident| $body:expr) => {
        match ($int.form.bits == 4, $int.form.affine) {
            (false, false) => with_form!(@ $four false, $affine false, $body),
            (false, true) => with_form!(@ $four false, $affine true, $body),
            (true, false) => with_form!(@ $four true, $affine false, $body),
            (true, true) => with_form!(@ $four true, $affine true, $body),
        }
    };
    (@ $four:ident $is_four:literal, $affine:ident $is_affine:literal, $body:expr) => {{
        const $four: bool = $is_four;
        const $affine: bool = $is_affine;
        $body
    }};
}
pub(crate) use with_form;

fn zero_point(bits: u32) -> i32 {
    1 << (bits - 1)
}

/// Bytes of thirty-two columns of a panel.
pub(crate) fn group_bytes(bits: u32) -> usize {
    GROUP * LANES * bits as usize / 8
}

/// Where a bf16 element lies in its panel.
#[inline(always)]
fn pair_index(k: usize, lane: usize) -> usize {
    k / 2 * 2 * LANES + lane * 2 + k % 2
}

/// Byte and shift of an integer in its block.
#[inline(always)]
fn int_index(bits: u32, k: usize, lane: usize) -> (usize, u32) {
    let (group, step, byte) = (k / GROUP, k % GROUP / 4, k % 4);
    let base = group * group_bytes(bits) + lane * 4 + byte;
    if bits == 8 { (base + step * 64, 0) } else { (base + step % 4 * 64, 4 * (step / 4) as u32) }
}

impl Packed {
    /// Number of panels.
    pub(crate) fn panels(&self) -> usize {
        self.rows.div_ceil(LANES)
    }

    /// Bytes of one panel, scales included: what a kernel streams for sixteen outputs.
    pub(crate) fn panel_bytes(&self) -> usize {
        match &self.data {
            Panels::F32(_) => self.k * LANES * 4,
            Panels::F16(_) | Panels::Bf16(_) => self.k * LANES * 2,
            Panels::Int(int) => int.form.panel_lines(self.k) * LINE,
        }
    }

    /// Row `index` as floats.
    pub(crate) fn read_row(&self, index: usize, out: &mut [f32]) {
        let (panel, lane) = (index / LANES, index % LANES);
        let base = panel * self.k * LANES;
        match &self.data {
            Panels::F32(w) => {
                for (k, out) in out.iter_mut().enumerate() {
                    *out = w[base + k * LANES + lane];
                }
            }
            Panels::F16(w) => {
                for (k, out) in out.iter_mut().enumerate() {
                    *out = half::f16::from_bits(w[base + k * LANES + lane]).to_f32();
                }
            }
            Panels::Bf16(w) => {
                for (k, out) in out.iter_mut().enumerate() {
                    *out = half::bf16::from_bits(w[base + pair_index(k, lane)]).to_f32();
                }
            }
            Panels::Int(int) => self.read_int_row(int, panel, lane, out),
        }
    }

    fn read_int_row(&self, int: &IntPanels, panel: usize, lane: usize, out: &mut [f32]) {
        let (form, lines) = (int.form, int.form.panel_lines(self.k));
        let blocks = int.lines[panel * lines..][..lines].chunks_exact(form.lines());
        let mask = (1u32 << form.bits) - 1;
        for (block, out) in blocks.zip(out.chunks_mut(form.groups * GROUP)) {
            let q: &[u8] = bytemuck::cast_slice(block);
            for (index, out) in out.chunks_mut(form.group).enumerate() {
                let (scale, bias) = form.constants(block, index, lane);
                for (offset, out) in out.iter_mut().enumerate() {
                    let (byte, shift) = int_index(form.bits, index * form.group + offset, lane);
                    *out = scale * (u32::from(q[byte]) >> shift & mask) as f32 + bias;
                }
            }
        }
    }
}
