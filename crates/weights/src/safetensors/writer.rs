//! Writing a safetensors file tensor by tensor, so that only one of them is in memory.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::{Dtype, Result, WeightsError};

/// What will be written: the header comes before the data, so all of it must be known first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    /// The tensor's name.
    pub name: String,
    /// Element type.
    pub dtype: Dtype,
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
}

impl TensorSpec {
    /// Bytes of the tensor; `None` on overflow or a partial byte.
    pub fn bytes(&self) -> Option<u64> {
        let count = self.shape.iter().try_fold(1u64, |n, &dim| n.checked_mul(dim as u64))?;
        self.dtype.bytes(count)
    }
}

/// A safetensors file in the making. It gets its name only in [`Writer::finish`]: a reader never sees half a file.
pub struct Writer {
    out: BufWriter<File>,
    path: PathBuf,
    partial: PathBuf,
    specs: Vec<TensorSpec>,
    next: usize,
    left: u64,
}

impl Writer {
    /// Writes the header of `path`. The data follow in the order of [`Writer::order`].
    ///
    /// # Errors
    /// The file can't be written, or a tensor's size overflows.
    pub fn create(path: &Path, mut specs: Vec<TensorSpec>) -> Result<Self> {
        // Wide elements first: every tensor is then aligned to its element size, as the format advises.
        specs.sort_by(|a, b| b.dtype.bits().cmp(&a.dtype.bits()).then_with(|| a.name.cmp(&b.name)));
        let header = header(path, &specs)?;
        let partial = path.with_extension("safetensors.tmp");
        let file = File::create(&partial).map_err(WeightsError::io("create", &partial))?;
        let mut writer =
            Self { out: BufWriter::new(file), path: path.into(), partial, specs, next: 0, left: 0 };
        writer.put(&(header.len() as u64).to_le_bytes())?;
        writer.put(&header)?;
        writer.left = writer.specs.first().and_then(TensorSpec::bytes).unwrap_or(0);
        Ok(writer)
    }

    /// The tensors in the order in which their data must be written.
    pub fn order(&self) -> &[TensorSpec] {
        &self.specs
    }

    /// Appends bytes of the tensor `name`, which must be the next one that is not complete; in as many pieces as
    /// the caller likes.
    ///
    /// # Errors
    /// The wrong tensor's turn, too many bytes, or a failed write.
    pub fn write(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        self.skip_complete();
        let expected = self.specs.get(self.next).map(|s| s.name.as_str());
        if expected != Some(name) || bytes.len() as u64 > self.left {
            let problem = format!("{} bytes of {name} were written where {expected:?} was due", bytes.len());
            return Err(WeightsError::bad_file(self.path.display().to_string(), problem));
        }
        self.left -= bytes.len() as u64;
        self.put(bytes)
    }

    /// Flushes to disk and gives the file its name.
    ///
    /// # Errors
    /// Data are missing, or the disk failed.
    pub fn finish(mut self) -> Result<()> {
        self.skip_complete();
        if let Some(spec) = self.specs.get(self.next) {
            let problem = format!("{} bytes of {} were never written", self.left, spec.name);
            return Err(WeightsError::bad_file(self.path.display().to_string(), problem));
        }
        self.out.flush().map_err(WeightsError::io("write", &self.partial))?;
        self.out.get_ref().sync_all().map_err(WeightsError::io("write", &self.partial))?;
        std::fs::rename(&self.partial, &self.path).map_err(WeightsError::io("rename", &self.partial))
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(WeightsError::io("write", &self.partial))
    }

    /// Moves on while the current tensor has all its bytes (empty tensors have them at once).
    fn skip_complete(&mut self) {
        while self.left == 0 && self.next < self.specs.len() {
            self.next += 1;
            self.left = self.specs.get(self.next).and_then(TensorSpec::bytes).unwrap_or(0);
        }
    }
}

/// The JSON header, padded with spaces to a multiple of 8 so that the data are aligned.
fn header(path: &Path, specs: &[TensorSpec]) -> Result<Vec<u8>> {
    let mut object = Map::new();
    // MLX and transformers both look at this before they accept a file.
    object.insert("__metadata__".into(), json!({ "format": "mlx" }));
    let mut at = 0u64;
    for spec in specs {
        let end = spec.bytes().and_then(|n| at.checked_add(n)).ok_or_else(|| WeightsError::BadTensor {
            file: path.display().to_string(),
            tensor: spec.name.clone(),
            problem: format!("shape {:?} is too large", spec.shape),
        })?;
        let entry = json!({ "dtype": spec.dtype.name(), "shape": spec.shape, "data_offsets": [at, end] });
        object.insert(spec.name.clone(), entry);
        at = end;
    }
    let mut bytes = Value::Object(object).to_string().into_bytes();
    bytes.resize(bytes.len().next_multiple_of(8), b' ');
    Ok(bytes)
}
