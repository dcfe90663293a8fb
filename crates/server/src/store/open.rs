//! Databases as the server opens them.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use redb::{Builder, Database, Error, StorageError, backends::InMemoryBackend};

use super::solid::SolidFile;

/// Pages that are held in memory, in bytes.
const CACHE: usize = 16 << 20;

/// Opens the file, or a new database in memory; `make` takes it, and `upkeep` then makes its tables if it is new and
/// forgets what need not be kept. A damaged file is renamed, with a warning that calls it `what`. Where there is no room
/// for the upkeep, the database is opened without it: what it holds can still be read.
pub(crate) fn open<D>(
    path: Option<&Path>,
    what: &str,
    make: impl Fn(Database) -> D,
    upkeep: impl Fn(&mut D) -> Result<(), Error>,
) -> Result<D, Error> {
    let database = || match path {
        Some(path) => builder().create_with_backend(SolidFile::open(path).map_err(StorageError::from)?),
        None => builder().create_with_backend(InMemoryBackend::new()),
    };
    let kept_up = || {
        let mut db = make(database()?);
        upkeep(&mut db)?;
        Ok(db)
    };
    match (caught(kept_up), path) {
        (Err(error), Some(path)) if is_damage(&error) => {
            let aside = aside(path);
            std::fs::rename(path, &aside).map_err(StorageError::from)?;
            tracing::warn!(
                "the {what} {} is damaged ({error}); it is now {}, and a new one is begun",
                path.display(),
                aside.display()
            );
            kept_up()
        }
        (Err(error @ Error::Io(_)), Some(path)) => {
            let db = make(database()?);
            tracing::warn!("the {what} {} can be read, but not written: {error}", path.display());
            Ok(db)
        }
        (result, _) => result,
    }
}

/// Runs work that touches the database. A damaged file may make it panic; that must cost no more than an error does.
pub(crate) fn caught<T>(work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(Error::Corrupted("the database gave up".into())))
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
