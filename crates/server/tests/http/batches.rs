//! Files and batches over real HTTP with a scripted engine: what can only be seen when the engine holds still.

use millrace_server::ServerConfig;
use millrace_types::{FinishReason, Request};
use serde_json::{Value, json};

use crate::support::{
    MODEL, Setup, TestServer,
    client::{Client, Reply, request},
    engine::Plan,
};

const CHAT: &str = "/v1/chat/completions";

fn line(name: &str, body: &Value) -> String {
    json!({"custom_id": name, "method": "POST", "url": CHAT, "body": body}).to_string() + "\n"
}

fn ask(name: &str) -> String {
    line(name, &json!({"model": MODEL, "messages": [{"role": "user", "content": name}], "max_tokens": 5}))
}

async fn upload_with(client: Client, headers: &[(&str, &str)], content: &str) -> Reply {
    let form = format!(
        "--B\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n--B\r\n\
         Content-Disposition: form-data; name=\"file\"; filename=\"in.jsonl\"\r\n\r\n{content}\r\n--B--\r\n"
    );
    let kind = [("content-type", "multipart/form-data; boundary=B")];
    client.send(request("POST", "/v1/files", &[&kind, headers].concat(), &form)).await
}

pub(crate) async fn upload(client: Client, content: &str) -> Reply {
    upload_with(client, &[], content).await
}

pub(crate) async fn order(client: Client, file: &Value, extra: Value) -> Reply {
    let mut body = json!({"input_file_id": file["id"], "endpoint": CHAT, "completion_window": "24h"});
    body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    client.post("/v1/batches", &body).await
}

/// Asks until the batch is in one of these states.
pub(crate) async fn wait(client: Client, batch: &Value, states: &[&str]) -> Value {
    let path = format!("/v1/batches/{}", batch["id"].as_str().unwrap());
    loop {
        let batch = client.get(&path).await.json();
        if states.contains(&batch["status"].as_str().unwrap()) {
            return batch;
        }
        tokio::task::yield_now().await;
    }
}

