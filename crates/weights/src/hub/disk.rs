//! Full disks: noticed before a download where possible, and told clearly in any case.

use std::io;
use std::path::Path;

use crate::{Result, WeightsError};

/// Fails if `needed` more bytes for `what` can't fit on the disk under `folder`.
pub(crate) fn check_room(folder: &Path, what: &str, needed: u64) -> Result<()> {
    match free_bytes(folder) {
        Some(free) if free < needed => Err(full(folder, what, needed)),
        _ => Ok(()),
    }
}

/// Turns a failed write into the error that says what to do. `missing` is what was still to be written.
pub(crate) fn write_error(error: io::Error, path: &Path, what: &str, missing: u64) -> WeightsError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            full(path.parent().unwrap_or(path), what, missing)
        }
        _ => WeightsError::io("write", path)(error),
    }
}

fn full(folder: &Path, what: &str, needed: u64) -> WeightsError {
    let free = free_bytes(folder).unwrap_or(0);
    WeightsError::DiskFull { file: what.into(), path: folder.into(), needed, free }
}

/// Free bytes for this user on the disk of `folder`, or of its nearest ancestor that exists.
#[cfg(unix)]
fn free_bytes(folder: &Path) -> Option<u64> {
    let existing = folder.ancestors().find(|f| f.exists())?;
    let stat = rustix::fs::statvfs(existing).ok()?;
    stat.f_bavail.checked_mul(stat.f_frsize)
}

#[cfg(not(unix))]
fn free_bytes(_folder: &Path) -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;

    use super::*;

    #[test]
    fn more_than_the_disk_has_is_refused() {
        let folder = std::env::temp_dir().join("not/there");
        check_room(&folder, "m", 0).unwrap();
        let message = check_room(&folder, "org/name", u64::MAX).unwrap_err().to_string();
        assert!(
            message.starts_with("no space left for org/name: 18446744073709551615 more bytes"),
            "{message}"
        );
    }

    /// `/dev/full` fails every write as a full disk does.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_names_the_file_and_what_to_do() {
        let path = Path::new("/dev/full");
        let error = File::options().write(true).open(path).unwrap().write_all(b"x").unwrap_err();
        let message = write_error(error, path, "model.safetensors", 7).to_string();
        assert!(
            message.starts_with("no space left for model.safetensors: 7 more bytes are needed under /dev")
        );
        let other = write_error(io::Error::from(io::ErrorKind::PermissionDenied), path, "x", 7).to_string();
        assert!(other.starts_with("could not write /dev/full: "), "{other}");
    }
}
