//! Sockets: bind, accept, and let go in good order.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;
use futures::Stream;
use hyper::{
    Request,
    body::Incoming,
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    select,
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{App, ServerError, http::admin::Peer, router, shutdown::until_stopped};

/// Pause after a failed accept, which means that the system is out of files or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

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

/// Serves until stopped. The first signal stops new requests and lets the running ones finish, while probes still
/// get answers; the second one aborts them. Returns when the connections are closed.
///
/// # Errors
/// If the configuration can't be served; nothing was accepted then.
pub async fn serve(
    listener: TcpListener,
    app: Arc<App>,
    signals: impl Stream<Item = ()>,
) -> Result<(), ServerError> {
    let router = router(app.clone())?;
    // Dropping the sender stops the connections too, so nothing outlives a cancelled `serve`.
    let (stop, stopped) = watch::channel(false);
    let mut connections = tokio::spawn(accept(listener, router, app.clone(), stopped));
    until_stopped(&app, signals).await;
    stop.send_replace(true);
    if timeout(app.config.shutdown_grace, &mut connections).await.is_err() {
        tracing::warn!("some connections did not finish in time and are closed");
        connections.abort();
    }
    if let Some(tools) = &app.mcp {
        tools.stop().await;
    }
    Ok(())
}

async fn accept(listener: TcpListener, router: Router, app: Arc<App>, mut stopped: watch::Receiver<bool>) {
    let permits = Arc::new(Semaphore::new(app.config.max_connections));
    let mut connections = JoinSet::new();
    let until = stopped.clone();
    loop {
        select! {
            biased;
            () = told(&mut stopped) => break,
            // Reaps finished connections; pends if there are none.
            Some(_) = connections.join_next() => {}
            next = next_connection(&listener, &permits) => match next {
                Ok((stream, peer, permit)) => {
                    let header_timeout = app.config.header_timeout;
                    let router = router.clone();
                    connections.spawn(converse(stream, peer, router, header_timeout, until.clone(), permit));
                }
                Err(error) => {
                    tracing::warn!("a connection could not be accepted: {error}");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn next_connection(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let permit = permits.clone().acquire_owned().await.map_err(io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    // Tokens are small and must not wait for a full packet. It fails only if the client has left already.
    let _ = stream.set_nodelay(true);
    Ok((stream, peer, permit))
}

/// One connection: requests one after the other until either side has enough.
async fn converse(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    header_timeout: Duration,
    mut stopped: watch::Receiver<bool>,
    _permit: OwnedSemaphorePermit,
) {
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        router.call(request)
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

/// Waits for the order to stop. An error means that the server itself is gone, which is a reason as well.
async fn told(stopped: &mut watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stopped| *stopped).await;
}
