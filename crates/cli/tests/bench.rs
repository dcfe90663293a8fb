//! `millrace bench` and `millrace doctor`: the figures are there and make sense.

#![allow(clippy::unwrap_used, reason = "clippy sees no test in a helper function")]

mod common;

use common::{repository, stdout};
use serde_json::Value;

const SMALL: [&str; 8] =
    ["--input-len", "8", "--output-len", "4", "--num-iters", "2", "--kv-cache-memory", "16M"];

/// Both requests are in their answers at some time, even if a busy machine lets the second one come late.
const LONG: &str = "8:100:2";

fn json(args: &[&str]) -> Value {
    serde_json::from_str(&stdout(&[args, &["--json"]].concat(), "")).unwrap()
}

fn positive(value: &Value) -> f64 {
    value.as_f64().filter(|v| *v > 0.0).unwrap_or_else(|| panic!("{value}"))
}

#[test]
fn throughput_counts_all_tokens() {
    let result =
        json(&[&["bench", "throughput", "--num-prompts", "5", "--batch-size", "2"], &SMALL[..]].concat());
    assert_eq!((&result["num_prompts"], &result["batch_size"]), (&5.into(), &2.into()));
    assert_eq!(result["first_token_ms"]["count"], 2 * 5);
    assert_eq!(result["inter_token_ms"]["count"], 2 * 5 * 3);
    let rate = positive(&result["output_tokens_per_second"]) * positive(&result["seconds"]["median"]);
    assert!((rate - 20.0).abs() < 1e-6, "{result}");
    positive(&result["roofline"]["percent_reached"]);
    assert_eq!(result["random_weights"], false);
}

#[test]
fn latency_of_a_shape_without_weights() {
    let folder = tempfile::tempdir().unwrap();
    let shape = std::fs::read_to_string(repository("bench/shapes/qwen3-0.6b/config.json")).unwrap();
    // Two layers and a small vocabulary: the same path in a moment.
    let shape =
        shape.replace("\"num_hidden_layers\": 28", "\"num_hidden_layers\": 2").replace("151936", "1024");
    let config = folder.path().join("config.json");
    std::fs::write(&config, shape).unwrap();
    for (path, quantize, unit) in [(config.as_path(), "none", "bf16"), (folder.path(), "q4", "int8")] {
        let model = path.to_str().unwrap();
        let shape = ["bench", "latency", model, "--load-format", "dummy", "--quantize", quantize];
        let result =
            json(&[&shape[..], &["--case", LONG, "--num-iters", "2", "--kv-cache-memory", "16M"]].concat());
        assert_eq!(result["random_weights"], true);
        assert_eq!(result["ceilings"]["ops_type"], unit);
        positive(&result["decode_tokens_per_second"]);
        positive(&result["prefill_tokens_per_second"]);
        positive(&result["roofline"]["decode"]["percent_reached"]);
    }
}

#[test]
fn one_process_measures_many_cases() {
    let args =
        ["bench", "latency", "--json", "--num-iters", "1", "--no-ceilings", "--kv-cache-memory", "16M"];
    let cases = ["--case", LONG, "--case", "-"];
    let lines = stdout(&[&args[..], &cases[..]].concat(), "16:1:1\n\n4:3:3\n");
    let results: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let shapes: Vec<_> =
        results.iter().map(|r| [&r["input_len"], &r["output_len"], &r["batch_size"]]).collect();
    assert_eq!(shapes, [[8, 100, 2], [16, 1, 1], [4, 3, 3]]);
    positive(&results[0]["decode_tokens_per_second"]);
    assert!(results[1]["decode_tokens_per_second"].is_null(), "{lines}");
    assert_eq!(results[2]["first_token_ms"]["count"], 3);
    let roof = &results[0]["roofline"]["decode"];
    assert!(results[0]["ceilings"].is_null() && roof["percent_reached"].is_null(), "{lines}");
    positive(&roof["bytes"]);
}

#[test]
fn tables_have_their_rooflines() {
    let text = stdout(&[&["bench", "latency"], &SMALL[..]].concat(), "");
    for part in ["first token", "between tokens", "ceilings    memory", "ceiling is", "% reached"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let text = stdout(&[&["bench", "throughput", "--num-prompts", "2"], &SMALL[..]].concat(), "");
    assert!(text.contains("output tokens/s") && text.contains("roofline"), "{text}");
}

#[test]
fn operations_are_timed() {
    // One request: which step a second one joined would depend on how busy the machine is.
    let args = ["bench", "latency", "--ops", "--num-iters", "1", "--no-ceilings", "--case", "8:4:1"];
    let result = json(&[&args[..], &["--kv-cache-memory", "16M"]].concat());
    let ops = result["operations"].as_array().unwrap();
    let calls = |name: &str, prompts: bool| -> u64 {
        let of_kind = ops.iter().filter(|op| op["operation"] == name && op["prompts"] == prompts);
        of_kind.map(|op| op["calls"].as_u64().unwrap()).sum()
    };
    // The prompt and the first token; then three more steps.
    let (prompts, answers) = (calls("begin", true), calls("begin", false));
    assert_eq!((prompts, answers), (1, 3), "{result}");
    let layers = calls("attention", false) / answers;
    assert!(layers > 1 && calls("linear", false).is_multiple_of(layers), "{result}");
    assert!(ops.iter().all(|op| op["seconds"].as_f64().unwrap() > 0.0), "{result}");
    let text = stdout(&["bench", "latency", "--ops", "--no-ceilings", "--case", "8:4:2"], "");
    assert!(text.contains("with prompts: ") && text.contains("answers only: "), "{text}");
}

#[test]
fn the_doctor_measures() {
    let report = json(&["doctor", "--threads", "1"]);
    positive(&report["bandwidth_bytes_per_second"]);
    positive(&report["peak_ops_per_second"]["int8"]);
    positive(&report["memory"]["available_bytes"]);
    let level = report["cpu"]["level"].as_str().unwrap();
    let levels = report["cpu"]["levels"].as_array().unwrap();
    assert!(levels.iter().any(|entry| entry["name"] == level && entry["works"] == true), "{report}");
    let text = stdout(&["doctor"], "");
    assert!(text.contains("will use") && text.contains("bandwidth"), "{text}");
}
