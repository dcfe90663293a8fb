//! `millrace serve`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::{ConfigArgs, ModelFlags, units};

/// `millrace serve`.
#[derive(Debug, Args)]
#[command(after_help = "\
The first line on standard output is `listening on http://HOST:PORT` (or `unix:PATH`). SIGHUP reads the keys file and the \
certificate again. Ctrl-C (or SIGTERM) takes no new requests and \
finishes the running ones; a second one aborts them.

Tokens for the Hub come from HF_TOKEN or the login of Hugging Face's own tools; HF_HOME, HF_ENDPOINT and \
HF_HUB_OFFLINE are honoured.

Examples:
  millrace serve                                    The built-in demo model
  millrace serve ~/models/qwen3-0.6b --quantize q8  A folder, weights as 8-bit integers
  millrace serve Qwen/Qwen3-0.6B --host 0.0.0.0 --api-key SECRET
  millrace serve --uds /run/millrace.sock           A Unix socket instead of a port
  millrace serve --config server.yaml --port 9000   Settings from a file
  millrace serve --models models.yaml               Several models, loaded when they are needed")]
pub(crate) struct ServeArgs {
    /// Model folder, or ORG/NAME on the Hub [default: the built-in demo model]
    pub(crate) model: Option<String>,
    /// YAML file with several models, each with settings of its own, in place of MODEL and of the flags about the model
    /// and the engine; see docs/models.md
    #[arg(long, value_name = "FILE", help_heading = "Model")]
    #[arg(conflicts_with_all = ["model", "served_model_name", "ModelArgs", "ParserArgs", "EngineArgs"])]
    pub(crate) models: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    #[command(flatten)]
    pub(crate) flags: ModelFlags,
}

