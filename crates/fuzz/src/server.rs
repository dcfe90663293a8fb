//! A server in this process, with three models: `chat` writes, `embed` embeds, `score` reads pairs.

use std::{
    cell::RefCell,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    http::{Request, header::CONTENT_TYPE},
};
use http_body_util::BodyExt;
use millrace_api::{Limits, SamplingDefaults};
use millrace_engine::{EngineInfo, Labels, Matryoshka, PoolingInfo, PoolingTask, ScoreScale, channel};
use millrace_parse::{Families, detect};
use millrace_server::{
    App, Extras, ModelParts, Registry, RequestUrls, ServedModel, ServerConfig, Store, StoreConfig, router,
};
use millrace_text::{ChatTemplate, TextFiles, Tokenizer};
use millrace_types::TokenId;
use tokio::runtime::Runtime;
use tower::ServiceExt;

use crate::{
    engine,
    models::{FOLDER, with_files},
};

/// Longest prompt and answer of the models, in tokens.
pub(crate) const MAX_MODEL_LEN: usize = 2048;

/// Tokens of an answer that are taken from the input; more would only cost time.
const MAX_ANSWER: usize = 200;

/// What every server says unless the input says otherwise: reasoning, text and a call.
const ANSWER: &str = "<think>\nHm, Paris.\n</think>\n\nIt is \"Paris\".\n<tool_call>\n\
    {\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\"}}\n</tool_call>";

/// Elements of an embedding.
const DIM: usize = 8;

thread_local! {
    /// Made once: loading the tokenizer takes far longer than a request.
    static SERVER: RefCell<Option<Server>> = const { RefCell::new(None) };
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// The type of its content.
    pub(crate) kind: String,
    pub(crate) body: Vec<u8>,
}

pub(crate) struct Server {
    runtime: Runtime,
    router: Router,
    tokenizer: Arc<Tokenizer>,
    /// What the model is going to say.
    script: Arc<Mutex<Vec<TokenId>>>,
}

/// Lends this thread's server.
pub(crate) fn with<T>(use_it: impl FnOnce(&mut Server) -> T) -> T {
    SERVER.with_borrow_mut(|server| use_it(server.get_or_insert_with(Server::start)))
}

/// Bounds that inputs of a fuzzer's size can reach.
pub(crate) fn limits() -> Limits {
    Limits {
        max_body_bytes: 256 << 10,
        max_messages: 16,
        max_prompt_chars: 16 << 10,
        max_tools: 8,
        max_tool_schema_bytes: 4 << 10,
        max_sequences: 6,
        max_texts: 8,
        max_token_ids: 32,
        ..Limits::default()
    }
}

impl Server {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let files = with_files(TextFiles::clone);
        let tokenizer = Arc::new(Tokenizer::from_files(&files).unwrap());
        let script = Arc::new(Mutex::new(Vec::new()));
        let labels = Labels { names: vec!["yes".into()], scale: ScoreScale::Sigmoid };
        let models = [
            ("chat", None),
            ("embed", Some((DIM, PoolingTask::Embed { normalize: true, matryoshka: Matryoshka::Any }))),
            ("score", Some((1, PoolingTask::Classify(labels)))),
        ];
        let guard = runtime.enter();
        let models = models.map(|(name, pooling)| {
            let info = info(&tokenizer, pooling);
            let (handle, port) = channel(info.clone());
            tokio::spawn(engine::run(port, info, script.clone()));
            let template = (name == "chat").then(|| ChatTemplate::from_files(&files).unwrap()).flatten();
            Arc::new(ServedModel::new(parts(name, template, &tokenizer), handle))
        });
        let config =
            ServerConfig { limits: limits(), mcp_request_urls: RequestUrls::None, ..ServerConfig::default() };
        let store = StoreConfig { max_bytes: 1 << 20, ttl: Duration::from_secs(60), path: None };
        let extras = Extras { store: Store::open(store).unwrap(), ..Extras::default() };
        let app = App::with(Registry::new(models.to_vec()), config, extras);
        let router = router(app).unwrap();
        drop(guard);
        Self { runtime, router, tokenizer, script }
    }

    /// What the model says from here on.
    pub(crate) fn say(&mut self, answer: Option<&[u8]>) {
        let text = answer.map_or(ANSWER.into(), String::from_utf8_lossy);
        let mut tokens = self.tokenizer.encode(&text, false).unwrap_or_default();
        tokens.truncate(MAX_ANSWER);
        *self.script.lock().unwrap() = tokens;
    }

    /// Sends a body and reads the answer to its end.
    pub(crate) fn post(&mut self, path: &str, kind: &str, body: &[u8]) -> Reply {
        self.send("POST", path, kind, body)
    }

    /// Sends any request.
    pub(crate) fn send(&mut self, method: &str, path: &str, kind: &str, body: &[u8]) -> Reply {
        let request = Request::builder().method(method).uri(path).header(CONTENT_TYPE, kind);
        let request = request.body(Body::from(body.to_vec())).unwrap();
        let router = self.router.clone();
        self.runtime.block_on(async {
            let response = router.oneshot(request).await.unwrap();
            let status = response.status().as_u16();
            let kind = response.headers().get(CONTENT_TYPE).map(|kind| kind.to_str().unwrap().to_owned());
            let body = response.into_body().collect().await.expect("a body that ends well").to_bytes();
            Reply { status, kind: kind.unwrap_or_default(), body: body.to_vec() }
        })
    }
}

fn info(tokenizer: &Tokenizer, pooling: Option<(usize, PoolingTask)>) -> EngineInfo {
    EngineInfo {
        max_model_len: MAX_MODEL_LEN,
        vocab_size: tokenizer.vocab_size(),
        kv_capacity_tokens: 1 << 16,
        block_size: 16,
        max_queued: 64,
        prefix_caching: true,
        device: "none".into(),
        pooling: pooling.map(|(dim, task)| PoolingInfo { dim, task }),
    }
}

fn parts(name: &str, template: Option<ChatTemplate>, tokenizer: &Arc<Tokenizer>) -> ModelParts {
    let source = template.as_ref().map(ChatTemplate::source);
    let found = detect(source, |text| tokenizer.token_to_id(text).is_some());
    let end = tokenizer.token_to_id("<|im_end|>");
    ModelParts {
        names: vec![name.into()],
        root: FOLDER.into(),
        tokenizer: tokenizer.clone(),
        template: template.map(Arc::new),
        pair_template: None,
        defaults: SamplingDefaults::default(),
        eos_token_ids: end.into_iter().collect(),
        families: Families::named(found.tool, found.reasoning).unwrap(),
    }
}
