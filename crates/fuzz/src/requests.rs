//! Requests of every endpoint: answered, or refused as their vendor refuses them; and what is streamed is what is told
//! whole.

use serde_json::{Value, json};

use crate::{
    answers::{self, Shape},
    input::Input,
    refusals,
    server::{self, Reply, Server},
};

const JSON: &str = "application/json";

/// An endpoint, and how its answers are read if they can be streamed.
type Route = (&'static str, Option<Shape>);

pub(crate) fn chat(input: &[u8]) -> bool {
    const ROUTES: [Route; 3] = [
        ("/v1/chat/completions", Some(answers::CHAT)),
        ("/v1/chat/completions/batch", None),
        ("/v1/chat/completions/render", None),
    ];
    ask(&ROUTES, input)
}

pub(crate) fn completions(input: &[u8]) -> bool {
    ask(&[("/v1/completions", Some(answers::COMPLETION)), ("/v1/completions/render", None)], input)
}

pub(crate) fn responses(input: &[u8]) -> bool {
    ask(&[("/v1/responses", Some(answers::RESPONSE)), ("/v1/responses/input_tokens", None)], input)
}

pub(crate) fn messages(input: &[u8]) -> bool {
    ask(&[("/v1/messages", Some(answers::MESSAGE)), ("/v1/messages/count_tokens", None)], input)
}

pub(crate) fn ollama(input: &[u8]) -> bool {
    const ROUTES: [Route; 6] = [
        ("/api/chat", Some(answers::OLLAMA)),
        ("/api/generate", Some(answers::OLLAMA)),
        ("/api/embed", None),
        ("/api/embeddings", None),
        ("/api/show", None),
        ("/api/pull", None),
    ];
    ask(&ROUTES, input)
}

pub(crate) fn embeddings(input: &[u8]) -> bool {
    ask(&[("/v1/embeddings", None)], input)
}

pub(crate) fn scores(input: &[u8]) -> bool {
    ask(&[("/v1/rerank", None), ("/v2/rerank", None), ("/score", None)], input)
}

pub(crate) fn classes(input: &[u8]) -> bool {
    ask(&[("/classify", None), ("/pooling", None)], input)
}

pub(crate) fn tokens(input: &[u8]) -> bool {
    ask(&[("/tokenize", None), ("/detokenize", None)], input)
}

/// Orders of batches whose file isn't there.
pub(crate) fn batches(input: &[u8]) -> bool {
    ask(&[("/v1/batches", None)], input)
}

/// Forms with a file, whose boundary is `B`. What was taken is given back as it was.
pub(crate) fn uploads(input: &[u8]) -> bool {
    const FILES: &str = "/v1/files";
    server::with(|server| {
        let reply = server.post(FILES, "multipart/form-data; boundary=B", input);
        if reply.status != 200 {
            refusals::check(FILES, &reply);
            return true;
        }
        let file: Value = serde_json::from_slice(&reply.body).expect("an answer is JSON");
        let path = format!("{FILES}/{}", file["id"].as_str().unwrap());
        let content = server.send("GET", &format!("{path}/content"), JSON, b"");
        assert_eq!((content.status, json!(content.body.len())), (200, file["bytes"].clone()));
        let found = input.windows(content.body.len().max(1)).any(|window| window == content.body);
        assert!(found || content.body.is_empty(), "a file that nobody sent");
        assert_eq!(server.send("DELETE", &path, JSON, b"").status, 200);
        true
    })
}

fn ask(routes: &[Route], input: &[u8]) -> bool {
    let Some(input) = Input::read(input) else { return false };
    let Some((path, shape)) = routes.iter().find(|(path, _)| *path == input.path) else { return false };
    server::with(|server| {
        server.say(input.answer);
        let reply = post(server, path, input.body);
        if let (200, Some(shape)) = (reply.status, shape) {
            compare(server, path, input.body, shape);
        }
    });
    true
}

/// Sends a body; the answer is a good one or a good refusal.
pub(crate) fn post(server: &mut Server, path: &str, body: &[u8]) -> Reply {
    let reply = server.post(path, JSON, body);
    if reply.status != 200 {
        refusals::check(path, &reply);
    } else if reply.kind.starts_with(JSON) {
        serde_json::from_slice::<Value>(&reply.body).expect("an answer is JSON");
    }
    reply
}

/// Asks for the same answer whole and streamed.
fn compare(server: &mut Server, path: &str, body: &[u8], shape: &Shape) {
    let Ok(Value::Object(fields)) = serde_json::from_slice(body) else { return };
    if fields.get("background") == Some(&json!(true)) {
        return;
    }
    let mut ask = |stream: bool| {
        let mut fields = fields.clone();
        fields.insert("stream".into(), stream.into());
        if !stream {
            fields.shift_remove("stream_options");
        }
        post(server, path, Value::Object(fields).to_string().as_bytes())
    };
    let (whole, streamed) = (ask(false), ask(true));
    if streamed.status != 200 {
        // Some answers can't be streamed (`best_of`).
        return;
    }
    assert_eq!(whole.status, 200, "{path}: streamed, but not whole");
    let whole = (shape.whole)(&serde_json::from_slice(&whole.body).unwrap());
    assert_eq!((shape.streamed)(&streamed.body), whole, "{path}: left: streamed, right: whole");
}
