//! The older HTTP transport, which the SDK no longer has: one long stream of events brings the server's messages, and
//! its first event names the address to which ours are posted, one by one.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures::{Stream, StreamExt, stream::BoxStream};
use http::header::ACCEPT;
use reqwest::{Client, Url};
use rmcp::{
    RoleClient,
    service::{RxJsonRpcMessage, TxJsonRpcMessage},
    transport::Transport,
};
use sse_stream::{Sse, SseStream};

use crate::{McpLimits, RemoteSpec, remote};

/// An open stream and where to post.
pub(crate) struct SseTransport {
    client: Client,
    endpoint: Url,
    events: BoxStream<'static, Sse>,
}

/// Opens the stream and waits for the address.
///
/// # Errors
/// What went wrong.
pub(crate) async fn connect(spec: &RemoteSpec, limits: &McpLimits) -> Result<SseTransport, String> {
    let client = remote::client(spec)?;
    let request = client.get(spec.url.clone()).header(ACCEPT, "text/event-stream");
    let response = request.send().await.and_then(reqwest::Response::error_for_status);
    let response = response.map_err(|error| describe(&error))?;
    let mut events = bounded(response, limits.message_bytes);
    loop {
        let event = events.next().await.ok_or("its stream of events ended before it named an address")?;
        if event.event.as_deref() != Some("endpoint") {
            continue;
        }
        let endpoint = spec.url.join(event.data.unwrap_or_default().trim());
        let endpoint = endpoint.map_err(|_| "the address that it named is no URL")?;
        // It gets our headers, so it must be where they belong.
        if endpoint.origin() != spec.url.origin() {
            return Err("the address that it named is on another host".into());
        }
        return Ok(SseTransport { client, endpoint, events });
    }
}

/// The events of a response. The stream ends at an error, and at an event that is too long.
fn bounded(response: reqwest::Response, most: usize) -> BoxStream<'static, Sse> {
    let pending = Arc::new(AtomicUsize::new(0));
    let counted = pending.clone();
    let bytes = response.bytes_stream().map(move |piece| {
        let piece = piece.map_err(io::Error::other)?;
        // Counts since the last whole event, and a little more: pieces have no respect for events.
        if counted.fetch_add(piece.len(), Ordering::Relaxed) > most {
            return Err(io::Error::other("an event is too long"));
        }
        Ok(piece)
    });
    let events = SseStream::from_bytes_stream(bytes).map(move |event| {
        pending.store(0, Ordering::Relaxed);
        event
    });
    until_error(events).boxed()
}

fn until_error<E>(events: impl Stream<Item = Result<Sse, E>>) -> impl Stream<Item = Sse> {
    events
        .take_while(|event| std::future::ready(event.is_ok()))
        .filter_map(|event| std::future::ready(event.ok()))
}

impl Transport<RoleClient> for SseTransport {
    type Error = io::Error;

    fn send(
        &mut self,
        item: TxJsonRpcMessage<RoleClient>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        let request = self.client.post(self.endpoint.clone()).json(&item);
        async move {
            let response = request.send().await.and_then(reqwest::Response::error_for_status);
            // The answer comes over the stream; what this response holds is of no interest.
            response.map(drop).map_err(|error| io::Error::other(describe(&error)))
        }
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleClient>> {
        loop {
            let event = self.events.next().await?;
            if event.event.as_deref().is_some_and(|name| name != "message") {
                continue;
            }
            match serde_json::from_str(event.data.as_deref().unwrap_or_default()) {
                Ok(message) => return Some(message),
                Err(_) => tracing::debug!("an MCP server sent an event that is no message"),
            }
        }
    }

    async fn close(&mut self) -> Result<(), Self::Error> {
        self.events = futures::stream::empty().boxed();
        Ok(())
    }
}

/// The cause, which says more than the outermost error, without the URL.
fn describe(error: &reqwest::Error) -> String {
    if let Some(status) = error.status() {
        return format!("it answered with the status {status}");
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}
