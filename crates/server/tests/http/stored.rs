//! Stored chat completions, and files in requests, over real HTTP with a scripted engine.

use millrace_server::ServerConfig;
use serde_json::{Value, json};

use crate::support::{MODEL, Setup, TestServer, client::request, engine::Plan, saying};

const CHAT: &str = "/v1/chat/completions";

fn body(extra: Value) -> Value {
    let mut body = json!({"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 20});
    body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    body
}

async fn ids(server: &TestServer, query: &str) -> Vec<String> {
    let list = server.get(&format!("{CHAT}{query}")).await.json();
    list["data"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn answers_are_stored_listed_changed_and_forgotten() {
    let server = saying("yes").await;
    assert_eq!(server.post(CHAT, &body(json!({}))).await.status, 200);
    assert!(ids(&server, "").await.is_empty());
    let asked = body(json!({"store": true, "metadata": {"topic": "a"}, "temperature": 0}));
    let first = server.post(CHAT, &asked).await.json();
    let second = server.post(CHAT, &body(json!({"store": true}))).await.json();
    let (first_id, second_id) = (first["id"].as_str().unwrap(), second["id"].as_str().unwrap());

    let path = format!("{CHAT}/{first_id}");
    let stored = server.get(&path).await.json();
    assert_eq!(stored["choices"], first["choices"]);
    assert_eq!((&stored["metadata"], &stored["temperature"]), (&json!({"topic": "a"}), &json!(0)));
    let messages = server.get(&format!("{path}/messages")).await.json();
    assert_eq!(
        (&messages["data"][0]["content"], &messages["data"][0]["role"]),
        (&json!("hi"), &json!("user"))
    );

    assert_eq!(ids(&server, "").await, [first_id, second_id]);
    assert_eq!(ids(&server, "?order=desc&limit=1").await, [second_id]);
    assert_eq!(ids(&server, &format!("?after={first_id}")).await, [second_id]);
    assert_eq!(ids(&server, "?metadata[topic]=a").await, [first_id]);
    assert_eq!(server.get(&format!("{CHAT}?order=up")).await.status, 400);

    let changed = server.post(&path, &json!({"metadata": {"topic": "b"}})).await.json();
    assert_eq!(changed["metadata"], json!({"topic": "b"}));
    assert_eq!(server.get(&path).await.json()["metadata"], json!({"topic": "b"}));
    assert_eq!(server.post(&path, &json!({"model": "x"})).await.status, 400);

    let gone = server.send(request("DELETE", &path, &[], "")).await;
    assert_eq!(gone.json(), json!({"id": first_id, "object": "chat.completion.deleted", "deleted": true}));
    for path in [path.clone(), format!("{path}/messages")] {
        assert_eq!(server.get(&path).await.status, 404);
    }
    assert_eq!(ids(&server, "").await, [second_id]);
}

#[tokio::test]
async fn a_streamed_answer_is_stored_before_its_last_word() {
    let server = saying("streamed").await;
    let chunks = server.stream(CHAT, &body(json!({"store": true}))).await.chunks().await;
    let stored = server.get(&format!("{CHAT}/{}", chunks[0]["id"].as_str().unwrap())).await.json();
    assert_eq!(stored["choices"][0]["message"]["content"], "streamed");
    assert_eq!(stored["object"], "chat.completion");
}

#[tokio::test]
async fn keys_see_their_own_answers_only() {
    let setup = Setup::default();
    let config = ServerConfig { api_keys: vec!["one".into(), "two".into()], ..setup.config };
    let server = Setup { config, ..setup }.start(|_| Plan::say("x")).await;
    let text = body(json!({"store": true})).to_string();
    let send = async |key: &str, method: &str, path: &str, text: &str| {
        let key = format!("Bearer {key}");
        let headers = [("authorization", key.as_str()), ("content-type", "application/json")];
        server.send(request(method, path, &headers, text)).await
    };
    let id = send("one", "POST", CHAT, &text).await.json()["id"].as_str().unwrap().to_owned();
    let path = format!("{CHAT}/{id}");
    assert_eq!(send("one", "GET", &path, "").await.status, 200);
    for (method, path, text) in [
        ("GET", path.clone(), ""),
        ("GET", format!("{path}/messages"), ""),
        ("DELETE", path.clone(), ""),
        ("POST", path.clone(), "{\"metadata\": {}}"),
    ] {
        assert_eq!(send("two", method, &path, text).await.status, 404, "{method} {path}");
    }
    assert_eq!(send("two", "GET", CHAT, "").await.json()["data"], json!([]));
    assert_eq!(send("one", "GET", CHAT, "").await.json()["data"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn only_single_conversations_are_stored() {
    let server = saying("x").await;
    let list = body(json!({"store": true, "messages": [[{"role": "user", "content": "a"}]]}));
    assert_eq!(server.post(&format!("{CHAT}/batch"), &list).await.status, 400);
    let text = json!({"model": MODEL, "prompt": "x", "store": true});
    assert_eq!(server.post("/v1/completions", &text).await.status, 400);
}

#[tokio::test]
async fn fields_that_mean_nothing_are_told_by_lists_and_renderings_too() {
    let server = saying("x").await;
    let list = body(json!({"repeat_penalty": 1, "messages": [[{"role": "user", "content": "a"}]]}));
    for (path, body) in [
        (format!("{CHAT}/batch"), list),
        (format!("{CHAT}/render"), body(json!({"repeat_penalty": 1}))),
        ("/v1/completions/render".to_owned(), json!({"prompt": "a", "repeat_penalty": 1})),
    ] {
        let reply = server.post(&path, &body).await;
        assert_eq!(reply.headers["x-millrace-ignored-fields"], "repeat_penalty", "{path}");
    }
}

async fn upload(server: &TestServer, parts: &[(&str, &str)]) -> Value {
    let mut form = String::new();
    for (head, content) in parts {
        form += &format!("--B\r\nContent-Disposition: form-data; name={head}\r\n\r\n{content}\r\n");
    }
    let kind = [("content-type", "multipart/form-data; boundary=B")];
    server.send(request("POST", "/v1/files", &kind, &(form + "--B--\r\n"))).await.json()
}

#[tokio::test]
async fn files_are_read_by_their_ids_in_every_api() {
    let mut server = saying("x").await;
    let file = ("\"file\"; filename=\"a.txt\"", "one\ntwo\n{");
    let purpose = ("\"purpose\"", "user_data");
    for parts in [[file, purpose], [purpose, file]] {
        let uploaded = upload(&server, &parts).await;
        let id = uploaded["id"].as_str().unwrap();
        assert_eq!((&uploaded["purpose"], &uploaded["bytes"]), (&json!("user_data"), &json!(9)));
        let message = |part: Value| json!([{"role": "user", "content": [part]}]);
        for (path, messages) in [
            (CHAT, json!({"messages": message(json!({"type": "file", "file": {"file_id": id}}))})),
            (
                "/v1/responses",
                json!({"max_output_tokens": 20, "input": message(json!({"type": "input_file", "file_id": id}))}),
            ),
            (
                "/v1/messages",
                json!({"max_tokens": 20, "messages": message(json!({"type": "document", "title": "a.txt", "source": {"type": "file", "file_id": id}}))}),
            ),
        ] {
            let mut body = json!({"model": MODEL});
            body.as_object_mut().unwrap().extend(messages.as_object().unwrap().clone());
            let reply = server.post(path, &body).await;
            assert_eq!(reply.status, 200, "{path}: {}", reply.text);
            let request = server.engine.submitted().await;
            let text: String = request.prompt.iter().copied().filter_map(char::from_u32).collect();
            assert!(text.contains("<document>\nTitle: a.txt\none\ntwo\n{\n</document>"), "{path}: {text}");
            // Another id is refused by its place.
            let other = server
                .post(path, &serde_json::from_str(&body.to_string().replace(id, "file-x")).unwrap())
                .await;
            assert_eq!(other.status, 400, "{path}");
            assert!(other.text.contains("There is no file 'file-x'"), "{path}: {}", other.text);
        }
    }
}

#[tokio::test]
async fn a_file_for_batches_must_be_one_whenever_its_purpose_comes() {
    let server = saying("x").await;
    let purpose = ("\"purpose\"", "batch");
    let file = ("\"file\"; filename=\"a.txt\"", "not json");
    for parts in [[file, purpose], [purpose, file]] {
        let refused = upload(&server, &parts).await;
        let message = refused["error"]["message"].as_str().unwrap();
        assert!(message.starts_with("Line 1 of the file can't be used"), "{message}");
    }
}