/// The HTTP side.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Server")]
pub(crate) struct ServerArgs {
    /// Address to listen on; 0.0.0.0 is every IPv4 network of this machine
    #[arg(long, default_value = "127.0.0.1")]
    pub(crate) host: String,
    /// Port to listen on; 0 takes a free one
    #[arg(long, default_value_t = 8000)]
    pub(crate) port: u16,
    /// Unix socket to listen on instead of a port
    #[arg(long, value_name = "PATH")]
    pub(crate) uds: Option<PathBuf>,
    /// Permissions of the Unix socket's file, in octal
    #[arg(long, value_name = "MODE", default_value = "600", value_parser = units::mode)]
    pub(crate) uds_mode: u32,
    /// Certificate for TLS and those that vouch for it, as PEM; read again when it changes
    #[arg(long, value_name = "FILE", requires = "ssl_keyfile")]
    pub(crate) ssl_certfile: Option<PathBuf>,
    /// Private key of the certificate, as PEM
    #[arg(long, value_name = "FILE", requires = "ssl_certfile")]
    pub(crate) ssl_keyfile: Option<PathBuf>,
    /// Names that requests may use for the model; the first one is reported [default: MODEL as written]
    #[arg(long, value_name = "NAME")]
    pub(crate) served_model_name: Vec<String>,
    /// Keys that clients must show (`Authorization: Bearer …` or `x-api-key`) [default: open to all]
    #[arg(long, value_name = "KEY", env = "MILLRACE_API_KEY", hide_env_values = true)]
    #[arg(value_delimiter = ',')]
    pub(crate) api_key: Vec<String>,
    /// File with more keys, their names, budgets and models (see docs/operations.md); read again on SIGHUP
    #[arg(long, value_name = "FILE")]
    pub(crate) api_keys_file: Option<PathBuf>,
    /// Longest time for one request in seconds; 0 means no limit
    #[arg(long, value_name = "SECONDS", default_value = "0", value_parser = units::seconds)]
    pub(crate) request_timeout: Duration,
    /// Longest time in seconds that a request waits for its first step; 0 means no limit
    #[arg(long, value_name = "SECONDS", default_value = "0", value_parser = units::seconds)]
    pub(crate) max_queue_wait: Duration,
    /// Connections at a time; more wait in the system's queue
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = units::positive)]
    pub(crate) max_connections: usize,
    /// Seconds in which a request's head must have arrived, and after which an idle connection is closed
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = units::some_seconds)]
    pub(crate) header_timeout: Duration,
    /// Seconds in which a request's body must have arrived
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = units::some_seconds)]
    pub(crate) body_timeout: Duration,
    /// Seconds for which a client may take nothing of its answer before its connection is closed
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = units::some_seconds)]
    pub(crate) write_timeout: Duration,
    /// Seconds of silence in a stream before a comment keeps the connection open; 0 means never
    #[arg(long, value_name = "SECONDS", default_value = "15", value_parser = units::seconds)]
    pub(crate) sse_keep_alive_interval: Duration,
    /// Largest request body
    #[arg(long, value_name = "BYTES", default_value = "16M", value_parser = units::bytes)]
    pub(crate) max_body_size: u64,
    /// Most tokens of reasoning in one answer: then the model has to close it and to answer [default: no limit]
    #[arg(long, value_name = "N", value_parser = units::positive)]
    pub(crate) max_thinking_tokens: Option<usize>,
    /// Tokens of an answer, at most half of it, that reasoning must leave for what follows it, unless the request has a
    /// budget of its own; 0 lets reasoning take all
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) answer_reserve: usize,
    /// File in which answers of /v1/responses and stored ones of /v1/chat/completions are kept across restarts [default: memory only]
    #[arg(long, value_name = "PATH")]
    pub(crate) response_store: Option<PathBuf>,
    /// Most bytes of kept answers; beyond it the oldest go, and 0 keeps none
    #[arg(long, value_name = "BYTES", default_value = "256M", value_parser = units::bytes)]
    pub(crate) response_store_size: u64,
    /// Days for which answers are kept
    #[arg(long, value_name = "DAYS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    pub(crate) response_store_days: u32,
    /// Answer at /tokenizer_info with the tokenizer's configuration and the chat template
    #[arg(long)]
    pub(crate) enable_tokenizer_info_endpoint: bool,
    /// File in which uploaded files and batches are kept across restarts [default: memory only]
    #[arg(long, value_name = "PATH")]
    pub(crate) file_store: Option<PathBuf>,
    /// Most bytes of kept files, results of batches included; beyond it no more are taken
    #[arg(long, value_name = "BYTES", default_value = "512M", value_parser = units::bytes)]
    pub(crate) file_store_size: u64,
    /// Days for which files and batches are kept
    #[arg(long, value_name = "DAYS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    pub(crate) file_store_days: u32,
    /// Largest file that may be uploaded
    #[arg(long, value_name = "BYTES", default_value = "200M", value_parser = units::bytes)]
    pub(crate) max_file_size: u64,
    /// Requests of batches that run at a time, after all others
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = units::positive)]
    pub(crate) batch_concurrency: usize,
    /// Web origins whose pages may call this server, such as https://example.org; `*` is any [default: none]
    #[arg(long, value_name = "ORIGIN")]
    pub(crate) allowed_origins: Vec<String>,
    /// Methods that those pages may use [default: any]
    #[arg(long, value_name = "METHOD", value_delimiter = ',')]
    pub(crate) allowed_methods: Vec<String>,
    /// Headers that those pages may send [default: any]
    #[arg(long, value_name = "HEADER", value_delimiter = ',')]
    pub(crate) allowed_headers: Vec<String>,
    /// Let those pages send cookies and HTTP credentials; needs named origins
    #[arg(long)]
    pub(crate) allow_credentials: bool,
    /// Log the bodies of requests, prompts included, up to 4096 characters each (with --log-level info)
    #[arg(long)]
    pub(crate) log_prompts: bool,
    /// Servers of tools, as JSON: {"mcpServers": {NAME: {"command": …} or {"url": …}}} [default: none]
    #[arg(long, value_name = "FILE")]
    pub(crate) mcp_config: Option<PathBuf>,
    /// Further commands that --mcp-config may name without their full path; `*` is any [default: none]
    #[arg(long, value_name = "NAME")]
    pub(crate) mcp_allow_command: Vec<String>,
    /// MCP servers that requests may bring, by URL
    #[arg(long, value_name = "WHICH", default_value = "public")]
    pub(crate) mcp_request_urls: McpRequestUrls,
}

/// `--mcp-request-urls`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum McpRequestUrls {
    /// None but those of --mcp-config
    None,
    /// Those at public addresses
    Public,
    /// Also those on this machine and on private networks
    Any,
}
