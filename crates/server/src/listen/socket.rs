//! Where connections come from.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
};

use super::Tls;
#[cfg(unix)]
use super::unix::{self, UnixSocket};
use crate::ServerError;

/// The server's address: a TCP port or a Unix socket, with or without TLS.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    pub(super) tls: Option<Arc<Tls>>,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(UnixSocket),
}

/// Who is at the other end of a connection; an extension of each of its requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    /// An address; of a proxy, if there is one.
    Tcp(IpAddr),
    /// A process on this machine that may open the socket.
    Unix,
}

/// A connection.
pub(super) enum Stream {
    Tcp(TcpStream),
    /// Anything else; plain TCP is kept apart because it is what has to be fast.
    Other(Box<dyn Io>),
}

/// Bytes both ways.
pub(super) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Listens on an address and says which one it became (port 0 takes any free one).
///
/// # Errors
/// If the address can't be listened on.
pub async fn bind(host: &str, port: u16) -> Result<(TcpListener, SocketAddr), ServerError> {
    // A bare IPv6 address is fine as a host; brackets are only for URLs.
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let refused = |source: io::Error| ServerError::Bind { address: format!("{host}:{port}"), source };
    let listener = TcpListener::bind((host, port)).await.map_err(refused)?;
    let address = listener.local_addr().map_err(refused)?;
    Ok((listener, address))
}

impl Listener {
    /// Listens on a Unix socket whose file gets the permissions `mode`, such as 0o600. Its file is removed in the end,
    /// and one that a dead server left behind at the beginning. Call it inside a runtime.
    ///
    /// # Errors
    /// Somebody listens there, or the file is no socket, or the system refuses.
    #[cfg(unix)]
    pub fn unix(path: &std::path::Path, mode: u32) -> Result<Self, ServerError> {
        Ok(Self { socket: Socket::Unix(unix::bind(path, mode)?), tls: None })
    }

    /// The same address with encrypted connections.
    #[must_use]
    pub fn with_tls(self, tls: Tls) -> Self {
        Self { tls: Some(Arc::new(tls)), ..self }
    }

    /// The next connection.
    pub(super) async fn accept(&self) -> io::Result<(Stream, Peer)> {
        match &self.socket {
            Socket::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                // Tokens are small and must not wait for a full packet. It fails only if the client has left already.
                let _ = stream.set_nodelay(true);
                Ok((Stream::Tcp(stream), Peer::Tcp(address.ip())))
            }
            #[cfg(unix)]
            Socket::Unix(socket) => {
                let (stream, _) = socket.listener.accept().await?;
                Ok((Stream::Other(Box::new(stream)), Peer::Unix))
            }
        }
    }
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Self {
        Self { socket: Socket::Tcp(listener), tls: None }
    }
}
