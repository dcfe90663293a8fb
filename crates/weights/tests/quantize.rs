//! Reading what MLX wrote, and writing what MLX reads.

#![allow(clippy::unwrap_used)] // helpers outside of test functions may unwrap too

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{entry, raw, vectors};
use millrace_weights::quantize::quantize_checkpoint;
use millrace_weights::{Checkpoint, HfConfig, MatrixView, Quantization, QuantizationConfig};

/// `tests/data/mlx_affine.py` says how the file was made.
#[test]
fn every_width_and_group_that_mlx_writes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/mlx_affine.safetensors");
    for bits in [2, 3, 4, 5, 6, 8] {
        for group in [32, 64, 128] {
            let config = QuantizationConfig::uniform(Quantization::new("test", bits, group).unwrap());
            let checkpoint = Checkpoint::open_file(&path, Some(config)).unwrap();
            let name = format!("b{bits}g{group}");
            let matrix = checkpoint.matrix(&name).unwrap();
            matrix.expect_shape(3, 128).unwrap();
            let expected = checkpoint.tensor(&format!("{name}.expected")).unwrap();
            let last = matrix.select_rows(2..3).unwrap();
            let (mut got, mut want) = ([0.0; 128], [0.0; 128]);
            for row in 0..3 {
                matrix.read_row(row, &mut got).unwrap();
                expected.read_row(row, &mut want).unwrap();
                for (got, want) in got.iter().zip(&want) {
                    // MLX may fuse the multiplication with the addition.
                    assert!((got - want).abs() <= 1e-6 * want.abs().max(1.0), "{name}: {got} for {want}");
                }
            }
            let mut of_last = [0.0; 128];
            last.read_row(0, &mut of_last).unwrap();
            assert_eq!(of_last, got);
            assert!(last.read_row(1, &mut of_last).is_err() && matrix.read_row(3, &mut of_last).is_err());
            assert!(matrix.select_rows(2..4).is_err());
        }
    }
}

#[test]
fn parts_that_do_not_fit_are_named() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/mlx_affine.safetensors");
    let open = |bits, group| {
        let config = QuantizationConfig::uniform(Quantization::new("test", bits, group).unwrap());
        Checkpoint::open_file(&path, Some(config)).unwrap()
    };
    let message = open(4, 32).matrix("b4g64").unwrap_err().to_string();
    assert!(message.starts_with("tensor b4g64.scales in "), "{message}");
    assert!(message.ends_with("has shape [3, 2] where the model needs [3, 4]"), "{message}");
    let message = open(3, 128).matrix("b2g32").unwrap_err().to_string();
    assert!(message.contains("8 words a row are no whole groups of 128 3-bit integers"), "{message}");
    let dense = Checkpoint::open_file(&path, None).unwrap();
    let message = dense.matrix("b4g64").unwrap_err().to_string();
    assert!(message.contains("config.json has no \"quantization\""), "{message}");
}

/// A model of two shards with one matrix that can be quantized, one whose columns don't fit, and a norm.
fn dense_model() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(dir.path().join(name), bytes).unwrap();
    let one = format!(
        "{{{}, {}}}",
        entry("a.weight", "F32", "[2, 64]", 0, 512),
        entry("odd.weight", "F32", "[2, 3]", 512, 536)
    );
    let mut bytes = raw(&one, 0);
    for i in 0..134 {
        bytes.extend((((i * 29) % 64) as f32 / 64.0 - 0.5).to_le_bytes());
    }
    write("x-1.safetensors", &bytes);
    write("x-2.safetensors", &vectors(&[("norm.weight", &[1.0; 64])]));
    write(
        "model.safetensors.index.json",
        br#"{"weight_map": {"a.weight": "x-1.safetensors", "odd.weight": "x-1.safetensors", "norm.weight": "x-2.safetensors"}}"#,
    );
    write("config.json", br#"{"model_type": "test", "architectures": ["Test"]}"#);
    write("tokenizer.json", b"{}");
    write("chat_template.jinja", b"{{ messages }}");
    write("eval.jsonl", b"not part of a model");
    dir
}

