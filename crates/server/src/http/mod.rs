//! Routes and what surrounds them.

pub(crate) mod admin;
mod body;
mod middleware;
mod reply;
mod routes;
mod sse;

use std::sync::Arc;

use axum::{
    Router,
    extract::DefaultBodyLimit,
    middleware::{from_fn, from_fn_with_state},
    routing::{any, delete, get, post},
};

use millrace_mcp::Manager;

use crate::{
    Registry, ServerConfig, ServerError, Service, Store, metrics::HttpMetrics, responses::Responses,
};
use middleware::{ApiKeys, access, auth, cors, panics, request_id, vendor};

/// Everything that handlers share.
#[derive(Debug)]
pub struct App {
    pub(crate) service: Service,
    pub(crate) config: ServerConfig,
    pub(crate) responses: Responses,
    /// Servers of tools, if there are any.
    pub(crate) mcp: Option<Manager>,
    metrics: HttpMetrics,
    keys: ApiKeys,
}

/// What a server has besides models and settings.
#[derive(Debug)]
pub struct Extras {
    /// Where responses are kept.
    pub store: Store,
    /// Servers whose tools clients and models may use.
    pub mcp: Option<Manager>,
}

impl Default for Extras {
    /// A store in memory, no tools.
    fn default() -> Self {
        Self { store: Store::in_memory(), mcp: None }
    }
}

impl App {
    /// A server's state over its models; it stores responses in memory.
    pub fn new(models: Registry, config: ServerConfig) -> Arc<Self> {
        Self::with(models, config, Extras::default())
    }

    /// The same with more.
    pub fn with(models: Registry, config: ServerConfig, extras: Extras) -> Arc<Self> {
        let service = Service::new(models, config.limits.clone(), config.request_timeout);
        let keys = ApiKeys::new(&config.api_keys);
        let (responses, metrics) = (Responses::new(extras.store), HttpMetrics::default());
        Arc::new(Self { service, config, responses, mcp: extras.mcp, metrics, keys })
    }

    /// The pipeline behind the routes.
    pub fn service(&self) -> &Service {
        &self.service
    }
}

/// All routes with their middleware.
///
/// # Errors
/// If an allowed origin can't be one.
pub fn router(app: Arc<App>) -> Result<Router, ServerError> {
    let cors = cors(&app.config.allowed_origins)?;
    let router = Router::new()
        .merge(protected().route_layer(from_fn_with_state(app.clone(), auth)))
        .merge(open())
        .fallback(routes::not_found)
        .method_not_allowed_fallback(routes::method_not_allowed)
        .layer(DefaultBodyLimit::max(app.config.limits.max_body_bytes))
        .layer(cors)
        .layer(from_fn(panics))
        .layer(from_fn(vendor))
        .layer(from_fn_with_state(app.clone(), access))
        .layer(from_fn(request_id));
    Ok(router.with_state(app))
}

/// Routes that need a key, if there are keys. As in vLLM, probes and metrics need none.
fn protected() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/chat/completions", post(routes::chat_completions))
        .route("/v1/completions", post(routes::completions))
        .route("/v1/responses", post(routes::responses::create))
        .route("/v1/responses/input_tokens", post(routes::responses::input_tokens))
        .route("/v1/responses/{id}", get(routes::responses::retrieve).delete(routes::responses::delete))
        .route("/v1/responses/{id}/cancel", post(routes::responses::cancel))
        .route("/v1/responses/{id}/input_items", get(routes::responses::input_items))
        .route("/v1/messages", post(routes::messages))
        .route("/v1/messages/count_tokens", post(routes::count_tokens))
        .route("/v1/models", get(routes::list_models))
        // A wildcard: model names such as `org/name` come with a plain slash too.
        .route("/v1/models/{*id}", get(routes::get_model))
        .route("/v1/admin/models", get(routes::admin_models))
        .route("/v1/admin/models/load", post(routes::load_model))
        .route("/v1/admin/models/unload", post(routes::unload_model))
        .route("/v1/requests/{id}", delete(routes::cancel_request))
        .route("/v1/mcp/servers", get(routes::mcp_servers))
        .route("/v1/mcp/tools", get(routes::mcp_tools))
        .route("/v1/mcp/execute", post(routes::mcp_execute))
        .merge(ollama())
        .route("/tokenize", post(routes::tokenize))
        .route("/detokenize", post(routes::detokenize))
}

fn ollama() -> Router<Arc<App>> {
    let mut router = Router::new();
    for path in ["/api/create", "/api/copy", "/api/push", "/api/delete", "/api/blobs/{digest}"] {
        router = router.route(path, any(routes::fixed_models));
    }
    router
        .route("/api/chat", post(routes::ollama_chat))
        .route("/api/generate", post(routes::ollama_generate))
        .route("/api/embed", post(routes::no_embeddings))
        .route("/api/embeddings", post(routes::no_embeddings))
        .route("/api/tags", get(routes::tags))
        .route("/api/ps", get(routes::ps))
        .route("/api/show", post(routes::show))
        .route("/api/pull", post(routes::pull))
}

fn open() -> Router<Arc<App>> {
    Router::new()
        .route("/", get(routes::root))
        .route("/api/version", get(routes::ollama_version))
        .route("/health", get(routes::health))
        .route("/ready", get(routes::ready))
        .route("/ping", get(routes::health).post(routes::health))
        .route("/version", get(routes::version))
        .route("/metrics", get(routes::metrics))
        .route("/load", get(routes::load))
}
