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
