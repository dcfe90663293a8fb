//! The text side of a model: tokenizer, chat template, sampling defaults, and what is asked of it in process.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use millrace_api::{
    ChatInput, GenerationOptions, GenerationRequest, Ignored, Input, Limits, Prompt, SamplingDefaults,
    eos_token_ids,
};
use millrace_engine::Engine;
use millrace_parse::{Families, detect};
use millrace_server::{ModelParts, Registry, ServedModel, Service};
use millrace_text::{ChatTemplate, TextFiles, Tokenizer};
use millrace_types::TokenId;
use millrace_weights::ModelFiles;
use serde_json::{Map, Value};
use tokio::runtime::Runtime;

use crate::args::{LoadFormat, ModelArgs, ModelFlags, ParserArgs, PromptArgs, TalkArgs, Thinking};
use crate::load::{self, Model};

/// Where a model has its sampling defaults.
const GENERATION: &str = "generation_config.json";

/// A model that answers in this process, over the same path as every HTTP client.
pub(crate) struct InProcess {
    pub(crate) service: Service,
    /// Whether it takes conversations, or only continues text.
    pub(crate) has_template: bool,
    engine: Engine,
}

impl InProcess {
    /// Loads a model.
    pub(crate) fn start(model: &Model, args: &TalkArgs) -> Result<Self> {
        let ModelFlags { model_args, parsers, engine } = &args.flags;
        let parts = parts(model, Vec::new(), model_args, parsers)?;
        let has_template = parts.template.is_some();
        let running = load::start(model, model_args, engine, None)?;
        let served = ServedModel::new(parts, running.engine.handle.clone());
        let service = Service::new(Registry::new(vec![Arc::new(served)]), Limits::default(), None);
        Ok(Self { service, has_template, engine: running.engine })
    }

    /// Ends the engine's thread.
    pub(crate) fn stop(self) {
        self.engine.handle.shutdown();
        self.engine.join();
    }
}

/// The runtime for everything that waits; what computes has threads of its own.
pub(crate) fn runtime() -> Result<Runtime> {
    let threads = std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 4);
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(threads).enable_all().build().context("the system gives no threads")
}

/// What the server needs of a model besides its engine. `names` are its names for clients; empty takes the model's.
pub(crate) fn parts(
    model: &Model,
    names: Vec<String>,
    args: &ModelArgs,
    parsers: &ParserArgs,
) -> Result<ModelParts> {
    let files = text_source(&model.files, args)?;
    let unusable = || format!("{} cannot be used", files.describe());
    let text = text_files(&files).with_context(unusable)?;
    let template = match &args.chat_template {
        Some(argument) => Some(ChatTemplate::from_argument(argument, &text)?),
        None => ChatTemplate::from_files(&text).with_context(unusable)?,
    };
    let defaults = told(model, GENERATION, SamplingDefaults::from_generation_config)?;
    let eos_token_ids = end_ids(model, args)?;
    let tokenizer = Tokenizer::from_files(&text).with_context(unusable)?;
    let families = families(parsers, template.as_ref(), &tokenizer)?;
    Ok(ModelParts {
        names: if names.is_empty() { vec![model.name.clone()] } else { names },
        root: model.name.clone(),
        tokenizer: Arc::new(tokenizer),
        template: template.map(Arc::new),
        pair_template: None,
        defaults,
        eos_token_ids,
        families,
    })
}

/// The tokens that end an answer: as the user says over `config.json`, or as the first file says that names any.
fn end_ids(model: &Model, args: &ModelArgs) -> Result<Vec<TokenId>> {
    let ends = |config: &Value| eos_token_ids(config, model.spec.vocab);
    if let Some(set) = &args.hf_overrides {
        let (ids, ignored) = ends(&Value::Object(set.clone()));
        if let Some(Ignored { key, value, rule }) = ignored.first() {
            bail!("--hf-overrides: `{key}` is {value}; it must be {rule}");
        }
        if !ids.is_empty() {
            return Ok(ids);
        }
    }
    let ids = told(model, GENERATION, ends)?;
    if ids.is_empty() { told(model, "config.json", ends) } else { Ok(ids) }
}

