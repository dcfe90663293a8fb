//! `millrace serve`: from its first line to its last.

mod common;

use std::io::{BufRead, BufReader, Read};

use common::{Server, repository, sentence};
use serde_json::json;

fn question() -> String {
    let messages = json!([{"role": "user", "content": "What is the capital of France?"}]);
    json!({"messages": messages, "chat_template_kwargs": {"enable_thinking": false}}).to_string()
}

#[test]
fn the_demo_is_served_and_sigterm_ends_it_cleanly() {
    let mut server = Server::start(&[]);
    let answer = server.json("POST", "/v1/chat/completions", &question());
    assert_eq!(answer["choices"][0]["message"]["content"], "The capital of France is Paris.");
    assert_eq!(answer["model"], "millrace-demo");
    assert_eq!(server.json("GET", "/v1/models", "")["data"][0]["id"], "millrace-demo");
    assert_eq!(server.request("GET", "/nowhere", "", "").0, 404);
    server.signal("TERM");
    let (status, printed) = server.wait();
    assert_eq!(status.code(), Some(0));
    for part in ["millrace-demo", "demo", "device", "cpu (", "KV cache", " tokens", "curl http://127.0.0.1:"]
    {
        assert!(printed.contains(part), "{part}: {printed}");
    }
}

#[test]
fn a_running_stream_is_finished_before_the_end() {
    let mut server = Server::start(&[]);
    let body = json!({"prompt": "Once", "stream": true, "max_tokens": 400, "ignore_eos": true}).to_string();
    let mut stream = BufReader::new(server.send("POST", "/v1/completions", "", &body));
    let mut line = String::new();
    while !line.starts_with("data: ") {
        line.clear();
        assert!(stream.read_line(&mut line).unwrap() > 0, "the stream ended early");
    }
    server.signal("TERM");
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("\"finish_reason\":\"length\"") && rest.contains("data: [DONE]"), "{rest}");
    assert_eq!(server.wait().0.code(), Some(0));
}

#[test]
fn a_second_signal_aborts() {
    let mut server = Server::start(&[]);
    let body = json!({"prompt": "Once", "stream": true, "max_tokens": 8000, "ignore_eos": true}).to_string();
    let mut stream = BufReader::new(server.send("POST", "/v1/completions", "", &body));
    let mut line = String::new();
    while !line.starts_with("data: ") {
        line.clear();
        assert!(stream.read_line(&mut line).unwrap() > 0, "the stream ended early");
    }
    server.signal("INT");
    // It refuses new requests once it has seen the first signal.
    while server.request("GET", "/ready", "", "").0 == 200 {}
    server.signal("INT");
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("\"finish_reason\":\"abort\"") && rest.contains("data: [DONE]"), "{rest}");
    assert_eq!(server.wait().0.code(), Some(0));
}

#[test]
fn names_keys_and_limits_come_from_flags_and_files() {
    let file = tempfile::NamedTempFile::with_suffix(".yaml").unwrap();
    let settings =
        "served-model-name: [first, second]\napi-key: [k1, k2]\nmax-body-size: 2K\nmax-model-len: 128\n";
    std::fs::write(file.path(), settings).unwrap();
    let server = Server::start(&["--config", file.path().to_str().unwrap(), "--max-model-len", "256"]);
    assert_eq!(server.request("GET", "/v1/models", "", "").0, 401);
    assert_eq!(server.request("GET", "/health", "", "").0, 200);
    for header in ["authorization: Bearer k1\r\n", "x-api-key: k2\r\n"] {
        let (status, models) = server.request("GET", "/v1/models", header, "");
        assert_eq!(status, 200);
        assert!(models.contains("first") && models.contains("second") && models.contains("256"), "{models}");
        let long = json!({"prompt": "x".repeat(4000)}).to_string();
        assert_eq!(server.request("POST", "/v1/completions", header, &long).0, 413);
    }
}

#[test]
fn the_example_file_works() {
    let example = repository("docs/config.example.yaml");
    let server = Server::start(&["--config", example.to_str().unwrap()]);
    let models = server.json("GET", "/v1/models", "");
    assert_eq!(models["data"][0]["id"], "millrace-demo");
    assert_eq!(models["data"][1]["id"], "default");
}

#[test]
fn a_taken_port_is_told_at_once() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let message = sentence(&["serve", "--port", &port]);
    assert!(message.contains(&port) && message.contains("--port"), "{message}");
}

#[test]
fn settings_that_cannot_work_are_one_sentence() {
    let serve = |more: &[&str]| sentence(&[&["serve", "--port", "0"], more].concat());
    assert!(serve(&["--kv-cache-memory", "1K"]).contains("--kv-cache-memory"));
    assert!(serve(&["--max-model-len", "100k"]).contains("--max-model-len 100000"));
    assert!(serve(&["--block-size", "10"]).contains("--block-size 10"));
    assert!(serve(&["--allowed-origins", "nonsense"]).contains("not an origin"));
    assert!(serve(&["--chat-template", "/no/such/template"]).contains("/no/such/template"));
}
