//! Sockets: bind, accept, and let go in good order.

mod connection;
mod patience;
mod socket;
mod tls;
#[cfg(unix)]
mod unix;
mod upkeep;

use std::{io, sync::Arc, time::Duration};

use axum::Router;
use futures::Stream as Signals;
use tokio::{
    select,
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{App, ServerError, jobs, router, shutdown::until_stopped};
use connection::{Terms, converse};
pub(crate) use socket::Peer;
use socket::Stream;
pub use socket::{Listener, bind};
pub use tls::Tls;
use upkeep::upkeep;

/// Pause after a failed accept, which means that the system is out of files or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves until stopped. The first signal stops new requests and lets the running ones finish, while probes still
/// get answers; the second one aborts them. Returns when the connections are closed.
///
/// # Errors
/// If the configuration can't be served; nothing was accepted then.
pub async fn serve(
    listener: impl Into<Listener>,
    app: Arc<App>,
    signals: impl Signals<Item = ()>,
) -> Result<(), ServerError> {
    let listener = listener.into();
    let router = router(app.clone())?;
    // Dropping the sender stops the connections too, so nothing outlives a cancelled `serve`.
    let (stop, stopped) = watch::channel(false);
    let mut helpers = JoinSet::new();
    helpers.spawn(upkeep(app.clone(), listener.tls.clone()));
    helpers.spawn(jobs::run(app.clone()));
    let mut connections = tokio::spawn(accept(listener, router, app.clone(), stopped));
    until_stopped(&app, signals).await;
    stop.send_replace(true);
    if timeout(app.config.shutdown_grace, &mut connections).await.is_err() {
        tracing::warn!("some connections did not finish in time and are closed");
        connections.abort();
        // What is aborted still owns the socket until it is gone.
        let _ = connections.await;
    }
    if let Some(tools) = &app.mcp {
        tools.stop().await;
    }
    Ok(())
}

async fn accept(listener: Listener, router: Router, app: Arc<App>, mut stopped: watch::Receiver<bool>) {
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
                    let tls = listener.tls.as_ref().map(|tls| tls.acceptor());
                    let (header_timeout, write_timeout) = (app.config.header_timeout, app.config.write_timeout);
                    let terms = Terms { peer, tls, header_timeout, write_timeout };
                    connections.spawn(converse(stream, terms, router.clone(), until.clone(), permit));
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
    listener: &Listener,
    permits: &Arc<Semaphore>,
) -> io::Result<(Stream, Peer, OwnedSemaphorePermit)> {
    let permit = permits.clone().acquire_owned().await.map_err(io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    Ok((stream, peer, permit))
}

/// Waits for the order to stop. An error means that the server itself is gone, which is a reason as well.
async fn told(stopped: &mut watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stopped| *stopped).await;
}
