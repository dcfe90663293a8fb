//! What can be set about the HTTP side.

use std::time::Duration;

use millrace_api::Limits;

use crate::KeysFile;

/// Settings of the server. The defaults suit a trusted machine: no keys, no cross-origin access.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Keys of which a client must present one; empty lets everybody in.
    pub api_keys: Vec<String>,
    /// More keys, with names and limits.
    pub api_keys_file: Option<KeysFile>,
    /// Bounds on requests.
    pub limits: Limits,
    /// Which MCP servers requests may bring.
    pub mcp_request_urls: RequestUrls,
    /// Origins whose web pages may call the API; `*` allows all, empty none.
    pub allowed_origins: Vec<String>,
    /// Methods that such pages may use; `*` or empty allows all.
    pub allowed_methods: Vec<String>,
    /// Headers that such pages may send; `*` or empty allows all.
    pub allowed_headers: Vec<String>,
    /// Whether such pages may send cookies and HTTP credentials; needs named origins.
    pub allow_credentials: bool,
    /// Log the bodies of requests, prompts included.
    pub log_prompts: bool,
    /// Whether `/tokenizer_info` answers.
    pub tokenizer_info: bool,
    /// Largest file that may be uploaded, in bytes.
    pub max_file_bytes: u64,
    /// Requests of batches that run at a time.
    pub batch_concurrency: usize,
    /// Time limit of requests that bring none of their own.
    pub request_timeout: Option<Duration>,
    /// How long a request may wait for its first step.
    pub max_queue_wait: Option<Duration>,
    /// Silence on a stream after which a comment is sent, so that proxies keep the connection.
    pub keep_alive: Duration,
    /// Time in which a client must have sent a request's head, and also how long an idle connection is kept.
    pub header_timeout: Duration,
    /// Time in which a client must have sent a request's body.
    pub body_timeout: Duration,
    /// How long a client may take nothing of its answer before its connection is closed.
    pub write_timeout: Duration,
    /// Connections at a time; more wait in the system's queue.
    pub max_connections: usize,
    /// How long connections may take to finish once the engine has stopped.
    pub shutdown_grace: Duration,
}

/// Which MCP servers a request may bring with it, by their URLs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RequestUrls {
    /// None.
    None,
    /// Those at public addresses.
    #[default]
    Public,
    /// Also those on this machine and on private networks.
    Any,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            api_keys: Vec::new(),
            api_keys_file: None,
            limits: Limits::default(),
            mcp_request_urls: RequestUrls::default(),
            allowed_origins: Vec::new(),
            allowed_methods: Vec::new(),
            allowed_headers: Vec::new(),
            allow_credentials: false,
            log_prompts: false,
            tokenizer_info: false,
            max_file_bytes: 200 << 20,
            batch_concurrency: 8,
            request_timeout: None,
            max_queue_wait: None,
            keep_alive: Duration::from_secs(15),
            header_timeout: Duration::from_secs(60),
            body_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(60),
            max_connections: 4096,
            shutdown_grace: Duration::from_secs(5),
        }
    }
}
