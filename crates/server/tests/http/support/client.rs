//! A small HTTP client: one connection per request, streams event by event.

use std::net::SocketAddr;

use http_body_util::{BodyExt, Full};
use hyper::{
    HeaderMap, Request,
    body::{Bytes, Incoming},
    client::conn::http1,
};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{net::TcpStream, task::JoinHandle};

/// A whole response.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Reply {
    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {}", self.text))
    }

    /// The `error` object of an error body; fails the test if the shape isn't OpenAI's.
    pub(crate) fn error(&self) -> Value {
        let body = self.json();
        let error = body["error"].as_object().unwrap_or_else(|| panic!("no error in {body}"));
        assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{body}");
        assert!(error["type"].is_string() && error.contains_key("param"), "{body}");
        assert_eq!(error["code"], self.status, "{body}");
        body["error"].clone()
    }
}

/// A response that is read line by line. Dropping it closes the connection.
pub(crate) struct Stream {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    body: Incoming,
    buffer: String,
    connection: JoinHandle<()>,
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// A part of an event stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Line {
    Data(String),
    Comment(String),
}

impl Stream {
    /// The next event of a vendor who names them: its `event:` line comes first and names its type.
    pub(crate) async fn event(&mut self) -> Option<Value> {
        let Line::Comment(block) = self.next().await? else { panic!("an event without a name") };
        let (name, data) = block.strip_prefix("event: ").unwrap().split_once("\ndata: ").unwrap();
        let event: Value = serde_json::from_str(data).unwrap();
        assert_eq!(event["type"], name);
        Some(event)
    }

    /// The next part; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<Line> {
        loop {
            if let Some((block, rest)) = self.buffer.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.buffer = rest;
                return Some(match block.strip_prefix("data: ") {
                    Some(data) => Line::Data(data.to_owned()),
                    None => Line::Comment(block),
                });
            }
            let frame = self.body.frame().await?.ok()?;
            if let Some(data) = frame.data_ref() {
                self.buffer.push_str(std::str::from_utf8(data).unwrap());
            }
        }
    }

    /// The next data that isn't a comment.
    pub(crate) async fn data(&mut self) -> Option<String> {
        loop {
            if let Line::Data(data) = self.next().await? {
                return Some(data);
            }
        }
    }

    /// All chunks up to `[DONE]`, which must come last.
    pub(crate) async fn chunks(mut self) -> Vec<Value> {
        let mut chunks = Vec::new();
        loop {
            match self.data().await {
                Some(data) if data == "[DONE]" => break,
                Some(data) => chunks.push(serde_json::from_str(&data).unwrap()),
                None => panic!("no [DONE] after {chunks:?}"),
            }
        }
        assert_eq!(self.next().await, None);
        chunks
    }
}

/// Talks to one server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Client(pub(crate) SocketAddr);

impl Client {
    /// Sends a request and reads the head of the response.
    pub(crate) async fn open(&self, request: Request<Full<Bytes>>) -> Stream {
        let socket = TcpStream::connect(self.0).await.unwrap();
        let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await.unwrap();
        let connection = tokio::spawn(async move {
            let _ = connection.await;
        });
        let response = sender.send_request(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let status = parts.status.as_u16();
        Stream { status, headers: parts.headers, body, buffer: String::new(), connection }
    }

    /// Sends a request and reads the whole response.
    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> Reply {
        let mut stream = self.open(request).await;
        let bytes = (&mut stream.body).collect().await.unwrap().to_bytes();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        Reply { status: stream.status, headers: stream.headers.clone(), text }
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.send(request("GET", path, &[], "")).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Reply {
        self.send(json_request(path, body)).await
    }

    /// A streamed answer; `stream` is added to the body.
    pub(crate) async fn stream(&self, path: &str, body: &Value) -> Stream {
        let mut body = body.clone();
        body["stream"] = true.into();
        self.open(json_request(path, &body)).await
    }
}

/// A request with a JSON body.
pub(crate) fn json_request(path: &str, body: &Value) -> Request<Full<Bytes>> {
    request("POST", path, &[("content-type", "application/json")], &body.to_string())
}

/// Any request.
pub(crate) fn request(
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Request<Full<Bytes>> {
    let mut builder = Request::builder().method(method).uri(path);
    if headers.iter().all(|(name, _)| *name != "host") {
        builder = builder.header("host", "test");
    }
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(Full::new(Bytes::from(body.to_owned()))).unwrap()
}
