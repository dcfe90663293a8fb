//! Models that are missing or broken: one sentence that names the file, and nothing else.

#![allow(clippy::unwrap_used, reason = "clippy sees no test in a helper function")]

mod common;

use common::{copy_of_demo, repository, run, sentence};

fn serve(model: &std::path::Path) -> String {
    sentence(&["serve", "--port", "0", "--kv-cache-memory", "16M", model.to_str().unwrap()])
}

#[test]
fn truncated_weights_are_named() {
    let folder = copy_of_demo();
    let weights = folder.path().join("model.safetensors");
    let bytes = std::fs::read(&weights).unwrap();
    for length in [bytes.len() - 1, bytes.len() / 2, 100, 4, 0] {
        std::fs::write(&weights, &bytes[..length]).unwrap();
        let message = serve(folder.path());
        assert!(message.contains("model.safetensors"), "{length} bytes: {message}");
    }
}

#[test]
fn missing_files_are_named() {
    for file in ["model.safetensors", "config.json", "tokenizer.json"] {
        let folder = copy_of_demo();
        std::fs::remove_file(folder.path().join(file)).unwrap();
        let message = serve(folder.path());
        assert!(message.contains(file), "{message}");
    }
}

#[test]
fn broken_files_are_named() {
    for (file, text) in [
        ("config.json", "{"),
        ("config.json", r#"{"architectures": ["Unheard"], "model_type": "unheard"}"#),
        ("tokenizer.json", "[]"),
        ("tokenizer_config.json", "nonsense"),
        ("generation_config.json", "{\"eos_token_id\": "),
    ] {
        let folder = copy_of_demo();
        std::fs::write(folder.path().join(file), text).unwrap();
        let message = serve(folder.path());
        assert!(message.contains(file) || message.contains("Unheard"), "{file}: {message}");
    }
}

#[test]
fn weights_of_another_shape_are_named() {
    let folder = copy_of_demo();
    let config = folder.path().join("config.json");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("\"intermediate_size\": 1536", "\"intermediate_size\": 1024"))
        .unwrap();
    let message = serve(folder.path());
    assert!(message.contains("mlp.") && message.contains("1024"), "{message}");
}

#[test]
fn a_model_that_is_nowhere_is_named() {
    assert!(sentence(&["serve", "--port", "0", "/no/such/folder"]).contains("/no/such/folder"));
    // The tests are offline, and nobody has this model.
    let folder = tempfile::tempdir().unwrap();
    let message = {
        let output = common::millrace(&["run", "--model", "millrace-tests/nothing", "x"])
            .env("HF_HOME", folder.path())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(message.contains("millrace-tests/nothing") && message.contains("HF_HUB_OFFLINE"), "{message}");
    assert!(sentence(&["run", "--model", repository("docs").to_str().unwrap(), "x"]).contains("config.json"));
}

#[test]
fn settings_that_make_no_sense_are_named_and_ignored() {
    let folder = copy_of_demo();
    let settings = r#"{"eos_token_id": [8185, 99999], "top_p": 7, "temperature": 0.5}"#;
    std::fs::write(folder.path().join("generation_config.json"), settings).unwrap();
    let model = folder.path().to_str().unwrap();
    let output =
        run(&["run", "--kv-cache-memory", "16M", "--max-tokens", "2", "--model", model, "Hello!"], "");
    assert!(output.status.success());
    let stderr = String::from_utf8(output.stderr).unwrap();
    for (key, value) in [("top_p", "7"), ("eos_token_id", "99999")] {
        let warning = format!("generation_config.json: `{key}` is {value} and is ignored");
        assert!(stderr.contains(&warning) && stderr.contains(model), "{warning}: {stderr}");
    }
    assert_eq!(stderr.lines().count(), 2, "{stderr}");
}
