//! `millrace serve`.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use millrace_api::Limits;
use millrace_engine::{PoolingInfo, PoolingTask};
use millrace_mcp::{CommandRules, Manager, McpConfig, McpLimits};
use millrace_server::{
    App, Extras, FileStore, KeysFile, Listener, ModelKind, ModelReport, Registry, RequestUrls, ServedModel,
    ServerConfig, Store, StoreConfig, Tls,
};

use serde_json::json;

use crate::args::{McpRequestUrls, ServeArgs, ServerArgs, show_bytes};
use crate::{embedded, pipeline, registry};

/// What stands for "never" where a time is needed.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// Runs the command until a signal ends it.
pub(crate) fn run(args: &ServeArgs) -> Result<()> {
    let config = server_config(&args.server)?;
    millrace_server::check(&config)?;
    let tools = tools_config(&args.server)?;
    let runtime = pipeline::runtime()?;
    // A taken port is better known before the weights are loaded than after.
    let (listener, address) = runtime.block_on(listen(&args.server))?;
    let store = Store::open(store_config(&args.server))?;
    let files = FileStore::open(&file_store_config(&args.server))?;
    let models = match &args.models {
        Some(file) => registry::from_file(file)?,
        None => registry::single(args)?,
    };
    let lines = match &args.models {
        Some(_) => several(&models),
        // One model is there before anything is said; what is wrong with it ends the program.
        None => one(&*runtime.block_on(models.lookup(None))?, args.model.is_none()),
    };
    let in_runtime = runtime.enter();
    let mcp = tools.map(|config| Manager::start(config, McpLimits::default()));
    drop(in_runtime);
    let app = App::with(models.clone(), config, Extras { store, files, mcp });
    let served = runtime.block_on(async {
        let signals = millrace_server::stop_signals();
        if let Err(error) = announce(&address, &models, &lines, &args.server) {
            // A reader that took the first line and left is no reason to stop serving.
            tracing::warn!(%error, "the start-up lines could not be written");
        }
        millrace_server::serve(listener, app, signals).await.map_err(anyhow::Error::from)
    });
    let sound = models.stop();
    served?;
    if !sound {
        bail!("an engine ended with a failure; the log above says where");
    }
    Ok(())
}

/// The servers of tools, if any are wanted. A wrong file is better known before the weights are loaded than after.
fn tools_config(args: &ServerArgs) -> Result<Option<McpConfig>> {
    let rules = CommandRules::new(args.mcp_allow_command.iter().cloned());
    Ok(args.mcp_config.as_deref().map(|path| McpConfig::load(path, &rules)).transpose()?)
}

/// Where the server was told to listen.
enum Address {
    /// TLS or not, and what became of the port.
    Tcp {
        scheme: &'static str,
        socket: SocketAddr,
    },
    Unix(std::path::PathBuf),
}

async fn listen(args: &ServerArgs) -> Result<(Listener, Address)> {
    let tls = match (&args.ssl_certfile, &args.ssl_keyfile) {
        (Some(cert), Some(key)) => Some(Tls::open(cert, key)?),
        _ => None,
    };
    let scheme = if tls.is_some() { "https" } else { "http" };
    let (listener, address) = match &args.uds {
        Some(path) => (unix_listener(path, args.uds_mode)?, Address::Unix(path.clone())),
        None => {
            let (listener, socket) = millrace_server::bind(&args.host, args.port).await?;
            (listener.into(), Address::Tcp { scheme, socket })
        }
    };
    Ok((
        match tls {
            Some(tls) => listener.with_tls(tls),
            None => listener,
        },
        address,
    ))
}

#[cfg(unix)]
fn unix_listener(path: &Path, mode: u32) -> Result<Listener> {
    Ok(Listener::unix(path, mode)?)
}

#[cfg(not(unix))]
fn unix_listener(_path: &Path, _mode: u32) -> Result<Listener> {
    bail!("--uds needs a system with Unix sockets; use --host and --port")
}

fn server_config(args: &ServerArgs) -> Result<ServerConfig> {
    ensure!(args.api_key.iter().all(|key| !key.is_empty()), "--api-key must not be empty");
    ensure!(
        args.served_model_name.iter().all(|name| !name.is_empty()),
        "--served-model-name must not be empty"
    );
    let defaults = ServerConfig::default();
    let some = |duration: Duration| Some(duration).filter(|d| !d.is_zero());
    Ok(ServerConfig {
        api_keys: args.api_key.clone(),
        api_keys_file: args.api_keys_file.as_deref().map(KeysFile::open).transpose()?,
        limits: Limits {
            max_body_bytes: usize::try_from(args.max_body_size).unwrap_or(usize::MAX),
            max_thinking_tokens: args.max_thinking_tokens,
            answer_reserve: args.answer_reserve,
            ..Limits::default()
        },
        allowed_origins: args.allowed_origins.clone(),
        allowed_methods: args.allowed_methods.clone(),
        allowed_headers: args.allowed_headers.clone(),
        allow_credentials: args.allow_credentials,
        log_prompts: args.log_prompts,
        mcp_request_urls: request_urls(args.mcp_request_urls),
        max_queue_wait: some(args.max_queue_wait),
        tokenizer_info: args.enable_tokenizer_info_endpoint,
        max_file_bytes: args.max_file_size,
        batch_concurrency: args.batch_concurrency,
        max_connections: args.max_connections,
        header_timeout: args.header_timeout,
        body_timeout: args.body_timeout,
        write_timeout: args.write_timeout,
        request_timeout: some(args.request_timeout),
        keep_alive: some(args.sse_keep_alive_interval).unwrap_or(NEVER),
        ..defaults
    })
}

