//! Chat templates, rendered as Hugging Face transformers renders them.

mod environment;
mod json;
mod messages;
mod operators;
mod python;
mod source;

use std::{fs, io, path::Path};

use jiff::civil::DateTime;
use minijinja::{Environment, Error, ErrorKind, Value as Jinja};
use serde_json::{Map, Value, json};

use self::environment::Refusal;
use crate::{
    TextError, TextFiles,
    files::{DEFAULT, utf8},
};

/// A model's chat templates (most have one, some a second one for tools) with its special tokens. Immutable; share
/// it in an `Arc`.
///
/// Templates come with models, so they are limited in work, recursion and output, and reach nothing outside.
/// Rendering is plain computation of up to a second or so for a huge conversation: keep it off async threads.
pub struct ChatTemplate {
    env: Environment<'static>,
    special_tokens: Vec<(String, String)>,
    /// By name.
    sources: Vec<(String, String)>,
    takes_parts: bool,
    /// Whether it shows a call only beside content that is null.
    null_beside_calls: bool,
}

impl std::fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = self.env.templates().map(|(name, _)| name).collect();
        f.debug_struct("ChatTemplate").field("names", &names).finish_non_exhaustive()
    }
}

/// A conversation to render.
#[derive(Debug, Clone, Copy, Default)]
pub struct TemplateInput<'a> {
    /// Messages in OpenAI's form, at least one. See [`ChatTemplate::prepare_messages`] for what templates expect.
    pub messages: &'a [Value],
    /// Tool definitions in OpenAI's form. `None` and an empty list are different things to some templates.
    pub tools: Option<&'a [Value]>,
    /// Documents for retrieval-augmented models.
    pub documents: Option<&'a [Value]>,
    /// Whether the prompt ends with the opening of an assistant message.
    pub add_generation_prompt: bool,
    /// Whether the prompt ends inside the last message, for the model to go on with it. Not together with
    /// `add_generation_prompt`.
    pub continue_final_message: bool,
    /// More variables (`enable_thinking`, …); they overrule special tokens but none of the fields above.
    pub kwargs: Option<&'a Map<String, Value>>,
    /// What `strftime_now` shows; `None`: the local time.
    pub now: Option<DateTime>,
}

/// The name of a second template that some models have, for requests with tools.
const TOOL_USE: &str = "tool_use";

/// Longest rendered prompt, in bytes.
const MAX_OUTPUT: usize = 32 << 20;

impl ChatTemplate {
    /// The templates among a model's files; `None` if there are none, as for base models.
    ///
    /// # Errors
    /// If a template has a syntax error.
    pub fn from_files(files: &TextFiles) -> Result<Option<Self>, TextError> {
        let templates = files.templates();
        if templates.is_empty() {
            return Ok(None);
        }
        Self::new(templates.iter().map(|(name, source)| (name.as_str(), source.as_str())), files).map(Some)
    }

    /// A template in place of the model's own, with the model's special tokens.
    ///
    /// # Errors
    /// If it has a syntax error.
    pub fn from_source(source: &str, files: &TextFiles) -> Result<Self, TextError> {
        Self::new([(DEFAULT, source)].into_iter(), files)
    }

    /// A template from a command line: the path of a file, or the template itself if it contains a brace.
    ///
    /// # Errors
    /// If it is neither, the file can't be read, or the template has a syntax error.
    pub fn from_argument(argument: &str, files: &TextFiles) -> Result<Self, TextError> {
        match fs::read(argument) {
            Ok(bytes) => Self::from_source(&utf8(argument, bytes)?, files),
            Err(_) if argument.contains('{') => Self::from_source(argument, files),
            Err(source) => Err(TextError::Read { path: Path::new(argument).to_owned(), source }),
        }
    }

