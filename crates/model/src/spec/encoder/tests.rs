use millrace_backend::{Mask, Pool};
use millrace_weights::{HfConfig, ModelFiles};
use serde_json::{Value, json};

use super::*;

fn read(config: &Value) -> Result<Option<PoolingSpec>, String> {
    let config = HfConfig::parse("config.json", config.to_string().as_bytes()).unwrap();
    from_config(&config).map_err(|error| error.to_string())
}

/// A small BERT with changes.
#[allow(clippy::needless_pass_by_value)] // reads better at its callers
fn bert(changes: Value) -> Value {
    let mut config = json!({
        "architectures": ["BertModel"], "model_type": "bert", "vocab_size": 100, "hidden_size": 32,
        "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64, "max_position_embeddings": 50,
    });
    config.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    config
}

#[test]
fn positions_of_roberta_begin_behind_the_padding() {
    let spec =
        read(&bert(json!({"architectures": ["XLMRobertaModel"], "pad_token_id": 1}))).unwrap().unwrap();
    assert_eq!((spec.body.embedding.positions, spec.body.max_positions), (Some((50, 2)), 48));
    let mut batch = Batch::default();
    spec.body.push(&mut batch, &[7, 8], None);
    spec.body.push(&mut batch, &[9], Some(0));
    assert_eq!((batch.positions, batch.token_types, batch.prompt_rows), (vec![2, 3, 2], vec![0, 0, 1], 3));
    let error = read(&bert(json!({"architectures": ["RobertaModel"], "pad_token_id": 49}))).unwrap_err();
    assert!(error.contains("max_position_embeddings is 50"), "{error}");
}

#[test]
fn scales_of_scores_follow_what_the_model_says() {
    let scale = |changes: Value| {
        let mut config = bert(changes);
        config["architectures"] = json!(["BertForSequenceClassification"]);
        match read(&config).unwrap().unwrap().task {
            PoolingTask::Classify(labels) => (labels.names.join(" "), labels.scale),
            PoolingTask::Embed { .. } => panic!(),
        }
    };
    assert_eq!(scale(json!({})), ("LABEL_0 LABEL_1".into(), ScoreScale::Softmax));
    assert_eq!(scale(json!({"id2label": {"0": "x"}})), ("x".into(), ScoreScale::Sigmoid));
    let raw = json!({"id2label": {"0": "x"}, "sentence_transformers": {"activation_fn": "a.b.Identity"}});
    assert_eq!(scale(raw).1, ScoreScale::Raw);
    assert_eq!(scale(json!({"problem_type": "multi_label_classification"})).1, ScoreScale::Sigmoid);
    let mut row = [1.0, 1.0];
    ScoreScale::Softmax.apply(&mut row);
    assert_eq!(row, [0.5, 0.5]);
    ScoreScale::Sigmoid.apply(&mut row);
    assert!((row[0] - 0.622_459_3).abs() < 1e-6);
}

#[test]
fn shortened_embeddings_are_as_the_model_says() {
    let of = |changes: Value| match read(&bert(changes)).unwrap().unwrap().task {
        PoolingTask::Embed { matryoshka, .. } => matryoshka,
        PoolingTask::Classify(_) => panic!(),
    };
    assert_eq!(of(json!({})), Matryoshka::No);
    assert_eq!(of(json!({"is_matryoshka": true})), Matryoshka::Any);
    assert_eq!(of(json!({"matryoshka_dimensions": [8, 16]})), Matryoshka::Of(vec![8, 16]));
}

#[test]
fn what_would_change_results_is_refused() {
    for (changes, message) in [
        (json!({"position_embedding_type": "relative_key"}), "position_embedding_type \"relative_key\""),
        (json!({"is_decoder": true}), "is_decoder is true"),
        (json!({"hidden_act": "mish"}), "hidden_act \"mish\""),
        (json!({"layer_norm_eps": 2}), "layer_norm_eps is 2"),
        (json!({"num_attention_heads": 0}), "num_attention_heads is 0"),
    ] {
        let error = read(&bert(changes)).unwrap_err();
        assert!(error.contains(message), "{error}");
    }
    assert_eq!(read(&bert(json!({"architectures": ["LlamaForCausalLM"]}))).unwrap(), None);
}

#[test]
fn sentence_transformers_say_what_becomes_of_the_hidden_states() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, value: Value| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, value.to_string()).unwrap();
    };
    let files = ModelFiles::Folder(folder.path().to_owned());
    assert_eq!(Sentence::read(&files).unwrap(), None);
    let module = |path: &str, kind: &str| json!({"path": path, "type": format!("sentence_transformers.models.{kind}")});
    write(
        "modules.json",
        json!([
            module("", "Transformer"),
            module("1_Pooling", "Pooling"),
            module("2_Dense", "Dense"),
            module("3", "Normalize")
        ]),
    );
    write("1_Pooling/config.json", json!({"pooling_mode_cls_token": false, "pooling_mode_lasttoken": true}));
    let dense = json!({"in_features": 32, "out_features": 8, "bias": false, "activation_function": "torch.nn.modules.linear.Identity"});
    write("2_Dense/config.json", dense);
    write("sentence_bert_config.json", json!({"max_seq_length": 20}));
    let spec = read(&bert(json!({}))).unwrap().unwrap();
    assert_eq!((spec.dim(), spec.pool, spec.body.mask), (32, Pool::First, Mask::Bidirectional));
    let spec = spec.with_sentence(Sentence::read(&files).unwrap().unwrap());
    assert_eq!((spec.dim(), spec.pool, spec.body.max_positions), (8, Pool::Last, 20));
    assert_eq!(spec.head, [HeadStep::Linear { module: "2_Dense/linear".into(), out: 8, bias: false }]);
    assert_eq!(spec.task, PoolingTask::Embed { normalize: true, matryoshka: Matryoshka::No });

    write("1_Pooling/config.json", json!({"pooling_mode": "mean"}));
    assert_eq!(Sentence::read(&files).unwrap().unwrap().pool, Some(Pool::Mean));
    for (modules, message) in [
        (json!([module("../x", "Pooling")]), "not a folder of the model"),
        (json!([module("4", "WordWeights")]), "WordWeights is not supported"),
        (json!([module("5_Pooling", "Pooling")]), "does not exist"),
        (json!({}), "not a list"),
    ] {
        write("modules.json", modules);
        let error = Sentence::read(&files).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
}
