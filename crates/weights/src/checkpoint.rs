//! Tensors by name, over one or many safetensors files.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::path::Path;

use crate::files::read_limited;
use crate::local::{ShardList, find_shards};
use crate::mapped::FileBytes;
use crate::safetensors::{Entry, Header};
use crate::{AffineView, HfConfig, MatrixView, QuantizationConfig, Result, TensorView, WeightsError};

/// The weights of a model. Opening one reads headers only; tensors are views into mapped files.
#[derive(Debug)]
pub struct Checkpoint {
    label: String,
    shards: Vec<Shard>,
    tensors: HashMap<String, (usize, Entry)>,
    quantization: Option<QuantizationConfig>,
}

#[derive(Debug)]
struct Shard {
    /// Path or embedded name, for messages.
    file: String,
    bytes: FileBytes,
}

impl Checkpoint {
    /// Opens the weights in `folder`: `model.safetensors`, or the shards that `model.safetensors.index.json` names,
    /// or any `*.safetensors`. Quantization settings come from its `config.json`.
    ///
    /// # Errors
    /// A file is missing, truncated or malformed, a tensor is in two files or not where the index says, or the
    /// model is quantized in a way that can't be read.
    pub fn open(folder: &Path) -> Result<Self> {
        let list = find_shards(folder)?;
        let config_path = folder.join("config.json");
        let quantization = match read_limited(&config_path)? {
            Some(json) => {
                let config = HfConfig::parse(&config_path.display().to_string(), &json)?;
                QuantizationConfig::from_config(&config)?
            }
            None => None,
        };
        let mut checkpoint = Self::empty(&folder.display().to_string(), quantization);
        for file in &list.files {
            checkpoint.add(open_shard(&folder.join(file), !list.expected.is_empty())?)?;
        }
        checkpoint.check_index(folder, &list)?;
        Ok(checkpoint)
    }

    /// Opens one safetensors file.
    ///
    /// # Errors
    /// It is missing, truncated or malformed.
    pub fn open_file(path: &Path, quantization: Option<QuantizationConfig>) -> Result<Self> {
        let mut checkpoint = Self::empty(&path.display().to_string(), quantization);
        checkpoint.add(open_shard(path, false)?)?;
        Ok(checkpoint)
    }

    /// Opens weights that are compiled into the program: every `*.safetensors` of `files` (name, content).
    ///
    /// # Errors
    /// There is none, or one is malformed.
    pub fn embedded(
        label: &str,
        files: &[(&str, &'static [u8])],
        quantization: Option<QuantizationConfig>,
    ) -> Result<Self> {
        let mut checkpoint = Self::empty(label, quantization);
        for (name, bytes) in files.iter().filter(|(name, _)| name.ends_with(".safetensors")) {
            checkpoint.add(Shard { file: format!("{label}/{name}"), bytes: FileBytes::Embedded(bytes) })?;
        }
        if checkpoint.shards.is_empty() {
            return Err(WeightsError::bad_file(label, "it has no safetensors file"));
        }
        Ok(checkpoint)
    }

    /// Folder, file or embedded name, for messages.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// How quantized matrices are stored, `None` for a dense checkpoint.
    pub fn quantization(&self) -> Option<&QuantizationConfig> {
        self.quantization.as_ref()
    }

    /// All tensor names, in no particular order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Whether there is a tensor of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Bytes of all tensors.
    pub fn total_bytes(&self) -> u64 {
        self.tensors.values().map(|(_, entry)| entry.range.len() as u64).sum()
    }

    /// The weights files, in the order of [`Checkpoint::tensors_of`]'s index.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.shards.iter().map(|shard| shard.file.as_str())
    }

    /// Names of the tensors in weights file number `file`, sorted.
    pub fn tensors_of(&self, file: usize) -> Vec<&str> {
        let inside = self.tensors.iter().filter(|(_, (shard, _))| *shard == file);
        let mut names: Vec<&str> = inside.map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        names
    }

    /// A tensor as it is stored.
    ///
    /// # Errors
    /// [`WeightsError::MissingTensor`].
    pub fn tensor(&self, name: &str) -> Result<TensorView<'_>> {
        let (shard, entry) = self.tensors.get(name).ok_or_else(|| WeightsError::MissingTensor {
            tensor: name.into(),
            checkpoint: self.label.clone(),
        })?;
        let shard = &self.shards[*shard];
        Ok(TensorView {
            name: entry.name.clone(),
            file: &shard.file,
            dtype: entry.dtype,
            shape: entry.shape.clone(),
            bytes: &shard.bytes.as_slice()[entry.range.clone()],
        })
    }

