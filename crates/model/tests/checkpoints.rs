//! Loading: real folders, quantized ones, dummies, and sentences about what is wrong.

#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod common;

use std::path::{Path, PathBuf};

use common::{FORMS, Fixture, Session, distance, fixtures, score};
use millrace_backend::reference::ReferenceBackend;
use millrace_backend::{Backend, Batch, KvDtype, SeqSpan, Span, StepResult, WeightFormat};
use millrace_backend_cpu::CpuBackend;
use millrace_model::{Decoder, DummyWeights, LoadOptions, ModelSpec, Progress, WeightSource, spec};
use millrace_types::BlockId;
use millrace_weights::quantize::quantize_checkpoint;
use millrace_weights::{Checkpoint, ModelFiles};

const OPTIONS: LoadOptions = LoadOptions { format: WeightFormat::Native, max_tokens: 16, max_logit_rows: 4 };

fn fixture(name: &str) -> Fixture {
    fixtures().into_iter().find(|fixture| fixture.name.starts_with(name)).unwrap()
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// The sentence that loading ends with.
fn failure(fixture: &Fixture) -> String {
    let mut backend = ReferenceBackend::new();
    let result = Decoder::load(&fixture.spec, &fixture.checkpoint, &mut backend, OPTIONS, &mut |_| ());
    result.unwrap_err().to_string()
}

#[test]
fn an_mlx_quantized_checkpoint_gives_nearly_the_same_logits() {
    let target = tempfile::tempdir().unwrap();
    let mut fixture = fixture("qwen3/");
    let mut sources = Vec::new();
    for group in [32, 64] {
        quantize_checkpoint(&folder("qwen3"), target.path(), 8, group).unwrap();
        fixture.checkpoint = Checkpoint::open(target.path()).unwrap();
        assert!(fixture.checkpoint.names().any(|name| name.ends_with("q_proj.scales")));
        let found = Session::new(ReferenceBackend::new(), &fixture, WeightFormat::Native).run(&FORMS[1]);
        let distance = distance(&fixture.golden, &found);
        println!("groups of {group}: {distance:?}");
        assert!(distance.mean <= 0.2 && distance.mean > 1e-3, "groups of {group}: {distance:?}");
        sources.push(found);
    }
    assert_ne!(sources[0], sources[1], "the group size was ignored");
}

#[test]
fn a_missing_tensor_is_named() {
    let mut fixture = fixture("qwen2/");
    fixture.checkpoint = Checkpoint::open_file(&folder("qwen2").join("golden.safetensors"), None).unwrap();
    let message = failure(&fixture);
    assert!(message.contains("model.embed_tokens.weight is missing"), "{message}");
}

#[test]
fn a_wrong_shape_is_named_with_both_shapes() {
    let mut fixture = fixture("qwen2/");
    let spec::FeedForward::Dense(dense) = &mut fixture.spec.layers[1].ffn;
    dense.inner += 1;
    let (inner, hidden) = (dense.inner, fixture.spec.hidden);
    let message = failure(&fixture);
    assert!(message.contains("model.layers.1.mlp.gate_proj.weight"), "{message}");
    assert!(message.contains(&format!("[{}, {hidden}]", inner - 1)), "{message}");
    assert!(message.contains(&format!("[{inner}, {hidden}]")), "{message}");
}

#[test]
fn tensors_that_nobody_uses_are_reported() {
    let mut fixture = fixture("qwen2/");
    let dropped = fixture.spec.layers.len() - 1;
    fixture.spec.layers.truncate(dropped);
    let mut backend = ReferenceBackend::new();
    let (_, report) =
        Decoder::load(&fixture.spec, &fixture.checkpoint, &mut backend, OPTIONS, &mut |_| ()).unwrap();
    // Two norms, seven weights, three biases.
    assert_eq!(report.unused.len(), 12);
    assert!(report.unused.iter().all(|name| name.starts_with(&format!("model.layers.{dropped}."))));
    assert!(report.warnings()[0].contains("12 tensors"));
}

#[test]
fn progress_ends_at_the_parameter_count_and_bytes_add_up() {
    for fixture in fixtures() {
        let mut last = Progress { done: 0, total: 0 };
        let mut watch = |progress: Progress| {
            assert!(progress.done >= last.done);
            last = progress;
        };
        let (_, report) = Decoder::load(
            &fixture.spec,
            &fixture.checkpoint,
            &mut ReferenceBackend::new(),
            OPTIONS,
            &mut watch,
        )
        .unwrap();
        assert_eq!((last.done, last.total), (fixture.spec.param_count(), fixture.spec.param_count()));
        assert_eq!(report.weight_bytes, 4 * fixture.spec.param_count(), "{}", fixture.name);
        let native = millrace_backend::Encoding::F32;
        assert_eq!(report.step_weight_bytes, fixture.spec.step_weight_bytes(OPTIONS.format, native));
    }
}

#[test]
fn four_bits_keep_the_tables_at_eight() {
    let fixture = fixture("llama2_gqa/");
    let format = WeightFormat::Quantize { bits: 4, group: 32 };
    let options = LoadOptions { format, ..OPTIONS };
    let mut backend = ReferenceBackend::new();
    let (_, report) =
        Decoder::load(&fixture.spec, &fixture.checkpoint, &mut backend, options, &mut |_| ()).unwrap();
    let (params, tables) =
        (fixture.spec.param_count(), 2 * (fixture.spec.vocab * fixture.spec.hidden) as u64);
    // Eight bits and a scale per 32 columns; four bits, a scale, and a few float vectors.
    let (least, most) =
        (tables * 9 / 8 + (params - tables) * 5 / 8, tables * 9 / 8 + (params - tables) * 6 / 8);
    assert!((least..=most).contains(&report.weight_bytes), "{} of {least}..={most}", report.weight_bytes);
    assert_eq!(report.weight_bytes, fixture.spec.weight_bytes(format, millrace_backend::Encoding::F32));
}

/// Greedy tokens and the first row's best log-probability after one step over four tokens.
fn one_step(spec: &ModelSpec, source: &dyn WeightSource, backend: &mut dyn Backend) -> (Vec<u32>, f32) {
    let (decoder, report) = Decoder::load(spec, source, backend, OPTIONS, &mut |_| ()).unwrap();
    assert!(report.warnings().is_empty(), "{:?}", report.warnings());
    backend.alloc_kv(&spec.kv_spec(2, 16, KvDtype::F32)).unwrap();
    let batch = Batch {
        tokens: vec![1, 2, 3, 4],
        positions: vec![0, 1, 2, 3],
        slots: vec![16, 17, 18, 19],
        seqs: vec![SeqSpan {
            query: Span { start: 0, len: 4 },
            kv_len: 4,
            blocks: Span { start: 0, len: 1 },
        }],
        block_tables: vec![BlockId(1)],
        samples: (0..4).map(|row| millrace_backend::SampleSpec { logprobs: Some(1), ..score(row) }).collect(),
        ..Batch::default()
    };
    let mut result = StepResult::default();
    let ticket = decoder.forward(backend, &batch);
    backend.wait(ticket, &mut result).unwrap();
    assert!(result.top.iter().all(|(token, log_prob)| (*token as usize) < spec.vocab && *log_prob <= 0.0));
    (result.top.iter().map(|(token, _)| *token).collect(), result.top[0].1)
}

#[test]
fn dummy_weights_run_any_shape() {
    for fixture in fixtures() {
        let answer = |seed| one_step(&fixture.spec, &DummyWeights::new(seed), &mut ReferenceBackend::new());
        let (tokens, log_prob) = answer(7);
        assert_eq!((tokens, log_prob), answer(7), "{}", fixture.name);
        assert_ne!(log_prob, answer(8).1, "{}", fixture.name);
    }
}

/// The models of the repository and, where it lies beside the checkout, what they were quantized from; each on both
/// backends.
#[test]
fn demo_models_load_and_stay_close_to_their_source() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for (embedded, source) in
        [("models/demo", "../shared/demo-model"), ("models/demo-draft", "../shared/demo-model/draft")]
    {
        let mut answers = Vec::new();
        for path in
            [embedded, source].into_iter().filter(|path| *path == embedded || root.join(path).exists())
        {
            let files = ModelFiles::Folder(root.join(path));
            let spec = spec::from_config(&files.config().unwrap()).unwrap();
            let shape = (spec.family, spec.vocab, spec.tied_head, spec.max_positions);
            assert_eq!(shape, ("qwen3", 8192, true, 8192));
            let checkpoint = files.checkpoint().unwrap();
            answers.push(one_step(&spec, &checkpoint, &mut ReferenceBackend::new()));
            answers.push(one_step(&spec, &checkpoint, &mut CpuBackend::new(Some(2)).unwrap()));
        }
        println!("{embedded}: {answers:?}");
        let (tokens, log_prob) = &answers[0];
        for (other_tokens, other) in &answers[1..] {
            assert_eq!(tokens, other_tokens, "{embedded}");
            assert!((log_prob - other).abs() < 0.05, "{embedded}: {answers:?}");
        }
    }
}
