//! Rotary position embedding: inverse frequencies under each kind of context extension.
//!
//! Computed in float32 in the order that transformers uses, because a last-bit difference in a frequency grows
//! with the position.

use std::f32::consts::PI;

/// A rotary embedding over the first `dim` elements of each head (arXiv 2104.09864).
#[derive(Debug, Clone, PartialEq)]
pub struct RopeSpec {
    /// Base of the geometric series of wavelengths.
    pub theta: f32,
    /// Rotated elements of a head; even.
    pub dim: usize,
    /// Context extension.
    pub scaling: RopeScaling,
}

/// How frequencies are changed to reach beyond the context of pre-training.
#[derive(Debug, Clone, PartialEq)]
pub enum RopeScaling {
    /// As trained.
    None,
    /// Positions divided by a factor (arXiv 2306.15595).
    Linear {
        /// At least 1.
        factor: f32,
    },
    /// Llama 3.1: long wavelengths divided by the factor, short ones kept, a smooth step between.
    Llama3 {
        /// At least 1.
        factor: f32,
        /// Wavelengths above `original_context / low_freq_factor` are scaled in full.
        low_freq_factor: f32,
        /// Wavelengths below `original_context / high_freq_factor` are kept.
        high_freq_factor: f32,
        /// Context of pre-training, in tokens.
        original_context: usize,
    },
    /// YaRN (arXiv 2309.00071).
    Yarn {
        /// At least 1.
        factor: f32,
        /// Dimensions that turn more often than this over the original context are kept.
        beta_fast: f32,
        /// Dimensions that turn less often than this are scaled in full.
        beta_slow: f32,
        /// Multiplies cos and sin.
        attention_factor: f32,
        /// Context of pre-training, in tokens.
        original_context: usize,
        /// Round the ramp's ends outwards to whole dimensions.
        truncate: bool,
    },
}

impl RopeSpec {
    /// Angle per position of each rotated pair, `[dim / 2]`.
    pub fn inv_freq(&self) -> Vec<f32> {
        let plain = (0..self.dim / 2).map(|i| 1.0 / self.theta.powf((2 * i) as f32 / self.dim as f32));
        match self.scaling {
            RopeScaling::None => plain.collect(),
            RopeScaling::Linear { factor } => plain.map(|f| f / factor).collect(),
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => {
                let context = original_context as f32;
                plain.map(|f| llama3(f, factor, low_freq_factor, high_freq_factor, context)).collect()
            }
            RopeScaling::Yarn { factor, beta_fast, beta_slow, original_context, truncate, .. } => {
                let (low, high) = self.yarn_range(beta_fast, beta_slow, original_context, truncate);
                plain
                    .enumerate()
                    .map(|(i, f)| {
                        let scaled = ((i as f32 - low) / (high - low)).clamp(0.0, 1.0);
                        f / factor * scaled + f * (1.0 - scaled)
                    })
                    .collect()
            }
        }
    }

    /// What cos and sin are multiplied by.
    pub fn magnitude(&self) -> f32 {
        match self.scaling {
            RopeScaling::Yarn { attention_factor, .. } => attention_factor,
            _ => 1.0,
        }
    }

    /// Where YaRN's ramp from "kept" to "scaled" begins and ends, in pairs.
    fn yarn_range(
        &self,
        beta_fast: f32,
        beta_slow: f32,
        original_context: usize,
        truncate: bool,
    ) -> (f32, f32) {
        let dim = self.dim as f64;
        // The pair that turns `rotations` times over the original context.
        let pair = |rotations: f32| {
            let turns = original_context as f64 / (f64::from(rotations) * 2.0 * std::f64::consts::PI);
            dim * turns.ln() / (2.0 * f64::from(self.theta).ln())
        };
        let (mut low, mut high) = (pair(beta_fast), pair(beta_slow));
        if truncate {
            (low, high) = (low.floor(), high.ceil());
        }
        let (low, high) = (low.max(0.0) as f32, high.min(dim - 1.0) as f32);
        // A ramp of no length would divide by zero.
        if low == high { (low, high + 0.001) } else { (low, high) }
    }
}

fn llama3(freq: f32, factor: f32, low_freq_factor: f32, high_freq_factor: f32, context: f32) -> f32 {
    let wavelength = 2.0 * PI / freq;
    if wavelength < context / high_freq_factor {
        freq
    } else if wavelength > context / low_freq_factor {
        freq / factor
    } else {
        let smooth = (context / wavelength - low_freq_factor) / (high_freq_factor - low_freq_factor);
        (1.0 - smooth) * freq / factor + smooth * freq
    }
}
