//! Which files of a repository are needed to serve it.

use std::path::Path;

use super::name::ModelId;
use crate::files::read_limited;
use crate::local::{INDEX, SINGLE, parse_index, pick_loose};
use crate::{Result, WeightsError};

/// The files to fetch: small ones now, weights when the index (one of the small ones) is there.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) small: Vec<String>,
    weights: Weights,
}

#[derive(Debug, PartialEq, Eq)]
enum Weights {
    Named(Vec<String>),
    Indexed,
}

/// Chooses among the file names of a repository. Files in folders (other formats, other precisions, training state)
/// are left alone, but for the modules of sentence-transformers.
pub(crate) fn choose(model: &ModelId, files: &[String]) -> Result<Plan> {
    let top: Vec<&str> = files.iter().map(String::as_str).filter(|f| !f.contains('/')).collect();
    let unsuitable = |problem| Err(WeightsError::Unsuitable { model: model.to_string(), problem });
    if !top.contains(&"config.json") {
        return unsuitable("it has no config.json, so it is not a model in Hugging Face layout");
    }
    let weights = if top.contains(&SINGLE) {
        Weights::Named(vec![SINGLE.into()])
    } else if top.contains(&INDEX) {
        Weights::Indexed
    } else {
        Weights::Named(pick_loose(&top))
    };
    if weights == Weights::Named(Vec::new()) {
        return unsuitable(
            "it has no safetensors weights; look for a repository of the same model that has them",
        );
    }
    let modules = files.iter().map(String::as_str).filter(|f| is_module(f));
    let small = top.into_iter().filter(|f| is_small(f)).chain(modules);
    Ok(Plan { small: small.map(String::from).collect(), weights })
}

/// Configuration, tokenizer and chat template files.
fn is_small(file: &str) -> bool {
    let extension = file.rsplit_once('.').map(|(_, extension)| extension);
    matches!(extension, Some("json" | "jinja"))
        || matches!(file, "tokenizer.model" | "merges.txt" | "vocab.txt")
}

/// Settings and weights of a module of sentence-transformers, whose folder begins with a number: `1_Pooling`.
fn is_module(file: &str) -> bool {
    let Some((folder, name)) = file.split_once('/') else { return false };
    let is_numbered = folder.split_once('_').is_some_and(|(number, _)| number.parse::<u8>().is_ok());
    is_numbered && matches!(name, "config.json" | SINGLE)
}

impl Plan {
    /// The weights files, by the index in `snapshot` if there is one.
    pub(crate) fn weights(&self, snapshot: &Path) -> Result<Vec<String>> {
        match &self.weights {
            Weights::Named(files) => Ok(files.clone()),
            Weights::Indexed => {
                let path = snapshot.join(INDEX);
                let json = read_limited(&path)?.unwrap_or_default();
                Ok(parse_index(&path.display().to_string(), &json)?.files)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(files: &[&str]) -> Result<Plan> {
        let files: Vec<String> = files.iter().map(|f| (*f).to_owned()).collect();
        choose(&ModelId::parse("a/b").unwrap(), &files)
    }

    #[test]
    fn only_what_serving_needs() {
        let chosen = plan(&[
            ".gitattributes",
            "README.md",
            "config.json",
            "chat_template.jinja",
            "merges.txt",
            "model.gguf",
            "model.safetensors",
            "onnx/model.onnx",
            "original/params.json",
            "pytorch_model.bin",
            "tokenizer.model",
        ])
        .unwrap();
        assert_eq!(chosen.small, ["config.json", "chat_template.jinja", "merges.txt", "tokenizer.model"]);
        assert_eq!(chosen.weights(Path::new("")).unwrap(), ["model.safetensors"]);
        let modules = ["1_Pooling/config.json", "2_Dense/model.safetensors"];
        let others = ["2_Dense/pytorch_model.bin", "onnx/config.json", "1_x/2_y/config.json"];
        let chosen = plan(&[&["config.json", SINGLE], &modules[..], &others[..]].concat()).unwrap();
        assert_eq!(chosen.small[1..], modules);
        let loose = plan(&["config.json", "consolidated.safetensors", "b.safetensors"]).unwrap();
        assert_eq!(loose.weights(Path::new("")).unwrap(), ["b.safetensors"]);
    }

    #[test]
    fn repositories_that_cannot_be_served() {
        let message = |files: &[&str]| plan(files).unwrap_err().to_string();
        assert!(message(&["model.safetensors"]).starts_with("a/b can't be used: it has no config.json"));
        assert!(message(&["config.json", "model.gguf"]).contains("no safetensors weights"));
    }
}