    fn new<'a>(
        templates: impl Iterator<Item = (&'a str, &'a str)>,
        files: &TextFiles,
    ) -> Result<Self, TextError> {
        let mut env = environment::environment()
            .map_err(|error| TextError::invalid("the template syntax", describe(&error)))?;
        let mut sources = Vec::new();
        for (name, text) in templates {
            sources.push((name.to_owned(), text.to_owned()));
            let text = source::prepare(text);
            env.add_template_owned(name.to_owned(), text)
                .map_err(|error| TextError::invalid(format!("the {name} chat template"), describe(&error)))?;
        }
        let special_tokens = files.config().special_tokens();
        let special_tokens = special_tokens.map(|(role, text)| (role.to_owned(), text.to_owned())).collect();
        let mut template =
            Self { env, special_tokens, sources, takes_parts: false, null_beside_calls: false };
        template.takes_parts = template.probe_parts();
        template.null_beside_calls = !template.shows_call(&"".into()) && template.shows_call(&Value::Null);
        Ok(template)
    }

    /// The prompt for a conversation.
    ///
    /// # Errors
    /// [`TextError::Refused`] with the template's own words if it refuses the conversation; other errors if it
    /// fails on it, exceeds a limit, or the input contradicts itself. All of them are the request's fault.
    pub fn render(&self, input: &TemplateInput<'_>) -> Result<String, TextError> {
        if input.messages.is_empty() {
            return Err(bad("the conversation is empty; send at least one message"));
        }
        let template = self.select(input.tools.is_some())?;
        let messages = input.messages.iter().map(messages::alias_reasoning);
        if !input.continue_final_message {
            return run(&template, self.context(input, &messages.collect::<Vec<_>>()));
        }
        if input.add_generation_prompt {
            return Err(bad("continue_final_message and add_generation_prompt can't both be set"));
        }
        let mut messages: Vec<Value> = messages.collect();
        let end = messages::mark_end(&mut messages)?;
        let text = run(&template, self.context(input, &messages))?;
        messages::cut_at_mark(text, &end)
    }

    /// The template's text, for those who tell from it what the model writes. Of several, the one for tools.
    pub fn source(&self) -> &str {
        let named = |wanted: &str| self.sources.iter().find(|(name, _)| name == wanted);
        named(TOOL_USE).or_else(|| named(DEFAULT)).map_or("", |(_, text)| text)
    }

    /// Brings messages as clients send them into the form that templates expect: arguments of tool calls as objects
    /// (or as JSON text, for the few templates that want `text_arguments`), results of calls with the name of the
    /// function, reasoning under every name that templates look for, the content beside calls null where the template asks for that,
    /// and, if the template can't take content in parts, the text of the parts in its place, joined by
    /// newlines. Parts that aren't text stay as they are.
    pub fn prepare_messages(&self, messages: &mut [Value], text_arguments: bool) {
        messages::name_results(messages);
        for message in messages {
            messages::shape_arguments(message, text_arguments);
            messages::name_reasoning(message);
            if self.null_beside_calls {
                messages::empty_to_null(message);
            }
            if !self.takes_parts {
                messages::flatten_text_parts(message);
            }
        }
    }

    /// Whether the template reads content that is a list of parts.
    pub fn takes_parts(&self) -> bool {
        self.takes_parts
    }

    fn select(&self, tools: bool) -> Result<minijinja::Template<'_, '_>, TextError> {
        let by_name = |name: &str| self.env.get_template(name).ok();
        let special = if tools { by_name(TOOL_USE) } else { None };
        special.or_else(|| by_name(DEFAULT)).ok_or_else(|| TextError::NoTemplate { name: DEFAULT.to_owned() })
    }

    /// Later entries overrule earlier ones.
    fn context(&self, input: &TemplateInput<'_>, messages: &[Value]) -> Jinja {
        let list = |values: &[Value]| values.iter().map(json::to_jinja).collect::<Jinja>();
        let special = self.special_tokens.iter().map(|(role, text)| (role.clone(), Jinja::from(text)));
        let kwargs =
            input.kwargs.into_iter().flatten().map(|(name, value)| (name.clone(), json::to_jinja(value)));
        let fixed = [
            ("messages", list(messages)),
            ("tools", input.tools.map_or(Jinja::from(()), list)),
            ("documents", input.documents.map_or(Jinja::from(()), list)),
            ("add_generation_prompt", Jinja::from(input.add_generation_prompt)),
        ];
        let fixed = fixed.into_iter().map(|(name, value)| (name.to_owned(), value));
        let clock = input.now.map(|now| ("strftime_now".to_owned(), environment::strftime_at(now)));
        Jinja::from_pairs(special.chain(kwargs).chain(fixed).chain(clock))
    }

    /// Tries out whether an earlier call is shown beside this content, with arguments of either form.
    fn shows_call(&self, content: &Value) -> bool {
        const NAME: &str = "MILLRACE_PROBE";
        [json!({}), "{}".into()].iter().any(|arguments| {
            let function = json!({"name": NAME, "arguments": arguments});
            let calls = json!([{"id": "probe1234", "type": "function", "function": function}]);
            let messages = [
                json!({"role": "user", "content": "x"}),
                json!({"role": "assistant", "content": content, "tool_calls": calls}),
            ];
            let input = TemplateInput { messages: &messages, ..TemplateInput::default() };
            self.render(&input).is_ok_and(|text| text.contains(NAME))
        })
    }

    /// Tries it out: a template that can't read parts fails, drops the text, or prints the list itself.
    fn probe_parts(&self) -> bool {
        const TEXT: &str = "MILLRACE-PROBE";
        let message = json!({"role": "user", "content": [{"type": "text", "text": TEXT}]});
        let printed = [format!(": '{TEXT}'"), format!(": \"{TEXT}\"")];
        let rendered = self.render(&TemplateInput {
            messages: &[message],
            add_generation_prompt: true,
            ..TemplateInput::default()
        });
        rendered.is_ok_and(|text| text.contains(TEXT) && !printed.iter().any(|list| text.contains(list)))
    }
}

fn run(template: &minijinja::Template<'_, '_>, context: Jinja) -> Result<String, TextError> {
    let mut output = Bounded(Vec::new());
    template.render_captured_to(context, &mut output).map_err(|error| to_text_error(&error))?;
    utf8("the rendered prompt", output.0)
}

/// Memory that refuses to grow past [`MAX_OUTPUT`].
struct Bounded(Vec<u8>);

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_OUTPUT {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn to_text_error(error: &Error) -> TextError {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(current) = cause {
        if let Some(Refusal(message)) = current.downcast_ref() {
            return TextError::Refused(message.clone());
        }
        cause = current.source();
    }
    match error.kind() {
        ErrorKind::OutOfFuel => TextError::RenderLimit("work"),
        ErrorKind::WriteFailure => TextError::RenderLimit("output size"),
        _ => TextError::Render(describe(error)),
    }
}

/// Kind, detail and line, without the name of the template.
fn describe(error: &Error) -> String {
    let detail = error.detail().map(|detail| format!(": {detail}")).unwrap_or_default();
    let line = error.line().map(|line| format!(" (line {line})")).unwrap_or_default();
    format!("{}{detail}{line}", error.kind())
}

fn bad(reason: &str) -> TextError {
    TextError::BadConversation(reason.to_owned())
}

#[cfg(test)]
mod tests;