    /// The matrix `name` (without `.weight`), dense or quantized.
    ///
    /// # Errors
    /// A tensor is missing, has no two dimensions or no usable dtype, or scales and integers don't fit together.
    pub fn matrix(&self, name: &str) -> Result<MatrixView<'_>> {
        let weight = self.tensor(&format!("{name}.weight"))?;
        let scales = format!("{name}.scales");
        if self.contains(&scales) {
            let quantization = self.quantization.as_ref().map(|q| q.of(name));
            let quantization = quantization.ok_or_else(|| WeightsError::Quantization {
                what: name.into(),
                problem: format!("{scales} is there, but config.json has no \"quantization\""),
            })?;
            let biases = self.tensor(&format!("{name}.biases"))?;
            let affine = AffineView::new(name, &weight, self.tensor(&scales)?, biases, quantization)?;
            return Ok(MatrixView::Affine(affine));
        }
        weight.expect_float()?;
        if weight.shape.len() != 2 {
            return Err(WeightsError::BadTensor {
                file: weight.file.into(),
                tensor: weight.name.clone(),
                problem: format!("a matrix has two dimensions, this has shape {:?}", weight.shape),
            });
        }
        Ok(MatrixView::Dense(weight))
    }

    /// Hands the pages of the tensor `name`, or of all parts of the matrix `name`, back to the system, so that
    /// loading keeps about one copy of the weights in memory. Unknown names are ignored; reading again works.
    pub fn release(&self, name: &str) {
        for suffix in ["", ".weight", ".scales", ".biases"] {
            if let Some((shard, entry)) = self.tensors.get(&format!("{name}{suffix}")) {
                self.shards[*shard].bytes.release(entry.range.clone());
            }
        }
    }

    fn empty(label: &str, quantization: Option<QuantizationConfig>) -> Self {
        Self { label: label.into(), shards: Vec::new(), tensors: HashMap::new(), quantization }
    }

    fn add(&mut self, shard: Shard) -> Result<()> {
        let header = Header::parse(&shard.file, shard.bytes.as_slice())?;
        for entry in header.entries {
            match self.tensors.entry(entry.name.clone()) {
                Slot::Vacant(slot) => slot.insert((self.shards.len(), entry)),
                Slot::Occupied(slot) => {
                    let other = &self.shards[slot.get().0].file;
                    return Err(WeightsError::BadTensor {
                        file: shard.file,
                        tensor: entry.name,
                        problem: format!("{other} has a tensor of this name too"),
                    });
                }
            };
        }
        self.shards.push(shard);
        Ok(())
    }

    fn check_index(&self, folder: &Path, list: &ShardList) -> Result<()> {
        for (tensor, file) in &list.expected {
            let shard = self.tensors.get(tensor).map(|(shard, _)| list.files[*shard].as_str());
            if shard != Some(file) {
                return Err(WeightsError::BadTensor {
                    file: folder.join(file).display().to_string(),
                    tensor: tensor.clone(),
                    problem: format!(
                        "the index says it is here, but it is in {}",
                        shard.unwrap_or("no file")
                    ),
                });
            }
        }
        Ok(())
    }
}

fn open_shard(path: &Path, from_index: bool) -> Result<Shard> {
    if !path.exists() {
        let hint = if from_index {
            "model.safetensors.index.json names it; download or copy the missing file"
        } else {
            "name an existing safetensors file"
        };
        return Err(WeightsError::Missing { path: path.into(), hint: hint.into() });
    }
    Ok(Shard { file: path.display().to_string(), bytes: FileBytes::map(path)? })
}
