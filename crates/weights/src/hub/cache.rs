//! The folders of one model in the shared cache.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use super::client::FileInfo;
use super::name::{ModelId, is_commit};
use crate::local::find_shards;
use crate::{Result, WeightsError};

/// One model's part of the cache.
pub(crate) struct RepoCache {
    /// `…/models--ORG--NAME`.
    pub(crate) folder: PathBuf,
    locks: PathBuf,
}

impl RepoCache {
    pub(crate) fn new(cache: &Path, model: &ModelId) -> Self {
        let name = model.cache_name();
        Self { folder: cache.join(&name), locks: cache.join(".locks").join(&name) }
    }

    /// The folder of a commit's files.
    pub(crate) fn snapshot(&self, commit: &str) -> PathBuf {
        self.folder.join("snapshots").join(commit)
    }

    /// A complete blob.
    pub(crate) fn blob(&self, etag: &str) -> PathBuf {
        self.folder.join("blobs").join(etag)
    }

    /// A blob while it arrives.
    pub(crate) fn partial(&self, etag: &str) -> PathBuf {
        self.folder.join("blobs").join(format!("{etag}.incomplete"))
    }

    /// Whether a snapshot has a file (a link whose blob is gone doesn't count).
    pub(crate) fn has(&self, commit: &str, file: &str) -> bool {
        self.snapshot(commit).join(file).is_file()
    }

    /// Bytes of a file that are not on disk yet.
    pub(crate) fn missing_bytes(&self, info: &FileInfo) -> u64 {
        if file_len(&self.blob(&info.etag)) == Some(info.size) {
            return 0;
        }
        info.size.saturating_sub(file_len(&self.partial(&info.etag)).unwrap_or(0))
    }

    /// The snapshot that `revision` (branch, tag or commit) means, if everything to serve it is there; otherwise
    /// what is missing, in words.
    pub(crate) fn complete_snapshot(&self, revision: &str) -> Result<PathBuf, String> {
        let reference = fs::read_to_string(self.folder.join("refs").join(revision));
        let commit = match reference {
            Ok(text) if is_commit(text.trim()) => text.trim().to_owned(),
            _ if is_commit(revision) => revision.to_owned(),
            _ => return Err("this revision was never downloaded".into()),
        };
        let folder = self.snapshot(&commit);
        if !folder.join("config.json").is_file() {
            return Err("config.json is missing".into());
        }
        let shards = find_shards(&folder).map_err(|error| error.to_string())?;
        match shards.files.iter().find(|file| !folder.join(file).is_file()) {
            Some(file) => Err(format!("{file} is missing")),
            None => Ok(folder),
        }
    }

    /// Notes that `revision` points to `commit`.
    pub(crate) fn write_ref(&self, revision: &str, commit: &str) -> Result<()> {
        if revision == commit {
            return Ok(());
        }
        let path = self.folder.join("refs").join(revision);
        let temporary = beside(&path);
        create_parent(&path)?;
        let written = File::create(&temporary).and_then(|mut file| file.write_all(commit.as_bytes()));
        written.map_err(WeightsError::io("write", &temporary))?;
        fs::rename(&temporary, &path).map_err(WeightsError::io("rename", &temporary))
    }

    /// Makes a file of a snapshot point to its blob. Replaces a link that points nowhere.
    pub(crate) fn link(&self, commit: &str, file: &str, etag: &str) -> Result<()> {
        let path = self.snapshot(commit).join(file);
        let temporary = beside(&path);
        create_parent(&path)?;
        // From snapshots/<commit>/ two levels up, and one more for each folder in the file's own path.
        let up = "../".repeat(2 + file.matches('/').count());
        let target = format!("{up}blobs/{etag}");
        let _ = fs::remove_file(&temporary);
        #[cfg(unix)]
        std::os::unix::fs::symlink(&target, &temporary).map_err(WeightsError::io("link", &temporary))?;
        #[cfg(not(unix))]
        {
            let _ = target;
            fs::copy(self.blob(etag), &temporary).map_err(WeightsError::io("copy", &temporary))?;
        }
        fs::rename(&temporary, &path).map_err(WeightsError::io("rename", &temporary))
    }

    /// Waits until no other process fetches this blob, then keeps the others out until the result is dropped (or
    /// this process ends, however it does).
    pub(crate) fn lock(&self, etag: &str) -> Result<File> {
        let path = self.locks.join(format!("{etag}.lock"));
        create_parent(&path)?;
        let file = File::options().create(true).append(true).open(&path);
        let file = file.map_err(WeightsError::io("open", &path))?;
        if file.try_lock().is_err() {
            tracing::info!(lock = %path.display(), "waiting for another process that downloads the same file");
            file.lock().map_err(WeightsError::io("lock", &path))?;
        }
        Ok(file)
    }
}

/// Length of an existing file.
pub(crate) fn file_len(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().filter(fs::Metadata::is_file).map(|m| m.len())
}

/// Creates the folder that will hold `path`.
pub(crate) fn create_parent(path: &Path) -> Result<()> {
    let parent = path.parent().unwrap_or(path);
    fs::create_dir_all(parent).map_err(WeightsError::io("create", parent))
}

/// A temporary name in the same folder, private to this process and thread.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}-{:?}.tmp", std::process::id(), std::thread::current().id()));
    name.into()
}
