//! TLS: a certificate and its key from two files, read anew when they change.

use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::{Duration, SystemTime},
};

use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        self,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};

use crate::ServerError;

/// How often the files are looked at.
pub(super) const LOOK: Duration = Duration::from_secs(10);

/// Longest file, in bytes: chains are a few kilobytes.
const MAX_FILE: u64 = 1 << 20;

/// What encrypts connections. New files serve new connections; open ones go on as they began.
#[derive(Debug)]
pub struct Tls {
    cert_file: PathBuf,
    key_file: PathBuf,
    config: RwLock<Arc<rustls::ServerConfig>>,
    /// The files as they were when they were read last, well or badly.
    seen: Mutex<[Option<Stamp>; 2]>,
}

/// What tells two versions of a file apart.
type Stamp = (SystemTime, u64);

impl Tls {
    /// Reads a chain of certificates, the server's own first, and its private key, both as PEM.
    ///
    /// # Errors
    /// A file can't be read or holds something else, or the key is not that of the certificate.
    pub fn open(cert_file: &Path, key_file: &Path) -> Result<Self, ServerError> {
        let (cert_file, key_file) = (cert_file.to_owned(), key_file.to_owned());
        let seen = Mutex::new([stamp(&cert_file), stamp(&key_file)]);
        let config = RwLock::new(read(&cert_file, &key_file)?);
        Ok(Self { cert_file, key_file, config, seen })
    }

    /// For the next connection.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        // Replaced as a whole, so a poisoned lock still guards a sound configuration.
        self.config.read().unwrap_or_else(PoisonError::into_inner).clone().into()
    }

    /// Reads the files again.
    ///
    /// # Errors
    /// As in [`open`](Self::open); the old certificate stays.
    pub(super) fn reload(&self) -> Result<(), ServerError> {
        // Stamped before it is read: what changes in between is seen next time.
        self.changed();
        let config = read(&self.cert_file, &self.key_file)?;
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
        Ok(())
    }

    /// Whether the files are others than last time.
    pub(super) fn changed(&self) -> bool {
        let now = [stamp(&self.cert_file), stamp(&self.key_file)];
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *seen, now) != now
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let data = fs::metadata(path).ok()?;
    Some((data.modified().ok()?, data.len()))
}

fn read(cert_file: &Path, key_file: &Path) -> Result<Arc<rustls::ServerConfig>, ServerError> {
    let refuse = |path: &Path, reason: String| ServerError::Tls { path: path.to_owned(), reason };
    let pem = |path: &Path| bytes(path).map_err(|reason| refuse(path, reason));
    let certs = CertificateDer::pem_slice_iter(&pem(cert_file)?).collect::<Result<Vec<_>, _>>();
    let certs = certs.map_err(|_| refuse(cert_file, "it is not PEM".into()))?;
    if certs.is_empty() {
        return Err(refuse(cert_file, "it holds no certificate in PEM".into()));
    }
    let key = PrivateKeyDer::from_pem_slice(&pem(key_file)?);
    let key = key.map_err(|_| refuse(key_file, "it holds no unencrypted private key in PEM".into()))?;
    let provider = Arc::new(ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map(|builder| builder.with_no_client_auth())
        .and_then(|builder| builder.with_single_cert(certs, key))
        .map_err(|error| refuse(key_file, format!("it does not fit the certificate ({error})")))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn bytes(path: &Path) -> Result<Vec<u8>, String> {
    let file = File::open(path).map_err(|error| format!("it cannot be opened ({error})"))?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("it cannot be read ({error})"))?;
    if bytes.len() as u64 > MAX_FILE { Err(format!("it is longer than {MAX_FILE} bytes")) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_are_something_else_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
        let refused = || Tls::open(&cert, &key).unwrap_err().to_string();
        assert!(refused().contains("cert.pem") && refused().contains("cannot be opened"), "{}", refused());
        fs::write(&cert, "hello").unwrap();
        assert!(refused().contains("no certificate"), "{}", refused());
    }
}
