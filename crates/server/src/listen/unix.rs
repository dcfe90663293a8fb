//! A Unix socket as the server's address.

use std::{
    fs, io,
    os::unix::{
        fs::{FileTypeExt, MetadataExt},
        net::{UnixListener as StdListener, UnixStream as StdStream},
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::Mode,
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType},
};
use tokio::net::UnixListener;

use crate::ServerError;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;

/// A listening socket that removes its file when it is dropped.
#[derive(Debug)]
pub(super) struct UnixSocket {
    pub(super) listener: UnixListener,
    path: PathBuf,
    /// Device and inode: the file may be another server's by then.
    file: (u64, u64),
}

/// Listens at `path`; its file gets the permissions `mode`, such as 0o600. A file that a dead server left behind is
/// removed. Call it inside a runtime.
///
/// # Errors
/// Somebody listens there, the file is no socket, or the system refuses.
pub(super) fn bind(path: &Path, mode: u32) -> Result<UnixSocket, ServerError> {
    let refuse = |source: io::Error| ServerError::BindUnix { path: path.to_owned(), source };
    remove_stale(path).map_err(refuse)?;
    let listener = open(path, mode).map_err(refuse)?;
    let data = fs::symlink_metadata(path).map_err(refuse)?;
    Ok(UnixSocket { listener, path: path.to_owned(), file: (data.dev(), data.ino()) })
}

fn remove_stale(path: &Path) -> io::Result<()> {
    let data = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        data => data?,
    };
    if !data.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file that is no socket"));
    }
    match StdStream::connect(path) {
        Ok(_) => Err(io::Error::new(io::ErrorKind::AddrInUse, "another server listens there")),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) => Err(error),
    }
}

/// The permissions are set before anybody can connect: that takes a socket that listens.
fn open(path: &Path, mode: u32) -> io::Result<UnixListener> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    rustix::fs::chmod(path, Mode::from_raw_mode(mode))?;
    rustix::net::listen(&socket, BACKLOG)?;
    UnixListener::from_std(StdListener::from(socket))
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|data| (data.dev(), data.ino()) == self.file);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!("the socket {} could not be removed: {error}", self.path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[tokio::test]
    async fn a_socket_is_private_and_gone_afterwards() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let socket = bind(&path, 0o600).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let taken = bind(&path, 0o600).unwrap_err().to_string();
        assert!(taken.contains("another server listens there"), "{taken}");
        drop(socket);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn only_what_a_dead_server_left_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        drop(StdListener::bind(&path).unwrap());
        assert!(path.exists());
        drop(bind(&path, 0o660).unwrap());

        fs::write(&path, "precious").unwrap();
        let refused = bind(&path, 0o600).unwrap_err().to_string();
        assert!(refused.contains("no socket"), "{refused}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[tokio::test]
    async fn anothers_socket_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let old = bind(&path, 0o600).unwrap();
        // Kept under another name, so that the new file can't get its inode.
        fs::rename(&path, dir.path().join("moved")).unwrap();
        let _new = bind(&path, 0o600).unwrap();
        drop(old);
        assert!(path.exists());
    }
}
