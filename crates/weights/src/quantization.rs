//! The `quantization` part of an MLX model's `config.json`.

use std::collections::HashMap;

use serde_json::{Map, Value};

use crate::{HfConfig, Result, WeightsError};

/// Bits per integer and columns per scale of one matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quantization {
    /// 2, 3, 4, 5, 6 or 8.
    pub bits: u32,
    /// 16, 32, 64 or 128.
    pub group_size: usize,
}

impl Quantization {
    /// Checks the two numbers.
    ///
    /// # Errors
    /// A width or group size outside of the documented ones; `what` names the thing in the message.
    pub fn new(what: &str, bits: u64, group_size: u64) -> Result<Self> {
        if !matches!(bits, 2..=6 | 8) || !matches!(group_size, 16 | 32 | 64 | 128) {
            let problem = format!(
                "{bits} bits in groups of {group_size}; use 2-6 or 8 bits in groups of 16, 32, 64 or 128"
            );
            return Err(WeightsError::Quantization { what: what.into(), problem });
        }
        Ok(Self { bits: bits as u32, group_size: group_size as usize })
    }
}

/// How the matrices of a checkpoint are quantized: a default, and layers that differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuantizationConfig {
    default: Quantization,
    overrides: HashMap<String, Quantization>,
}

impl QuantizationConfig {
    /// All matrices alike.
    pub fn uniform(default: Quantization) -> Self {
        Self { default, overrides: HashMap::new() }
    }

    /// Reads `quantization` (or an MLX-style `quantization_config`); `None` for a dense model.
    ///
    /// # Errors
    /// The model is quantized in a way that this crate can't read.
    pub fn from_config(config: &HfConfig) -> Result<Option<Self>> {
        let object = match (config.root_object("quantization")?, config.root_object("quantization_config")?) {
            (Some(mlx), _) => mlx,
            (None, Some(other)) => {
                if let Some(method) = other.get("quant_method").and_then(Value::as_str) {
                    return Err(WeightsError::Quantization {
                        what: config.file().into(),
                        problem: format!("quant_method {method:?}; take the unquantized or the MLX version"),
                    });
                }
                other
            }
            (None, None) => return Ok(None),
        };
        let default = entry(config.file(), "quantization", object, None)?;
        let mut overrides = HashMap::new();
        for (name, value) in object {
            // Beside the numbers stand the layers that differ; `false` means dense, which their tensors show anyway.
            if let Value::Object(layer) = value {
                overrides.insert(name.clone(), entry(config.file(), name, layer, Some(default))?);
            }
        }
        Ok(Some(Self { default, overrides }))
    }

    /// What holds for the matrix `name` (without `.weight`).
    pub fn of(&self, name: &str) -> Quantization {
        self.overrides.get(name).copied().unwrap_or(self.default)
    }
}

/// One `{ "bits", "group_size", "mode" }`, with defaults for a layer that names only some of them.
fn entry(
    file: &str,
    name: &str,
    object: &Map<String, Value>,
    default: Option<Quantization>,
) -> Result<Quantization> {
    let what = format!("{name} in {file}");
    if let Some(mode) = object.get("mode").and_then(Value::as_str)
        && mode != "affine"
    {
        return Err(WeightsError::Quantization {
            what,
            problem: format!("mode {mode:?}; only affine is read"),
        });
    }
    let number = |key: &str, default: Option<u64>| {
        object.get(key).map_or(default, Value::as_u64).ok_or_else(|| WeightsError::Config {
            file: file.into(),
            field: format!("{name}.{key}"),
            problem: "must be a whole number".into(),
        })
    };
    let bits = number("bits", default.map(|d| d.bits.into()))?;
    let group_size = number("group_size", default.map(|d| d.group_size as u64))?;
    Quantization::new(&what, bits, group_size)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Option<QuantizationConfig>> {
        QuantizationConfig::from_config(&HfConfig::parse("config.json", json.as_bytes())?)
    }

    #[test]
    fn layers_may_differ_from_the_default() {
        let json = r#"{"quantization": {"group_size": 64, "bits": 4, "mode": "affine",
            "model.layers.0.mlp.down_proj": {"bits": 8}, "lm_head": false}}"#;
        let config = read(json).unwrap().unwrap();
        assert_eq!(config.of("model.layers.1.mlp.down_proj"), Quantization { bits: 4, group_size: 64 });
        assert_eq!(config.of("model.layers.0.mlp.down_proj"), Quantization { bits: 8, group_size: 64 });
        assert_eq!(
            read(r#"{"quantization_config": {"group_size": 32, "bits": 6}}"#).unwrap().unwrap().of("x").bits,
            6
        );
        assert_eq!(read("{}").unwrap(), None);
        assert_eq!(read(r#"{"quantization": null}"#).unwrap(), None);
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let message = |json: &str| read(json).unwrap_err().to_string();
        assert!(message(r#"{"quantization_config": {"quant_method": "fp8"}}"#).contains("\"fp8\""));
        assert!(
            message(r#"{"quantization": {"group_size": 32, "bits": 4, "mode": "mxfp4"}}"#)
                .contains("\"mxfp4\"")
        );
        assert!(message(r#"{"quantization": {"group_size": 32, "bits": 7}}"#).contains("7 bits"));
        assert!(message(r#"{"quantization": {"group_size": 0, "bits": 4}}"#).contains("groups of 0"));
        assert!(message(r#"{"quantization": {"bits": 4}}"#).contains("quantization.group_size must be"));
        assert!(message(r#"{"quantization": 4}"#).contains("quantization must be an object"));
    }
}
