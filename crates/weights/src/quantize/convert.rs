//! From a dense Hugging Face folder to an MLX-readable quantized one.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use half::{bf16, slice::HalfFloatSliceExt};
use serde_json::{Map, Value, json};

use super::row::{QuantizedRow, quantize_row};
use crate::affine::pack_row;
use crate::files::read_limited;
use crate::local::INDEX;
use crate::safetensors::{TensorSpec, Writer};
use crate::{Checkpoint, Dtype, HfConfig, Quantization, Result, TensorView, WeightsError};

/// What a conversion did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Matrices that were quantized.
    pub quantized: usize,
    /// Tensors that were copied as they are.
    pub copied: usize,
    /// Bytes of all tensors before.
    pub bytes_before: u64,
    /// Bytes of all tensors after.
    pub bytes_after: u64,
}

/// Quantizes the linear layers and embeddings of the model in `source` and writes it to the folder `target`.
///
/// Every float matrix `*.weight` whose columns are whole groups becomes integers with bfloat16 scales and biases
/// ([`quantize_row`]); norms, biases and everything else are copied. `config.json` gains `quantization` and
/// `quantization_config`; tokenizer, template and generation settings are copied. Shards stay shards. One matrix at
/// a time is in memory.
///
/// # Errors
/// `bits` is not 4 or 8, `group_size` not 32, 64 or 128, the source is missing, malformed, already quantized or
/// holds values that are not finite, or the target can't be written.
pub fn quantize_checkpoint(source: &Path, target: &Path, bits: u32, group_size: usize) -> Result<Summary> {
    let quantization = check(source, bits, group_size)?;
    let config_path = source.join("config.json");
    let config = read_config(&config_path)?;
    let checkpoint = Checkpoint::open(source)?;
    if checkpoint.quantization().is_some() {
        let problem = "it is quantized already; start from the dense model".into();
        return Err(WeightsError::Quantization { what: source.display().to_string(), problem });
    }
    fs::create_dir_all(target).map_err(WeightsError::io("create", target))?;
    if same_folder(source, target) {
        return Err(WeightsError::bad_file(
            target.display().to_string(),
            "it is the source itself; name another folder",
        ));
    }
    let mut summary = Summary { bytes_before: checkpoint.total_bytes(), ..Summary::default() };
    let mut weight_map = Map::new();
    for shard in 0..checkpoint.files().count() {
        let (file, tensors) = convert_shard(&checkpoint, shard, target, quantization, &mut summary)?;
        weight_map.extend(tensors.into_iter().map(|tensor| (tensor, Value::from(file.as_str()))));
    }
    if checkpoint.files().count() > 1 {
        let index =
            json!({ "metadata": { "total_size": summary.bytes_after }, "weight_map": sorted(weight_map) });
        write_json(&target.join(INDEX), &index)?;
    }
    write_json(&target.join("config.json"), &quantized_config(config, quantization))?;
    copy_side_files(source, target)?;
    Ok(summary)
}

fn check(source: &Path, bits: u32, group_size: usize) -> Result<Quantization> {
    let what = source.display().to_string();
    if !matches!(bits, 4 | 8) || !matches!(group_size, 32 | 64 | 128) {
        let problem =
            format!("{bits} bits in groups of {group_size}; use 4 or 8 bits in groups of 32, 64 or 128");
        return Err(WeightsError::Quantization { what, problem });
    }
    Quantization::new(&what, bits.into(), group_size as u64)
}

fn read_config(path: &Path) -> Result<Map<String, Value>> {
    let json = read_limited(path)?.ok_or_else(|| WeightsError::Missing {
        path: path.into(),
        hint: "name the folder of a model in Hugging Face layout".into(),
    })?;
    let file = path.display().to_string();
    HfConfig::parse(&file, &json)?;
    serde_json::from_slice(&json).map_err(|e| WeightsError::bad_file(file, e.to_string()))
}

fn same_folder(a: &Path, b: &Path) -> bool {
    matches!((fs::canonicalize(a), fs::canonicalize(b)), (Ok(a), Ok(b)) if a == b)
}

/// Writes the converted twin of one weights file; returns its name and its tensors' names.
fn convert_shard(
    checkpoint: &Checkpoint,
    shard: usize,
    target: &Path,
    quantization: Quantization,
    summary: &mut Summary,
) -> Result<(String, Vec<String>)> {
    let path = checkpoint.files().nth(shard).unwrap_or_default();
    let file_name = Path::new(path).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut specs = Vec::new();
    for name in checkpoint.tensors_of(shard) {
        let tensor = checkpoint.tensor(name)?;
        if is_quantizable(&tensor, quantization) {
            specs.extend(quantized_specs(&tensor, quantization));
            summary.quantized += 1;
        } else {
            specs.push(TensorSpec { name: name.into(), dtype: tensor.dtype, shape: tensor.shape });
            summary.copied += 1;
        }
    }
    let mut writer = Writer::create(&target.join(&file_name), specs)?;
    let order = writer.order().to_vec();
    // Scales and biases come after the integers in the file; they are small and wait here.
    let mut waiting: HashMap<String, Vec<bf16>> = HashMap::new();
    for spec in &order {
        if let Some(values) = waiting.remove(&spec.name) {
            writer.write(&spec.name, &little_endian(&values))?;
        } else {
            let tensor = checkpoint.tensor(&spec.name)?;
            if is_quantizable(&tensor, quantization) {
                let (scales, biases) = write_integers(&mut writer, &tensor, quantization)?;
                let base = base_name(&spec.name);
                waiting.insert(format!("{base}.scales"), scales);
                waiting.insert(format!("{base}.biases"), biases);
            } else {
                writer.write(&spec.name, tensor.bytes)?;
            }
            checkpoint.release(&spec.name);
        }
    }
    writer.finish()?;
    summary.bytes_after += order.iter().filter_map(TensorSpec::bytes).sum::<u64>();
    Ok((file_name, order.into_iter().map(|spec| spec.name).collect()))
}

