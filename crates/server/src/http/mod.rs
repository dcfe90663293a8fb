//! Routes and what surrounds them.

mod body;
mod middleware;
mod multipart;
mod reply;
mod routes;
mod sse;
mod table;

use std::{sync::Arc, time::Instant};

use axum::{
    Router,
    extract::DefaultBodyLimit,
    middleware::{from_fn, from_fn_with_state},
    routing::{delete, get, post},
};

use millrace_mcp::Manager;

use crate::{
    FileStore, Registry, ServerConfig, ServerError, Service, Store, completions::Completions, jobs::Jobs,
    keys::KeyRing, metrics::HttpMetrics, responses::Responses,
};
use middleware::{access, admin, auth, cors, panics, request_id, vendor};
pub(crate) use routes::{answer_pooling, responses::answer as answer_response};
use table::Routes;

/// Everything that handlers share.
#[derive(Debug)]
pub struct App {
    pub(crate) service: Service,
    pub(crate) config: ServerConfig,
    pub(crate) responses: Responses,
    /// Stored ones.
    pub(crate) completions: Completions,
    /// Files and batches.
    pub(crate) jobs: Jobs,
    /// Servers of tools, if there are any.
    pub(crate) mcp: Option<Manager>,
    metrics: HttpMetrics,
    started: Instant,
    pub(crate) keys: KeyRing,
}

/// What a server has besides models and settings.
#[derive(Debug)]
pub struct Extras {
    /// Where responses and chat completions are kept.
    pub store: Store,
    /// Where files and batches are kept.
    pub files: FileStore,
    /// Servers whose tools clients and models may use.
    pub mcp: Option<Manager>,
}

impl Default for Extras {
    /// Stores in memory, no tools.
    fn default() -> Self {
        Self { store: Store::in_memory(), files: FileStore::in_memory(), mcp: None }
    }
}

impl App {
    /// A server's state over its models; it stores responses in memory.
    pub fn new(models: Registry, config: ServerConfig) -> Arc<Self> {
        Self::with(models, config, Extras::default())
    }

    /// The same with more.
    pub fn with(models: Registry, config: ServerConfig, extras: Extras) -> Arc<Self> {
        let service = Service::new(models, config.limits.clone(), config.request_timeout)
            .with_queue_wait(config.max_queue_wait);
        let keys = KeyRing::new(&config.api_keys, config.api_keys_file.clone());
        let completions = Completions::new(extras.store.clone());
        let responses = Responses::new(extras.store);
        let jobs = Jobs::new(extras.files, config.batch_concurrency);
        let (metrics, started) = (HttpMetrics::default(), Instant::now());
        Arc::new(Self {
            service,
            config,
            responses,
            completions,
            jobs,
            mcp: extras.mcp,
            metrics,
            started,
            keys,
        })
    }

    /// The pipeline behind the routes.
    pub fn service(&self) -> &Service {
        &self.service
    }
}

/// Checks what can be told of a configuration without serving, so that a mistake is known before a model is loaded.
///
/// # Errors
/// What [`router`] would refuse.
pub fn check(config: &ServerConfig) -> Result<(), ServerError> {
    cors(config).map(drop)
}

