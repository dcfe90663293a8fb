//! The same questions to every family of reasoning.

#![allow(clippy::unwrap_used)]

mod common;

use common::{parse_from, parse_pieces};
use millrace_parse::{Answer, Families, Start, reasoning_parsers};
use serde_json::Value;

/// Family, begin and end of its reasoning, and what its prompts end with where they open it.
const FORMATS: &[(&str, &str, &str, &str)] = &[
    ("qwen3", "<think>\n", "\n</think>\n\n", "<|im_start|>assistant\n<think>\n"),
    ("deepseek_r1", "<think>\n", "\n</think>\n\n", "<｜Assistant｜><think>\n"),
    ("step3p5", "<think>\n", "\n</think>\n", "<|im_start|>assistant\n<think>\n"),
    ("poolside_v1", "<think>", "</think>", "<assistant><think>"),
    ("olmo3", "<think>", "</think>", "<|im_start|>assistant\n<think>"),
    ("glm45", "<think>", "</think>\n", "<|assistant|><think>"),
    ("kimi_k2", "<think>", "</think>", "<|im_middle|><think>"),
    ("minimax_m2", "<think>\n", "\n</think>\n\n", "]~b]ai\n<think>\n"),
    ("seed_oss", "<seed:think>", "</seed:think>", "<seed:bos>assistant\n<seed:think>"),
    ("hunyuan", "<think>\n", "\n</think>\n<answer>\n", "<think>"),
    ("granite", "<think>", "</think>\n<response>", "<|end_of_role|><think>"),
    (
        "apriel",
        "Here are my reasoning steps:\n",
        "\n[BEGIN FINAL RESPONSE]\n",
        "<|begin_assistant|>\nHere are my reasoning steps:\n",
    ),
    ("mistral", "[THINK]", "[/THINK]", "[/INST][THINK]"),
    (
        "command_r",
        "<|START_THINKING|>",
        "<|END_THINKING|><|START_RESPONSE|>",
        "<|CHATBOT_TOKEN|><|START_THINKING|>",
    ),
    ("apertus", "<|inner_prefix|>", "<|inner_suffix|>", "<|assistant_start|><|inner_prefix|>"),
    ("solar_open", "<|think|>", "<|end|><|begin|>assistant<|content|>", "<|begin|>assistant<|think|>"),
    ("gemma4", "<|channel>thought\n", "\n<channel|>", "<|turn>model\n<|channel>thought\n"),
    ("gpt_oss", "<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>", ""),
];

fn named(name: &str) -> Families {
    Families::named(None, Some(name)).unwrap()
}

/// Whole and by character.
fn read(name: &str, text: &str, start: Start) -> Answer {
    let whole = parse_from(&named(name), &Value::Null, &[text], start);
    let characters: Vec<&str> = text.split("").filter(|c| !c.is_empty()).collect();
    assert_eq!(parse_from(&named(name), &Value::Null, &characters, start), whole, "{name}: {text}");
    whole
}

fn check(name: &str, text: &str, start: Start, reasoning: &str, content: &str) {
    let answer = read(name, text, start);
    assert_eq!(
        (answer.reasoning.as_str(), answer.content.as_str()),
        (reasoning, content),
        "{name}: {text:?}"
    );
}

const REASONING: &str = "Step 1: a < b.\n\n  Step 2: <b> & [c] \"d\" 🤔";
const CONTENT: &str = "The answer is\n\n- 42 <i>x</i> [y]";

#[test]
fn every_family_is_here() {
    for (name, _) in reasoning_parsers() {
        assert!(FORMATS.iter().any(|format| format.0 == name), "{name}");
    }
}

#[test]
fn reasoning_then_text() {
    for (name, open, close, prompt) in FORMATS {
        let text = format!("{open}{REASONING}{close}{CONTENT}");
        check(name, &text, Start::Unknown, REASONING, CONTENT);
        check(name, &text, Start::Content, REASONING, CONTENT);
        if !prompt.is_empty() {
            // The prompt has opened it, whether the model does it again or not.
            check(name, &text, Start::Reasoning, REASONING, CONTENT);
            check(name, &format!("{REASONING}{close}{CONTENT}"), Start::Reasoning, REASONING, CONTENT);
        }
    }
}

#[test]
fn only_one_of_the_two() {
    for (name, open, close, prompt) in FORMATS {
        check(name, CONTENT, Start::Content, "", CONTENT);
        check(name, CONTENT, Start::Unknown, "", CONTENT);
        check(name, &format!("{open}{REASONING}"), Start::Content, REASONING, "");
        check(name, &format!("{open}{REASONING}{close}"), Start::Content, REASONING, "");
        check(name, &format!("{open}{close}{CONTENT}"), Start::Content, "", CONTENT);
        if !prompt.is_empty() {
            check(name, REASONING, Start::Reasoning, REASONING, "");
        }
    }
}

#[test]
fn text_streams_as_soon_as_it_is_certain() {
    for (name, open, close, _) in FORMATS {
        let families = named(name);
        let mut parser = families.parser(std::sync::Arc::default(), Start::Content, 1);
        let mut events = Vec::new();
        parser.push(&format!("{open}one two"), &mut events);
        let so_far: Answer = events.iter().collect();
        assert_eq!(so_far.reasoning, "one two", "{name}");
        parser.push(&format!("{close}three four"), &mut events);
        let so_far: Answer = events.iter().collect();
        assert_eq!(so_far.content, "three four", "{name}");
    }
}

#[test]
fn prompts_tell_where_the_output_begins() {
    for (name, _, _, prompt) in FORMATS.iter().filter(|format| !format.3.is_empty()) {
        assert_eq!(named(name).start_after(prompt), Start::Reasoning, "{name}");
        assert_eq!(named(name).start_after("<|assistant|>\n"), Start::Content, "{name}");
    }
    assert_eq!(named("qwen3").start_after("assistant\n<think>\n\n</think>\n\n"), Start::Content);
    assert_eq!(Families::default().start_after("<think>"), Start::Content);
}

#[test]
fn tags_in_text_are_text() {
    let text = "Write `<think>` and `</think>` around it.";
    check("qwen3", text, Start::Content, "", text);
    let text = "<think>The tag is `<think>`.</think>Ok";
    check("qwen3", text, Start::Content, "The tag is `<think>`.", "Ok");
}

#[test]
fn marks_come_in_pairs() {
    for (name, open, close, _) in FORMATS.iter().filter(|format| format.0 != "gpt_oss") {
        let (first, last) = named(name).reasoning_marks().next().unwrap();
        assert!(open.starts_with(first) && close.trim_start().starts_with(last), "{name}: {first} {last}");
    }
    let marks: Vec<_> = named("mistral").reasoning_marks().collect();
    assert_eq!(marks, [("[THINK]", "[/THINK]"), ("<think>", "</think>")]);
    assert_eq!(Families::default().reasoning_marks().count(), 0);
}

#[test]
fn reasoning_between_calls() {
    let families = Families::named(Some("minimax_m2"), Some("minimax_m2")).unwrap();
    let call = "<minimax:tool_call>\n<invoke name=\"f\">\n</invoke>\n</minimax:tool_call>";
    let text = format!("<think>one</think>\nA\n{call}\n<think>two</think>\n{call}\nB");
    let answer = parse_pieces(&families, &Value::Null, &[&text]);
    assert_eq!((answer.reasoning.as_str(), answer.calls.len()), ("one\ntwo", 2));
    assert!(answer.content.starts_with('A') && answer.content.ends_with('B'), "{}", answer.content);
}