/// A linear layer or an embedding: MLX quantizes these, and only where the columns are whole groups.
fn is_quantizable(tensor: &TensorView<'_>, quantization: Quantization) -> bool {
    tensor.name.ends_with(".weight")
        && !tensor.name.contains("norm")
        && tensor.expect_float().is_ok()
        && matches!(tensor.shape.as_slice(), &[rows, cols] if rows > 0 && cols > 0 && cols % quantization.group_size == 0)
}

fn base_name(weight: &str) -> &str {
    weight.strip_suffix(".weight").unwrap_or(weight)
}

fn quantized_specs(tensor: &TensorView<'_>, quantization: Quantization) -> [TensorSpec; 3] {
    let base = base_name(&tensor.name);
    let (rows, cols) = (tensor.rows(), tensor.cols());
    let groups = vec![rows, cols / quantization.group_size];
    let words = vec![rows, cols * quantization.bits as usize / 32];
    [
        TensorSpec { name: tensor.name.clone(), dtype: Dtype::U32, shape: words },
        TensorSpec { name: format!("{base}.scales"), dtype: Dtype::Bf16, shape: groups.clone() },
        TensorSpec { name: format!("{base}.biases"), dtype: Dtype::Bf16, shape: groups },
    ]
}

/// Quantizes row by row, writes the packed integers and returns scales and biases.
fn write_integers(
    writer: &mut Writer,
    tensor: &TensorView<'_>,
    quantization: Quantization,
) -> Result<(Vec<bf16>, Vec<bf16>)> {
    let mut row = vec![0.0; tensor.cols()];
    let mut quantized = QuantizedRow::default();
    let mut packed = Vec::new();
    let (mut scales, mut biases) = (Vec::new(), Vec::new());
    for index in 0..tensor.rows() {
        tensor.read_row(index, &mut row)?;
        if !quantize_row(&row, quantization, &mut quantized) {
            return Err(WeightsError::BadTensor {
                file: tensor.file.into(),
                tensor: tensor.name.clone(),
                problem: format!("row {index} has values that are not finite"),
            });
        }
        packed.clear();
        pack_row(quantization.bits, &quantized.q, &mut packed);
        writer.write(&tensor.name, &packed)?;
        scales.extend_from_slice(&quantized.scales);
        biases.extend_from_slice(&quantized.biases);
    }
    Ok((scales, biases))
}

fn little_endian(values: &[bf16]) -> Vec<u8> {
    values.reinterpret_cast().iter().flat_map(|bits| bits.to_le_bytes()).collect()
}

fn sorted(map: Map<String, Value>) -> Map<String, Value> {
    let mut pairs: Vec<_> = map.into_iter().collect();
    pairs.sort_by(|a, b| a.0.cmp(&b.0));
    pairs.into_iter().collect()
}

/// MLX reads `quantization`; other tools look for `quantization_config`.
fn quantized_config(mut config: Map<String, Value>, quantization: Quantization) -> Value {
    let entry = json!({ "group_size": quantization.group_size, "bits": quantization.bits, "mode": "affine" });
    config.insert("quantization".into(), entry.clone());
    config.insert("quantization_config".into(), entry);
    Value::Object(config)
}

fn write_json(path: &Path, value: &Value) -> Result<()> {
    let text = format!("{value:#}\n");
    fs::write(path, text).map_err(WeightsError::io("write", path))
}

/// Tokenizer, chat template, generation settings: every small text file but those this conversion writes itself.
fn copy_side_files(source: &Path, target: &Path) -> Result<()> {
    for entry in fs::read_dir(source).map_err(WeightsError::io("list", source))? {
        let path = entry.map_err(WeightsError::io("list", source))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let extension = path.extension().unwrap_or_default().to_string_lossy().into_owned();
        let wanted = matches!(extension.as_str(), "json" | "jinja" | "txt" | "model");
        if wanted && path.is_file() && name != "config.json" && name != INDEX {
            // Read and write instead of copy: the source's permissions (read-only, say) are not wanted.
            let bytes = fs::read(&path).map_err(WeightsError::io("read", &path))?;
            let to = target.join(&name);
            fs::write(&to, bytes).map_err(WeightsError::io("write", &to))?;
        }
    }
    Ok(())
}
