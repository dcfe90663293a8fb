//! Published chat templates against what transformers makes of them.
//!
//! The templates are other people's, so they lie beside the checkout (`../shared/chat-templates`, or wherever
//! `MILLRACE_CHAT_TEMPLATES` says) and not in it. Without them the test says so and passes.

// Helpers that can't go on fail their test.
#![allow(clippy::unwrap_used)]

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use millrace_parse::{ArgumentsForm, arguments_form};
use millrace_text::{ChatTemplate, DateTime, TemplateInput, TextError, TextFiles};
use serde_json::{Value, json};

fn folder() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/chat-templates");
    let folder = env::var_os("MILLRACE_CHAT_TEMPLATES").map_or(beside, PathBuf::from);
    folder.is_dir().then_some(folder)
}

fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

struct Case<'a> {
    case: &'a Value,
    now: DateTime,
}

impl Case<'_> {
    fn render(&self, template: &ChatTemplate) -> Result<String, TextError> {
        let list = |name: &str| self.case[name].as_array().map(Vec::as_slice);
        let flag = |name: &str, default| self.case[name].as_bool().unwrap_or(default);
        template.render(&TemplateInput {
            messages: list("messages").unwrap(),
            tools: list("tools"),
            documents: list("documents"),
            add_generation_prompt: flag("add_generation_prompt", true),
            continue_final_message: flag("continue_final_message", false),
            kwargs: self.case["kwargs"].as_object(),
            now: Some(self.now),
        })
    }
}

/// `None` if the rendering is right.
fn verdict(expected: &Value, rendered: &Result<String, TextError>) -> Option<String> {
    let message = expected["message"].as_str().unwrap_or_default();
    match (expected["text"].as_str(), expected["error"].as_str(), rendered) {
        (Some(text), _, Ok(rendered)) if text == rendered => None,
        (Some(text), _, other) => Some(format!("expected {text:?}\n     got {other:?}")),
        (None, Some("raise_exception"), Err(TextError::Refused(words))) if words == message => None,
        (None, Some("raise_exception"), other) => {
            Some(format!("expected refusal {message:?}\n     got {other:?}"))
        }
        // An error of Python's own: a text or a client error is both right.
        (None, _, Ok(_)) => None,
        (None, _, Err(error)) => (!error.is_bad_request()).then(|| error.to_string()),
    }
}

/// All templates by name, with what transformers makes of the cases.
fn templates(folder: &Path, cases: &Value) -> Vec<(String, ChatTemplate, Value)> {
    let config = cases["special_tokens"].to_string();
    let expected = read_json(&folder.join("expected.json"));
    let load = |(name, by_case): (&String, &Value)| {
        let source = fs::read_to_string(folder.join(format!("templates/{name}.jinja"))).unwrap();
        let files = TextFiles::from_bytes(Vec::new(), Some(config.as_bytes()), Some(&source)).unwrap();
        (name.clone(), ChatTemplate::from_files(&files).unwrap().unwrap(), by_case.clone())
    };
    expected.as_object().unwrap().iter().map(load).collect()
}

