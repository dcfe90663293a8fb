//! The way down.

use futures::{Stream, StreamExt, stream};
use tokio::{select, time::timeout};

use crate::App;

/// Waits for the first signal, drains; aborts on the second. Returns when no request is left, or when the grace
/// for aborted ones is over.
pub(crate) async fn until_stopped(app: &App, signals: impl Stream<Item = ()>) {
    // A stream that ends means "no more signals", not "stop".
    let mut signals = std::pin::pin!(signals.chain(stream::pending()));
    signals.next().await;
    let service = &app.service;
    tracing::info!(
        "stopping: {} running requests may finish; stop again to abort",
        service.active_requests()
    );
    service.drain();
    select! {
        () = service.idle() => return,
        _ = signals.next() => {}
    }
    tracing::info!("stopping at once: {} requests are aborted", service.active_requests());
    service.shutdown();
    // An aborted request is gone when its client has read the end; one that reads nothing must not keep us.
    let _ = timeout(app.config.shutdown_grace, service.idle()).await;
}

/// Ctrl-C and, where it exists, SIGTERM, from this call on. Call it inside a runtime.
pub fn stop_signals() -> impl Stream<Item = ()> {
    stream::select(interrupts(), terminations())
}

/// Ctrl-C. The handler is there when this returns, so that no later signal takes the system's default way.
/// Call it inside a runtime.
#[cfg(unix)]
pub fn interrupts() -> impl Stream<Item = ()> {
    unix(tokio::signal::unix::SignalKind::interrupt())
}

/// Ctrl-C. Call it inside a runtime.
#[cfg(not(unix))]
pub fn interrupts() -> impl Stream<Item = ()> {
    stream::unfold((), |()| async { tokio::signal::ctrl_c().await.ok().map(|()| ((), ())) })
}

/// SIGHUP, where it exists.
#[cfg(unix)]
pub(crate) fn hangups() -> impl Stream<Item = ()> {
    unix(tokio::signal::unix::SignalKind::hangup())
}

/// SIGHUP, where it exists.
#[cfg(not(unix))]
pub(crate) fn hangups() -> impl Stream<Item = ()> {
    stream::empty()
}

#[cfg(unix)]
fn terminations() -> impl Stream<Item = ()> {
    unix(tokio::signal::unix::SignalKind::terminate())
}

#[cfg(not(unix))]
fn terminations() -> impl Stream<Item = ()> {
    stream::empty()
}

/// Without a handler the stream ends at once, and the system's default applies.
#[cfg(unix)]
fn unix(kind: tokio::signal::unix::SignalKind) -> impl Stream<Item = ()> {
    let handler = tokio::signal::unix::signal(kind).ok();
    stream::unfold(handler, |handler| async {
        let mut handler = handler?;
        handler.recv().await.map(|()| ((), Some(handler)))
    })
}
