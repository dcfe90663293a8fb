//! `millrace run` on the embedded demo model.

mod common;

use common::{copy_of_demo, run, sentence, stdout};
use serde_json::Value;

const QUESTION: &str = "What is the capital of France?";
const ANSWER: &str = "The capital of France is Paris.";
const SMALL: [&str; 2] = ["--kv-cache-memory", "32M"];

fn args<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&["run"], &SMALL[..], more].concat()
}

#[test]
fn the_demo_model_knows_a_capital() {
    assert_eq!(stdout(&args(&[QUESTION]), ""), format!("{ANSWER}\n"));
}

#[test]
fn standard_input_is_a_prompt_and_json_an_answer() {
    let text = stdout(&args(&["--json", "-"]), &format!("{QUESTION}\n"));
    let answer: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(answer["text"], ANSWER);
    assert_eq!(answer["finish_reason"], "stop");
    assert_eq!(answer["model"], "millrace-demo");
    // As models/demo/eval.jsonl has it, and an end-of-text token that counts too.
    assert_eq!(answer["usage"]["prompt_tokens"], 19);
    assert_eq!(answer["usage"]["total_tokens"], answer["usage"]["completion_tokens"].as_u64().unwrap() + 19);
}

#[test]
fn reasoning_is_told_apart() {
    let text = stdout(&args(&["--json", "--thinking", "on", QUESTION]), "");
    let answer: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(answer["text"], ANSWER);
    assert!(answer["reasoning"].as_str().is_some_and(|text| text.len() > 4 && !text.contains('<')));
    // A script gets the answer alone, unless it asks for what the model writes.
    assert_eq!(stdout(&args(&["--thinking", "on", QUESTION]), ""), format!("{ANSWER}\n"));
    let raw = stdout(&args(&["--thinking", "on", "--reasoning-parser", "none", QUESTION]), "");
    assert!(raw.starts_with("<think>") && raw.ends_with(&format!("</think>\n\n{ANSWER}\n")), "{raw}");
}

#[test]
fn unknown_parsers_are_refused_with_the_known_ones() {
    let error = sentence(&args(&["--tool-call-parser", "nope", QUESTION]));
    assert!(error.contains("`nope`") && error.contains("hermes") && error.contains("`none`"), "{error}");
}

#[test]
fn limits_and_instructions_are_honoured() {
    let text =
        stdout(&args(&["--json", "--max-tokens", "2", "--system", "Answer in one word.", QUESTION]), "");
    let answer: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(answer["finish_reason"], "length");
    assert_eq!(answer["usage"]["completion_tokens"], 2);
    assert!(answer["usage"]["prompt_tokens"].as_u64().unwrap() > 19);
}

#[test]
fn equal_seeds_give_equal_answers() {
    let tell = |seed: &str| {
        stdout(&args(&["--temperature", "1.5", "--seed", seed, "--max-tokens", "40", "Tell me a story."]), "")
    };
    let first = tell("1");
    assert_eq!(first, tell("1"));
    assert!((2..6).any(|seed| tell(&seed.to_string()) != first));
}

#[test]
fn a_folder_answers_as_the_embedded_model_does() {
    let folder = copy_of_demo();
    assert_eq!(
        stdout(&args(&["--model", folder.path().to_str().unwrap(), QUESTION]), ""),
        format!("{ANSWER}\n")
    );
}

#[test]
fn a_model_without_a_template_continues_text() {
    let folder = copy_of_demo();
    let config = folder.path().join("tokenizer_config.json");
    let mut settings: Value = serde_json::from_slice(&std::fs::read(&config).unwrap()).unwrap();
    settings.as_object_mut().unwrap().remove("chat_template");
    std::fs::write(&config, settings.to_string()).unwrap();
    let model = folder.path().to_str().unwrap();
    let json = stdout(&args(&["--model", model, "--json", "--max-tokens", "4", "Once upon a time"]), "");
    let answer: Value = serde_json::from_str(&json).unwrap();
    assert!(answer["usage"]["prompt_tokens"].as_u64().unwrap() < 10, "{json}");
    assert!(sentence(&args(&["--model", model, "--system", "x", "y"])).contains("--chat-template"));
    let output = run(&["chat", model, "--kv-cache-memory", "32M"], "hello\n");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_prompt_that_does_not_fit_is_refused_in_words() {
    let message = sentence(&args(&["--max-model-len", "32", &"word ".repeat(200)]));
    assert!(message.contains("32"), "{message}");
}
