//! Models that are loaded while requests wait for them.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering::SeqCst},
    mpsc,
};

use http_body_util::Full;
use hyper::{Request, body::Bytes};
use millrace_api::SamplingDefaults;
use millrace_parse::Families;
use millrace_server::{
    App, LoadError, LoadedModel, ModelEntry, ModelParts, ModelPlan, ModelReport, ModelSource, Registry,
    Residence, ServerConfig, bind, serve,
};
use serde_json::{Value, json};
use tokio::{runtime::Handle, sync::mpsc as news, task::JoinHandle};

use crate::support::{
    Setup,
    client::{Client, request},
    engine::{self, MockEngine, Plan},
    tokenizer,
};

const PATH: &str = "/v1/completions";

/// A model whose loads end when the test says so.
#[derive(Debug)]
struct Gated {
    runtime: Handle,
    orders: Mutex<mpsc::Receiver<Result<(), &'static str>>>,
    loads: Arc<AtomicUsize>,
    engines: news::UnboundedSender<MockEngine>,
}

impl ModelSource for Gated {
    fn plan(&self) -> Result<ModelPlan, LoadError> {
        Ok(ModelPlan { max_model_len: 99, ..ModelPlan::default() })
    }

    fn load(&self, _: &ModelPlan) -> Result<LoadedModel, LoadError> {
        self.loads.fetch_add(1, SeqCst);
        let order = self.orders.lock().unwrap().recv().unwrap_or(Err("the test is over"));
        order.map_err(|reason| LoadError(reason.into()))?;
        let _guard = self.runtime.enter();
        let (engine, mock) = engine::start(Setup::default().info, |request| match request.prompt.len() {
            // A long prompt is never answered.
            8.. => Plan::Hold,
            _ => Plan::say("hi"),
        });
        let _ = self.engines.send(mock);
        let parts = ModelParts {
            names: Vec::new(),
            root: "gated".into(),
            tokenizer: tokenizer::tokenizer(),
            template: None,
            pair_template: None,
            defaults: SamplingDefaults::default(),
            eos_token_ids: vec![tokenizer::EOS],
            families: Families::default(),
        };
        let handle = engine.clone();
        let stop = move || {
            handle.shutdown();
            true
        };
        Ok(LoadedModel { parts, engine, stop: Box::new(stop) })
    }
}

/// A server with one such model, and the two ends that a test holds.
struct Server {
    client: Client,
    models: Registry,
    orders: mpsc::Sender<Result<(), &'static str>>,
    loads: Arc<AtomicUsize>,
    engines: news::UnboundedReceiver<MockEngine>,
    signals: news::UnboundedSender<()>,
    task: JoinHandle<()>,
}

async fn start(residence: Residence) -> Server {
    let ((orders, receiver), (sender, engines)) = (mpsc::channel(), news::unbounded_channel());
    let loads = Arc::<AtomicUsize>::default();
    let source =
        Gated { runtime: Handle::current(), orders: receiver.into(), loads: loads.clone(), engines: sender };
    let entry = ModelEntry {
        names: vec!["slow".into()],
        root: "gated".into(),
        source: Box::new(source),
        plan: None,
        residence,
    };
    let models = Registry::managed(vec![entry], None).unwrap();
    let app = App::new(models.clone(), ServerConfig::default());
    let (listener, address) = bind("127.0.0.1", 0).await.unwrap();
    let (signals, stop) = news::unbounded_channel();
    let stop = futures::stream::unfold(stop, |mut stop| async { stop.recv().await.map(|s| (s, stop)) });
    let task = tokio::spawn(async move { serve(listener, app, stop).await.unwrap() });
    Server { client: Client(address), models, orders, loads, engines, signals, task }
}

impl Server {
    /// Asks in the background.
    fn ask(&self, body: Value) -> JoinHandle<(u16, Value)> {
        let client = self.client;
        tokio::spawn(async move {
            let reply = client.post(PATH, &body).await;
            (reply.status, reply.json())
        })
    }

    fn report(&self) -> ModelReport {
        self.models.report("slow").unwrap()
    }

    /// Waits until so many requests wait for the load.
    async fn waiting(&self, count: usize) {
        while self.report().waiting != count {
            tokio::task::yield_now().await;
        }
    }

    fn release(&self) {
        self.orders.send(Ok(())).unwrap();
    }
}