/// All routes with their middleware.
///
/// # Errors
/// If an allowed origin can't be one.
pub fn router(app: Arc<App>) -> Result<Router, ServerError> {
    let cors = cors(&app.config)?;
    let router = Router::new()
        .merge(protected().and(ollama()).router.route_layer(from_fn_with_state(app.clone(), auth)))
        .merge(administration().router.route_layer(from_fn_with_state(app.clone(), admin)))
        .merge(open().router)
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
fn protected() -> Routes {
    Routes::new()
        .route("/v1/chat/completions", get(routes::completions::list).post(routes::chat_completions))
        .route(
            "/v1/chat/completions/{id}",
            get(routes::completions::retrieve)
                .post(routes::completions::update)
                .delete(routes::completions::delete),
        )
        .route("/v1/chat/completions/{id}/messages", get(routes::completions::messages))
        .route("/v1/chat/completions/batch", post(routes::chat_list))
        .route("/v1/chat/completions/render", post(routes::render_chat))
        .route("/v1/completions", post(routes::completions))
        .route("/v1/completions/render", post(routes::render_completion))
        .route("/v1/responses", post(routes::responses::create))
        .route("/v1/responses/input_tokens", post(routes::responses::input_tokens))
        .route("/v1/responses/{id}", get(routes::responses::retrieve).delete(routes::responses::delete))
        .route("/v1/responses/{id}/cancel", post(routes::responses::cancel))
        .route("/v1/responses/{id}/input_items", get(routes::responses::input_items))
        .route("/v1/files", get(routes::files::list).post(routes::files::upload))
        .route("/v1/files/{id}", get(routes::files::retrieve).delete(routes::files::delete))
        .route("/v1/files/{id}/content", get(routes::files::content))
        .route("/v1/batches", get(routes::batches::list).post(routes::batches::create))
        .route("/v1/batches/{id}", get(routes::batches::retrieve))
        .route("/v1/batches/{id}/cancel", post(routes::batches::cancel))
        .route("/v1/messages", post(routes::messages))
        .route("/v1/messages/count_tokens", post(routes::count_tokens))
        .route("/v1/models", get(routes::list_models))
        // A wildcard: model names such as `org/name` come with a plain slash too.
        .route("/v1/models/{*id}", get(routes::get_model))
        .route("/v1/requests/{id}", delete(routes::cancel_request))
        .route("/v1/mcp/servers", get(routes::mcp_servers))
        .route("/v1/mcp/tools", get(routes::mcp_tools))
        .route("/v1/mcp/execute", post(routes::mcp_execute))
        .route("/v1/embeddings", post(routes::embeddings))
        .route("/rerank", post(routes::rerank))
        .route("/v1/rerank", post(routes::rerank))
        .route("/v2/rerank", post(routes::rerank))
        .route("/score", post(routes::score))
        .route("/v1/score", post(routes::score))
        .route("/classify", post(routes::classify))
        .route("/pooling", post(routes::pool))
        .route("/tokenize", post(routes::tokenize))
        .route("/detokenize", post(routes::detokenize))
        .route("/tokenizer_info", get(routes::tokenizer_info))
}

/// Ollama's.
fn ollama() -> Routes {
    Routes::new()
        .route("/api/chat", post(routes::ollama_chat))
        .route("/api/generate", post(routes::ollama_generate))
        .route("/api/embed", post(routes::ollama_embed))
        .route("/api/embeddings", post(routes::ollama_embeddings))
        .route("/api/tags", get(routes::tags))
        .route("/api/ps", get(routes::ps))
        .route("/api/show", post(routes::show))
        .route("/api/pull", post(routes::pull))
        .route("/api/create", post(routes::fixed_models))
        .route("/api/copy", post(routes::fixed_models))
        .route("/api/push", post(routes::fixed_models))
        .route("/api/delete", delete(routes::fixed_models))
        .route("/api/blobs/{digest}", post(routes::fixed_models).head(routes::fixed_models))
}

/// Routes for this machine and for holders of an administrator's key.
fn administration() -> Routes {
    Routes::new()
        .route("/v1/status", get(routes::status))
        .route("/v1/cache/stats", get(routes::cache_stats))
        .route("/v1/cache/prefix", delete(routes::drop_prefixes))
        .route("/v1/requests/{id}/cancel", post(routes::cancel_any))
        .route("/sleep", post(routes::sleep))
        .route("/wake_up", post(routes::wake_up))
        .route("/is_sleeping", get(routes::is_sleeping))
        .route("/v1/admin/models", get(routes::admin_models))
        .route("/v1/admin/models/load", post(routes::load_model))
        .route("/v1/admin/models/unload", post(routes::unload_model))
}

fn open() -> Routes {
    Routes::new()
        .route("/", get(routes::root))
        .route("/api/version", get(routes::ollama_version))
        .route("/health", get(routes::health))
        .route("/ready", get(routes::ready))
        .route("/ping", get(routes::health).post(routes::health))
        .route("/version", get(routes::version))
        .route("/metrics", get(routes::metrics))
        .route("/load", get(routes::load))
        .route("/openapi.json", get(routes::openapi))
        .route("/docs", get(routes::docs))
}
