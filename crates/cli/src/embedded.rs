//! The models compiled into this program, so that one file serves without a network.

use millrace_weights::ModelFiles;

/// The name that the demo model answers to.
pub(crate) const DEMO_NAME: &str = "millrace-demo";

/// What is said wherever nobody has named a model.
pub(crate) const DEMO_NOTICE: &str = "no model was named: this is the built-in demo (36 million parameters), good for trying things out and often wrong";

/// The files of a model in `models/`.
macro_rules! embed {
    ($folder:literal: $($file:literal),+) => {
        &[$(($file, include_bytes!(concat!("../../../models/", $folder, "/", $file)))),+]
    };
}

/// What answers when no model is named.
pub(crate) fn demo() -> ModelFiles {
    ModelFiles::Embedded {
        name: DEMO_NAME,
        files: embed!("demo": "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
            "model.safetensors"),
    }
}
