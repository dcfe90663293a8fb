//! Embeddings, scores and classes over a scripted engine: a text's row is made of its tokens.

use millrace_engine::{EngineInfo, Labels, Matryoshka, PoolingInfo, PoolingTask, ScoreScale};
use serde_json::{Value, json};

use crate::{
    batches,
    support::{MODEL, Setup, TestServer, engine::Plan, saying},
};

/// Embeddings of four elements: the first tokens of the text.
async fn embedding(matryoshka: Matryoshka) -> TestServer {
    start(4, PoolingTask::Embed { normalize: false, matryoshka }).await
}

/// Scores of one label or two: the number of tokens, and none.
async fn classifying(names: &[&str], scale: ScoreScale) -> TestServer {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    start(names.len(), PoolingTask::Classify(Labels { names, scale })).await
}

async fn start(dim: usize, task: PoolingTask) -> TestServer {
    let setup = Setup::default();
    let embeds = matches!(task, PoolingTask::Embed { .. });
    let info = EngineInfo {
        max_model_len: 20,
        max_queued: 8,
        pooling: Some(PoolingInfo { dim, task }),
        ..setup.info.clone()
    };
    let row = move |request: &millrace_types::Request| {
        let mut row = vec![0.0; dim];
        match embeds {
            true => row.iter_mut().zip(&request.prompt).for_each(|(x, token)| *x = *token as f32),
            false => row[0] = request.prompt.len() as f32,
        }
        Plan::Pool(row)
    };
    Setup { info, template: None, ..setup }.start(row).await
}

async fn embed(server: &TestServer, more: Value) -> Value {
    let mut body = json!({"model": MODEL, "input": "ab"});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let reply = server.post("/v1/embeddings", &body).await;
    let json = reply.json();
    assert_eq!(json["error"].is_null(), reply.status == 200, "{json}");
    json
}

#[tokio::test]
async fn embeddings_of_every_kind_of_input() {
    let server = embedding(Matryoshka::Any).await;
    let body = embed(&server, json!({})).await;
    assert_eq!((&body["object"], &body["model"]), (&json!("list"), &json!(MODEL)));
    assert!(body["id"].as_str().unwrap().starts_with("embd-"));
    assert_eq!(
        body["data"],
        json!([{"index": 0, "object": "embedding", "embedding": [97.0, 98.0, 0.0, 0.0]}])
    );
    assert_eq!(body["usage"], json!({"prompt_tokens": 2, "total_tokens": 2}));
    let body = embed(&server, json!({"input": ["a", "bc"]})).await;
    assert_eq!((body["data"].as_array().unwrap().len(), &body["usage"]["total_tokens"]), (2, &json!(3)));
    assert_eq!(body["data"][1]["embedding"], json!([98.0, 99.0, 0.0, 0.0]));
    let body = embed(&server, json!({"input": [[3, 4], [5]]})).await;
    assert_eq!(body["data"][1]["embedding"], json!([5.0, 0.0, 0.0, 0.0]));
    let body = embed(&server, json!({"input": [3, 4], "normalize": true, "dimensions": 2})).await;
    assert_eq!(body["data"][0]["embedding"], json!([0.6, 0.8]));
    let body = embed(&server, json!({"input": "a", "encoding_format": "base64", "dimensions": 1})).await;
    assert_eq!(body["data"][0]["embedding"], "AADCQg==");
}

#[tokio::test]
async fn fields_that_mean_nothing_are_named() {
    let server = embedding(Matryoshka::No).await;
    let body = json!({"input": "a", "user": "u", "dimension": 2});
    let reply = server.post("/v1/embeddings", &body).await;
    assert_eq!(
        (reply.status, &reply.headers["x-millrace-ignored-fields"].as_bytes()),
        (200, &&b"dimension"[..])
    );
}

