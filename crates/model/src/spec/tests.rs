//! What config.json fields mean, and that nothing that changes results is ignored.

// `json!({...})` reads better at the call than a reference to it.
#![allow(clippy::needless_pass_by_value)]

use millrace_backend::{Activation, Encoding, KvDtype, WeightFormat};
use millrace_weights::HfConfig;
use serde_json::{Value, json};

use super::*;

/// A small valid configuration of `architecture`, with `changes` on top (null removes a field).
fn config(architecture: &str, changes: &Value) -> HfConfig {
    let mut config = json!({
        "architectures": [architecture], "vocab_size": 100, "hidden_size": 64, "intermediate_size": 96,
        "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2,
        "max_position_embeddings": 1024,
    });
    for (key, value) in changes.as_object().unwrap() {
        config[key] = value.clone();
    }
    HfConfig::parse("config.json", config.to_string().as_bytes()).unwrap()
}

fn spec(architecture: &str, changes: Value) -> ModelSpec {
    from_config(&config(architecture, &changes)).unwrap()
}

/// The sentence that refuses a configuration.
fn refusal(architecture: &str, changes: Value) -> String {
    from_config(&config(architecture, &changes)).unwrap_err().to_string()
}

fn attention(spec: &ModelSpec) -> Vec<&Gqa> {
    spec.layers
        .iter()
        .map(|layer| match &layer.mixer {
            Mixer::Gqa(gqa) => gqa,
        })
        .collect()
}

fn windows(spec: &ModelSpec) -> Vec<Option<usize>> {
    attention(spec).iter().map(|gqa| gqa.window).collect()
}

fn rope(spec: &ModelSpec) -> &RopeSpec {
    attention(spec)[0].rope.as_ref().unwrap()
}

#[test]
fn every_family_has_its_marks() {
    let marks = |architecture| {
        let spec = spec(architecture, json!({}));
        let gqa = attention(&spec)[0].clone();
        (
            spec.family,
            gqa.qkv_bias,
            gqa.o_bias,
            gqa.qk_norm,
            gqa.heads.head_dim,
            spec.tied_head,
            rope(&spec).theta,
        )
    };
    assert_eq!(marks("LlamaForCausalLM"), ("llama", false, false, false, 16, false, 1e4));
    assert_eq!(marks("MistralForCausalLM"), ("mistral", false, false, false, 16, false, 1e4));
    assert_eq!(marks("Qwen2ForCausalLM"), ("qwen2", true, false, false, 16, false, 1e4));
    assert_eq!(marks("Qwen3ForCausalLM"), ("qwen3", false, false, true, 128, false, 1e4));
    assert_eq!(marks("SmolLM3ForCausalLM"), ("smollm3", false, false, false, 16, true, 2e6));
    assert_eq!(supported().count(), 5);
}

#[test]
fn the_family_follows_from_model_type_without_architectures() {
    assert_eq!(spec("", json!({"architectures": null, "model_type": "qwen3"})).family, "qwen3");
    let message = refusal("GPTNeoXForCausalLM", json!({}));
    assert!(message.contains("GPTNeoXForCausalLM") && message.contains("Qwen3ForCausalLM"), "{message}");
}

#[test]
fn llama_reads_biases_head_dim_and_activation() {
    let changes =
        json!({"attention_bias": true, "mlp_bias": true, "head_dim": 32, "hidden_act": "gelu_pytorch_tanh"});
    let spec = spec("LlamaForCausalLM", changes);
    let gqa = attention(&spec)[0];
    assert!(gqa.qkv_bias && gqa.o_bias);
    assert_eq!((gqa.heads.head_dim, gqa.scale), (32, 1.0 / 32f32.sqrt()));
    let FeedForward::Dense(dense) = &spec.layers[0].ffn;
    assert_eq!(*dense, Dense { inner: 96, gated: true, act: Activation::GeluTanh, bias: true });
}

#[test]
fn mistral_slides_unless_told_not_to() {
    assert_eq!(windows(&spec("MistralForCausalLM", json!({}))), [Some(4096); 4]);
    assert_eq!(windows(&spec("MistralForCausalLM", json!({"sliding_window": 8}))), [Some(8); 4]);
    assert_eq!(windows(&spec("MistralForCausalLM", json!({"sliding_window": null}))), [None; 4]);
}

