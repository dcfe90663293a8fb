//! Files that are read again while the server runs: keys on SIGHUP, certificates on SIGHUP or when they change.

use std::{future, sync::Arc};

use futures::{Stream, StreamExt, stream};
use tokio::{select, time::interval};

use super::tls::{LOOK, Tls};
use crate::{App, shutdown::hangups};

/// Runs for as long as the server. Without such files a SIGHUP keeps its usual meaning.
pub(super) async fn upkeep(app: Arc<App>, tls: Option<Arc<Tls>>) {
    if app.config.api_keys_file.is_none() && tls.is_none() {
        return;
    }
    let mut hangups = std::pin::pin!(hangups().chain(stream::pending()));
    let mut looks = std::pin::pin!(looks(tls.is_some()));
    loop {
        select! {
            _ = hangups.next() => {
                reload_keys(&app);
                tls.iter().for_each(|tls| reload_tls(tls));
            }
            _ = looks.next() => tls.iter().filter(|tls| tls.changed()).for_each(|tls| reload_tls(tls)),
        }
    }
}

/// When to look at the certificate's files.
fn looks(wanted: bool) -> impl Stream<Item = ()> {
    stream::unfold(interval(LOOK), move |mut interval| async move {
        if !wanted {
            future::pending::<()>().await;
        }
        interval.tick().await;
        Some(((), interval))
    })
}

fn reload_keys(app: &App) {
    match app.keys.reload() {
        Ok(Some(count)) => tracing::warn!("the keys file was read again: {count} keys open the server"),
        Ok(None) => {}
        Err(error) => tracing::error!("{error}; the old keys stay in force"),
    }
}

fn reload_tls(tls: &Tls) {
    match tls.reload() {
        Ok(()) => tracing::warn!("the certificate was read again"),
        Err(error) => tracing::error!("{error}; the old certificate stays in use"),
    }
}
