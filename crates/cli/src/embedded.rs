//! The models compiled into this program, so that one file serves without a network.

use millrace_weights::ModelFiles;

/// The name that the demo model answers to.
pub(crate) const DEMO_NAME: &str = "millrace-demo";

/// What is said wherever nobody has named a model.
pub(crate) const DEMO_NOTICE: &str = "no model was named: this is the built-in demo (36 million parameters), good for trying things out and often wrong";

/// Names and contents of a model's files.
type Files = [(&'static str, &'static [u8]); 5];

/// The files of a model in `models/`.
macro_rules! embed {
    ($folder:literal: $($file:literal),+) => {
        [$(($file, include_bytes!(concat!("../../../models/", $folder, "/", $file)))),+]
    };
}

// Not constants: those would be in the program once for every use.
static DEMO_FILES: Files = embed!("demo": "config.json", "generation_config.json", "tokenizer.json",
    "tokenizer_config.json", "model.safetensors");
static DRAFT_FILES: Files = embed!("demo-draft": "config.json", "generation_config.json", "tokenizer.json",
    "tokenizer_config.json", "model.safetensors");

/// What answers when no model is named.
pub(crate) const DEMO: ModelFiles = ModelFiles::Embedded { name: DEMO_NAME, files: &DEMO_FILES };

/// The demo's small companion with the same tokenizer (4.5 million parameters): to be served by name.
const DRAFT: ModelFiles = ModelFiles::Embedded { name: "millrace-demo-draft", files: &DRAFT_FILES };

/// The built-in model of this name. A folder of that name is written `./NAME`.
pub(crate) fn find(name: &str) -> Option<ModelFiles> {
    [DEMO, DRAFT]
        .into_iter()
        .find(|files| matches!(files, ModelFiles::Embedded { name: own, .. } if *own == name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_models_are_found_by_name_and_whole() {
        for name in [DEMO_NAME, "millrace-demo-draft"] {
            assert!(find(name).unwrap().checkpoint().unwrap().names().count() > 40, "{name}");
        }
        assert!(find("demo").is_none());
    }
}