#[test]
fn qwen_slides_on_the_upper_layers_if_told_to() {
    for architecture in ["Qwen2ForCausalLM", "Qwen3ForCausalLM"] {
        let off = json!({"sliding_window": 8, "max_window_layers": 0});
        assert_eq!(windows(&spec(architecture, off)), [None; 4]);
        let on = json!({"use_sliding_window": true, "sliding_window": 8, "max_window_layers": 3});
        assert_eq!(windows(&spec(architecture, on)), [None, None, None, Some(8)]);
    }
}

#[test]
fn layer_types_decide_where_they_are_given() {
    let types = ["sliding_attention", "full_attention", "sliding_attention", "full_attention"];
    let on = json!({"use_sliding_window": true, "sliding_window": 8, "max_window_layers": 4, "layer_types": types});
    assert_eq!(windows(&spec("Qwen3ForCausalLM", on)), [Some(8), None, Some(8), None]);
    let off = refusal("Qwen3ForCausalLM", json!({"layer_types": types}));
    assert!(off.contains("switched off"), "{off}");
    let other =
        json!({"layer_types": ["full_attention", "full_attention", "full_attention", "linear_attention"]});
    assert!(refusal("Qwen3ForCausalLM", other).contains("linear_attention"));
    assert!(
        refusal("LlamaForCausalLM", json!({"layer_types": ["full_attention"]})).contains("1 layers of 4")
    );
}

#[test]
fn smollm3_leaves_the_rotation_out_of_some_layers() {
    let rotates = |changes| -> Vec<bool> {
        attention(&spec("SmolLM3ForCausalLM", changes)).iter().map(|gqa| gqa.rope.is_some()).collect()
    };
    assert_eq!(rotates(json!({})), [true, true, true, false]);
    assert_eq!(rotates(json!({"no_rope_layer_interval": 2})), [true, false, true, false]);
    assert_eq!(rotates(json!({"no_rope_layers": [0, 1, 1, 0]})), [false, true, true, false]);
    let short = refusal("SmolLM3ForCausalLM", json!({"no_rope_layers": [0, 1]}));
    assert!(short.contains("each of the 4 layers"), "{short}");
    let sliding = json!({"use_sliding_window": true, "sliding_window": 8, "no_rope_layer_interval": 2});
    assert_eq!(windows(&spec("SmolLM3ForCausalLM", sliding)), [None, Some(8), None, Some(8)]);
}

