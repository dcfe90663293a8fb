//! The pipeline behind every API: template → tokenize → check lengths → submit → detokenize → stop strings →
//! reasoning and calls → events.

mod active;
mod calls;
mod framed;
mod generation;
mod late_system;
pub(crate) mod marks;
mod offload;
mod pairs;
mod pooling;
mod prepare;
mod reading;
mod render;
mod sequence;
mod sleep;
mod structure;
mod text_rules;
mod thinking;

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use millrace_api::{
    ApiError, GenerationRequest, Input, Limits, Start,
    openai::tokenize::{DetokenizeBody, DetokenizeCall, TokenizeBody, TokenizeCall},
};
use millrace_engine::{BACKGROUND, RequestState, SubmitError, SubmitOptions};
use millrace_types::{SamplingParams, TokenId};
use serde_json::{Map, Value};
use tokio::time::timeout_at;

use crate::{Lease, ModelReport, Registry, keys::Caller, metrics::SequenceTimer};
use active::Active;
use prepare::{Prepared, input_bytes, prepare, tokenize};
use sequence::Sequence;
use sleep::Sleep;
use structure::is_constrained;

pub(crate) use active::{ActiveGuard, RequestStatus};
pub use generation::Generation;
pub(crate) use late_system::knows_late_system;
pub(crate) use offload::Offload;
pub(crate) use render::knows_developer;
pub(crate) use sleep::{Depth, Running};

/// Seconds after which a client may try again when the queue is full.
const RETRY_FULL: u32 = 1;

/// The same while the server goes down and, perhaps, another one comes up.
const RETRY_DRAINING: u32 = 10;

/// Requests in, events out, for all models of the process. Needs a Tokio runtime, but no HTTP.
#[derive(Debug)]
pub struct Service {
    models: Registry,
    limits: Limits,
    default_timeout: Option<Duration>,
    max_queue_wait: Option<Duration>,
    active: Active,
    offload: Offload,
    sleep: Sleep,
}

impl Service {
    /// A service over some models. `default_timeout` holds for requests that bring no time limit.
    pub fn new(models: Registry, limits: Limits, default_timeout: Option<Duration>) -> Self {
        Self {
            models,
            limits,
            default_timeout,
            max_queue_wait: None,
            active: Active::new(),
            offload: Offload::new(),
            sleep: Sleep::default(),
        }
    }

    /// Requests that wait longer than this for their first step are given up.
    #[must_use]
    pub fn with_queue_wait(self, most: Option<Duration>) -> Self {
        Self { max_queue_wait: most, ..self }
    }

    /// The models.
    pub fn models(&self) -> &Registry {
        &self.models
    }

    /// Runs a request. Under each of `names` it can be cancelled with [`abort`](Self::abort).
    ///
    /// # Errors
    /// A 4xx if the request can't be served, a 503 if the queue is full or the server is stopping.
    /// Nothing runs then. Later failures are events.
    pub async fn generate(
        &self,
        request: GenerationRequest,
        names: Vec<String>,
    ) -> Result<Generation, ApiError> {
        let arrival = Instant::now();
        request.options.validate(&self.limits)?;
        let caller = Caller::current();
        let options = SubmitOptions {
            priority: request.options.priority,
            cache_salt: request.options.cache_salt.clone(),
            deadline: self.deadline(caller.time_limit(request.options.time_limit())),
            start_by: self.start_by(arrival, request.options.priority),
            ..SubmitOptions::default()
        };
        let guard = self.active.enter(names, request.model.as_deref(), caller.clone(), arrival);
        let lookup = Instant::now();
        let model = self.model(request.model.as_deref(), options.deadline).await?;
        let load_time = lookup.elapsed();
        refuse_pooling(&model, &request.input)?;
        let (request, prompts) = self.prepare(&model, request).await?;
        let tokens = prompts.iter().map(|prompt| prompt.tokens.len()).sum();
        caller.take_prompt(tokens)?;
        let generation = submit(model, &request, prompts, &options, arrival, guard)
            .inspect_err(|_| caller.return_prompt(tokens))?;
        Ok(generation.loaded_after(load_time))
    }

    /// When a request must run at the latest. What runs in the background waits for its turn, however long that takes.
    fn start_by(&self, arrival: Instant, priority: i32) -> Option<Instant> {
        let wait = self.max_queue_wait.filter(|_| priority != BACKGROUND)?;
        arrival.checked_add(wait)
    }

