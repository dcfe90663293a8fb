//! Bodies of `/api/chat` and `/api/generate` to the neutral request.

use std::collections::VecDeque;

use millrace_grammar::{Source, Whitespace};
use serde_json::{Map, Value, json};

use super::{KeepAlive, Lines, Needs, OllamaCall, options::read_options, parse_name, parse_stream};
use crate::{
    ApiError, ChatInput, GenerationOptions, GenerationRequest, Input, Limits, Prompt, Structure,
    openai::chat::{TemplateBody, chat_input},
    read,
};

/// What both bodies say.
struct Common {
    model: String,
    stream: bool,
    keep_alive: Option<KeepAlive>,
    think: Think,
}

/// `think`: the template's own way, off, on, or on with an effort.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Think {
    Unsaid,
    Off,
    On(Option<String>),
}

pub(super) fn chat(body: &Value, limits: &Limits) -> Result<OllamaCall, ApiError> {
    let common = Common::read(body)?;
    let messages = match body.get("messages") {
        None | Some(Value::Null) => &[][..],
        Some(Value::Array(messages)) => messages,
        Some(_) => return Err(ApiError::invalid("messages", "`messages` must be a list of messages.")),
    };
    let options = GenerationOptions { structure: read_format(body)?, ..read_options(body, limits)? };
    let lines = Lines::chat(&common.model, options.logprobs.is_some());
    if messages.is_empty() {
        return Ok(common.into_call(None, Needs::default(), lines));
    }
    let conversation = conversation(body, messages, &common.think, limits)?;
    let needs = Needs { tools: conversation.may_call(), thinking: matches!(common.think, Think::On(_)) };
    Ok(common.into_call(Some((Input::Chat(Box::new(conversation)), options)), needs, lines))
}

pub(super) fn generate(
    body: &Value,
    limits: &Limits,
    has_template: impl FnOnce(&str) -> bool,
) -> Result<OllamaCall, ApiError> {
    let common = Common::read(body)?;
    refuse(body, "template", "The server uses the model's own chat template; leave it out.")?;
    refuse(body, "context", "Send the conversation to `/api/chat` instead.")?;
    let text = |field: &str| match body.get(field) {
        None | Some(Value::Null) => Ok(""),
        Some(Value::String(text)) => Ok(text.as_str()),
        Some(_) => Err(ApiError::invalid(field, format!("`{field}` must be a string."))),
    };
    let raw = match body.get("raw") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(raw)) => *raw,
        Some(_) => return Err(ApiError::invalid("raw", "`raw` must be true or false.")),
    };
    let (prompt, system, suffix) = (text("prompt")?, text("system")?, text("suffix")?);
    if !suffix.is_empty() && !system.is_empty() {
        let message = "`suffix` and `system` don't go together: a gap is filled without a conversation.";
        return Err(ApiError::invalid("suffix", message));
    }
    let options = GenerationOptions { structure: read_format(body)?, ..read_options(body, limits)? };
    let lines = Lines::generate(&common.model, options.logprobs.is_some());
    if prompt.is_empty() && suffix.is_empty() {
        return Ok(common.into_call(None, Needs::default(), lines));
    }
    let needs = Needs { tools: false, thinking: matches!(common.think, Think::On(_)) };
    let is_raw = raw || !suffix.is_empty();
    let input = match is_raw || (system.is_empty() && !has_template(&common.model)) {
        true => raw_input(prompt, suffix, limits)?,
        false => {
            let system = Some(system).filter(|text| !text.is_empty());
            let system = system.map(|text| json!({"role": "system", "content": text}));
            let messages: Vec<Value> =
                system.into_iter().chain([json!({"role": "user", "content": prompt})]).collect();
            Input::Chat(Box::new(conversation(&Value::Null, &messages, &common.think, limits)?))
        }
    };
    Ok(common.into_call(Some((input, options)), needs, lines))
}

/// A prompt as it is, or with what stands behind a gap.
fn raw_input(prompt: &str, suffix: &str, limits: &Limits) -> Result<Input, ApiError> {
    let (chars, most) = (prompt.chars().chain(suffix.chars()).count(), limits.max_prompt_chars);
    if chars > most {
        let message = format!("`prompt` has {chars} characters; at most {most} are allowed.");
        return Err(ApiError::invalid("prompt", message));
    }
    let prompts = vec![match suffix {
        "" => Prompt::Text(prompt.to_owned()),
        _ => Prompt::Gap { before: prompt.to_owned(), after: suffix.to_owned() },
    }];
    Ok(Input::Prompts { prompts, add_special_tokens: true })
}

