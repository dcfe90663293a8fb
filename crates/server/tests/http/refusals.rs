//! Bad requests over real HTTP: each a 4xx in OpenAI's shape, and the server none the worse.

use crate::support::{
    MODEL, Setup, TestServer,
    client::{json_request, request},
    engine::{Plan, Seen},
    saying,
};
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";
const TEXT: &str = "/v1/completions";

/// The server still answers, and the engine never heard of anything before.
async fn assert_unharmed(server: &mut TestServer) {
    assert_eq!(server.post(TEXT, &json!({"prompt": "fine"})).await.status, 200);
    let Some(Seen::Submitted(first)) = server.engine.seen.recv().await else { panic!("the engine is gone") };
    let prompt: Vec<u8> = first.prompt.iter().map(|id| *id as u8).collect();
    assert_eq!(prompt, b"fine");
    assert_eq!(server.get("/load").await.json()["server_load"], 0);
}

#[tokio::test]
async fn bad_chat_requests() {
    let mut server = saying("x").await;
    let user = json!([{"role": "user", "content": "hi"}]);
    let tool = json!({"type": "function", "function": {"name": "f"}});
    let image =
        json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x"}}]}]);
    let cases = [
        (json!({"messages": []}), "`messages` must hold at least one message."),
        (json!({}), "`messages` is required"),
        (json!({"messages": image}), "`messages[0].content[0]` is of type \"image_url\""),
        (json!({"messages": [{"role": "refused", "content": "x"}]}), "no such role"),
        (json!({"messages": vec![user[0].clone(); 21]}), "`messages` may hold at most 20 messages, got 21."),
        (json!({"messages": user, "temperature": 3}), "temperature must be in [0, 2], got 3."),
        (json!({"messages": user, "temperature": "hot"}), "Invalid value for `temperature`"),
        (json!({"messages": user, "top_p": 0}), "top_p must be in (0, 1], got 0."),
        (json!({"messages": user, "top_k": -5}), "top_k must be 0 (disable), or at least 1, got -5."),
        (json!({"messages": user, "min_p": 2}), "min_p must be in [0, 1], got 2."),
        (json!({"messages": user, "typical_p": 0}), "typical_p must be in (0, 1], got 0."),
        (json!({"messages": user, "presence_penalty": 9}), "presence_penalty must be in [-2, 2], got 9."),
        (json!({"messages": user, "frequency_penalty": -9}), "frequency_penalty must be in [-2, 2], got -9."),
        (
            json!({"messages": user, "repetition_penalty": 0}),
            "repetition_penalty must be greater than zero, got 0.",
        ),
        (json!({"messages": user, "n": 0}), "n must be at least 1, got 0."),
        (
            json!({"messages": user, "n": 2, "temperature": 0}),
            "n must be 1 when using greedy sampling, got 2.",
        ),
        (json!({"messages": user, "max_tokens": 0}), "max_tokens must be at least 1, got 0."),
        (
            json!({"messages": user, "max_completion_tokens": 513}),
            "max_completion_tokens=513 cannot be greater than max_model_len=512. Please request fewer output tokens.",
        ),
        (
            json!({"messages": user, "min_tokens": -1}),
            "min_tokens must be greater than or equal to 0, got -1.",
        ),
        (
            json!({"messages": user, "max_tokens": 2, "min_tokens": 3}),
            "min_tokens must be less than or equal to max_tokens=2, got 3.",
        ),
        (
            json!({"messages": user, "stop": ["a", "b", "c", "d", "e"]}),
            "stop may hold at most 4 strings, got 5.",
        ),
        (json!({"messages": user, "stop": ""}), "stop cannot contain an empty string."),
        (
            json!({"messages": user, "stop_token_ids": [258]}),
            "token_id(s) [258] in stop_token_ids contain out-of-vocab token ids. Vocabulary size: 258",
        ),
        (
            json!({"messages": user, "logit_bias": {"hello": 1}}),
            "logit_bias contains key(s) that cannot be converted to integer token IDs: [\"hello\"]",
        ),
        (
            json!({"messages": user, "logit_bias": {"999": 1}}),
            "token_id(s) [999] in logit_bias contain out-of-vocab token ids. Vocabulary size: 258",
        ),
        (json!({"messages": user, "allowed_token_ids": []}), "allowed_token_ids is not None and empty!"),
        (
            json!({"messages": user, "allowed_token_ids": [300]}),
            "allowed_token_ids contains out-of-vocab token id!",
        ),
        (
            json!({"messages": user, "allowed_token_ids": [256, 65], "stop_token_ids": [65], "min_tokens": 1}),
            "Nothing is left to sample: every allowed token is a stop token, which must not come before min_tokens=1",
        ),
        (json!({"messages": user, "bad_words": [""]}), "bad_words cannot contain an empty string."),
        (
            json!({"messages": user, "bad_words": ["<beyond>"]}),
            "token_id(s) [258] in bad_words contain out-of-vocab token ids.",
        ),
        (
            json!({"messages": [{"role": "user", "content": "<beyond>"}]}),
            "token_id(s) [258] in prompt contain out-of-vocab token ids.",
        ),
        (
            json!({"messages": user, "stop_token_ids": vec![5; 20_000]}),
            "stop_token_ids may hold at most 16384 entries, got 20000.",
        ),
        (
            json!({"messages": user, "allowed_token_ids": vec![5; 20_000]}),
            "allowed_token_ids may hold at most 16384 entries, got 20000.",
        ),
        (
            json!({"messages": user, "bad_words": [" "]}),
            "bad_words cannot contain a string without any tokens.",
        ),
        (
            json!({"messages": user, "top_logprobs": 2}),
            "when using `top_logprobs`, `logprobs` must be set to true.",
        ),
        (
            json!({"messages": user, "logprobs": true, "top_logprobs": 21}),
            "Requested sample logprobs of 21, which is greater than max allowed: 20",
        ),
        (
            json!({"messages": user, "prompt_logprobs": 1, "stream": true}),
            "`prompt_logprobs` are not available when `stream=True`.",
        ),
        (
            json!({"messages": user, "stream_options": {}}),
            "Stream options can only be defined when `stream=True`.",
        ),
        (json!({"messages": user, "tools": []}), "`tools` must not be an empty array."),
        (json!({"messages": user, "tool_choice": "auto"}), "When using `tool_choice`, `tools` must be set."),
        (
            json!({"messages": user, "tools": [tool], "tool_choice": "required"}),
            "Calls can't be held to a grammar in this model's tool-call format (none).",
        ),
        (
            json!({"messages": user, "tools": [tool],
                   "tool_choice": {"type": "function", "function": {"name": "f"}}}),
            "Calls can't be held to a grammar in this model's tool-call format (none).",
        ),
        (json!({"messages": user, "thinking_token_budget": 5}), "`thinking_token_budget` can't be kept here"),
        (
            json!({"messages": user, "thinking_token_budget": -2}),
            "thinking_token_budget must be -1 (no limit), 0 or more, got -2.",
        ),
        (
            json!({"messages": user, "tools": [{"type": "function", "function": {"name": "a b"}}]}),
            "`tools[0].function.name` must be 1 to 64 letters",
        ),
        (
            json!({"messages": user, "continue_final_message": true, "add_generation_prompt": true}),
            "Cannot set both `continue_final_message` and `add_generation_prompt` to True.",
        ),
        (json!({"messages": user, "cache_salt": ""}), "Parameter 'cache_salt' must be a non-empty string"),
        (json!({"messages": user, "seed": 1.5}), "Invalid value for `seed`"),
        (json!({"messages": user, "timeout": -1}), "timeout must be in (0, 604800] seconds, got -1."),
        (
            json!({"messages": user, "structured_outputs": {"json": {"not": {}}}}),
            "The JSON schema can't be used for structured output: ",
        ),
        (
            json!({"messages": [{"role": "user", "content": "x".repeat(600)}]}),
            "This model's maximum context length is 512 tokens. However, your prompt contains 618 input tokens",
        ),
        (json!({"messages": user, "stream": true, "n": 0}), "n must be at least 1, got 0."),
    ];
    for (body, message) in cases {
        let reply = server.post(CHAT, &body).await;
        assert_eq!(reply.status, 400, "{body}: {}", reply.text);
        let error = reply.error();
        assert_eq!(error["type"], "BadRequestError");
        assert!(error["message"].as_str().unwrap().starts_with(message), "{body}: {error}");
    }
    assert_unharmed(&mut server).await;
}

