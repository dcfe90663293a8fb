//! A real server over a scripted engine.

pub(crate) mod client;
pub(crate) mod engine;
pub(crate) mod tokenizer;

use std::{net::SocketAddr, sync::Arc};

use millrace_api::{Limits, SamplingDefaults};
use millrace_engine::EngineInfo;
use millrace_parse::Families;
use millrace_server::{App, ModelParts, Registry, ServedModel, ServerConfig, bind, serve};
use millrace_text::Tokenizer;
use tokio::{sync::mpsc, task::JoinHandle};

use client::Client;
use engine::{MockEngine, Plan};

/// The model's name in tests.
pub(crate) const MODEL: &str = "test/model";

/// A running server and the two ends that a test holds: the engine behind it and the signals to stop it.
pub(crate) struct TestServer {
    pub(crate) address: SocketAddr,
    pub(crate) client: Client,
    pub(crate) engine: MockEngine,
    pub(crate) app: Arc<App>,
    pub(crate) signals: mpsc::UnboundedSender<()>,
    pub(crate) task: JoinHandle<()>,
}

impl std::ops::Deref for TestServer {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

/// What a test may set.
pub(crate) struct Setup {
    pub(crate) config: ServerConfig,
    pub(crate) info: EngineInfo,
    pub(crate) defaults: SamplingDefaults,
    pub(crate) template: Option<&'static str>,
    pub(crate) pair_template: Option<&'static str>,
    pub(crate) families: Families,
    pub(crate) tokenizer: Arc<Tokenizer>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            config: ServerConfig { limits: small_limits(), ..ServerConfig::default() },
            info: EngineInfo {
                max_model_len: 512,
                vocab_size: tokenizer::VOCAB_SIZE,
                kv_capacity_tokens: 4096,
                block_size: 16,
                max_queued: 64,
                prefix_caching: true,
                device: "mock".into(),
                pooling: None,
            },
            defaults: SamplingDefaults::default(),
            template: Some(tokenizer::TEMPLATE),
            pair_template: None,
            families: Families::default(),
            tokenizer: tokenizer::tokenizer(),
        }
    }
}

fn small_limits() -> Limits {
    Limits { max_body_bytes: 64 << 10, max_messages: 20, max_prompt_chars: 32 << 10, ..Limits::default() }
}

impl Setup {
    /// Starts a server whose engine follows `script`.
    pub(crate) async fn start(
        self,
        script: impl Fn(&millrace_types::Request) -> Plan + Send + 'static,
    ) -> TestServer {
        let (handle, engine) = engine::start(self.info, script);
        let parts = ModelParts {
            names: vec![MODEL.into(), "alias".into()],
            root: "/models/test".into(),
            tokenizer: self.tokenizer,
            template: self.template.map(tokenizer::template),
            pair_template: self.pair_template.map(tokenizer::template),
            defaults: self.defaults,
            eos_token_ids: vec![tokenizer::EOS],
            families: self.families,
        };
        let models = Registry::new(vec![Arc::new(ServedModel::new(parts, handle))]);
        let app = App::new(models, self.config);
        let (listener, address) = bind("127.0.0.1", 0).await.unwrap();
        let (signals, stop) = mpsc::unbounded_channel();
        let stop = futures::stream::unfold(stop, |mut stop| async { stop.recv().await.map(|s| (s, stop)) });
        let serving = app.clone();
        let task = tokio::spawn(async move { serve(listener, serving, stop).await.unwrap() });
        TestServer { address, client: Client(address), engine, app, signals, task }
    }
}

/// A default server that says the same to everybody.
pub(crate) async fn saying(text: &'static str) -> TestServer {
    Setup::default().start(move |_| Plan::say(text)).await
}