fn request_urls(which: McpRequestUrls) -> RequestUrls {
    match which {
        McpRequestUrls::None => RequestUrls::None,
        McpRequestUrls::Public => RequestUrls::Public,
        McpRequestUrls::Any => RequestUrls::Any,
    }
}

fn store_config(args: &ServerArgs) -> StoreConfig {
    StoreConfig {
        path: args.response_store.clone(),
        max_bytes: args.response_store_size,
        ttl: days(args.response_store_days),
    }
}

fn file_store_config(args: &ServerArgs) -> StoreConfig {
    StoreConfig {
        path: args.file_store.clone(),
        max_bytes: args.file_store_size,
        ttl: days(args.file_store_days),
    }
}

fn days(days: u32) -> Duration {
    Duration::from_secs(u64::from(days) * 24 * 3600)
}

/// Tells where to reach what. Scripts wait for the first line.
fn announce(address: &Address, models: &Registry, lines: &str, args: &ServerArgs) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let first = models.reports().into_iter().next();
    let name = first.as_ref().map_or("", ModelReport::name);
    match address {
        Address::Tcp { scheme, socket } => writeln!(out, "listening on {scheme}://{socket}")?,
        Address::Unix(path) => writeln!(out, "listening on unix:{}", path.display())?,
    }
    let abilities = first.as_ref().and_then(|model| model.abilities).unwrap_or_default();
    writeln!(out, "{lines}\ntry\n{}", curl(address, name, abilities.kind, needs_key(args)))?;
    out.flush()?;
    Ok(())
}

/// What there is to know of the only model.
fn one(model: &ServedModel, is_demo: bool) -> String {
    let info = model.engine.info();
    let notice = if is_demo { format!("            {}\n", embedded::DEMO_NOTICE) } else { String::new() };
    let last = match &info.pooling {
        Some(PoolingInfo { dim, task: PoolingTask::Embed { .. } }) => format!("embeddings  {dim} elements\n"),
        Some(PoolingInfo { dim, task: PoolingTask::Classify(_) }) => {
            format!("scores      {dim} for each text\n")
        }
        None => format!("KV cache    {} tokens\n", info.kv_capacity_tokens),
    };
    format!(
        "model       {} ({}, context {} tokens)\n{notice}device      {}\n{last}",
        model.name(),
        model.parts.root,
        info.max_model_len,
        info.device,
    )
}

/// The models of a file.
fn several(models: &Registry) -> String {
    let budget = models.budget().map_or_else(|| "no".to_owned(), show_bytes);
    let mut lines = format!("models      memory budget {budget}\n");
    for model in models.reports() {
        let memory = model.memory.map_or_else(|| "to be seen".to_owned(), |need| show_bytes(need.total()));
        let context = model.max_model_len.map_or_else(String::new, |len| format!(", context {len} tokens"));
        let state = model.state.name();
        lines +=
            &format!("            {} ({}{context}, memory {memory}): {state}\n", model.name(), model.root);
    }
    lines
}

fn needs_key(args: &ServerArgs) -> bool {
    !args.api_key.is_empty() || args.api_keys_file.is_some()
}

/// A command that asks the server something.
fn curl(address: &Address, name: &str, kind: ModelKind, needs_key: bool) -> String {
    let target = match address {
        Address::Tcp { scheme, socket } => format!("{scheme}://{}", near(*socket)),
        Address::Unix(path) => format!("--unix-socket {} http://localhost", path.display()),
    };
    let key = if needs_key { " -H 'authorization: Bearer KEY'" } else { "" };
    let (path, body) = match kind {
        ModelKind::Generates => {
            let messages = json!([{"role": "user", "content": "What is the capital of France?"}]);
            ("v1/chat/completions", json!({"model": name, "messages": messages}))
        }
        ModelKind::Embeds => ("v1/embeddings", json!({"model": name, "input": "Paris is in France."})),
        ModelKind::Classifies => ("classify", json!({"model": name, "input": "Paris is in France."})),
    };
    // The only character that could end the shell's quotes.
    let body = body.to_string().replace('\'', "'\\''");
    format!("  curl {target}/{path} -H 'content-type: application/json'{key} -d '{body}'")
}

/// An address at which this machine reaches itself.
fn near(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        let here: std::net::IpAddr =
            if address.is_ipv4() { [127, 0, 0, 1].into() } else { std::net::Ipv6Addr::LOCALHOST.into() };
        address.set_ip(here);
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_to_try_reaches_this_machine_and_survives_a_shell() {
        let at = |socket: &str| Address::Tcp { scheme: "http", socket: socket.parse().unwrap() };
        let line = curl(&at("0.0.0.0:80"), "it's", ModelKind::Generates, true);
        assert!(line.contains("http://127.0.0.1:80/v1/chat/completions"), "{line}");
        assert!(line.contains("it'\\''s") && line.contains("Bearer KEY"), "{line}");
        assert!(curl(&at("[::]:80"), "m", ModelKind::Generates, false).contains("http://[::1]:80/"));
        assert!(
            curl(&Address::Unix("/run/m".into()), "m", ModelKind::Embeds, false)
                .contains("--unix-socket /run/m http://localhost/v1/embeddings")
        );
    }
}
