//! Fetching one file into the cache: resumable, checked, and visible only when it is complete.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use indicatif::ProgressBar;
use sha2::{Digest, Sha256};
use ureq::http::StatusCode;

use super::cache::{RepoCache, create_parent, file_len};
use super::client::{Client, FileInfo};
use super::disk::write_error;
use super::progress;
use super::reply::{Failure, content_range};
use crate::{Result, WeightsError};

/// Bytes per read and write.
const CHUNK: usize = 1 << 20;
/// A broken transfer that brought at least this much does not count as a failed try.
const PROGRESS: u64 = 64 << 10;

/// Makes the blob of `file` exist. An interrupted transfer is continued where it stopped, by whichever process.
pub(crate) fn fetch_blob(
    client: &Client<'_>,
    cache: &RepoCache,
    commit: &str,
    file: &str,
    info: &FileInfo,
) -> Result<()> {
    let _lock = cache.lock(&info.etag)?;
    let blob = cache.blob(&info.etag);
    if file_len(&blob) == Some(info.size) {
        return Ok(());
    }
    let partial = cache.partial(&info.etag);
    create_parent(&partial)?;
    let transfer = Transfer { client, commit, file, info, path: &partial };
    transfer.run()?;
    transfer.verify()?;
    fs::rename(&partial, &blob).map_err(WeightsError::io("rename", &partial))
}

/// One file on its way into `path`.
struct Transfer<'a> {
    client: &'a Client<'a>,
    commit: &'a str,
    file: &'a str,
    info: &'a FileInfo,
    path: &'a Path,
}

impl Transfer<'_> {
    /// Fetches until all bytes are there. Only failures in a row that brought
    /// next to nothing count against the retries.
    fn run(&self) -> Result<()> {
        let url = self.client.file_url(self.commit, self.file);
        let opened = File::options().create(true).truncate(false).read(true).write(true).open(self.path);
        let mut out = opened.map_err(WeightsError::io("open", self.path))?;
        let mut have = out.metadata().map_err(WeightsError::io("inspect", self.path))?.len();
        if have > self.info.size {
            have = self.restart(&mut out)?;
        }
        let bar = progress::bar(self.file, self.info.size, have);
        let mut failures = 0;
        while have < self.info.size {
            let before = have;
            match self.attempt(&mut out, &mut have, &bar) {
                Ok(()) => {}
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Passing(problem)) => {
                    if have >= before + PROGRESS {
                        failures = 0;
                    }
                    let retries = self.client.options.retries;
                    self.client.wait_or_give_up(&mut failures, retries, &url, problem)?;
                }
            }
        }
        bar.finish_and_clear();
        out.sync_all().map_err(|e| write_error(e, self.path, self.file, 0))
    }

    /// One request for what is missing.
    fn attempt(&self, out: &mut File, have: &mut u64, bar: &ProgressBar) -> Result<(), Failure> {
        let (response, etag) = self.client.open(self.commit, self.file, *have)?;
        if etag.as_ref().is_some_and(|etag| *etag != self.info.etag) {
            return Err(self.damaged("its etag changed while it was fetched"));
        }
        match response.status() {
            StatusCode::PARTIAL_CONTENT => {
                let range = content_range(response.headers());
                if range.is_some_and(|range| range != (*have, self.info.size))
                    || (range.is_none() && *have > 0)
                {
                    return Err(self.damaged("the server sent another range than was asked for"));
                }
            }
            StatusCode::RANGE_NOT_SATISFIABLE => {
                *have = self.restart(out)?;
                return Err(Failure::Passing("the server could not continue the transfer".into()));
            }
            // A server that doesn't know ranges sends everything again.
            _ => *have = self.restart(out)?,
        }
        out.seek(SeekFrom::Start(*have)).map_err(WeightsError::io("seek in", self.path))?;
        let mut body = response.into_body().into_reader();
        self.receive(&mut body, out, have, bar)
    }

    /// Writes what arrives; `have` counts only what is written.
    fn receive(
        &self,
        body: &mut impl Read,
        out: &mut File,
        have: &mut u64,
        bar: &ProgressBar,
    ) -> Result<(), Failure> {
        let mut buffer = vec![0; CHUNK];
        loop {
            let got = body.read(&mut buffer).map_err(|e| self.cut(*have, &e.to_string()))?;
            let missing = self.info.size - *have;
            if got as u64 > missing {
                self.restart(out)?;
                return Err(self.damaged(&format!("more than the announced {} bytes came", self.info.size)));
            }
            if got == 0 {
                return if missing == 0 { Ok(()) } else { Err(self.cut(*have, "the connection was closed")) };
            }
            let written = out.write_all(&buffer[..got]);
            written.map_err(|error| write_error(error, self.path, self.file, missing))?;
            *have += got as u64;
            bar.set_position(*have);
        }
    }

    /// Compares the content with the etag where that is a SHA-256. A damaged file is removed.
    fn verify(&self) -> Result<()> {
        let is_sha256 = self.info.etag.len() == 64 && self.info.etag.chars().all(|c| c.is_ascii_hexdigit());
        if !is_sha256 {
            return Ok(());
        }
        let found = sha256(self.path)?;
        if found == self.info.etag.to_ascii_lowercase() {
            return Ok(());
        }
        fs::remove_file(self.path).map_err(WeightsError::io("remove", self.path))?;
        Err(self.damaged_error(&format!("its SHA-256 is {found} instead of {}", self.info.etag)))
    }

    fn restart(&self, out: &mut File) -> Result<u64> {
        out.set_len(0).map_err(WeightsError::io("truncate", self.path))?;
        Ok(0)
    }

    fn cut(&self, have: u64, reason: &str) -> Failure {
        Failure::Passing(format!("{reason} after {have} of {} bytes", self.info.size))
    }

    fn damaged(&self, problem: &str) -> Failure {
        Failure::Final(self.damaged_error(problem))
    }

    fn damaged_error(&self, problem: &str) -> WeightsError {
        WeightsError::Damaged {
            file: self.file.into(),
            model: self.client.model.to_string(),
            problem: problem.into(),
        }
    }
}

/// SHA-256 of a file, in hexadecimal.
fn sha256(path: &Path) -> Result<String> {
    let mut file = File::open(path).map_err(WeightsError::io("open", path))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; CHUNK];
    loop {
        match file.read(&mut buffer).map_err(WeightsError::io("read", path))? {
            0 => break,
            n => hasher.update(&buffer[..n]),
        }
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}
