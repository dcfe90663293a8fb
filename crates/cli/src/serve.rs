//! `millrace serve`.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use millrace_api::Limits;
use millrace_engine::EngineInfo;
use millrace_server::{App, KeysFile, Listener, Registry, ServedModel, ServerConfig, Tls};

use crate::args::{ServeArgs, ServerArgs};
use crate::load::{self, Model};
use crate::{embedded, pipeline};

/// What stands for "never" where a time is needed.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// Runs the command until a signal ends it.
pub(crate) fn run(args: &ServeArgs) -> Result<()> {
    let config = server_config(&args.server)?;
    millrace_server::check(&config)?;
    let runtime = pipeline::runtime()?;
    // A taken port is better known before the weights are loaded than after.
    let (listener, address) = runtime.block_on(listen(&args.server))?;
    let model = load::find(args.model.as_deref(), &args.model_args)?;
    let parts =
        pipeline::parts(&model, args.server.served_model_name.clone(), &args.model_args, &args.parsers)?;
    let running = load::start(&model, &args.model_args, &args.engine)?;
    let served = ServedModel::new(parts, running.engine.handle.clone());
    let name = served.name().to_owned();
    let app = App::new(Registry::new(vec![Arc::new(served)]), config);
    runtime.block_on(async {
        let signals = millrace_server::stop_signals();
        let told = announce(&address, &model, &name, running.engine.handle.info(), &args.server);
        if let Err(error) = told {
            // A reader that took the first line and left is no reason to stop serving.
            tracing::warn!(%error, "the start-up lines could not be written");
        }
        millrace_server::serve(listener, app, signals).await.map_err(anyhow::Error::from)
    })?;
    running.engine.handle.shutdown();
    if !running.engine.join() {
        bail!("the engine ended with a failure; the log above says where");
    }
    Ok(())
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
            ..Limits::default()
        },
        allowed_origins: args.allowed_origins.clone(),
        allowed_methods: args.allowed_methods.clone(),
        allowed_headers: args.allowed_headers.clone(),
        allow_credentials: args.allow_credentials,
        log_prompts: args.log_prompts,
        max_queue_wait: some(args.max_queue_wait),
        max_connections: args.max_connections,
        header_timeout: args.header_timeout,
        body_timeout: args.body_timeout,
        request_timeout: some(args.request_timeout),
        keep_alive: some(args.sse_keep_alive_interval).unwrap_or(NEVER),
        ..defaults
    })
}

/// Tells where to reach what. Scripts wait for the first line.
fn announce(
    address: &Address,
    model: &Model,
    name: &str,
    info: &EngineInfo,
    args: &ServerArgs,
) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match address {
        Address::Tcp { scheme, socket } => writeln!(out, "listening on {scheme}://{socket}")?,
        Address::Unix(path) => writeln!(out, "listening on unix:{}", path.display())?,
    }
    writeln!(out, "model       {name} ({}, context {} tokens)", model.files.describe(), info.max_model_len)?;
    if model.is_demo {
        writeln!(out, "            {}", embedded::DEMO_NOTICE)?;
    }
    writeln!(out, "device      {}", info.device)?;
    writeln!(out, "KV cache    {} tokens", info.kv_capacity_tokens)?;
    writeln!(out, "\ntry\n{}", curl(address, name, needs_key(args)))?;
    out.flush()?;
    Ok(())
}

fn needs_key(args: &ServerArgs) -> bool {
    !args.api_key.is_empty() || args.api_keys_file.is_some()
}

/// A command that asks the server something.
fn curl(address: &Address, name: &str, needs_key: bool) -> String {
    let target = match address {
        Address::Tcp { scheme, socket } => format!("{scheme}://{}", near(*socket)),
        Address::Unix(path) => format!("--unix-socket {} http://localhost", path.display()),
    };
    let key = if needs_key { " -H 'authorization: Bearer KEY'" } else { "" };
    let body = serde_json::json!({
        "model": name,
        "messages": [{"role": "user", "content": "What is the capital of France?"}],
    });
    // The only character that could end the shell's quotes.
    let body = body.to_string().replace('\'', "'\\''");
    format!("  curl {target}/v1/chat/completions -H 'content-type: application/json'{key} -d '{body}'")
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
        let line = curl(&at("0.0.0.0:80"), "it's", true);
        assert!(line.contains("http://127.0.0.1:80/v1/chat/completions"), "{line}");
        assert!(line.contains("it'\\''s") && line.contains("Bearer KEY"), "{line}");
        assert!(curl(&at("[::]:80"), "m", false).contains("http://[::1]:80/"));
        assert!(
            curl(&Address::Unix("/run/m".into()), "m", false)
                .contains("--unix-socket /run/m http://localhost/v1")
        );
    }
}
