//! Where a model's files are: in a folder, or compiled into the program.

use std::borrow::Cow;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::{Checkpoint, GenerationConfig, HfConfig, QuantizationConfig, Result, WeightsError};

/// Longest text file that is read whole (tokenizers of large vocabularies take about 35 MB).
const MAX_TEXT_BYTES: u64 = 256 << 20;

/// A model's files. Both kinds give the same things.
#[derive(Debug, Clone)]
pub enum ModelFiles {
    /// A folder in Hugging Face layout.
    Folder(PathBuf),
    /// Files compiled in with `include_bytes!`.
    Embedded {
        /// The model's name, for messages.
        name: &'static str,
        /// File names and contents.
        files: &'static [(&'static str, &'static [u8])],
    },
}

impl ModelFiles {
    /// The folder's path or the embedded model's name.
    pub fn describe(&self) -> String {
        match self {
            Self::Folder(path) => path.display().to_string(),
            Self::Embedded { name, .. } => format!("embedded:{name}"),
        }
    }

    /// Content of a (small) file, `None` if there is no such file.
    ///
    /// # Errors
    /// It can't be read or is unreasonably long.
    pub fn read(&self, file: &str) -> Result<Option<Cow<'static, [u8]>>> {
        match self {
            Self::Folder(folder) => Ok(read_limited(&folder.join(file))?.map(Cow::Owned)),
            Self::Embedded { files, .. } => {
                Ok(files.iter().find(|(name, _)| *name == file).map(|(_, bytes)| Cow::Borrowed(*bytes)))
            }
        }
    }

    /// Content of a text file, `None` if there is no such file.
    ///
    /// # Errors
    /// It can't be read, is unreasonably long or no UTF-8.
    pub fn read_text(&self, file: &str) -> Result<Option<String>> {
        let Some(bytes) = self.read(file)? else { return Ok(None) };
        match String::from_utf8(bytes.into_owned()) {
            Ok(text) => Ok(Some(text)),
            Err(_) => Err(WeightsError::bad_file(self.path_of(file), "it is not UTF-8 text")),
        }
    }

    /// The model's `config.json`.
    ///
    /// # Errors
    /// It is missing or no valid configuration.
    pub fn config(&self) -> Result<HfConfig> {
        self.settings("config.json")?.ok_or_else(|| WeightsError::Missing {
            path: self.path_of("config.json").into(),
            hint: "a model folder needs it; name the folder of a model in Hugging Face layout".into(),
        })
    }

    /// The model's `generation_config.json`; all defaults if there is none. End-of-text tokens that it does not
    /// name are taken from `config.json`.
    ///
    /// # Errors
    /// A file can't be read or has a wrong setting.
    pub fn generation_config(&self) -> Result<GenerationConfig> {
        let settings = self.settings("generation_config.json")?;
        let mut generation =
            settings.as_ref().map(GenerationConfig::from_config).transpose()?.unwrap_or_default();
        if generation.eos_token_ids.is_empty() {
            generation.eos_token_ids = self.config()?.token_ids("eos_token_id")?;
        }
        Ok(generation)
    }

    /// The model's weights.
    ///
    /// # Errors
    /// See [`Checkpoint::open`].
    pub fn checkpoint(&self) -> Result<Checkpoint> {
        match self {
            Self::Folder(path) => Checkpoint::open(path),
            Self::Embedded { files, .. } => {
                let quantization = QuantizationConfig::from_config(&self.config()?)?;
                Checkpoint::embedded(&self.describe(), files, quantization)
            }
        }
    }

    fn settings(&self, file: &str) -> Result<Option<HfConfig>> {
        self.read(file)?.map(|bytes| HfConfig::parse(&self.path_of(file), &bytes)).transpose()
    }

    fn path_of(&self, file: &str) -> String {
        match self {
            Self::Folder(path) => path.join(file).display().to_string(),
            Self::Embedded { .. } => format!("{}/{file}", self.describe()),
        }
    }
}

/// A whole file, `None` if it does not exist.
pub(crate) fn read_limited(path: &Path) -> Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(WeightsError::io("open", path)(error)),
    };
    let mut bytes = Vec::new();
    file.take(MAX_TEXT_BYTES + 1).read_to_end(&mut bytes).map_err(WeightsError::io("read", path))?;
    if bytes.len() as u64 > MAX_TEXT_BYTES {
        let problem = format!("it is longer than {MAX_TEXT_BYTES} bytes");
        return Err(WeightsError::bad_file(path.display().to_string(), problem));
    }
    Ok(Some(bytes))
}