    /// When a request that arrives now has to be done, if it or the server sets a limit.
    fn deadline(&self, own: Option<Duration>) -> Option<Instant> {
        let limit = own.or(self.default_timeout)?;
        Instant::now().checked_add(limit)
    }

    /// How the models are doing that the caller may use.
    pub(crate) fn reports(&self) -> Vec<ModelReport> {
        let caller = Caller::current();
        let reports = self.models.reports().into_iter();
        reports.filter(|model| caller.may_use(&model.names)).collect()
    }

    /// Refuses a model that isn't there, and one that the caller may not use.
    pub(crate) fn check_model(&self, name: Option<&str>) -> Result<(), ApiError> {
        Caller::current().check_model(self.models.names(name)?)
    }

    /// The model of this name, if the caller may use it. Its load counts against the request's time.
    async fn model(&self, name: Option<&str>, deadline: Option<Instant>) -> Result<Lease, ApiError> {
        self.check_model(name)?;
        self.sleep.check()?;
        let lookup = self.models.lookup(name);
        match deadline {
            None => lookup.await,
            Some(deadline) => {
                timeout_at(deadline.into(), lookup).await.unwrap_or_else(|_| Err(ApiError::timeout()))
            }
        }
    }

    /// Enters a request that consists of several generations, so that it counts, and can be cancelled, between them.
    pub(crate) fn enter(&self, names: Vec<String>, model: Option<&str>) -> ActiveGuard {
        self.active.enter(names, model, Caller::current(), Instant::now())
    }

    async fn prepare(
        &self,
        model: &Lease,
        request: GenerationRequest,
    ) -> Result<(GenerationRequest, Vec<Prepared>), ApiError> {
        let (model, limits) = (model.clone(), self.limits.clone());
        // Compiling a grammar is long work, however short it is.
        let constrained = is_constrained(&request.input, request.options.structure.as_ref());
        let bytes = if constrained { usize::MAX } else { input_bytes(&request.input) };
        let work = move || {
            let prompts = prepare(&model, &request, &limits)?;
            Ok((request, prompts))
        };
        self.offload.run(bytes, work).await
    }

    /// The tokens of a text or a conversation, as [`generate`](Self::generate) would read them.
    ///
    /// # Errors
    /// As in [`generate`](Self::generate).
    pub async fn tokenize(&self, call: TokenizeCall) -> Result<TokenizeBody, ApiError> {
        let model = self.model(call.model.as_deref(), self.deadline(None)).await?;
        let bytes = input_bytes(&call.input);
        let work = move || {
            let tokens = tokenize(&model, &call.input, usize::MAX)?.pop().unwrap_or_default().tokens;
            let text =
                |id: &u32| String::from_utf8_lossy(model.parts.tokenizer.token_bytes(*id)).into_owned();
            Ok(TokenizeBody {
                count: tokens.len(),
                max_model_len: model.engine.info().max_model_len,
                token_strs: call.return_token_strs.then(|| tokens.iter().map(text).collect()),
                tokens,
            })
        };
        self.offload.run(bytes, work).await
    }

    /// What [`generate`](Self::generate) would give the engine, for each prompt.
    ///
    /// # Errors
    /// As in [`generate`](Self::generate).
    pub(crate) async fn render(
        &self,
        request: GenerationRequest,
    ) -> Result<Vec<(Vec<TokenId>, SamplingParams)>, ApiError> {
        request.options.validate(&self.limits)?;
        let model = self.model(request.model.as_deref(), self.deadline(None)).await?;
        let (_, prompts) = self.prepare(&model, request).await?;
        Ok(prompts.into_iter().map(|prompt| (prompt.tokens, prompt.sampling)).collect())
    }

    /// What a model's tokenizer is like, and its chat template.
    ///
    /// # Errors
    /// A 404 for an unknown model.
    pub(crate) async fn tokenizer_info(&self, name: Option<&str>) -> Result<Map<String, Value>, ApiError> {
        let model = self.model(name, self.deadline(None)).await?;
        let mut info = model.parts.tokenizer.info().clone();
        info.insert("vocab_size".into(), model.parts.tokenizer.vocab_size().into());
        let template = model.parts.template.as_ref().map(|template| template.source());
        info.insert("chat_template".into(), template.into());
        info.entry("tokenizer_class").or_insert(Value::Null);
        Ok(info)
    }

