//! Databases as the server opens them.

use std::{
    fs::OpenOptions,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use redb::{Builder, Database, DatabaseError, Error, StorageError, backends::InMemoryBackend};

use super::solid::SolidFile;

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
    // A damaged file may make the database panic.
    let opened = catch_unwind(AssertUnwindSafe(|| make(create(path)?)));
    match opened.unwrap_or_else(|_| Err(Error::Corrupted("the database gave up".into()))) {
        Err(error) if is_damage(&error) => {
            let aside = aside(path);
            std::fs::rename(path, &aside).map_err(StorageError::from)?;
            tracing::warn!(
                "the {what} {} is damaged ({error}); it is now {}, and a new one is begun",
                path.display(),
                aside.display()
            );
            make(create(path)?)
        }
        result => result,
    }
}

/// Opens the file; a new one if there is none.
fn create(path: &Path) -> Result<Database, DatabaseError> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    builder().create_with_backend(SolidFile::new(file)?)
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
