//! Which files of a folder hold its weights.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::files::read_limited;
use crate::{Result, WeightsError};

/// The usual name of a single weights file.
pub(crate) const SINGLE: &str = "model.safetensors";
/// The usual name of the list of tensors of a sharded model.
pub(crate) const INDEX: &str = "model.safetensors.index.json";
/// No real model has more shards; bounds what a hostile index can make us open.
const MAX_SHARDS: usize = 2048;

/// The files of a model's weights, and where each tensor should be if an index says so.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ShardList {
    pub(crate) files: Vec<String>,
    /// (tensor, file) as the index has it; empty without one.
    pub(crate) expected: Vec<(String, String)>,
}

/// Looks for `model.safetensors`, then an index, then any safetensors file.
pub(crate) fn find_shards(folder: &Path) -> Result<ShardList> {
    if folder.join(SINGLE).exists() {
        return Ok(ShardList { files: vec![SINGLE.into()], expected: Vec::new() });
    }
    let index = folder.join(INDEX);
    if let Some(json) = read_limited(&index)? {
        return parse_index(&index.display().to_string(), &json);
    }
    let listing = std::fs::read_dir(folder).map_err(WeightsError::io("list", folder))?;
    let names: Vec<String> = listing.filter_map(|e| e.ok()?.file_name().into_string().ok()).collect();
    let files = pick_loose(&names);
    if files.is_empty() {
        return Err(WeightsError::Missing {
            path: folder.join(SINGLE),
            hint: "the folder has no safetensors weights; download or convert them".into(),
        });
    }
    Ok(ShardList { files, expected: Vec::new() })
}

/// Safetensors files without an index: all but adapters, and but `consolidated*` (the same weights under other
/// names) where there is something else.
pub(crate) fn pick_loose<S: AsRef<str>>(names: &[S]) -> Vec<String> {
    let (mut second_choice, mut first_choice): (Vec<String>, Vec<String>) = names
        .iter()
        .map(AsRef::as_ref)
        .filter(|n| n.ends_with(".safetensors") && !n.starts_with("adapter"))
        .map(String::from)
        .partition(|n| n.starts_with("consolidated"));
    let files = if first_choice.is_empty() { &mut second_choice } else { &mut first_choice };
    files.sort();
    std::mem::take(files)
}

/// Reads `model.safetensors.index.json`.
pub(crate) fn parse_index(file: &str, json: &[u8]) -> Result<ShardList> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: Map<String, Value>,
    }
    let bad = |problem: String| WeightsError::bad_file(file, problem);
    let index: Index =
        serde_json::from_slice(json).map_err(|e| bad(format!("it is not a valid index ({e})")))?;
    let mut expected = Vec::with_capacity(index.weight_map.len());
    let mut files = BTreeSet::new();
    for (tensor, shard) in index.weight_map {
        let shard = shard.as_str().filter(|s| is_plain_name(s));
        let Some(shard) = shard else {
            return Err(bad(format!("its entry for {tensor} is no plain file name")));
        };
        files.insert(shard.to_owned());
        expected.push((tensor, shard.to_owned()));
    }
    if files.is_empty() || files.len() > MAX_SHARDS {
        return Err(bad(format!("it names {} files, where 1 to {MAX_SHARDS} are possible", files.len())));
    }
    Ok(ShardList { files: files.into_iter().collect(), expected })
}

/// A file name that can't lead out of its folder.
pub(crate) fn is_plain_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 255
        && !matches!(name, "." | "..")
        && !name.chars().any(|c| c.is_control() || matches!(c, '/' | '\\' | ':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loose_files_are_sorted_and_twins_left_out() {
        let names =
            ["b.safetensors", "consolidated.safetensors", "a.safetensors", "adapter_model.safetensors", "x"];
        assert_eq!(pick_loose(&names), ["a.safetensors", "b.safetensors"]);
        assert_eq!(pick_loose(&names[1..2]), ["consolidated.safetensors"]);
        assert!(pick_loose(&names[3..]).is_empty());
    }

    #[test]
    fn an_index_cannot_lead_out_of_the_folder() {
        for shard in ["../x", "/etc/passwd", "a/b", "", ".", "a\\\\b", "c:x"] {
            let json = format!(r#"{{"weight_map": {{"t": "{shard}"}}}}"#);
            let message = parse_index("i", json.as_bytes()).unwrap_err().to_string();
            assert!(message.contains("entry for t is no plain file name"), "{shard}: {message}");
        }
    }

    #[test]
    fn a_corrupt_index_is_one_clear_sentence() {
        for json in
            ["", "{}", r#"{"weight_map": []}"#, r#"{"weight_map": {}}"#, r#"{"weight_map": {"a": 1}}"#]
        {
            assert!(
                parse_index("i", json.as_bytes()).unwrap_err().to_string().starts_with("i is not usable: ")
            );
        }
    }
}
