//! `millrace chat` with scripts instead of a terminal.

#![allow(clippy::unwrap_used, reason = "clippy sees no test in a helper function")]

mod common;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Duration;

use common::{Server, Session, run, stdout};
use serde_json::Value;

const SMALL: [&str; 3] = ["chat", "--kv-cache-memory", "32M"];

fn saved(file: &std::path::Path) -> Vec<(String, String)> {
    let body: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let messages = body["messages"].as_array().unwrap();
    messages.iter().map(|message| (text(&message["role"]), text(&message["content"]))).collect()
}

fn roles(messages: &[(String, String)]) -> Vec<&str> {
    messages.iter().map(|(role, _)| role.as_str()).collect()
}

#[test]
fn a_script_is_answered_saved_and_reset() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("a.json"), folder.path().join("b.json"));
    let script = format!(
        "What is the capital of France?\n\nHello!\n/save {}\n/system Be brief.\nHello!\n/reset\n/save {}\n/quit\nnever\n",
        first.display(),
        second.display()
    );
    let text = stdout(&SMALL, &script);
    assert!(text.starts_with("The capital of France is Paris.\n"), "{text}");
    assert_eq!(text.lines().filter(|line| !line.is_empty()).count(), 3, "{text}");
    let messages = saved(&first);
    assert_eq!(roles(&messages), ["user", "assistant", "user", "assistant"]);
    assert_eq!(messages[1].1, "The capital of France is Paris.");
    assert_eq!(saved(&second), [("system".to_owned(), "Be brief.".to_owned())]);
}

#[test]
fn a_wrong_command_ends_a_script() {
    let output = run(&SMALL, "/nonsense\nHello!\n");
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(stderr.trim_end(), "error: there is no command /nonsense; /help lists them");
}

#[test]
fn a_running_server_answers_as_this_process_does() {
    let server = Server::start(&["--api-key", "secret"]);
    let url = server.url();
    let script = "What is the capital of France?\n";
    assert_eq!(
        stdout(&["chat", "--url", &url, "--api-key", "secret"], script),
        "The capital of France is Paris.\n"
    );
    let output = run(&["chat", "--url", &url], script);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("status 401"));
    let output = run(&["chat", "nobody", "--url", &url, "--api-key", "secret"], script);
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("status 404: The model `nobody` does not exist.")
    );
}

#[test]
fn a_server_that_is_not_there_is_named() {
    // A port that was free a moment ago.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let output = run(&["chat", "--url", &format!("http://{address}")], "Hello!\n");
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        stderr.starts_with(&format!("error: the server at http://{address} cannot be reached")),
        "{stderr}"
    );
}

#[test]
fn an_interrupt_stops_the_answer_and_not_the_program() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("talk.json");
    // A server that begins an answer and never ends it.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let mut chat = Session::start(&["chat", "model", "--url", &url]);
    chat.say("Tell me a story.");
    let (mut stream, _) = listener.accept().unwrap();
    let chunk = r#"{"choices": [{"delta": {"content": "Once"}, "finish_reason": null}]}"#;
    write!(stream, "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: {chunk}\n\n").unwrap();
    let mut answer = [0; 4];
    chat.stdout.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"Once");
    chat.signal("INT");
    // The connection is closed although the server says nothing more: the rest of the request, and the end.
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.read_to_end(&mut Vec::new()).unwrap();
    chat.say(&format!("/save {}", file.display()));
    assert_eq!(chat.end().code(), Some(0));
    let said = saved(&file);
    assert_eq!(roles(&said), ["user", "assistant"]);
    assert_eq!(said[1].1, "Once");
}
