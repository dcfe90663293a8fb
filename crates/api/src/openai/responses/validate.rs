//! Reads bodies: types, ranges, and the rules between fields.

use serde_json::{Map, Value, json};

use super::{
    ids::ResponseId,
    items::{Input, read_input},
    reasoning::{Wish, read_reasoning},
    tools::{Offer, read_offer},
};
use crate::{
    ApiError, GenerationOptions, Limits, MaxTokensDefault, Structure,
    fields::{Fields, invalid},
    openai::{metadata::read_metadata, structure},
};

/// Accepted without effect: what agents tell about themselves.
const HINTS: &[&str] = &["client_metadata"];

/// Longest name of a caller or of a cache, in characters.
const MAX_NAME: usize = 256;

/// Fields that ask for what isn't here, and what to do instead.
const REFUSED: &[(&str, &str)] = &[
    ("conversation", "This server keeps no conversations. Use `previous_response_id`, or send all items."),
    ("prompt", "This server keeps no prompt templates. Send `instructions` and `input`."),
    ("context_management", "This server doesn't compact conversations. Use `truncation`."),
    ("moderation", "There is no moderation on this server. Leave it out."),
    ("image", "This model takes no images. Leave it out."),
    ("access_programs", "There are no access programs on this server. Leave it out."),
    ("personality", "Describe the personality in `instructions`."),
];

/// The parts of an answer that a client may ask to see, and those among them that never occur here: their tools don't
/// exist.
const INCLUDABLE: &[&str] = &[
    LOGPROBS,
    ENCRYPTED,
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
];
const LOGPROBS: &str = "message.output_text.logprobs";
const ENCRYPTED: &str = "reasoning.encrypted_content";

/// A whole request.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) prompt: PromptBody,
    pub(super) options: GenerationOptions,
    pub(super) delivery: Delivery,
    pub(super) show: Show,
    /// What the answer tells again, in the order in which it does.
    pub(super) echo: Map<String, Value>,
}

/// What the prompt is made of, apart from what earlier answers hold.
#[derive(Debug, Clone)]
pub struct PromptBody {
    pub(super) model: Option<String>,
    pub(super) instructions: Option<String>,
    pub(super) input: Vec<Input>,
    pub(super) previous: Option<String>,
    pub(super) offer: Offer,
    pub(super) parallel_tool_calls: bool,
    /// Most calls that the server runs itself.
    pub(super) max_calls: Option<usize>,
    /// Template variables.
    pub(super) kwargs: Map<String, Value>,
    /// Leave out the oldest items if the context is too short for all.
    pub(super) truncate: bool,
}

/// How the answer gets to the client.
#[derive(Debug, Clone, Copy)]
pub(super) struct Delivery {
    pub(super) stream: bool,
    pub(super) store: bool,
    pub(super) background: bool,
}

/// What the answer shows besides text and calls.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Show {
    pub(super) logprobs: bool,
    pub(super) encrypted: bool,
    pub(super) summary: bool,
}

/// Reads a body of `/v1/responses`.
///
/// # Errors
/// A 400 that names the field, for the first rule that is broken.
pub(super) fn read_request(body: &Value, limits: &Limits, id: &ResponseId) -> Result<Request, ApiError> {
    let mut fields = Fields::new(String::new(), body)?;
    let delivery = read_delivery(&mut fields)?;
    let (prompt, wish, format) = read_prompt(&mut fields, limits, id)?;
    let show = Show { summary: wish.summary, ..read_include(&mut fields)? };
    let options =
        GenerationOptions { structure: format.structure, ..read_options(&mut fields, show, limits)? };
    let mut echo = read_labels(&mut fields)?;
    fields.done()?;
    let said = |name: &str| body.get(name).cloned().unwrap_or_default();
    for name in [
        "instructions",
        "max_output_tokens",
        "max_tool_calls",
        "previous_response_id",
        "temperature",
        "top_p",
    ] {
        echo.insert(name.into(), said(name));
    }
    let or =
        |name: &str, default: Value| Some(said(name)).filter(|value| !value.is_null()).unwrap_or(default);
    for (name, value) in [
        ("background", delivery.background.into()),
        ("store", delivery.store.into()),
        ("parallel_tool_calls", prompt.parallel_tool_calls.into()),
        ("reasoning", wish.echo),
        ("text", json!({"format": format.given, "verbosity": "medium"})),
        ("tool_choice", or("tool_choice", json!("auto"))),
        ("tools", prompt.offer.echo.clone().into()),
        ("top_logprobs", or("top_logprobs", json!(0))),
        ("truncation", json!(if prompt.truncate { "auto" } else { "disabled" })),
    ] {
        echo.insert(name.into(), value);
    }
    Ok(Request { prompt, options, delivery, show, echo })
}