    /// The text of some tokens, special ones included.
    ///
    /// # Errors
    /// A 400 for ids outside of the vocabulary, a 404 for an unknown model.
    pub async fn detokenize(&self, call: DetokenizeCall) -> Result<DetokenizeBody, ApiError> {
        let model = self.model(call.model.as_deref(), self.deadline(None)).await?;
        let (limits, bytes) = (self.limits.clone(), size_of_val(&*call.tokens));
        let work = move || {
            model.limits(&limits).check_tokens("tokens", &call.tokens)?;
            Ok(DetokenizeBody { prompt: model.parts.tokenizer.decode(&call.tokens, false) })
        };
        self.offload.run(bytes, work).await
    }

    /// Ends the caller's requests of this name; says how many there were. Their streams end with the reason `abort`.
    pub fn abort(&self, name: &str) -> usize {
        self.active.abort(name, &Caller::current())
    }

    /// All requests in the house, oldest first, with what the engines say about them.
    pub(crate) async fn status(&self) -> Vec<RequestStatus> {
        let mut states = HashMap::new();
        for model in self.models.ready() {
            let inspection = model.engine.inspect().await.unwrap_or_default();
            let state = |state: RequestState| ((model.name().to_owned(), state.id), state);
            states.extend(inspection.requests.into_iter().map(state));
        }
        self.active.status(&states)
    }

    /// Whether all engines run.
    pub fn is_alive(&self) -> bool {
        self.models.is_alive()
    }

    /// Whether new requests are refused because the process is stopping.
    pub fn is_draining(&self) -> bool {
        self.models.is_draining()
    }

    /// Requests whose stream hasn't ended.
    pub fn active_requests(&self) -> usize {
        self.active.count()
    }

    /// No new requests; the running ones finish.
    pub fn drain(&self) {
        self.models.drain();
    }

    /// Aborts everything.
    pub fn shutdown(&self) {
        self.models.shutdown();
    }

    /// Waits until no request is in the house.
    pub async fn idle(&self) {
        self.active.idle().await;
    }

    pub(crate) fn offload(&self) -> &Offload {
        &self.offload
    }
}

/// Refuses to generate with a model that only reads.
fn refuse_pooling(model: &Lease, input: &Input) -> Result<(), ApiError> {
    if model.engine.info().pooling.is_none() {
        return Ok(());
    }
    let api = if matches!(input, Input::Chat(_)) { "Chat Completions" } else { "Completions" };
    Err(ApiError::invalid("model", format!("The model `{}` does not support the {api} API.", model.name())))
}

/// Queues all sequences of a request, or none.
fn submit(
    model: Lease,
    request: &GenerationRequest,
    prompts: Vec<Prepared>,
    options: &SubmitOptions,
    arrival: Instant,
    guard: ActiveGuard,
) -> Result<Generation, ApiError> {
    let samples = usize::try_from(request.options.n).unwrap_or(1);
    let count = prompts.len().saturating_mul(samples);
    let mut places = model.engine.reserve(count).map_err(|error| refusal(&error))?;
    let mut running = Vec::with_capacity(count);
    for prompt in &prompts {
        for sample in 0..samples {
            let sampling = choice(&prompt.sampling, sample);
            let options = SubmitOptions { constraint: prompt.constraint.clone(), ..options.clone() };
            let outputs =
                places.submit(prompt.tokens.clone(), sampling, options).map_err(|error| refusal(&error))?;
            let timer = SequenceTimer::new(model.metrics.clone(), arrival);
            running.push((outputs, Sequence::new(running.len(), &model, prompt, &request.options, timer)));
        }
        model.metrics.accepted(samples, prompt.sampling.max_tokens);
    }
    guard.assign(&model, running.iter().map(|(outputs, _)| outputs.id()));
    let prompts = prompts.into_iter().map(|prompt| prompt.tokens.into()).collect();
    let info = model.engine.info();
    let cache_block = info.prefix_caching.then_some(info.block_size);
    Ok(Generation::new(model, Start { prompts, samples, cache_block }, running, guard))
}

/// Choice `sample` of a prompt: the same request with its own seed.
fn choice(sampling: &SamplingParams, sample: usize) -> SamplingParams {
    let seed = sampling.seed.map(|seed| seed.wrapping_add(sample as u64));
    SamplingParams { seed, ..sampling.clone() }
}

fn refusal(error: &SubmitError) -> ApiError {
    match error {
        SubmitError::TooMany { .. } => ApiError::invalid("n", error.to_string()),
        SubmitError::QueueFull => ApiError::unavailable(error.to_string(), RETRY_FULL),
        SubmitError::Draining => ApiError::unavailable(error.to_string(), RETRY_DRAINING),
        SubmitError::Dead => ApiError::internal(error.to_string()),
    }
}