/// `format`: `"json"`, or a schema.
fn read_format(body: &Value) -> Result<Option<Structure>, ApiError> {
    let param = "format".to_owned();
    let schema = match body.get("format") {
        None | Some(Value::Null) => return Ok(None),
        // Clients send an empty text for "none".
        Some(Value::String(format)) if format.is_empty() => return Ok(None),
        Some(Value::String(format)) if format == "json" => json!({"type": "object"}),
        Some(schema @ Value::Object(_)) => schema.clone(),
        Some(_) => return Err(ApiError::invalid(&param, "`format` must be \"json\" or a JSON schema.")),
    };
    let structure = Structure { source: Source::Json { schema, whitespace: Whitespace::Flexible }, param };
    structure.validate()?;
    Ok(Some(structure))
}

impl Common {
    fn read(body: &Value) -> Result<Self, ApiError> {
        refuse(body, "images", "This model reads text only.")?;
        Ok(Self {
            model: parse_name(body)?,
            stream: parse_stream(body)?,
            keep_alive: KeepAlive::read(body.get("keep_alive"))?,
            think: Think::read(body.get("think"))?,
        })
    }

    fn into_call(self, work: Option<(Input, GenerationOptions)>, needs: Needs, lines: Lines) -> OllamaCall {
        let Self { model, stream, keep_alive, .. } = self;
        let request = |(input, options)| GenerationRequest { model: Some(model.clone()), input, options };
        OllamaCall { work: work.map(request), model, stream, keep_alive, needs, lines }
    }
}

impl Think {
    fn read(value: Option<&Value>) -> Result<Self, ApiError> {
        match value {
            None | Some(Value::Null) => Ok(Self::Unsaid),
            Some(Value::Bool(false)) => Ok(Self::Off),
            Some(Value::Bool(true)) => Ok(Self::On(None)),
            Some(Value::String(effort)) if ["low", "medium", "high"].contains(&effort.as_str()) => {
                Ok(Self::On(Some(effort.clone())))
            }
            Some(_) => {
                let message = "`think` must be true, false, \"low\", \"medium\" or \"high\".";
                Err(ApiError::invalid("think", message))
            }
        }
    }

    fn switch(&self) -> (Option<bool>, Option<&str>) {
        match self {
            Self::Unsaid => (None, None),
            Self::Off => (Some(false), None),
            Self::On(effort) => (Some(true), effort.as_deref()),
        }
    }
}

/// Refuses a field that says something.
fn refuse(body: &Value, field: &str, advice: &str) -> Result<(), ApiError> {
    let says_nothing = |value: &Value| match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => false,
    };
    match body.get(field).is_none_or(says_nothing) {
        true => Ok(()),
        false => Err(ApiError::invalid(field, format!("`{field}` is not supported. {advice}"))),
    }
}

/// A conversation under the rules of OpenAI's, into whose shape its messages are brought first: chat templates read
/// that.
fn conversation(
    body: &Value,
    messages: &[Value],
    think: &Think,
    limits: &Limits,
) -> Result<ChatInput, ApiError> {
    let mut calls = Calls::default();
    let messages = messages.iter().enumerate().map(|(at, message)| calls.message(at, message));
    let messages = messages.collect::<Result<Vec<_>, _>>()?;
    let is_open = |last: &Value| last["role"] == "assistant" && last.get("tool_calls").is_none();
    let (enable_thinking, reasoning_effort) = think.switch();
    let mut shaped = json!({
        "continue_final_message": messages.last().is_some_and(is_open),
        "messages": messages,
        "enable_thinking": enable_thinking,
        "reasoning_effort": reasoning_effort,
    });
    let tools = body.get("tools").unwrap_or(&Value::Null);
    if tools.as_array().is_none_or(|list| !list.is_empty()) {
        shaped["tools"] = tools.clone();
    }
    let mut input = chat_input(read::<TemplateBody>(&shaped)?, limits)?;
    // Templates call their switch by one name or the other.
    if let Some(on) = enable_thinking {
        input.template_kwargs.entry("thinking").or_insert(on.into());
    }
    Ok(input)
}

