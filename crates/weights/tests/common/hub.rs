//! A hub on this machine: a listener that answers what a test tells it to, and a model repository behind it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use millrace_weights::HubOptions;
use sha2::{Digest, Sha256};

/// One request as the server saw it.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// First byte of a `Range: bytes=N-`.
    pub(crate) fn range(&self) -> Option<usize> {
        self.header("range")?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
    }
}

/// What is answered.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
    /// Close the connection after this many bytes of the body, whatever `Content-Length` promised.
    pub(crate) cut: Option<usize>,
}

impl Reply {
    pub(crate) fn status(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

type Handler = dyn Fn(&Request) -> Reply + Send + Sync;

/// A server on a free port, for as long as the test runs.
pub(crate) struct FakeHub {
    pub(crate) url: String,
    seen: Arc<Mutex<Vec<Request>>>,
}

impl FakeHub {
    pub(crate) fn start(handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let handler: Arc<Handler> = Arc::new(handler);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (handler, log) = (Arc::clone(&handler), Arc::clone(&log));
                std::thread::spawn(move || answer(stream, &*handler, &log));
            }
        });
        Self { url, seen }
    }

    /// All requests so far.
    pub(crate) fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }

    /// Requests of this method whose path ends so.
    pub(crate) fn count(&self, method: &str, path_end: &str) -> usize {
        self.seen().iter().filter(|r| r.method == method && r.path.ends_with(path_end)).count()
    }

    /// Options that use this hub, a cache in `home`, and no waiting.
    pub(crate) fn options(&self, home: &Path) -> HubOptions {
        HubOptions {
            cache: home.join("hub"),
            endpoint: self.url.clone(),
            token: None,
            offline: false,
            retries: 2,
            retry_wait: Duration::ZERO,
        }
    }
}

fn answer(stream: TcpStream, handler: &Handler, log: &Mutex<Vec<Request>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let Some(request) = read_request(&mut reader) else { return };
    log.lock().unwrap().push(request.clone());
    let reply = handler(&request);
    let mut head = format!("HTTP/1.1 {} X\r\nConnection: close\r\n", reply.status);
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !reply.headers.iter().any(|(name, _)| *name == "Content-Length") {
        head.push_str(&format!("Content-Length: {}\r\n", reply.body.len()));
    }
    head.push_str("\r\n");
    let mut stream = stream;
    let body = &reply.body[..reply.cut.unwrap_or(reply.body.len()).min(reply.body.len())];
    let body = if request.method == "HEAD" { &[] } else { body };
    // The client may have gone; that is part of some tests.
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
    let _ = stream.shutdown(Shutdown::Both);
}

fn read_request(reader: &mut impl BufRead) -> Option<Request> {
    let mut lines = reader.by_ref().lines().map_while(Result::ok);
    let first = lines.next()?;
    let mut words = first.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let headers = lines.take_while(|l| !l.is_empty());
    let headers = headers.filter_map(|l| l.split_once(": ").map(|(n, v)| (n.to_owned(), v.to_owned())));
    Some(Request { method, path, headers: headers.collect() })
}

/// The commit that the repository's `main` points to.
pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A model repository as the hub serves it.
#[derive(Debug, Clone)]
pub(crate) struct Repo {
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    pub(crate) commit: String,
}

impl Repo {
    /// `org/name` with a configuration, a tokenizer and weights of about 3 MB.
    pub(crate) fn new() -> Self {
        let values: Vec<f32> = (0..750_000).map(|i| i as f32).collect();
        let files = [
            ("config.json", br#"{"model_type": "x"}"#.to_vec()),
            ("tokenizer.json", b"{}".to_vec()),
            ("README.md", b"not needed".to_vec()),
            ("model.safetensors", super::vectors(&[("a", &values)])),
        ];
        let files = files.into_iter().map(|(name, bytes)| (name.to_owned(), bytes)).collect();
        Self { files, commit: COMMIT.into() }
    }

    pub(crate) fn weights(&self) -> &[u8] {
        &self.files["model.safetensors"]
    }

    /// SHA-256 for weights, something else for small files, as the hub does it.
    pub(crate) fn etag(&self, file: &str) -> String {
        let digest: String = Sha256::digest(&self.files[file]).iter().map(|b| format!("{b:02x}")).collect();
        if file.ends_with(".safetensors") { digest } else { digest[..40].to_owned() }
    }

    /// The answer of a correct hub.
    pub(crate) fn answer(&self, request: &Request) -> Reply {
        if let Some(revision) = request.path.strip_prefix("/api/models/org/name/revision/") {
            return self.listing(revision);
        }
        let prefix = format!("/org/name/resolve/{}/", self.commit);
        let Some(file) = request.path.strip_prefix(&prefix).filter(|f| self.files.contains_key(*f)) else {
            return Reply::status(404).with("X-Error-Code", "EntryNotFound");
        };
        let (content, begin) = (&self.files[file], request.range().unwrap_or(0));
        let mut reply = Reply::status(200).with("ETag", format!("\"{}\"", self.etag(file)));
        if request.range().is_some() {
            let range = format!("bytes {begin}-{}/{}", content.len() - 1, content.len());
            reply = Reply { status: 206, ..reply }.with("Content-Range", range);
        }
        reply.body = content[begin..].to_vec();
        reply
    }

    fn listing(&self, revision: &str) -> Reply {
        if revision != "main" && revision != "v1%2Fx" && revision != self.commit {
            return Reply::status(404).with("X-Error-Code", "RevisionNotFound");
        }
        let siblings: Vec<_> = self.files.keys().map(|f| serde_json::json!({ "rfilename": f })).collect();
        let body = serde_json::json!({ "sha": self.commit, "siblings": siblings }).to_string();
        Reply { body: body.into_bytes(), ..Reply::status(200) }
    }
}