/// Reads a body of `/v1/responses/input_tokens`.
///
/// # Errors
/// As in [`read_request`].
pub(super) fn read_count(body: &Value, limits: &Limits, id: &ResponseId) -> Result<PromptBody, ApiError> {
    let mut fields = Fields::new(String::new(), body)?;
    let (prompt, ..) = read_prompt(&mut fields, limits, id)?;
    refuse(&mut fields)?;
    fields.done()?;
    Ok(prompt)
}

/// What both endpoints read: the prompt, the wish to think, and `text.format`.
fn read_prompt(
    fields: &mut Fields<'_>,
    limits: &Limits,
    id: &ResponseId,
) -> Result<(PromptBody, Wish, Format), ApiError> {
    let wish = read_reasoning(fields.get("reasoning"))?;
    let format = read_text(fields.get("text"))?;
    let tools = fields.list("tools")?.unwrap_or_default();
    let offer = read_offer(tools, fields.get("tool_choice"), limits)?;
    let input = fields.get("input").map_or(Ok(Vec::new()), |input| read_input(input, limits, id))?;
    let max_calls = match fields.integer("max_tool_calls")? {
        None => None,
        Some(most) => match usize::try_from(most) {
            Ok(most) if most > 0 => Some(most),
            _ => return Err(invalid("max_tool_calls", &format!("Must be at least 1, got {most}."))),
        },
    };
    let prompt = PromptBody {
        max_calls,
        model: fields.str("model")?.map(str::to_owned),
        instructions: fields.str("instructions")?.map(str::to_owned),
        previous: fields.str("previous_response_id")?.map(str::to_owned),
        parallel_tool_calls: fields.bool("parallel_tool_calls")?.unwrap_or(true),
        truncate: fields.one_of("truncation", &["auto", "disabled"])? == Some("auto"),
        kwargs: wish.kwargs.clone(),
        offer,
        input,
    };
    if prompt.input.is_empty() && prompt.previous.is_none() {
        return Err(invalid("input", "At least one item is required."));
    }
    Ok((prompt, wish, format))
}

fn read_delivery(fields: &mut Fields<'_>) -> Result<Delivery, ApiError> {
    let stream = fields.bool("stream")?.unwrap_or(false);
    let store = fields.bool("store")?.unwrap_or(true);
    let background = fields.bool("background")?.unwrap_or(false);
    if background && !store {
        let reason = "An answer in the background has to be stored. Leave `store` out, or set it to true.";
        return Err(invalid("background", reason));
    }
    if let Some(options) = fields.get("stream_options") {
        if !stream {
            return Err(invalid("stream_options", "Stream options can only be given with `stream`."));
        }
        let mut options = Fields::new("stream_options".into(), options)?;
        options.refuse("include_obfuscation", "Streams are not obfuscated here. Leave it out.")?;
        options.done()?;
    }
    if let Some(options) = fields.get("background_options") {
        let mut options = Fields::new("background_options".into(), options)?;
        options.one_of("completion_window", &["soonest"])?;
        options.refuse("continuation_id", "Requests in the background have no order here. Leave it out.")?;
        options.done()?;
    }
    Ok(Delivery { stream, store, background })
}

fn read_include(fields: &mut Fields<'_>) -> Result<Show, ApiError> {
    let list = fields.list("include")?.unwrap_or_default();
    for (index, name) in list.iter().enumerate() {
        if !INCLUDABLE.iter().any(|known| name == known) {
            let known = INCLUDABLE.join(", ");
            let message = format!("This can't be included. Known are {known}.");
            return Err(invalid(&format!("include[{index}]"), &message));
        }
    }
    let has = |wanted: &str| list.iter().any(|name| name == wanted);
    Ok(Show { logprobs: has(LOGPROBS), encrypted: has(ENCRYPTED), summary: false })
}