#[test]
fn published_templates_render_as_in_transformers() {
    let Some(folder) = folder() else {
        eprintln!("skipped: no folder with published chat templates; set MILLRACE_CHAT_TEMPLATES");
        return;
    };
    let cases = read_json(&folder.join("cases.json"));
    let now: DateTime = cases["now"].as_str().unwrap().parse().unwrap();

    let (mut checked, mut wrong) = (0, Vec::new());
    for (name, template, by_case) in templates(&folder, &cases) {
        for case in cases["cases"].as_array().unwrap() {
            let id = case["id"].as_str().unwrap();
            checked += 1;
            let rendered = Case { case, now }.render(&template);
            wrong.extend(verdict(&by_case[id], &rendered).map(|reason| format!("{name} / {id}: {reason}")));
        }
    }
    assert!(checked > 0);
    assert!(wrong.is_empty(), "{} of {checked} are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// Templates that show more here than in transformers: reasoning under a name that clients seldom use, calls beside
/// content that is empty and not null.
const MORE: [(&str, &str); 2] = [
    ("upstage-Solar-Open-100B", "I need the tool."),
    ("deepseek-ai-DeepSeek-R1-Distill-Llama-8B", "get_weather"),
];

/// Templates that show no earlier call, whatever its form, or fail on it in transformers too.
const NO_HISTORY: [&str; 8] = [
    "CohereForAI-c4ai-command-r-plus-tool_use",
    "HuggingFaceTB-SmolLM3-3B",
    "Kimi-K2-Thinking",
    "LFM2-8B-A1B",
    "fireworks-ai-llama-3-firefunction-v2",
    "ibm-granite-granite-3.3-2B-Instruct",
    "llama-cpp-rwkv-world",
    "microsoft-Phi-3.5-mini-instruct",
];

/// A conversation as OpenAI's clients send it: arguments as JSON text, results that name the call by its id alone.
fn as_client_sends(mut case: Value) -> Value {
    for message in case["messages"].as_array_mut().unwrap() {
        let fields = message.as_object_mut().unwrap();
        if fields["role"] == "tool" {
            fields.remove("name");
        }
        if fields["content"].is_null() {
            fields.insert("content".into(), "".into());
        }
        for call in fields.get_mut("tool_calls").and_then(Value::as_array_mut).into_iter().flatten() {
            let arguments = &mut call["function"]["arguments"];
            if !arguments.is_string() {
                *arguments = arguments.to_string().into();
            }
        }
    }
    case
}

#[test]
fn calls_of_earlier_turns_are_shown_as_each_template_expects() {
    let Some(folder) = folder() else {
        eprintln!("skipped: no folder with published chat templates; set MILLRACE_CHAT_TEMPLATES");
        return;
    };
    let cases = read_json(&folder.join("cases.json"));
    let now: DateTime = cases["now"].as_str().unwrap().parse().unwrap();
    let by_id = |id: &str| cases["cases"].as_array().unwrap().iter().find(|case| case["id"] == id).unwrap();
    let (mut same, mut wrong) = (0, Vec::new());
    for (name, template, by_case) in templates(&folder, &cases) {
        let text_arguments = arguments_form(template.source()) == ArgumentsForm::Text;
        let render = |case: Value| {
            let mut case = as_client_sends(case);
            template.prepare_messages(case["messages"].as_array_mut().unwrap(), text_arguments);
            Case { case: &case, now }.render(&template)
        };
        let expected = |id: &str| by_case[id]["text"].as_str();
        // To the letter what transformers makes of objects and names.
        for id in ["tool_parallel", "reasoning_last_turn"] {
            let more = MORE.iter().find(|(other, _)| *other == name).map(|(_, sign)| *sign);
            match (expected(id), &render(by_id(id).clone())) {
                (Some(text), Ok(rendered)) if text == rendered => same += 1,
                (Some(_), Ok(rendered)) if more.is_some_and(|sign| rendered.contains(sign)) => {}
                (Some(text), other) => {
                    wrong.push(format!("{name} / {id}: expected {text:?}\n     got {other:?}"));
                }
                (None, _) => {}
            }
        }
        // No content beside a call, and arguments that are text: never an error, and nothing is lost.
        for (id, result) in [("tool_result", "clear"), ("tool_string_arguments", "cold")] {
            let mut case = by_id(id).clone();
            case["messages"][1]["tool_calls"][0]["function"]["arguments"] = json!({"city": "Bergen"});
            let rendered = render(case);
            let whole = rendered.as_ref().is_ok_and(|text| text.contains("Bergen") && text.contains(result));
            if whole == NO_HISTORY.contains(&name.as_str()) {
                wrong.push(format!("{name} / {id}: {rendered:?}"));
            }
        }
    }
    assert!(same > 0);
    assert!(wrong.is_empty(), "{} are wrong:\n{}", wrong.len(), wrong.join("\n"));
}
