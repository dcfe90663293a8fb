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

use millrace_text::{ChatTemplate, DateTime, TemplateInput, TextError, TextFiles};
use serde_json::Value;

fn folder() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/chat-templates");
    let folder = env::var_os("MILLRACE_CHAT_TEMPLATES").map_or(beside, PathBuf::from);
    folder.is_dir().then_some(folder)
}

fn json(path: &Path) -> Value {
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

#[test]
fn published_templates_render_as_in_transformers() {
    let Some(folder) = folder() else {
        eprintln!("skipped: no folder with published chat templates; set MILLRACE_CHAT_TEMPLATES");
        return;
    };
    let (cases, expected) = (json(&folder.join("cases.json")), json(&folder.join("expected.json")));
    let now: DateTime = cases["now"].as_str().unwrap().parse().unwrap();
    let config = cases["special_tokens"].to_string();

    let (mut checked, mut wrong) = (0, Vec::new());
    for (name, by_case) in expected.as_object().unwrap() {
        let source = fs::read_to_string(folder.join(format!("templates/{name}.jinja"))).unwrap();
        let files = TextFiles::from_bytes(Vec::new(), Some(config.as_bytes()), Some(&source)).unwrap();
        let template = ChatTemplate::from_files(&files).unwrap().unwrap();
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