#[tokio::test]
async fn bad_completion_requests() {
    let mut server = saying("x").await;
    let cases = [
        (json!({}), "`prompt` must be provided and non-empty."),
        (json!({"prompt": []}), "`prompt` must be provided and non-empty."),
        (json!({"prompt": ""}), "The decoder prompt cannot be empty."),
        (json!({"prompt": [[]]}), "The decoder prompt cannot be empty."),
        (json!({"prompt": {"text": "x"}}), "Invalid value for `prompt`: invalid type: map"),
        (json!({"prompt": [5000]}), "token_id(s) [5000] in prompt contain out-of-vocab token ids."),
        (
            json!({"prompt": vec![1; 512]}),
            "The decoder prompt (length 512) plus the number of requested output",
        ),
        (json!({"prompt": "x".repeat(9000)}), "This model's maximum context length is 512 tokens."),
        (json!({"prompt": "x".repeat(33_000)}), "A prompt may hold at most 32768 characters."),
        (
            json!({"prompt": "x", "logprobs": 50}),
            "Requested sample logprobs of 50, which is greater than max",
        ),
        (
            json!({"prompt": "x", "logprobs": -1}),
            "Requested sample logprobs of 258, which is greater than max",
        ),
        (json!({"prompt": "x", "suffix": "y"}), "This model can't fill in the middle"),
        (json!({"prompt": "x", "n": 3, "best_of": 2}), "best_of must be at least n=3, got 2."),
        (json!({"prompt": "x", "best_of": 2, "temperature": 0}), "best_of must be n=1 when using greedy"),
        (json!({"prompt": "x", "best_of": 2, "stream": true}), "Which texts are best is known at their end"),
        (json!({"prompt": "x", "best_of": 5000}), "best_of must be at most 1024, got 5000."),
    ];
    for (body, message) in cases {
        let reply = server.post(TEXT, &body).await;
        assert_eq!(reply.status, 400, "{body}: {}", reply.text);
        let error = reply.error();
        assert!(error["message"].as_str().unwrap().starts_with(message), "{body}: {error}");
    }
    assert_unharmed(&mut server).await;
}

