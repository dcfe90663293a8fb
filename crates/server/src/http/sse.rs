//! Server-sent events.

use std::{convert::Infallible, time::Duration};

use axum::{
    body::{Body, Bytes},
    http::{
        HeaderName, HeaderValue,
        header::{CACHE_CONTROL, CONTENT_TYPE},
    },
    response::Response,
};
use futures::{Stream, StreamExt, stream};
use millrace_api::{ChatEvent, Encoder, Frame, ReplyHead};
use tokio::time::timeout;

use super::App;

/// Most events that go out in one piece. A client that reads slower than tokens come gets them in fewer writes, which
/// is what lets it catch up.
const TOGETHER: usize = 64;

/// What proxies see of a silent stream, unless its vendor has an event for that.
const COMMENT: &str = ": keep-alive\n\n";

/// An answer as a stream of events. The client going away drops it, and with it the request.
pub(super) fn events(
    app: &App,
    events: impl Stream<Item = ChatEvent> + Send + 'static,
    head: ReplyHead,
    mut encoder: Box<dyn Encoder>,
) -> Response {
    let ping = encoder.ping();
    let frames = events.flat_map(move |event| stream::iter(encoder.frames(&head, event)));
    respond(app, frames, ping)
}

/// Frames as a response. `ping` is what is sent into a silence, if it isn't a comment.
pub(super) fn respond(
    app: &App,
    frames: impl Stream<Item = Frame> + Send + 'static,
    ping: Option<Frame>,
) -> Response {
    let ping = ping.map_or_else(|| COMMENT.to_owned(), |frame| text([frame]));
    let pieces = frames.ready_chunks(TOGETHER).map(text);
    let mut response = Response::new(Body::from_stream(kept_alive(pieces, ping, app.config.keep_alive)));
    response.headers_mut().extend([
        (CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        // Proxies that gather a response before passing it on would undo the streaming.
        (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ]);
    response
}

/// The pieces, and a ping after each time of silence.
fn kept_alive(
    pieces: impl Stream<Item = String> + Send + 'static,
    ping: String,
    silence: Duration,
) -> impl Stream<Item = Result<Bytes, Infallible>> + Send {
    let ping = Bytes::from(ping);
    stream::unfold(Box::pin(pieces), move |mut pieces| {
        let ping = ping.clone();
        async move {
            let piece = match timeout(silence, pieces.next()).await {
                Ok(piece) => Bytes::from(piece?),
                Err(_) => ping,
            };
            Some((Ok(piece), pieces))
        }
    })
}

/// Frames as they go over the wire. Their data holds no line break.
fn text(frames: impl IntoIterator<Item = Frame>) -> String {
    let mut text = String::new();
    for Frame { event, data } in frames {
        if let Some(event) = event {
            text.extend(["event: ", event, "\n"]);
        }
        text.extend(["data: ", &data, "\n\n"]);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_written_as_browsers_read_them() {
        let named = Frame { event: Some("ping"), data: "{}".into() };
        assert_eq!(text([Frame::data("a"), named]), "data: a\n\nevent: ping\ndata: {}\n\n");
    }

    #[tokio::test]
    async fn silence_is_broken_and_what_comes_is_not_lost() {
        let (sender, receiver) = futures::channel::mpsc::unbounded::<String>();
        let mut pieces = std::pin::pin!(kept_alive(receiver, "ping".into(), Duration::from_millis(20)));
        assert_eq!(pieces.next().await.unwrap().unwrap(), "ping");
        sender.unbounded_send("a".into()).unwrap();
        assert_eq!(pieces.next().await.unwrap().unwrap(), "a");
        assert_eq!(pieces.next().await.unwrap().unwrap(), "ping");
        drop(sender);
        assert!(pieces.next().await.is_none());
    }
}
