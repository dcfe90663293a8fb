//! Servers behind URLs.

use std::{sync::Arc, time::Duration};

use http::HeaderMap;
use reqwest::{Client, redirect::Policy};
use rmcp::transport::{
    StreamableHttpClientTransport, streamable_http_client::StreamableHttpClientTransportConfig,
};

use crate::{McpLimits, RemoteSpec, address::PublicOnly};

const CONNECT: Duration = Duration::from_secs(10);

/// The streamable HTTP transport.
///
/// # Errors
/// If the client can't be made.
pub(crate) fn transport(
    spec: &RemoteSpec,
    limits: &McpLimits,
) -> Result<StreamableHttpClientTransport<Client>, String> {
    let config = StreamableHttpClientTransportConfig::with_uri(spec.url.as_str())
        .max_concurrent_requests(limits.concurrent_calls)
        .max_sse_event_size(limits.message_bytes);
    Ok(StreamableHttpClientTransport::with_client(client(spec)?, config))
}

/// A client that follows no redirects, goes through no proxy, sends the spec's headers, and reaches only public
/// addresses unless the spec allows more.
///
/// # Errors
/// If the system's certificates can't be read.
pub(crate) fn client(spec: &RemoteSpec) -> Result<Client, String> {
    // Another part of the process may have installed a provider before; any will do.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let headers: HeaderMap = spec.headers.iter().cloned().collect();
    let builder = Client::builder()
        .default_headers(headers)
        .user_agent(concat!("millrace/", env!("CARGO_PKG_VERSION")))
        .redirect(Policy::none())
        .connect_timeout(CONNECT)
        .no_proxy();
    let builder = if spec.allow_private { builder } else { builder.dns_resolver(Arc::new(PublicOnly)) };
    builder.build().map_err(|error| format!("there is no HTTP client: {error}"))
}
