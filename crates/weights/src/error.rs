//! Everything that can go wrong between a model's name and its tensors.

use std::io;
use std::path::PathBuf;

use crate::Dtype;

/// Why a model could not be found, fetched or read. Each message is one sentence that names the file, tensor or
/// model and, where there is something to do, says what.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// A file or folder that must be there is not.
    #[error("{path} does not exist: {hint}")]
    Missing {
        /// What was looked for.
        path: PathBuf,
        /// What would help.
        hint: String,
    },
    /// The operating system refused an operation on a file.
    #[error("could not {action} {path}: {source}")]
    Io {
        /// A verb: "open", "read", "rename".
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A file is there but its content can't be used.
    #[error("{file} is not usable: {problem}")]
    BadFile {
        /// The file, or the name of an embedded one.
        file: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A weights file ends before its header says it does.
    #[error(
        "{file} is truncated: it has {actual} bytes where its header promises {expected}; download or copy it again"
    )]
    Truncated {
        /// The file.
        file: String,
        /// Bytes that the header promises.
        expected: u64,
        /// Bytes that are there.
        actual: u64,
    },
    /// A weights file describes a tensor wrongly.
    #[error("{file} has a bad entry for tensor {tensor}: {problem}")]
    BadTensor {
        /// The file.
        file: String,
        /// The tensor's name.
        tensor: String,
        /// What is wrong.
        problem: String,
    },
    /// The model needs a tensor that the checkpoint does not have.
    #[error("tensor {tensor} is missing from {checkpoint}: the weights do not fit the model's config.json")]
    MissingTensor {
        /// The tensor's name.
        tensor: String,
        /// Folder or embedded model.
        checkpoint: String,
    },
    /// A tensor has another shape than the model's configuration asks for.
    #[error("tensor {tensor} in {file} has shape {found:?} where the model needs {expected:?}")]
    Shape {
        /// The tensor's name.
        tensor: String,
        /// The file.
        file: String,
        /// What the model needs.
        expected: Vec<usize>,
        /// What is stored.
        found: Vec<usize>,
    },
    /// A tensor has a data type that can't be used in its place.
    #[error("tensor {tensor} in {file} has dtype {found} where {expected} is needed")]
    WrongDtype {
        /// The tensor's name.
        tensor: String,
        /// The file.
        file: String,
        /// What would do, in words.
        expected: &'static str,
        /// What is stored.
        found: Dtype,
    },
    /// A setting of `config.json` or `generation_config.json` is absent or of the wrong kind.
    #[error("{file}: {field} {problem}")]
    Config {
        /// The file.
        file: String,
        /// The setting, with its path ("rope_scaling.factor").
        field: String,
        /// What is wrong: "is missing", "must be ...".
        problem: String,
    },
    /// A quantization that can't be read or written.
    #[error("quantization of {what} is not supported: {problem}")]
    Quantization {
        /// Tensor or file.
        what: String,
        /// Why not.
        problem: String,
    },
    /// The text is neither a path that exists nor a Hub id.
    #[error("{name:?} names no model: {problem}")]
    BadName {
        /// What was asked for.
        name: String,
        /// Why it can't be a model.
        problem: String,
    },
    /// The hub refused to show the model.
    #[error("{endpoint} refuses access to {model} ({status}): {hint}")]
    Denied {
        /// The hub's address.
        endpoint: String,
        /// `ORG/NAME`.
        model: String,
        /// HTTP status: 401 or 403.
        status: u16,
        /// What to do.
        hint: &'static str,
    },
    /// The hub does not have the model, revision or file.
    #[error("{endpoint} has no {what}: check the spelling")]
    NotOnHub {
        /// The hub's address.
        endpoint: String,
        /// Model, revision or file in words.
        what: String,
    },
    /// The model is on the hub, but not in a form that can be used.
    #[error("{model} can't be used: {problem}")]
    Unsuitable {
        /// `ORG/NAME`.
        model: String,
        /// What is missing, and what to do.
        problem: &'static str,
    },
    /// Offline, and the cache lacks something.
    #[error(
        "{model} (revision {revision}) is not complete in {cache} and HF_HUB_OFFLINE is set: {problem}; unset HF_HUB_OFFLINE to download it"
    )]
    Offline {
        /// `ORG/NAME`.
        model: String,
        /// Branch, tag or commit.
        revision: String,
        /// Cache folder.
        cache: PathBuf,
        /// What is absent.
        problem: String,
    },
    /// The hub could not be reached or the transfer broke off, also after retries.
    #[error(
        "could not fetch {url}: {problem}; what arrived is kept, and running the same command again resumes"
    )]
    Network {
        /// What was asked for.
        url: String,
        /// What happened.
        problem: String,
    },
    /// The hub answered something that makes no sense or is not safe.
    #[error("{url} gave an answer that can't be used: {problem}")]
    BadAnswer {
        /// What was asked for.
        url: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A downloaded file is not what the hub announced.
    #[error(
        "{file} of {model} arrived damaged ({problem}) and was discarded: run the same command again to fetch it anew"
    )]
    Damaged {
        /// File name in the model's repository.
        file: String,
        /// `ORG/NAME`.
        model: String,
        /// Checksum or size, expected and found.
        problem: String,
    },
    /// The disk under the cache is full.
    #[error(
        "no space left for {file}: {needed} more bytes are needed under {path}, {free} are free; free some space or set HF_HOME to a larger disk, then run the same command again to resume"
    )]
    DiskFull {
        /// What was being written.
        file: String,
        /// The folder on the full disk.
        path: PathBuf,
        /// Bytes still to be written.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
}

impl WeightsError {
    /// For `map_err`: an input/output error on `path` while doing `action`.
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }

    /// A file whose content can't be used.
    pub(crate) fn bad_file(file: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::BadFile { file: file.into(), problem: problem.into() }
    }
}