/// `max_output_tokens` is a bound: where the context ends before it, the answer does too. Beside OpenAI's own fields
/// there are those of this server's chat completions that matter most.
fn read_options(fields: &mut Fields<'_>, show: Show, limits: &Limits) -> Result<GenerationOptions, ApiError> {
    let max_tokens = match fields.integer("max_output_tokens")? {
        None => MaxTokensDefault::RestOfContext,
        Some(max) => match usize::try_from(max) {
            Ok(max) if max > 0 => MaxTokensDefault::Fixed(max),
            _ => return Err(invalid("max_output_tokens", &format!("Must be at least 1, got {max}."))),
        },
    };
    let top_logprobs = fields.integer("top_logprobs")?.unwrap_or(0);
    if !(0..=20).contains(&top_logprobs) {
        return Err(invalid("top_logprobs", &format!("The range is 0 to 20, got {top_logprobs}.")));
    }
    if top_logprobs > 0 && !show.logprobs {
        return Err(invalid("top_logprobs", &format!("This needs \"{LOGPROBS}\" in `include`.")));
    }
    let stops = fields.get("stop").map_or(Ok(Vec::new()), |stop| match stop {
        Value::String(stop) => Ok(vec![stop.clone()]),
        Value::Array(stops) => stops.iter().map(|stop| stop.as_str().map(str::to_owned).ok_or(())).collect(),
        _ => Err(()),
    });
    let options = GenerationOptions {
        temperature: fields.number("temperature")?,
        top_p: fields.number("top_p")?,
        max_tokens_default: max_tokens,
        logprobs: show.logprobs.then_some(top_logprobs),
        top_k: fields.integer("top_k")?,
        min_p: fields.number("min_p")?,
        presence_penalty: fields.number("presence_penalty")?,
        frequency_penalty: fields.number("frequency_penalty")?,
        repetition_penalty: fields.number("repetition_penalty")?,
        seed: fields.integer("seed")?,
        thinking_token_budget: fields.integer("thinking_token_budget")?,
        stop: stops.map_err(|()| invalid("stop", "Input should be a string or a list of strings."))?,
        cache_salt: fields.str("cache_salt")?.map(str::to_owned),
        timeout: fields.number("timeout")?,
        ..GenerationOptions::default()
    };
    options.validate(limits)?;
    Ok(options)
}

/// Fields that name the caller or the cache, and those that ask for what isn't here.
fn read_labels(fields: &mut Fields<'_>) -> Result<Map<String, Value>, ApiError> {
    let mut echo = Map::new();
    echo.insert("metadata".into(), read_metadata(fields)?);
    for name in ["prompt_cache_key", "safety_identifier", "user"] {
        let value = fields.str(name)?;
        if value.is_some_and(|value| value.chars().nth(MAX_NAME).is_some()) {
            return Err(invalid(name, &format!("The string may hold at most {MAX_NAME} characters.")));
        }
        echo.insert(name.into(), value.into());
    }
    fields.one_of("service_tier", &["auto", "default"])?;
    echo.insert("service_tier".into(), "default".into());
    // Prefixes are kept as long as there is room for them, whoever asks.
    fields.one_of("prompt_cache_retention", &["in_memory"])?;
    if let Some(options) = fields.get("prompt_cache_options") {
        let mut options = Fields::new("prompt_cache_options".into(), options)?;
        options.one_of("mode", &["implicit"])?;
        options.done()?;
    }
    fields.accept(HINTS);
    refuse(fields)?;
    Ok(echo)
}

fn refuse(fields: &mut Fields<'_>) -> Result<(), ApiError> {
    REFUSED.iter().try_for_each(|(name, why)| fields.refuse(name, why))
}

/// Where the format stands in a body.
const FORMAT: &str = "text.format";

/// `text.format`.
struct Format {
    given: Value,
    /// What it asks of the answer.
    structure: Option<Structure>,
}

/// `text`.
fn read_text(text: Option<&Value>) -> Result<Format, ApiError> {
    let plain = json!({"type": "text"});
    let Some(text) = text else { return Ok(Format { given: plain, structure: None }) };
    let mut fields = Fields::new("text".into(), text)?;
    if fields.one_of("verbosity", &["low", "medium", "high"])?.is_some_and(|verbosity| verbosity != "medium")
    {
        let reason = "Only 'medium' is known here. Say in `instructions` how long answers should be.";
        return Err(invalid("text.verbosity", reason));
    }
    let format = fields.get("format").cloned().unwrap_or(plain);
    fields.done()?;
    let structure = structure::read(&json!({"response_format": chat_format(&format)?}));
    let structure = structure.map_err(|error| ApiError { param: Some(FORMAT.into()), ..error })?;
    let structure = structure.map(|structure| Structure { param: FORMAT.into(), ..structure });
    Ok(Format { given: format, structure })
}

/// `text.format` as the `response_format` of chat completions.
fn chat_format(format: &Value) -> Result<Value, ApiError> {
    let mut fields = Fields::new(FORMAT.into(), format)?;
    fields.need("type")?;
    let kind = fields.one_of("type", &["text", "json_object", "json_schema"])?.unwrap_or_default();
    let mut chat = Map::from_iter([("type".to_owned(), Value::from(kind))]);
    if kind == "json_schema" {
        let mut schema = Map::new();
        for name in ["name", "schema"] {
            schema.insert(name.into(), fields.need(name)?.clone());
        }
        for name in ["description", "strict"] {
            schema.extend(fields.get(name).map(|value| (name.to_owned(), value.clone())));
        }
        chat.insert("json_schema".into(), schema.into());
    }
    fields.done()?;
    Ok(chat.into())
}