#[test]
fn both_generations_of_rope_settings_mean_the_same() {
    let llama3 = json!({"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 256, "rope_type": "llama3"});
    let old = spec("LlamaForCausalLM", json!({"rope_theta": 5e5, "rope_scaling": &llama3}));
    let mut inside = llama3;
    inside["rope_theta"] = json!(5e5);
    let new = spec("LlamaForCausalLM", json!({"rope_parameters": inside}));
    assert_eq!(old, new);
    let scaling = RopeScaling::Llama3 {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_context: 256,
    };
    assert_eq!(*rope(&old), RopeSpec { theta: 5e5, dim: 16, scaling });
    assert_eq!(old.max_positions, 1024);
}

#[test]
fn extensions_lengthen_the_context() {
    let positions = |scaling| spec("Qwen2ForCausalLM", json!({"rope_scaling": scaling})).max_positions;
    assert_eq!(positions(json!(null)), 1024);
    assert_eq!(positions(json!({"type": "linear", "factor": 4})), 4096);
    assert_eq!(
        positions(json!({"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512})),
        2048
    );
    assert_eq!(positions(json!({"type": "dynamic", "factor": 4.0})), 1024);
}

#[test]
fn yarn_defaults_follow_the_paper() {
    let scaling = json!({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 256});
    let yarn = spec("Qwen3ForCausalLM", json!({"rope_scaling": scaling}));
    assert!((rope(&yarn).magnitude() - (0.1 * 4f32.ln() + 1.0)).abs() < 1e-6);
    let (plain, scaled) = (rope(&spec("Qwen3ForCausalLM", json!({}))).inv_freq(), rope(&yarn).inv_freq());
    assert_eq!(scaled[0], plain[0], "the fastest pair is kept");
    assert_eq!(scaled[63], plain[63] / 4.0, "the slowest pair is scaled in full");
    let scaling = json!({"rope_type": "yarn", "factor": 4.0, "mscale": 1.0, "mscale_all_dim": 1.0});
    assert_eq!(rope(&spec("Qwen3ForCausalLM", json!({"rope_scaling": scaling}))).magnitude(), 1.0);
}

#[test]
fn what_would_change_results_is_refused() {
    let llama = |changes| refusal("LlamaForCausalLM", changes);
    assert!(llama(json!({"hidden_act": "celu"})).contains("hidden_act \"celu\""));
    assert!(llama(json!({"partial_rotary_factor": 0.5})).contains("partial_rotary_factor is 0.5"));
    assert!(
        llama(json!({"rope_scaling": {"type": "longrope"}})).contains("rope_scaling.rope_type \"longrope\"")
    );
    assert!(
        llama(json!({"rope_scaling": {"type": "default", "mrope_section": [1]}})).contains("mrope_section")
    );
    assert!(
        llama(json!({"rope_parameters": {"full_attention": {}}})).contains("rope_parameters.full_attention")
    );
    assert!(llama(json!({"rope_scaling": {"type": "linear"}})).contains("rope_scaling.factor is missing"));
    assert!(llama(json!({"rope_scaling": {"type": "linear", "factor": 0.5}})).contains("between 1"));
}

#[test]
fn sizes_out_of_bounds_are_refused() {
    let llama = |key: &str, value: Value| refusal("LlamaForCausalLM", json!({key: value}));
    for key in ["vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"]
    {
        assert!(llama(key, json!(0)).contains(key));
        assert!(llama(key, json!(4_294_967_295u32)).contains(key));
        assert!(llama(key, json!(null)).contains(&format!("{key} is missing")));
    }
    assert!(llama("num_key_value_heads", json!(3)).contains("must divide num_attention_heads = 4"));
    assert!(llama("rms_norm_eps", json!(-1)).contains("rms_norm_eps is -1"));
    let scaling = json!({"type": "yarn", "factor": 4, "original_max_position_embeddings": 0});
    assert!(llama("rope_scaling", scaling).contains("must be at least 1"));
    assert!(llama("head_dim", json!(15)).contains("must be even"));
    assert!(llama("num_attention_heads", json!(128)).contains("head_dim"));
}

/// Qwen3-0.6B: its model card says 0.6 billion, counting its safetensors header gives this number.
#[test]
fn costs_of_a_known_model() {
    let changes = json!({"vocab_size": 151_936, "hidden_size": 1024, "intermediate_size": 3072,
        "num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 8, "tie_word_embeddings": true});
    let spec = spec("Qwen3ForCausalLM", changes);
    assert_eq!(spec.param_count(), 596_049_920);
    assert_eq!(spec.kv_bytes_per_token(KvDtype::Bf16), 28 * 2 * 8 * 128 * 2);
    assert_eq!(spec.kv_spec(3, 16, KvDtype::F32).block_bytes(), 28 * 2 * 8 * 128 * 4 * 16);
    let vectors = 28 * (2 * 1024 + 2 * 128) + 1024;
    let matrices = 596_049_920 - vectors;
    assert_eq!(spec.weight_bytes(WeightFormat::Native, Encoding::Bf16), 2 * matrices + 4 * vectors);
    assert_eq!(spec.flops_per_token(0), 2 * matrices);
    assert_eq!(spec.flops_per_token(100) - spec.flops_per_token(0), 28 * 4 * 16 * 128 * 100);
    let q4 = WeightFormat::Quantize { bits: 4, group: 32 };
    let table = 151_936 * 1024;
    let bytes = table * 9 / 8 + (matrices - table) * 5 / 8 + 4 * vectors;
    assert_eq!(spec.weight_bytes(q4, Encoding::Bf16), bytes, "the table stays at 8 bits");
}