/// How the model writes tool calls and reasoning: as the user says, or as its template and vocabulary show.
fn families(args: &ParserArgs, template: Option<&ChatTemplate>, tokenizer: &Tokenizer) -> Result<Families> {
    let found = detect(template.map(ChatTemplate::source), |token| tokenizer.token_to_id(token).is_some());
    let tool = args.tool_call_parser.as_deref().or(found.tool);
    let reasoning = args.reasoning_parser.as_deref().or(found.reasoning);
    let families = Families::named(tool, reasoning)?;
    tracing::info!(
        "tool calls are read as {}, reasoning as {}",
        families.tool().unwrap_or("text"),
        families.reasoning().unwrap_or("text")
    );
    Ok(families)
}

/// The tokenizer alone.
pub(crate) fn tokenizer(files: &ModelFiles, args: &ModelArgs) -> Result<Tokenizer> {
    let files = text_source(files, args)?;
    let unusable = || format!("{} cannot be used", files.describe());
    Tokenizer::from_files(&text_files(&files).with_context(unusable)?).with_context(unusable)
}

/// Where the tokenizer comes from.
pub(crate) fn text_source(files: &ModelFiles, args: &ModelArgs) -> Result<ModelFiles> {
    match &args.tokenizer {
        Some(name) => load::files(name, None, LoadFormat::Dummy),
        None => Ok(files.clone()),
    }
}

/// Tokenizer, settings and templates.
pub(crate) fn text_files(files: &ModelFiles) -> Result<TextFiles> {
    if let ModelFiles::Folder(folder) = files {
        return Ok(TextFiles::from_folder(folder)?);
    }
    let tokenizer = files.read("tokenizer.json")?.context("the embedded model has no tokenizer.json")?;
    let config = files.read("tokenizer_config.json")?;
    Ok(TextFiles::from_bytes(tokenizer, config.as_deref(), None)?)
}

/// What is read from a file of settings; tells the user which of its values are left out.
fn told<T>(model: &Model, name: &str, read: impl Fn(&Value) -> (T, Vec<Ignored>)) -> Result<T> {
    let (settings, ignored) = read(&settings(&model.files, name)?);
    for Ignored { key, value, rule } in ignored {
        let folder = model.files.describe();
        tracing::warn!("{folder}/{name}: `{key}` is {value} and is ignored; it must be {rule}");
    }
    Ok(settings)
}

/// A JSON file of settings; null if there is none.
fn settings(files: &ModelFiles, name: &str) -> Result<Value> {
    let Some(text) = files.read(name)? else { return Ok(Value::Null) };
    serde_json::from_slice(&text).with_context(|| format!("{}/{name} is not valid JSON", files.describe()))
}

/// A conversation or, for a model without a chat template, a text to continue.
pub(crate) fn request(input: Input, prompting: &PromptArgs) -> GenerationRequest {
    let options = GenerationOptions {
        temperature: prompting.temperature,
        top_p: prompting.top_p,
        max_tokens: prompting.max_tokens.map(|n| i64::try_from(n).unwrap_or(i64::MAX)),
        ..GenerationOptions::default()
    };
    GenerationRequest { model: None, input, options }
}

/// The model's turn after `messages`.
pub(crate) fn conversation(messages: Vec<Value>, thinking: Thinking) -> Input {
    let mut template_kwargs = Map::new();
    if thinking != Thinking::Auto {
        template_kwargs.insert("enable_thinking".into(), (thinking == Thinking::On).into());
    }
    Input::Chat(Box::new(ChatInput {
        messages,
        add_generation_prompt: true,
        template_kwargs,
        ..ChatInput::default()
    }))
}

/// A text to continue.
pub(crate) fn raw(text: &str) -> Input {
    Input::Prompts { prompts: vec![Prompt::Text(text.to_owned())], add_special_tokens: true }
}
