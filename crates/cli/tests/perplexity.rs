//! `millrace perplexity`: the number is that of the definition, and mistakes are told.

#![allow(clippy::unwrap_used, reason = "clippy sees no test in a helper function")]

mod common;

use common::{Server, run, sentence, stdout};
use serde_json::{Value, json};

const TEXT: &str = "Once upon a time there was a little fox who lived under a hill. Every morning the fox went out \
    to look for berries, and every evening it came home and told its mother what it had seen.";

fn perplexity(more: &[&str], input: &str) -> Value {
    let args = [&["perplexity", "--file", "-", "--json"], more].concat();
    serde_json::from_str(&stdout(&args, input)).unwrap()
}

#[test]
fn windows_are_scored_as_the_server_scores_prompts() {
    let result = perplexity(&["--window", "16"], TEXT);
    let server = Server::start(&[]);
    let tokens = server.json("POST", "/tokenize", &json!({"prompt": TEXT}).to_string());
    let tokens: Vec<u64> = tokens["tokens"].as_array().unwrap().iter().map(|t| t.as_u64().unwrap()).collect();
    let (mut nats, mut count) = (0.0, 0);
    for window in tokens.chunks(16).filter(|window| window.len() > 1) {
        let body = json!({"prompt": window, "echo": true, "logprobs": 0, "max_tokens": 0});
        let answer = server.json("POST", "/v1/completions", &body.to_string());
        let logprobs = answer["choices"][0]["logprobs"]["token_logprobs"].as_array().unwrap();
        nats -= logprobs.iter().skip(1).map(|l| l.as_f64().unwrap()).sum::<f64>();
        count += window.len() - 1;
    }
    assert_eq!(result["tokens"], count);
    assert_eq!(result["windows"], tokens.len().div_ceil(16));
    let (expected, got) = (nats / count as f64, result["nats_per_token"].as_f64().unwrap());
    assert!((expected - got).abs() < 1e-5, "{expected} {got}");
    assert!((got.exp() - result["perplexity"].as_f64().unwrap()).abs() < 1e-9);
}

#[test]
fn longer_windows_and_finer_numbers_predict_better() {
    let number = |more: &[&str]| perplexity(more, TEXT)["perplexity"].as_f64().unwrap();
    let whole = number(&[]);
    assert!(whole > 1.0 && whole < number(&["--window", "4"]), "{whole}");
    let precise = number(&["--kv-cache-dtype", "f32"]);
    // Forty tokens of prose that the model finds hard: the types of numbers show, but not much.
    assert!((whole / precise - 1.0).abs() < 0.1, "{whole} {precise}");
    // The batch does not matter.
    assert_eq!(whole, number(&["--max-num-batched-tokens", "7"]));
}

#[test]
fn a_table_for_people() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), TEXT).unwrap();
    let text = stdout(&["perplexity", "--file", file.path().to_str().unwrap(), "--window", "8"], "");
    for part in ["model       millrace-demo", "perplexity  ", "windows of 8", "tokens/s"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn mistakes_are_told() {
    let text = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(text.path(), [b'a', 0xff]).unwrap();
    let path = text.path().to_str().unwrap();
    assert_eq!(sentence(&["perplexity", "--file", path]), format!("{path} is not UTF-8 text (byte 1)"));
    assert!(sentence(&["perplexity", "--file", "/no/such"]).starts_with("/no/such cannot be opened"));
    for (args, message) in [
        (&["--window", "1"][..], "a window of 1 tokens has nothing to predict"),
        (&["--window", "9000"], "--window 9000 is too long"),
        (&["--window", "64", "--max-model-len", "64"], "--window 64 is too long"),
        (&[], "- holds too little text"),
    ] {
        let output = run(&[&["perplexity", "--file", "-"], args].concat(), "a");
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.contains(message) && output.status.code() == Some(1), "{args:?}: {stderr}");
    }
}