async fn results(client: Client, file: &Value) -> Vec<Value> {
    let reply = client.get(&format!("/v1/files/{}/content", file.as_str().unwrap())).await;
    assert_eq!(reply.status, 200);
    reply.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

async fn start(batch_concurrency: usize, script: impl Fn(&Request) -> Plan + Send + 'static) -> TestServer {
    let setup = Setup::default();
    let config = ServerConfig { batch_concurrency, ..setup.config };
    Setup { config, ..setup }.start(script).await
}

#[tokio::test]
async fn a_batch_is_answered_line_by_line() {
    let server = start(2, |_| Plan::say("yes")).await;
    let bad = line("bad", &json!({"model": MODEL, "messages": [], "temperature": 9}));
    let streamed = line("streamed", &json!({"messages": [{"role": "user", "content": "x"}], "stream": true}));
    let content = format!("{}{bad}\r\n{}{streamed}{}", ask("a"), ask("b"), ask("c").trim_end());
    let file = upload(*server, &content).await.json();
    assert_eq!((&file["bytes"], &file["purpose"]), (&json!(content.len()), &json!("batch")));
    let back = server.get(&format!("/v1/files/{}/content", file["id"].as_str().unwrap())).await;
    assert_eq!(back.text, content);
    let batch = order(*server, &file, json!({"metadata": {"k": "v"}})).await.json();
    assert_eq!((&batch["status"], &batch["metadata"]["k"]), (&json!("validating"), &json!("v")));
    let batch = wait(*server, &batch, &["completed"]).await;
    assert_eq!(batch["request_counts"], json!({"total": 5, "completed": 3, "failed": 2}));
    let output = results(*server, &batch["output_file_id"]).await;
    let names: Vec<_> = output.iter().map(|line| line["custom_id"].as_str().unwrap()).collect();
    assert_eq!(names, ["a", "b", "c"], "in the order of the input");
    for line in &output {
        let response = &line["response"];
        assert_eq!((&response["status_code"], &line["error"]), (&json!(200), &Value::Null));
        assert_eq!(response["body"]["choices"][0]["message"]["content"], "yes");
    }
    let errors = results(*server, &batch["error_file_id"]).await;
    let told: Vec<_> = errors
        .iter()
        .map(|line| (line["custom_id"].as_str().unwrap(), &line["response"]["body"]["error"]["code"]))
        .collect();
    assert_eq!(told, [("bad", &json!(400)), ("streamed", &json!(400))]);
}

#[tokio::test]
async fn requests_of_batches_come_after_others_and_few_at_a_time() {
    let mut server = start(2, |_| Plan::Hold).await;
    let file = upload(*server, &["a", "b", "c", "d"].map(ask).concat()).await.json();
    let batch = order(*server, &file, json!({})).await.json();
    let first = server.engine.submitted().await;
    let second = server.engine.submitted().await;
    assert_eq!((first.priority, second.priority), (i32::MAX, i32::MAX));
    assert_eq!(first.start_by, None);
    assert_eq!(server.get("/load").await.json()["server_load"], 2);
    server.engine.finish(first.id, FinishReason::Stop);
    let third = server.engine.submitted().await;
    let now = wait(*server, &batch, &["in_progress"]).await;
    assert_eq!(now["request_counts"]["total"], 4);
    let cancelled = server.send(request(
        "POST",
        &format!("/v1/batches/{}/cancel", batch["id"].as_str().unwrap()),
        &[],
        "",
    ));
    let cancelled = cancelled.await.json();
    assert_eq!(cancelled["status"], "cancelling");
    let gone = [server.engine.aborted().await, server.engine.aborted().await];
    assert!(gone.contains(&second.id) && gone.contains(&third.id));
    let ended = wait(*server, &batch, &["cancelled"]).await;
    assert_eq!(ended["request_counts"], json!({"total": 4, "completed": 1, "failed": 3}));
    assert_eq!(results(*server, &ended["output_file_id"]).await.len(), 1);
    let errors = results(*server, &ended["error_file_id"]).await;
    assert!(errors.iter().all(|line| line["error"]["code"] == "batch_cancelled"));
    let again =
        server.post(&format!("/v1/batches/{}/cancel", batch["id"].as_str().unwrap()), &json!({})).await;
    assert_eq!(again.status, 400);
}

#[tokio::test]
async fn time_runs_out() {
    let server = start(1, |_| Plan::Hold).await;
    let file = upload(*server, &["a", "b"].map(ask).concat()).await.json();
    let batch = order(*server, &file, json!({"completion_window": "1s"})).await.json();
    let ended = wait(*server, &batch, &["expired"]).await;
    assert_eq!(ended["output_file_id"], Value::Null);
    let errors = results(*server, &ended["error_file_id"]).await;
    assert_eq!(errors.len(), 2);
    assert!(errors.iter().all(|line| line["error"]["code"] == "batch_expired"));
}

#[tokio::test]
async fn inputs_that_make_no_batch_fail_it() {
    let server = start(1, |_| Plan::say("x")).await;
    let other = json!({"custom_id": "u", "method": "POST", "url": "/v1/completions", "body": {}}).to_string();
    for (content, codes) in [
        (format!("{}{}", ask("a"), ask("a")), vec!["duplicate_custom_id"]),
        (format!("{}{other}\n{{}}", ask("a")), vec!["mismatched_url", "missing_required_parameter"]),
        ("\n\n".to_owned(), vec!["empty_file"]),
    ] {
        let file = upload(*server, &content).await.json();
        let batch = order(*server, &file, json!({})).await.json();
        let failed = wait(*server, &batch, &["failed"]).await;
        let errors = failed["errors"]["data"].as_array().unwrap();
        assert_eq!(errors.iter().map(|error| error["code"].as_str().unwrap()).collect::<Vec<_>>(), codes);
        assert_eq!(failed["output_file_id"], Value::Null);
    }
}

#[tokio::test]
async fn what_is_no_file_and_no_order_is_refused() {
    let setup = Setup::default();
    let config = ServerConfig { max_file_bytes: 2000, ..setup.config };
    let server = Setup { config, ..setup }.start(|_| Plan::say("x")).await;
    for (content, status, said) in [
        ("", 400, "empty"),
        ("{}\nnot json\n", 400, "Line 2 of the file"),
        ("[1]", 400, "must be a JSON object"),
        (&"{}\n".repeat(700), 413, "at most 2000 bytes"),
    ] {
        let reply = upload(*server, content).await;
        assert_eq!(reply.status, status, "{content}");
        assert!(reply.error()["message"].as_str().unwrap().contains(said), "{}", reply.text);
    }
    assert_eq!(server.get("/v1/files").await.json()["data"], json!([]));
    assert_eq!(server.post("/v1/files", &json!({})).await.status, 400);
    let file = upload(*server, &ask("a")).await.json();
    for (extra, param) in [
        (json!({"input_file_id": "file-none"}), "input_file_id"),
        (json!({"endpoint": "/v1/models"}), "endpoint"),
        (json!({"completion_window": "soon"}), "completion_window"),
    ] {
        let reply = order(*server, &file, extra).await;
        assert_eq!((reply.status, &reply.error()["param"]), (400, &json!(param)));
    }
    for path in ["/v1/files/file-none", "/v1/files/file-none/content", "/v1/batches/batch_none"] {
        assert_eq!(server.get(path).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn files_and_batches_belong_to_their_key() {
    let setup = Setup::default();
    let config = ServerConfig { api_keys: vec!["one".into(), "two".into()], ..setup.config };
    let server = Setup { config, ..setup }.start(|_| Plan::say("x")).await;
    let (one, two) = ([("authorization", "Bearer one")], [("authorization", "Bearer two")]);
    let file = upload_with(*server, &one, &ask("a")).await.json();
    let path = format!("/v1/files/{}", file["id"].as_str().unwrap());
    let status = async |method: &str, path: &str, headers: &[(&str, &str)]| {
        server.send(request(method, path, headers, "")).await.status
    };
    assert_eq!(upload(*server, &ask("a")).await.status, 401);
    assert_eq!(status("GET", &path, &two).await, 404);
    assert_eq!(status("DELETE", &path, &two).await, 404);
    assert_eq!(status("GET", &path, &one).await, 200);
    let body = json!({"input_file_id": file["id"], "endpoint": CHAT, "completion_window": "1h"}).to_string();
    let order = async |key: (&str, &str)| {
        let headers = [("content-type", "application/json"), key];
        server.send(request("POST", "/v1/batches", &headers, &body)).await
    };
    assert_eq!(order(two[0]).await.status, 400);
    let batch = order(one[0]).await.json();
    let path = format!("/v1/batches/{}", batch["id"].as_str().unwrap());
    assert_eq!(status("GET", &path, &two).await, 404);
    let ended = loop {
        let batch = server.send(request("GET", &path, &one, "")).await.json();
        if batch["status"] == "completed" {
            break batch;
        }
        tokio::task::yield_now().await;
    };
    let output = format!("/v1/files/{}/content", ended["output_file_id"].as_str().unwrap());
    assert_eq!((status("GET", &output, &two).await, status("GET", &output, &one).await), (404, 200));
}