#[tokio::test]
async fn bodies_that_are_no_requests() {
    let mut server = saying("x").await;
    let deep = format!("{{\"messages\":{}", "[".repeat(5000));
    let wide = format!("{{\"prompt\":[{}1]}}", "1,".repeat(30_000));
    let bodies = [
        "",
        "{",
        "[]",
        "nonsense",
        "{\"prompt\": NaN}",
        "\u{feff}{}",
        "{\"prompt\": \"\\ud800\"}",
        &deep,
        &wide,
    ];
    for body in bodies {
        let json = [("content-type", "application/json")];
        let reply = server.send(request("POST", TEXT, &json, body)).await;
        assert_eq!(reply.status, 400, "{body:.60}: {}", reply.text);
        reply.error();
    }
    for kind in [None, Some("text/plain"), Some("application/x-www-form-urlencoded"), Some("\u{ff}")] {
        let headers: Vec<_> = kind.iter().map(|kind| ("content-type", *kind)).collect();
        let reply = server.send(request("POST", TEXT, &headers, "{\"prompt\": \"x\"}")).await;
        assert_eq!(reply.status, 400);
        let message = reply.error()["message"].clone();
        assert_eq!(message, "Unsupported Media Type: Only 'application/json' is allowed");
    }
    let charset = [("content-type", "Application/JSON; charset=utf-8")];
    assert_eq!(server.send(request("POST", TEXT, &charset, "{\"prompt\": \"fine\"}")).await.status, 200);
    server.engine.submitted().await;
    assert_unharmed(&mut server).await;
}

