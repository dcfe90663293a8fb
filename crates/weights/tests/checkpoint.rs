//! Opening weights from folders: single, sharded, embedded; and everything that may be wrong with them.

#![allow(clippy::unwrap_used)] // helpers outside of test functions may unwrap too

mod common;

use std::fs;
use std::path::Path;

use common::{entry, raw, vectors};
use millrace_weights::safetensors::Header;
use millrace_weights::{Checkpoint, MatrixView, ModelFiles};

fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        fs::write(dir.path().join(name), bytes).unwrap();
    }
    dir
}

fn open_error(files: &[(&str, &[u8])]) -> String {
    let dir = folder(files);
    let message = Checkpoint::open(dir.path()).unwrap_err().to_string();
    assert!(!message.contains('\n'), "one sentence: {message}");
    message
}

#[test]
fn a_single_file() {
    let dir = folder(&[("model.safetensors", &vectors(&[("a", &[1.0, 2.0]), ("b", &[3.0])]))]);
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    assert_eq!(checkpoint.tensor("a").unwrap().to_f32().unwrap(), [1.0, 2.0]);
    assert_eq!(checkpoint.total_bytes(), 12);
    let mut names: Vec<_> = checkpoint.names().collect();
    names.sort_unstable();
    assert_eq!(names, ["a", "b"]);
    // Released pages are read again.
    checkpoint.release("a");
    assert_eq!(checkpoint.tensor("a").unwrap().to_f32().unwrap(), [1.0, 2.0]);
    let message = checkpoint.tensor("c").unwrap_err().to_string();
    assert!(message.starts_with("tensor c is missing from "), "{message}");
    let message = checkpoint.tensor("a").unwrap().expect_shape(&[3]).unwrap_err().to_string();
    assert!(message.ends_with("has shape [2] where the model needs [3]"), "{message}");
}

const INDEX: &str =
    r#"{"metadata": {"total_size": 12}, "weight_map": {"a": "x-1.safetensors", "b": "x-2.safetensors"}}"#;

#[test]
fn shards_with_an_index() {
    let one = vectors(&[("a", &[1.0, 2.0])]);
    let two = vectors(&[("b", &[3.0])]);
    let index = ("model.safetensors.index.json", INDEX.as_bytes());
    let dir = folder(&[index, ("x-1.safetensors", &one), ("x-2.safetensors", &two)]);
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    assert_eq!(checkpoint.tensor("b").unwrap().to_f32().unwrap(), [3.0]);
    assert_eq!(checkpoint.files().count(), 2);
    assert_eq!(checkpoint.tensors_of(1), ["b"]);

    let message = open_error(&[index, ("x-1.safetensors", &one)]);
    assert!(
        message.contains("x-2.safetensors does not exist: model.safetensors.index.json names it"),
        "{message}"
    );
    let message = open_error(&[index, ("x-1.safetensors", &one), ("x-2.safetensors", &one)]);
    assert!(message.contains("x-2.safetensors has a bad entry for tensor a: "), "{message}");
    let message = open_error(&[index, ("x-1.safetensors", &one), ("x-2.safetensors", &vectors(&[]))]);
    assert!(message.contains("tensor b: the index says it is here, but it is in no file"), "{message}");
    let message = open_error(&[("model.safetensors.index.json", b"{\"weight_map\": ")]);
    assert!(message.contains("index.json is not usable: it is not a valid index"), "{message}");
}

#[test]
fn shards_without_an_index() {
    let dir = folder(&[
        ("part-1.safetensors", &vectors(&[("a", &[1.0])])),
        ("part-2.safetensors", &vectors(&[("b", &[2.0])])),
        ("adapter_model.safetensors", b"ignored"),
    ]);
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    assert_eq!(checkpoint.tensor("b").unwrap().to_f32().unwrap(), [2.0]);
    let message = open_error(&[("config.json", b"{}")]);
    assert!(message.contains("model.safetensors does not exist: the folder has no safetensors"), "{message}");
    let message = Checkpoint::open(Path::new("/no/such/folder")).unwrap_err().to_string();
    assert!(message.starts_with("could not list /no/such/folder: "), "{message}");
}

#[test]
fn truncated_anywhere_is_an_error_that_names_the_file() {
    let whole = vectors(&[("a", &[1.0, 2.0]), ("b", &[3.0])]);
    for length in 0..whole.len() {
        let message = open_error(&[("model.safetensors", &whole[..length])]);
        assert!(message.contains("model.safetensors is truncated: it has "), "{length}: {message}");
    }
}

fn header_error(header: &str, data: usize) -> String {
    Header::parse("f", &raw(header, data)).unwrap_err().to_string()
}

