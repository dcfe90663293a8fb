//! What can go wrong with the server as a whole; requests fail with [`ApiError`](millrace_api::ApiError).

use std::io;

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
    /// The response store can't be used.
    #[error("the response store `{path}` cannot be opened: {reason}; choose another --response-store")]
    Store {
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
    /// An allowed origin isn't one.
    #[error("`{origin}` is not an origin; write it like https://example.org, or * for all")]
    Origin {
        /// As it was given.
        origin: String,
    },
}