#[tokio::test]
async fn too_large_unknown_and_not_allowed() {
    let mut server = saying("x").await;
    let reply = server.post(TEXT, &json!({"prompt": "x".repeat(70_000)})).await;
    assert_eq!(reply.status, 413);
    assert_eq!(reply.error()["type"], "RequestTooLargeError");

    for (path, body) in [
        (TEXT, json!({"model": "gpt-9", "prompt": "x"})),
        (CHAT, json!({"model": "default", "messages": [{"role": "user", "content": "x"}]})),
        ("/tokenize", json!({"model": "gpt-9", "prompt": "x"})),
        ("/detokenize", json!({"model": "gpt-9", "tokens": [1]})),
    ] {
        let reply = server.post(path, &body).await;
        assert_eq!(reply.status, 404, "{path}");
        let error = reply.error();
        assert_eq!((&error["type"], &error["param"]), (&json!("NotFoundError"), &json!("model")));
        let message = format!("The model `{}` does not exist.", body["model"].as_str().unwrap());
        assert_eq!(error["message"], message);
    }
    for path in ["/v1", "/v1/nothing", "/v1/models/other", "/v1/chat/completions/"] {
        let reply = server.get(path).await;
        assert_eq!(reply.status, 404, "{path}");
        reply.error();
    }
    for (method, path) in [("GET", TEXT), ("PUT", CHAT), ("DELETE", "/v1/models"), ("POST", "/health")] {
        let reply = server.send(request(method, path, &[], "")).await;
        assert_eq!(reply.status, 405, "{method} {path}");
        assert!(reply.error()["message"].as_str().unwrap().contains(method));
    }
    for (path, body) in [
        ("/tokenize", json!({})),
        ("/tokenize", json!({"prompt": 3})),
        ("/detokenize", json!({"tokens": [999]})),
        ("/detokenize", json!({"tokens": "x"})),
    ] {
        let reply = server.post(path, &body).await;
        assert_eq!(reply.status, 400, "{path} {body}");
        reply.error();
    }
    assert_unharmed(&mut server).await;
}

#[tokio::test]
async fn a_model_without_a_template_has_no_chat() {
    let setup = Setup { template: None, ..Setup::default() };
    let server = setup.start(|_| Plan::say("x")).await;
    let body = json!({"model": MODEL, "messages": [{"role": "user", "content": "x"}]});
    let reply = server.post(CHAT, &body).await;
    assert_eq!(reply.status, 400);
    assert!(reply.error()["message"].as_str().unwrap().contains("chat template"));
    assert_eq!(server.post(TEXT, &json!({"prompt": "x"})).await.status, 200);
}

#[tokio::test]
async fn harmless_and_unknown_fields_are_accepted() {
    let server = saying("x").await;
    let body = json!({
        "model": null, "messages": [{"role": "user", "content": "x"}], "user": "me", "metadata": {"a": "b"},
        "store": false, "service_tier": "auto", "parallel_tool_calls": true, "response_format": {"type": "text"},
        "prompt_cache_key": "k", "never_heard_of": {"deep": [1, 2]},
    });
    let reply = server.send(json_request(CHAT, &body)).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let answer: Value = reply.json();
    assert_eq!(answer["model"], MODEL);
}