#[test]
fn bad_headers() {
    assert!(header_error("not json", 0).starts_with("f is not usable: its header is not valid"));
    assert!(header_error("[]", 0).contains("header is not valid"));
    assert!(header_error(&"[".repeat(1 << 20), 0).contains("header is not valid"));
    assert!(header_error(r#"{"a": {"dtype": "F32"}}"#, 0).contains("missing field `shape`"));
    let mut huge = u64::MAX.to_le_bytes().to_vec();
    huge.extend(b"{}");
    let message = Header::parse("f", &huge).unwrap_err().to_string();
    assert!(message.contains("probably no safetensors file"), "{message}");
    assert!(Header::parse("f", &raw("{}", 0)).unwrap().entries.is_empty());
}

#[test]
fn bad_entries() {
    let one = |dtype: &str, shape: &str, begin, end| {
        header_error(&format!("{{{}}}", entry("t", dtype, shape, begin, end)), 8)
    };
    assert!(one("F99", "[2]", 0, 8).contains("tensor t: dtype \"F99\" is unknown"));
    assert!(one("F32", "[3]", 0, 8).contains("offsets 0..8 do not fit shape [3] of F32"));
    assert!(one("F32", "[2]", 8, 0).contains("offsets 8..0 do not fit"));
    assert!(one("F4", "[3]", 0, 1).contains("do not fit shape [3] of F4"));
    assert!(one("U8", "[18446744073709551615, 2]", 0, 8).contains("do not fit"));
    assert!(one("U8", "[8]", u64::MAX - 8, u64::MAX).contains("larger than this machine can address"));
    assert!(one("F32", "[1,1,1,1,1,1,1,1,2]", 0, 8).contains("9 dimensions"));
    assert!(one("F32", "[1]", 0, 4).contains("4 bytes at its end belong to no tensor"));
    assert!(one("F32", "[-1]", 0, 4).contains("header is not valid"));

    let two = |a: String, b: String| header_error(&format!("{{{a},{b}}}"), 12);
    let (a, b) = (entry("a", "F32", "[2]", 0, 8), entry("b", "F32", "[2]", 4, 12));
    assert!(two(a.clone(), b).contains("tensor b: its data overlaps the tensor before it"));
    assert!(two(a.clone(), entry("b", "U8", "[3]", 9, 12)).contains("tensor b: its data leaves a hole"));
    assert!(two(a.clone(), a).contains("tensor a: it is listed twice"));
}

#[test]
fn empty_tensors_and_metadata_are_fine() {
    let header = format!(
        r#"{{"__metadata__": {{"format": "pt"}}, {}, {}}}"#,
        entry("empty", "F32", "[0, 4]", 0, 0),
        entry("scalar", "U8", "[]", 0, 1)
    );
    let header = Header::parse("f", &raw(&header, 1)).unwrap();
    assert_eq!(header.entries.len(), 2);
}

#[test]
fn matrices_must_be_matrices() {
    let header = format!(
        "{{{}, {}, {}}}",
        entry("flat.weight", "F32", "[2]", 0, 8),
        entry("ints.weight", "I8", "[2, 2]", 8, 12),
        entry("good.weight", "U16", "[1, 2]", 12, 16).replace("U16", "BF16")
    );
    let dir = folder(&[("model.safetensors", &raw(&header, 16))]);
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    let message = |name: &str| checkpoint.matrix(name).unwrap_err().to_string();
    assert!(message("flat").contains("flat.weight: a matrix has two dimensions, this has shape [2]"));
    assert!(message("ints").contains("tensor ints.weight in "));
    assert!(message("ints").ends_with("has dtype I8 where F32, F16 or BF16 is needed"));
    assert!(message("none").contains("tensor none.weight is missing"));
    let matrix = checkpoint.matrix("good").unwrap();
    assert!(matches!(matrix, MatrixView::Dense(_)));
    matrix.expect_shape(1, 2).unwrap();
    assert!(matrix.expect_shape(2, 1).unwrap_err().to_string().contains("shape [1, 2]"));
}

#[test]
fn an_embedded_model_gives_the_same_as_a_folder() {
    let weights: &'static [u8] = vectors(&[("a", &[1.0, 2.0])]).leak();
    let config: &'static [u8] = br#"{"model_type": "x", "eos_token_id": 5}"#;
    let files: &'static [_] = vec![("config.json", config), ("model.safetensors", weights)].leak();
    let embedded = ModelFiles::Embedded { name: "tiny", files };
    let dir = folder(&[("config.json", config), ("model.safetensors", weights)]);
    for model in [embedded.clone(), ModelFiles::Folder(dir.path().into())] {
        assert_eq!(model.config().unwrap().model_type().unwrap(), "x");
        assert_eq!(model.generation_config().unwrap().eos_token_ids, [5]);
        assert_eq!(model.read_text("config.json").unwrap().unwrap().as_bytes(), config);
        assert_eq!(model.read_text("nothing").unwrap(), None);
        let checkpoint = model.checkpoint().unwrap();
        assert_eq!(checkpoint.tensor("a").unwrap().to_f32().unwrap(), [1.0, 2.0]);
        checkpoint.release("a");
    }
    let message = embedded.checkpoint().unwrap().tensor("b").unwrap_err().to_string();
    assert!(message.starts_with("tensor b is missing from embedded:tiny"), "{message}");
    let empty = ModelFiles::Folder(dir.path().join("no"));
    assert!(empty.config().unwrap_err().to_string().contains("no/config.json does not exist"));
}

/// Resident memory of the model's pages falls when they are released.
#[cfg(target_os = "linux")]
#[test]
fn released_pages_leave_memory() {
    let values = vec![1.0f32; 4 << 20];
    let dir = folder(&[("model.safetensors", &vectors(&[("a", &values)]))]);
    drop(values);
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    let tensor = checkpoint.tensor("a").unwrap();
    assert!(tensor.bytes.iter().map(|&b| u64::from(b)).sum::<u64>() > 0);
    let before = resident_of(dir.path());
    checkpoint.release("a");
    let after = resident_of(dir.path());
    assert!(before >= 15 << 10, "{before} KiB are resident after reading");
    assert!(after < 1 << 10, "{after} KiB are still resident");
}

/// KiB of this process's mapping of the file under `folder`, from /proc/self/smaps.
#[cfg(target_os = "linux")]
fn resident_of(folder: &Path) -> u64 {
    let smaps = fs::read_to_string("/proc/self/smaps").unwrap();
    let mapping = smaps.split_once(folder.to_str().unwrap()).unwrap().1;
    let rss = mapping.lines().find_map(|l| l.strip_prefix("Rss:")).unwrap();
    rss.trim().trim_end_matches("kB").trim().parse().unwrap()
}
