//! `millrace serve`.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use millrace_api::Limits;
use millrace_engine::EngineInfo;
use millrace_mcp::{CommandRules, Manager, McpConfig, McpLimits};
use millrace_server::{App, Extras, Registry, ServedModel, ServerConfig, Store, StoreConfig};

use crate::args::{ServeArgs, ServerArgs};
use crate::load::{self, Model};
use crate::{embedded, pipeline};

/// What stands for "never" where a time is needed.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// Runs the command until a signal ends it.
pub(crate) fn run(args: &ServeArgs) -> Result<()> {
    let config = server_config(&args.server)?;
    let tools = tools_config(&args.server)?;
    let runtime = pipeline::runtime()?;
    // A taken port is better known before the weights are loaded than after.
    let (listener, address) = runtime.block_on(millrace_server::bind(&args.server.host, args.server.port))?;
    let store = Store::open(store_config(&args.server))?;
    let model = load::find(args.model.as_deref(), &args.model_args)?;
    let parts =
        pipeline::parts(&model, args.server.served_model_name.clone(), &args.model_args, &args.parsers)?;
    let running = load::start(&model, &args.model_args, &args.engine)?;
    let served = ServedModel::new(parts, running.engine.handle.clone());
    let name = served.name().to_owned();
    let in_runtime = runtime.enter();
    let mcp = tools.map(|config| Manager::start(config, McpLimits::default()));
    drop(in_runtime);
    let app = App::with(Registry::new(vec![Arc::new(served)]), config, Extras { store, mcp });
    runtime.block_on(async {
        let signals = millrace_server::stop_signals();
        let told = announce(address, &model, &name, running.engine.handle.info(), &args.server);
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

/// The servers of tools, if any are wanted. A wrong file is better known before the weights are loaded than after.
fn tools_config(args: &ServerArgs) -> Result<Option<McpConfig>> {
    let rules = CommandRules::new(args.mcp_allow_command.iter().cloned());
    Ok(args.mcp_config.as_deref().map(|path| McpConfig::load(path, &rules)).transpose()?)
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
        limits: Limits {
            max_body_bytes: usize::try_from(args.max_body_size).unwrap_or(usize::MAX),
            ..Limits::default()
        },
        allowed_origins: args.allowed_origins.clone(),
        request_timeout: some(args.request_timeout),
        keep_alive: some(args.sse_keep_alive_interval).unwrap_or(NEVER),
        ..defaults
    })
}

fn store_config(args: &ServerArgs) -> StoreConfig {
    StoreConfig {
        path: args.response_store.clone(),
        max_bytes: args.response_store_size,
        ttl: Duration::from_secs(u64::from(args.response_store_days) * 24 * 3600),
    }
}

/// Tells where to reach what. Scripts wait for the first line.
fn announce(
    address: SocketAddr,
    model: &Model,
    name: &str,
    info: &EngineInfo,
    args: &ServerArgs,
) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "listening on http://{address}")?;
    writeln!(out, "model       {name} ({}, context {} tokens)", model.files.describe(), info.max_model_len)?;
    if model.is_demo {
        writeln!(out, "            {}", embedded::DEMO_NOTICE)?;
    }
    writeln!(out, "device      {}", info.device)?;
    writeln!(out, "KV cache    {} tokens", info.kv_capacity_tokens)?;
    writeln!(out, "\ntry\n{}", curl(address, name, !args.api_key.is_empty()))?;
    out.flush()?;
    Ok(())
}

/// A command that asks the server something.
fn curl(address: SocketAddr, name: &str, needs_key: bool) -> String {
    let mut near = address;
    if near.ip().is_unspecified() {
        near.set_ip(if near.is_ipv4() {
            [127, 0, 0, 1].into()
        } else {
            std::net::Ipv6Addr::LOCALHOST.into()
        });
    }
    let key = if needs_key { " -H 'authorization: Bearer KEY'" } else { "" };
    let body = serde_json::json!({
        "model": name,
        "messages": [{"role": "user", "content": "What is the capital of France?"}],
    });
    // The only character that could end the shell's quotes.
    let body = body.to_string().replace('\'', "'\\''");
    format!("  curl http://{near}/v1/chat/completions -H 'content-type: application/json'{key} -d '{body}'")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_to_try_reaches_this_machine_and_survives_a_shell() {
        let line = curl("0.0.0.0:80".parse().unwrap(), "it's", true);
        assert!(line.contains("http://127.0.0.1:80/v1/chat/completions"), "{line}");
        assert!(line.contains("it'\\''s") && line.contains("Bearer KEY"), "{line}");
        assert!(curl("[::]:80".parse().unwrap(), "m", false).contains("http://[::1]:80/"));
    }
}
