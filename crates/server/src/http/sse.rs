//! Server-sent events.

use std::convert::Infallible;

use axum::{
    http::{HeaderName, HeaderValue},
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures::{Stream, StreamExt, stream};
use millrace_api::{ChatEvent, Encoder, Frame, ReplyHead};

use super::App;

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
    let events = frames.map(|frame| Ok::<_, Infallible>(to_event(frame)));
    let keep_alive = match ping {
        Some(frame) => KeepAlive::new().event(to_event(frame)),
        None => KeepAlive::new().text("keep-alive"),
    };
    let keep_alive = keep_alive.interval(app.config.keep_alive);
    let mut response = Sse::new(events).keep_alive(keep_alive).into_response();
    // Proxies that gather a response before passing it on would undo the streaming.
    let no_buffering = (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response.headers_mut().extend([no_buffering]);
    response
}

fn to_event(frame: Frame) -> Event {
    let event = Event::default();
    let event = match frame.event {
        Some(name) => event.event(name),
        None => event,
    };
    event.data(frame.data)
}