/// Gives calls the ids that Ollama's may lack, and each result the id of its call.
#[derive(Default)]
struct Calls {
    made: usize,
    /// Id and function of calls without a result.
    open: VecDeque<(String, String)>,
}

impl Calls {
    fn message(&mut self, at: usize, message: &Value) -> Result<Value, ApiError> {
        // What is no message at all is refused with the others' words later.
        let Value::Object(fields) = message else { return Ok(message.clone()) };
        if fields.get("images").and_then(Value::as_array).is_some_and(|images| !images.is_empty()) {
            let path = format!("messages[{at}].images");
            return Err(ApiError::invalid(
                &path,
                format!("`{path}` is not supported. This model reads text only."),
            ));
        }
        let mut fields = fields.clone();
        fields.remove("images");
        match fields.get("role").and_then(Value::as_str) {
            Some("assistant") => self.assistant(&mut fields),
            Some("tool") => self.result(&mut fields),
            _ => {}
        }
        Ok(Value::Object(fields))
    }

    fn assistant(&mut self, fields: &mut Map<String, Value>) {
        if let Some(thinking) = fields.remove("thinking").filter(|text| !text.is_null()) {
            fields.insert("reasoning_content".into(), thinking);
        }
        let calls = match fields.remove("tool_calls") {
            Some(Value::Array(calls)) if !calls.is_empty() => calls,
            Some(other @ (Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_))) => {
                fields.insert("tool_calls".into(), other);
                return;
            }
            _ => return,
        };
        let calls = calls.into_iter().map(|call| self.call(call)).collect();
        fields.insert("tool_calls".into(), Value::Array(calls));
    }

    fn call(&mut self, mut call: Value) -> Value {
        let id = call.get("id").and_then(Value::as_str).filter(|id| !id.is_empty()).map(str::to_owned);
        let id = id.unwrap_or_else(|| format!("call_{}", self.made));
        self.made += 1;
        let name = call.pointer("/function/name").and_then(Value::as_str).unwrap_or_default().to_owned();
        self.open.push_back((id.clone(), name));
        // Arguments are JSON in a string, as with OpenAI; for templates that want an object it is parsed later.
        if let Some(arguments) = call.pointer_mut("/function/arguments").filter(|value| value.is_object()) {
            *arguments = Value::String(arguments.to_string());
        }
        if let Value::Object(fields) = &mut call {
            fields.insert("id".into(), id.into());
            fields.insert("type".into(), "function".into());
        }
        call
    }

    /// A result belongs to the first open call of its tool, or to the first one at all.
    fn result(&mut self, fields: &mut Map<String, Value>) {
        if let Some(name) = fields.remove("tool_name").filter(|name| !name.is_null()) {
            fields.insert("name".into(), name);
        }
        let named = fields.get("name").and_then(Value::as_str);
        let at = self.open.iter().position(|(_, tool)| Some(tool.as_str()) == named).unwrap_or(0);
        let Some((id, tool)) = self.open.remove(at) else { return };
        fields.entry("tool_call_id").or_insert(id.into());
        fields.entry("name").or_insert(tool.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(body: &Value) -> Result<ChatInput, ApiError> {
        match chat(body, &Limits::default())?.work.unwrap().input {
            Input::Chat(chat) => Ok(*chat),
            Input::Prompts { .. } => panic!("no conversation"),
        }
    }

    #[test]
    fn messages_get_the_shape_that_templates_read() {
        let body = json!({"model": "m", "think": false, "messages": [
            {"role": "user", "content": "x", "images": []},
            {"role": "assistant", "content": "", "thinking": "hm", "tool_calls": [
                {"function": {"name": "f", "arguments": {"a": 1}}}, {"function": {"name": "g", "arguments": {}}}]},
            {"role": "tool", "tool_name": "g", "content": "2"},
            {"role": "tool", "content": "1"},
        ]});
        let chat = input(&body).unwrap();
        let call = |id: &str, name: &str, arguments: &str| json!({"function": {"name": name, "arguments": arguments}, "id": id, "type": "function"});
        assert_eq!(chat.messages[0], json!({"role": "user", "content": "x"}));
        assert_eq!(chat.messages[1]["reasoning_content"], "hm");
        assert_eq!(
            chat.messages[1]["tool_calls"],
            json!([call("call_0", "f", r#"{"a":1}"#), call("call_1", "g", "{}")])
        );
        assert_eq!(
            (&chat.messages[2]["tool_call_id"], &chat.messages[2]["name"]),
            (&json!("call_1"), &json!("g"))
        );
        assert_eq!(
            (&chat.messages[3]["tool_call_id"], &chat.messages[3]["name"]),
            (&json!("call_0"), &json!("f"))
        );
        assert_eq!(chat.template_kwargs["enable_thinking"], false);
        assert!(chat.add_generation_prompt && !chat.may_call());
    }

    #[test]
    fn the_assistants_last_word_is_continued() {
        let messages = json!([{"role": "user", "content": "x"}, {"role": "assistant", "content": "Well"}]);
        let chat = input(&json!({"model": "m", "messages": messages})).unwrap();
        assert_eq!(chat.open_text(), Some("Well"));
        assert!(chat.template_kwargs.is_empty());
    }

    #[test]
    fn nothing_to_say_is_a_load() {
        let limits = Limits::default();
        for body in [json!({"model": "m"}), json!({"model": "m", "messages": []})] {
            assert!(chat(&body, &limits).unwrap().work.is_none());
        }
        let call =
            generate(&json!({"model": "m", "prompt": "", "keep_alive": 0}), &limits, |_| true).unwrap();
        assert!(call.work.is_none() && call.keep_alive.unwrap().is_zero() && call.stream);
    }

    #[test]
    fn a_prompt_is_a_conversation_unless_it_is_raw() {
        let read = |body: Value, has_template: bool| {
            generate(&body, &Limits::default(), |_| has_template).unwrap().work.unwrap().input
        };
        let body = json!({"model": "m", "prompt": "x", "system": "s", "think": "high"});
        let Input::Chat(chat) = read(body, true) else { panic!("no conversation") };
        assert_eq!(chat.messages[0], json!({"role": "system", "content": "s"}));
        assert_eq!(chat.template_kwargs["reasoning_effort"], "high");
        for (body, has_template) in [
            (json!({"model": "m", "prompt": "x", "raw": true}), true),
            (json!({"model": "m", "prompt": "x"}), false),
            (json!({"model": "m", "prompt": "x", "suffix": "y"}), true),
        ] {
            assert!(matches!(read(body, has_template), Input::Prompts { .. }));
        }
    }

    #[test]
    fn what_this_server_cannot_do_is_refused() {
        for (field, value) in [
            ("format", json!("xml")),
            ("format", json!(3)),
            ("images", json!(["aGk="])),
            ("template", json!("{{ .Prompt }}")),
            ("suffix", json!(3)),
            ("context", json!([1, 2])),
            ("think", json!("very")),
            ("stream", json!("no")),
            ("keep_alive", json!("soon")),
            ("raw", json!(3)),
            ("prompt", json!(3)),
            ("model", json!("")),
        ] {
            let mut body = json!({"model": "m", "prompt": "x"});
            body[field] = value;
            let error = generate(&body, &Limits::default(), |_| true).err().unwrap();
            assert_eq!((error.kind.status(), error.param.as_deref()), (400, Some(field)));
        }
        let image = json!({"role": "user", "content": "x", "images": ["aGk="]});
        for (messages, path) in [
            (json!([image]), "messages[0].images"),
            (json!(["x"]), "messages[0]"),
            (json!([{"content": "x"}]), "messages[0].role"),
            (json!([{"role": "assistant", "tool_calls": "x"}]), "messages[0].tool_calls"),
            (json!([{"role": "assistant", "tool_calls": [3]}]), "messages[0].tool_calls[0].function.name"),
            (json!(3), "messages"),
        ] {
            let error = input(&json!({"model": "m", "messages": messages})).unwrap_err();
            assert_eq!(error.param.as_deref(), Some(path));
        }
        let tools = json!([{"type": "function", "function": {"name": ""}}]);
        let body = json!({"model": "m", "messages": [{"role": "user", "content": "x"}], "tools": tools});
        assert!(input(&body).is_err());
    }
}