#[test]
fn a_sharded_model_is_converted() {
    let source = dense_model();
    let target = tempfile::tempdir().unwrap();
    let done = quantize_checkpoint(source.path(), target.path(), 8, 32).unwrap();
    assert_eq!((done.quantized, done.copied, done.bytes_before), (1, 2, 512 + 24 + 256));
    assert_eq!(done.bytes_after, 128 + 2 * 2 * 2 * 2 + 24 + 256);

    let dense = Checkpoint::open(source.path()).unwrap();
    let converted = Checkpoint::open(target.path()).unwrap();
    let matrix = converted.matrix("a").unwrap();
    matrix.expect_shape(2, 64).unwrap();
    let MatrixView::Affine(affine) = &matrix else { panic!("quantized") };
    let (mut want, mut got, mut q) = ([0.0; 64], [0.0; 64], [0; 64]);
    let (mut scales, mut biases) = ([0.0; 2], [0.0; 2]);
    for row in 0..2 {
        dense.matrix("a").unwrap().read_row(row, &mut want).unwrap();
        matrix.read_row(row, &mut got).unwrap();
        affine.read_integers(row, &mut q).unwrap();
        affine.read_groups(row, &mut scales, &mut biases).unwrap();
        for i in 0..64 {
            assert!((want[i] - got[i]).abs() < 0.005);
            assert_eq!(got[i], scales[i / 32] * (f32::from(q[i]) - 128.0), "symmetric, and exact");
        }
    }
    for name in ["odd.weight", "norm.weight"] {
        assert_eq!(converted.tensor(name).unwrap().bytes, dense.tensor(name).unwrap().bytes);
    }
    let read = |name: &str| fs::read(target.path().join(name)).unwrap();
    assert_eq!(read("chat_template.jinja"), b"{{ messages }}");
    assert!(!target.path().join("eval.jsonl").exists());
    let config = HfConfig::parse("config.json", &read("config.json")).unwrap();
    for key in ["quantization", "quantization_config"] {
        let entry = config.object(key).unwrap().unwrap();
        assert_eq!((entry.usize("bits").unwrap(), entry.usize("group_size").unwrap()), (8, 32));
    }
    assert_eq!(config.architecture().unwrap(), "Test");
}

#[test]
fn what_cannot_be_converted_is_said() {
    let source = dense_model();
    let target = tempfile::tempdir().unwrap();
    let message = |source: &Path, target: PathBuf, bits, group| {
        quantize_checkpoint(source, &target, bits, group).unwrap_err().to_string()
    };
    let out = || target.path().join("out");
    assert!(message(source.path(), out(), 3, 32).contains("use 4 or 8 bits"));
    assert!(message(source.path(), out(), 8, 48).contains("groups of 48"));
    assert!(message(source.path(), source.path().into(), 8, 32).contains("it is the source itself"));
    assert!(message(&out(), out(), 8, 32).contains("out/config.json does not exist"));
    quantize_checkpoint(source.path(), &out(), 4, 32).unwrap();
    assert!(message(&out(), target.path().join("again"), 8, 32).contains("already"));

    let path = source.path().join("x-1.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let nan_at = bytes.len() - 24 - 4;
    bytes[nan_at..nan_at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(&path, bytes).unwrap();
    assert!(
        message(source.path(), out(), 8, 32)
            .contains("tensor a.weight: row 1 has values that are not finite")
    );
}

#[test]
fn the_models_of_the_project_are_readable() {
    for (name, hidden) in [("demo", 512), ("demo-draft", 192)] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models").join(name);
        let checkpoint = Checkpoint::open(&folder).unwrap();
        let embedding = checkpoint.matrix("model.embed_tokens").unwrap();
        embedding.expect_shape(8192, hidden).unwrap();
        assert!(matches!(embedding, MatrixView::Affine(_)));
        assert!(matches!(checkpoint.matrix("model.layers.0.mlp.up_proj").unwrap(), MatrixView::Affine(_)));
        checkpoint.tensor("model.norm.weight").unwrap().expect_shape(&[hidden]).unwrap();
    }
}