#[tokio::test]
async fn batches_write_the_same_text_as_requests() {
    let third = |request: &millrace_types::Request| Plan::Pool(vec![request.prompt[0] as f32 / 3.0, 1e-8]);
    let setup = Setup::default();
    let task = PoolingTask::Embed { normalize: false, matryoshka: Matryoshka::No };
    let info = EngineInfo { pooling: Some(PoolingInfo { dim: 2, task }), ..setup.info.clone() };
    let server = Setup { info, template: None, ..setup }.start(third).await;
    let body = json!({"model": MODEL, "input": "a"});
    let alone = server.post("/v1/embeddings", &body).await.text;
    let line = json!({"custom_id": "x", "method": "POST", "url": "/v1/embeddings", "body": body}).to_string();
    let file = batches::upload(*server, &line).await.json();
    let batch = batches::order(*server, &file, json!({"endpoint": "/v1/embeddings"})).await.json();
    let batch = batches::wait(*server, &batch, &["completed"]).await;
    let path = format!("/v1/files/{}/content", batch["output_file_id"].as_str().unwrap());
    let together = server.get(&path).await.text;
    let data =
        |text: &str| text[text.find(r#""data":"#).unwrap()..text.find(r#""usage":"#).unwrap()].to_owned();
    assert!(data(&alone).contains("32.333"), "{alone}");
    assert_eq!(data(&together), data(&alone));
}

#[tokio::test]
async fn long_texts_are_refused_or_cut() {
    let server = embedding(Matryoshka::No).await;
    let long = "x".repeat(21);
    let error = embed(&server, json!({"input": long})).await;
    let message = error["error"]["message"].as_str().unwrap();
    assert!(
        message.contains("maximum context length is 20 tokens") && message.contains("21 tokens"),
        "{message}"
    );
    for (cut, tokens) in [(-1, 20), (5, 5), (20, 20)] {
        let body = embed(&server, json!({"input": long, "truncate_prompt_tokens": cut})).await;
        assert_eq!(body["usage"]["prompt_tokens"], tokens);
    }
    let body = embed(&server, json!({"input": [1, 2, 3], "truncate_prompt_tokens": 2})).await;
    assert_eq!(body["data"][0]["embedding"], json!([1.0, 2.0, 0.0, 0.0]));
    let huge = "x".repeat(30_000);
    assert_eq!(embed(&server, json!({"input": huge})).await["error"]["param"], "input");
    let body = embed(&server, json!({"input": huge, "truncate_prompt_tokens": -1})).await;
    assert_eq!(body["usage"]["prompt_tokens"], 20);
}

#[tokio::test]
async fn what_cannot_be_done_is_refused() {
    let server = embedding(Matryoshka::Of(vec![2])).await;
    for (more, param) in [
        (json!({"dimensions": 3}), "dimensions"),
        (json!({"dimensions": 5}), "dimensions"),
        (json!({"dimensions": 0}), "dimensions"),
        (json!({"truncate_prompt_tokens": 21}), "truncate_prompt_tokens"),
        (json!({"input": ""}), "input"),
        (json!({"input": [9999]}), "input"),
        (json!({"encoding_format": "hex"}), "encoding_format"),
    ] {
        assert_eq!(embed(&server, more.clone()).await["error"]["param"], param, "{more}");
    }
    let chat = json!({"model": MODEL, "messages": [{"role": "user", "content": "x"}]});
    let text = json!({"model": MODEL, "prompt": "x"});
    for (path, body) in
        [("/v1/chat/completions", &chat), ("/v1/completions", &text), ("/classify", &json!({"input": "x"}))]
    {
        let reply = server.post(path, body).await;
        let message = reply.json()["error"]["message"].as_str().unwrap().to_owned();
        assert_eq!(reply.status, 400, "{path}: {message}");
        assert!(message.contains("does not support the"), "{path}: {message}");
    }
    // More texts than may ever wait together.
    let many = vec!["x"; 9];
    assert!(
        embed(&server, json!({"input": many})).await["error"]["message"]
            .as_str()
            .unwrap()
            .contains("at most 8")
    );

    let server = saying("hello").await;
    for (path, body) in [
        ("/v1/embeddings", json!({"input": "x"})),
        ("/pooling", json!({"input": "x"})),
        ("/score", json!({"text_1": "x", "text_2": "y"})),
        ("/v2/rerank", json!({"query": "x", "documents": ["y"]})),
        ("/api/embed", json!({"model": MODEL, "input": "x"})),
    ] {
        let reply = server.post(path, &body).await;
        assert_eq!(reply.status, 400, "{path}: {}", reply.text);
        assert!(reply.text.contains("does not support the"), "{path}: {}", reply.text);
    }
}

#[tokio::test]
async fn embeddings_are_compared_by_their_angle() {
    let server = embedding(Matryoshka::No).await;
    let body = server.post("/v1/score", &json!({"text_1": "ab", "text_2": ["ab", "aabb"]})).await.json();
    assert_eq!(body["data"][0], json!({"index": 0, "object": "score", "score": 1.0}));
    let second = body["data"][1]["score"].as_f64().unwrap();
    assert!((0.5..0.9).contains(&second), "{body}");
    assert_eq!(body["usage"]["prompt_tokens"], 8);
    let body = json!({"query": "ab", "documents": ["aabb", "ab"], "return_documents": false});
    let body = server.post("/rerank", &body).await.json();
    assert_eq!(body["results"][0], json!({"index": 1, "relevance_score": 1.0}));
    assert_eq!(body["results"][1]["index"], 0);
}

#[tokio::test]
async fn scores_of_pairs_and_classes() {
    let server = classifying(&["yes"], ScoreScale::Raw).await;
    let body = json!({"query": "ab", "documents": ["c", {"text": "def"}, "gh"], "top_n": 2});
    let body = server.post("/v1/rerank", &body).await.json();
    assert_eq!(
        body["results"],
        json!([{"index": 1, "relevance_score": 5.0, "document": {"text": "def"}},
               {"index": 2, "relevance_score": 4.0, "document": {"text": "gh"}}])
    );
    let body = json!({"text_1": ["a", "bcd"], "text_2": ["ef", "g"]});
    let scores = server.post("/score", &body).await.json();
    assert_eq!((&scores["data"][0]["score"], &scores["data"][1]["score"]), (&json!(3.0), &json!(4.0)));

    let server = classifying(&["no", "yes"], ScoreScale::Softmax).await;
    let body = server.post("/classify", &json!({"input": ["a"]})).await.json();
    assert_eq!((&body["data"][0]["label"], &body["data"][0]["num_classes"]), (&json!("no"), &json!(2)));
    let sum: f64 = body["data"][0]["probs"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).sum();
    assert!((sum - 1.0).abs() < 1e-6);
    let raw = server.post("/classify", &json!({"input": "a", "use_activation": false})).await.json();
    assert_eq!(raw["data"][0]["probs"], json!([1.0, 0.0]));
    let pooled = server.post("/pooling", &json!({"input": "a"})).await.json();
    assert_eq!(pooled["data"][0]["data"], body["data"][0]["probs"]);
    // Two labels are no score.
    assert_eq!(server.post("/score", &json!({"text_1": "a", "text_2": "b"})).await.status, 400);
}

#[tokio::test]
async fn pairs_are_put_into_the_models_own_words() {
    // The tokens of a text are its bytes.
    let template = "{% for m in messages %}<{{ m.role[0] }}>{{ m.content }}{% endfor %}?";
    let setup = Setup::default();
    let labels = Labels { names: vec!["x".into()], scale: ScoreScale::Raw };
    let task = PoolingTask::Classify(labels);
    let info =
        EngineInfo { max_model_len: 20, pooling: Some(PoolingInfo { dim: 1, task }), ..setup.info.clone() };
    let setup = Setup { info, template: None, pair_template: Some(template), ..setup };
    let mut server = setup.start(|request| Plan::Pool(vec![request.prompt.len() as f32])).await;
    let score = |more: Value| {
        let mut body = json!({"text_1": "ab", "text_2": "cdefgh"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let mut asked = async |body: Value| {
        let reply = server.client.post("/score", &body).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        let prompt = server.engine.submitted().await.prompt.clone();
        String::from_utf8(prompt.iter().map(|token| u8::try_from(*token).unwrap()).collect()).unwrap()
    };
    assert_eq!(asked(score(json!({}))).await, "<q>ab<d>cdefgh?");
    assert_eq!(asked(score(json!({"instruction": "so"}))).await, "<s>so<q>ab<d>cdefgh?");
    // Only the document is cut: what follows it has to be there.
    assert_eq!(asked(score(json!({"truncate_prompt_tokens": 11}))).await, "<q>ab<d>cd?");
    for (more, words) in [
        (json!({"truncate_prompt_tokens": 7}), "the query with what the model is told about it is longer"),
        (json!({"instruction": "so much"}), "maximum context length is 20 tokens"),
    ] {
        let reply = server.post("/score", &score(more)).await;
        assert_eq!(reply.status, 400, "{}", reply.text);
        assert!(reply.text.contains(words), "{}", reply.text);
    }
    let plain = classifying(&["x"], ScoreScale::Raw).await;
    let reply = plain.post("/score", &score(json!({"instruction": "so"}))).await;
    assert_eq!(reply.error()["param"], "instruction");
}

#[tokio::test]
async fn ollamas_clients_get_embeddings_too() {
    let server = embedding(Matryoshka::Any).await;
    let body = json!({"model": MODEL, "input": ["a", "b"], "dimensions": 2});
    let body = server.post("/api/embed", &body).await.json();
    assert_eq!(body["embeddings"], json!([[97.0, 0.0], [98.0, 0.0]]));
    assert_eq!((&body["prompt_eval_count"], &body["model"]), (&json!(2), &json!(MODEL)));
    let long = "x".repeat(30);
    let cut = server.post("/api/embed", &json!({"model": MODEL, "input": long})).await.json();
    assert_eq!(cut["prompt_eval_count"], 20);
    let reply = server.post("/api/embed", &json!({"model": MODEL, "input": long, "truncate": false})).await;
    assert_eq!(reply.status, 400);
    let body = server.post("/api/embeddings", &json!({"model": MODEL, "prompt": "ab"})).await.json();
    assert_eq!(body, json!({"embedding": [97.0, 98.0, 0.0, 0.0]}));
    let empty = server.post("/api/embed", &json!({"model": MODEL})).await.json();
    assert_eq!(empty["embeddings"], json!([]));
}

#[tokio::test]
async fn a_client_that_leaves_frees_its_places() {
    let setup = Setup::default();
    let task = PoolingTask::Embed { normalize: true, matryoshka: Matryoshka::No };
    let info = EngineInfo { pooling: Some(PoolingInfo { dim: 2, task }), ..setup.info.clone() };
    let mut server = Setup { info, ..setup }.start(|_| Plan::Hold).await;
    let client = server.client;
    let asking = tokio::spawn(async move { client.post("/v1/embeddings", &json!({"input": "x"})).await });
    let id = server.engine.submitted().await.id;
    asking.abort();
    assert_eq!(server.engine.aborted().await, id);
}

#[tokio::test]
async fn numbers_that_are_none_are_an_error() {
    let setup = Setup::default();
    let task = PoolingTask::Embed { normalize: true, matryoshka: Matryoshka::No };
    let info = EngineInfo { pooling: Some(PoolingInfo { dim: 1, task }), ..setup.info.clone() };
    let server = Setup { info, ..setup }.start(|_| Plan::Pool(vec![f32::NAN])).await;
    assert_eq!(server.post("/v1/embeddings", &json!({"input": "x"})).await.status, 500);
}
