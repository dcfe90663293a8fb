//! One connection: requests one after the other until either side has enough.

use std::time::Duration;

use axum::{Router, body::Body, extract::Request};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    select,
    sync::{OwnedSemaphorePermit, watch},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tower::Service;

use super::{Peer, Stream, patience::Patience, socket::Io, told};

/// What holds for a connection.
pub(super) struct Terms {
    pub(super) peer: Peer,
    pub(super) tls: Option<TlsAcceptor>,
    /// For the handshake, for each request's head, and for the silence between two requests.
    pub(super) header_timeout: Duration,
    /// For a client that takes nothing of its answer.
    pub(super) write_timeout: Duration,
}

/// Serves a connection until it ends. The permit makes room for another one.
pub(super) async fn converse(
    stream: Stream,
    terms: Terms,
    router: Router,
    stopped: watch::Receiver<bool>,
    _permit: OwnedSemaphorePermit,
) {
    let Terms { peer, tls, header_timeout, write_timeout } = terms;
    match (stream, tls) {
        (Stream::Tcp(stream), None) => {
            talk(Patience::new(stream, write_timeout), peer, header_timeout, router, stopped).await;
        }
        (Stream::Other(stream), None) => {
            talk(Patience::new(stream, write_timeout), peer, header_timeout, router, stopped).await;
        }
        (stream, Some(tls)) => {
            let stream: Box<dyn Io> = match stream {
                Stream::Tcp(stream) => Box::new(stream),
                Stream::Other(stream) => stream,
            };
            // Under the encryption, where it is seen what the client takes.
            let stream = Patience::new(stream, write_timeout);
            if let Some(stream) = shake_hands(Box::new(stream), &tls, header_timeout).await {
                talk(stream, peer, header_timeout, router, stopped).await;
            }
        }
    }
}

/// The encrypted stream; `None` if the client speaks something else or takes too long.
async fn shake_hands(stream: Box<dyn Io>, tls: &TlsAcceptor, limit: Duration) -> Option<Box<dyn Io>> {
    match timeout(limit, tls.accept(stream)).await {
        Ok(Ok(stream)) => Some(Box::new(stream)),
        Ok(Err(error)) => {
            tracing::debug!("a TLS handshake failed: {error}");
            None
        }
        Err(_) => {
            tracing::debug!("a TLS handshake took too long");
            None
        }
    }
}

async fn talk(
    stream: impl Io + 'static,
    peer: Peer,
    header_timeout: Duration,
    router: Router,
    mut stopped: watch::Receiver<bool>,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(peer);
        router.clone().call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let result = select! {
        result = connection.as_mut() => result,
        () = told(&mut stopped) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!("a connection ended early: {error}");
    }
}