fn body() -> Value {
    json!({"prompt": "x", "max_tokens": 5})
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_is_ready_when_the_models_at_start_are_there() {
    let server = start(Residence { at_start: true, ..Residence::default() }).await;
    let reply = server.client.get("/ready").await;
    assert_eq!(reply.status, 503);
    assert!(reply.error()["message"].as_str().unwrap().contains("`slow`"));
    assert_eq!(server.client.get("/health").await.status, 200);
    let card = &server.client.get("/v1/models").await.json()["data"][0];
    assert_eq!(card["state"], "loading");
    let asked = server.ask(body());
    server.waiting(1).await;
    server.release();
    assert_eq!(asked.await.unwrap().0, 200);
    assert_eq!(server.client.get("/ready").await.status, 200);
    let card = &server.client.get("/v1/models").await.json()["data"][0];
    assert_eq!((&card["state"], &card["max_model_len"]), (&json!("ready"), &json!(512)));
}

#[tokio::test(flavor = "multi_thread")]
async fn all_who_wait_share_a_load_and_one_who_leaves_does_not_stop_it() {
    let server = start(Residence::default()).await;
    assert_eq!(server.report().waiting, 0);
    let asked: Vec<_> = (0..5).map(|_| server.ask(body())).collect();
    server.waiting(5).await;
    for leaves in &asked[..2] {
        leaves.abort();
    }
    server.release();
    for stays in asked.into_iter().skip(2) {
        let (status, answer) = stays.await.unwrap();
        assert_eq!((status, &answer["model"]), (200, &json!("slow")));
    }
    assert_eq!(server.loads.load(SeqCst), 1);
    while server.report().in_flight > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_requests_time_goes_on_while_its_model_is_loaded() {
    let server = start(Residence::default()).await;
    let mut hasty = body();
    hasty["timeout"] = json!(0.05);
    assert_eq!(server.ask(hasty).await.unwrap().0, 408);
    server.release();
    assert_eq!(server.ask(body()).await.unwrap().0, 200);
    assert_eq!(server.loads.load(SeqCst), 1);
}

/// What somebody on the server's own machine asks about the model.
fn operators(path: &str) -> Request<Full<Bytes>> {
    let headers = [("host", "localhost"), ("content-type", "application/json")];
    request("POST", path, &headers, &json!({"model": "slow"}).to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_load_is_told_with_a_pause() {
    let server = start(Residence::default()).await;
    server.orders.send(Err("its file is broken")).unwrap();
    let reply = server.client.post(PATH, &body()).await;
    assert_eq!((reply.status, reply.headers["retry-after"].to_str().unwrap()), (503, "1"));
    assert!(
        reply.error()["message"].as_str().unwrap().contains("`slow` can't be loaded: its file is broken.")
    );
    assert_eq!(server.client.get("/v1/models").await.json()["data"][0]["state"], "failed");
    assert_eq!(server.ask(body()).await.unwrap().0, 503);
    assert_eq!(server.loads.load(SeqCst), 1);
    server.release();
    let reply = server.client.send(operators("/v1/admin/models/load")).await;
    assert_eq!((reply.status, &reply.json()["state"]), (200, &json!("ready")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_request_can_be_cancelled() {
    let server = start(Residence::default()).await;
    let named = |method: &str, path: &str, text: &str| {
        let headers = [("content-type", "application/json"), ("x-request-id", "mine")];
        request(method, path, &headers, text)
    };
    let (client, asked) = (server.client, named("POST", PATH, &json!({"prompt": "long enough"}).to_string()));
    let asked = tokio::spawn(async move { client.send(asked).await });
    server.waiting(1).await;
    assert_eq!(server.client.send(named("DELETE", "/v1/requests/mine", "")).await.status, 200);
    server.release();
    assert_eq!(asked.await.unwrap().json()["choices"][0]["finish_reason"], "abort");
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_refuses_whoever_waits() {
    let server = start(Residence::default()).await;
    let asked = server.ask(body());
    server.waiting(1).await;
    server.signals.send(()).unwrap();
    assert_eq!(asked.await.unwrap().0, 503);
    server.task.await.unwrap();
    server.orders.send(Ok(())).unwrap();
    assert!(server.models.stop());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_failed_is_started_anew() {
    let mut server = start(Residence::default()).await;
    server.release();
    assert_eq!(server.ask(body()).await.unwrap().0, 200);
    let engine = server.engines.recv().await.unwrap();
    engine.die();
    while server.models.is_alive() {
        tokio::task::yield_now().await;
    }
    server.release();
    assert_eq!(server.ask(body()).await.unwrap().0, 200);
    assert_eq!(server.loads.load(SeqCst), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_runs_is_finished_before_its_model_goes() {
    let mut server = start(Residence::default()).await;
    server.release();
    let mut stream = server.client.stream(PATH, &json!({"prompt": "long enough"})).await;
    let mut engine = server.engines.recv().await.unwrap();
    let running = engine.submitted().await;
    let client = server.client;
    let unloading = tokio::spawn(async move { client.send(operators("/v1/admin/models/unload")).await });
    while server.report().state.name() != "draining" {
        tokio::task::yield_now().await;
    }
    engine.say(running.id, "bye");
    assert!(stream.data().await.unwrap().contains("bye"));
    assert!(!unloading.is_finished());
    engine.finish(running.id, millrace_types::FinishReason::Stop);
    assert!(stream.data().await.unwrap().contains("\"finish_reason\":\"stop\""));
    drop(stream);
    let reply = unloading.await.unwrap();
    assert_eq!((reply.status, &reply.json()["state"]), (200, &json!("unloaded")));
}
