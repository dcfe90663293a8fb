//! Databases as the server opens them.

use std::path::{Path, PathBuf};

use redb::{Builder, Database, Error, StorageError, backends::InMemoryBackend};

/// Pages that are held in memory, in bytes.
const CACHE: usize = 16 << 20;

/// Opens the file, or a new database in memory; `make` takes it, and makes its tables if it is new. A damaged file is
/// renamed, with a warning that calls it `what`.
pub(crate) fn open<D>(
    path: Option<&Path>,
    what: &str,
    make: impl Fn(Database) -> Result<D, Error>,
) -> Result<D, Error> {
    let Some(path) = path else {
        return make(builder().create_with_backend(InMemoryBackend::new())?);
    };
    let opened = builder().create(path).map_err(Error::from);
    match opened.and_then(&make) {
        Err(error) if is_damage(&error) => {
            let aside = aside(path);
            std::fs::rename(path, &aside).map_err(StorageError::from)?;
            tracing::warn!(
                "the {what} {} is damaged ({error}); it is now {}, and a new one is begun",
                path.display(),
                aside.display()
            );
            make(builder().create(path)?)
        }
        result => result,
    }
}

fn builder() -> Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE);
    builder
}

/// Whether the file's content is at fault, and not the way to it.
fn is_damage(error: &Error) -> bool {
    match error {
        Error::Corrupted(_) | Error::UpgradeRequired(_) | Error::RepairAborted => true,
        Error::Io(error) => {
            matches!(error.kind(), std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof)
        }
        Error::TableTypeMismatch { .. } => true,
        _ => false,
    }
}

fn aside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".damaged");
    name.into()
}
