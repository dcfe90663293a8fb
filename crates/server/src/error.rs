//! What can go wrong with the server as a whole; requests fail with [`ApiError`](millrace_api::ApiError).

use std::{io, path::PathBuf};

/// The server can't start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address is taken, or not ours.
    #[error("cannot listen on {address}: {source}; choose another --host or --port")]
    Bind {
        /// As it was given.
        address: String,
        /// The system's reason.
        source: io::Error,
    },
    /// A store can't be used.
    #[error("the store `{path}` cannot be opened: {reason}; choose another {flag}")]
    Store {
        /// Where it was named.
        flag: &'static str,
        /// The file; empty for a store in memory.
        path: String,
        /// The database's reason.
        reason: String,
    },
    /// The system refuses a thread.
    #[error("the thread that loads models could not be started: {source}")]
    Thread {
        /// The system's reason.
        source: io::Error,
    },
    /// The Unix socket is taken, or its file is something else.
    #[error("cannot listen on the socket {}: {source}; choose another --uds", path.display())]
    BindUnix {
        /// As it was given.
        path: PathBuf,
        /// What is there, or the system's reason.
        source: io::Error,
    },
    /// The certificate or its key is wrong; the reason shows nothing of the key.
    #[error("the TLS file {} cannot be used: {reason}", path.display())]
    Tls {
        /// Which of the two.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Any page at all would act with its visitor's credentials.
    #[error("--allow-credentials needs the origins by name; `*` is not allowed with it")]
    Credentials,
    /// What may not be in a list of methods or headers.
    #[error("`{name}` in {flag} is not a name that HTTP allows")]
    Cors {
        /// The list.
        flag: &'static str,
        /// As it was given.
        name: String,
    },
    /// The file of keys is wrong; the reason shows no key.
    #[error("the keys file {} cannot be used: {reason}", path.display())]
    KeysFile {
        /// Where it is.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// An allowed origin isn't one.
    #[error("`{origin}` is not an origin; write it like https://example.org, or * for all")]
    Origin {
        /// As it was given.
        origin: String,
    },
}
