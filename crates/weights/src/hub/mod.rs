//! From a model's name to a local folder: paths, and downloads from the Hub into the cache that Hugging Face tools
//! share.
//!
//! The cache is laid out as `huggingface_hub` does it:
//!
//! ```text
//! $HF_HOME/hub/models--ORG--NAME/blobs/<etag>              contents, `<etag>.incomplete` while they arrive
//!                               /refs/<revision>           the commit that a branch or tag points to
//!                               /snapshots/<commit>/<file> relative links to blobs
//! $HF_HOME/hub/.locks/models--ORG--NAME/<etag>.lock        held while a blob arrives
//! ```
//!
//! Nothing is visible under its final name before it is complete, so a download may be killed at any time; the next
//! one resumes it.

mod cache;
mod client;
mod disk;
mod download;
mod name;
mod options;
mod plan;
mod progress;
mod reply;

use std::path::{Path, PathBuf};

use cache::RepoCache;
use client::{Client, FileInfo};
pub use name::ModelId;
use name::{check_revision, find_local};
pub use options::HubOptions;

use crate::{Result, WeightsError};

/// The folder with the files of the model `name`: a path to a folder, or to a file in it, or a Hub id `ORG/NAME`.
///
/// For a Hub id, `revision` is a branch, tag or commit (default `main`). Missing files are downloaded: the
/// configuration, tokenizer and template files and the safetensors weights, nothing else. If the hub can't be
/// reached, or `HF_HUB_OFFLINE` is set, a complete cached snapshot is used.
///
/// # Errors
/// The name is neither a path nor an id, the hub refuses or lacks the model, the transfer fails, the disk is full,
/// or the cache is not complete while offline.
pub fn resolve(name: &str, revision: Option<&str>, options: &HubOptions) -> Result<PathBuf> {
    if let Some(folder) = find_local(Path::new(name)) {
        return Ok(folder);
    }
    let model = ModelId::parse(name)?;
    let revision = revision.unwrap_or("main");
    check_revision(revision)?;
    let cache = RepoCache::new(&options.cache, &model);
    if options.offline {
        return cache.complete_snapshot(revision).map_err(|problem| WeightsError::Offline {
            model: model.to_string(),
            revision: revision.into(),
            cache: options.cache.clone(),
            problem,
        });
    }
    match download(&model, revision, &cache, options) {
        // No network: what is in the cache may do. A refusal or a full disk is no reason to serve an old copy.
        Err(error @ WeightsError::Network { .. }) => match cache.complete_snapshot(revision) {
            Ok(folder) => {
                tracing::warn!(%error, folder = %folder.display(), "using the cached copy of {model}");
                Ok(folder)
            }
            Err(_) => Err(error),
        },
        other => other,
    }
}

/// Brings a snapshot up to date and returns its folder.
fn download(model: &ModelId, revision: &str, cache: &RepoCache, options: &HubOptions) -> Result<PathBuf> {
    let client = Client::new(model, options)?;
    // Without a network nobody should wait long to hear of it, and not at all with a usable copy at hand.
    let retries = if cache.complete_snapshot(revision).is_ok() { 0 } else { options.retries.min(2) };
    let listing = client.list(revision, retries)?;
    let commit = &listing.commit;
    let plan = plan::choose(model, &listing.files)?;
    // Small files come first: a snapshot with weights is then always a complete one.
    fetch_all(&client, cache, commit, &plan.small)?;
    let weights = plan.weights(&cache.snapshot(commit))?;
    fetch_all(&client, cache, commit, &weights)?;
    cache.write_ref(revision, commit)?;
    Ok(cache.snapshot(commit))
}

/// Makes `files` of a snapshot exist, after a look whether the disk has room for all of them.
fn fetch_all(client: &Client<'_>, cache: &RepoCache, commit: &str, files: &[String]) -> Result<()> {
    let mut wanted: Vec<(&String, FileInfo)> = Vec::new();
    for file in files {
        if !cache.has(commit, file) {
            wanted.push((file, client.file_info(commit, file)?));
        }
    }
    let missing = wanted.iter().map(|(_, info)| cache.missing_bytes(info)).sum();
    disk::check_room(&cache.folder, &client.model.to_string(), missing)?;
    for (file, info) in &wanted {
        download::fetch_blob(client, cache, commit, file, info)?;
        cache.link(commit, file, &info.etag)?;
    }
    Ok(())
}
