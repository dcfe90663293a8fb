//! What must hold for any input, as functions over bytes: a fuzzer calls them with bytes that it makes up (`fuzz/` at
//! the root of the repository), and a test with those that are kept there.
//!
//! Requests go through the whole server except for the engine, in whose place something answers that checks what it is
//! asked for. A target panics if something doesn't hold.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a target fails")]

mod answers;
mod asked;
mod engine;
mod files;
mod formats;
mod input;
mod models;
mod mutate;
mod outputs;
mod refusals;
mod requests;
mod server;
mod stream;

pub use mutate::mutate;

/// Something to fuzz.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, which is that of its folder of seeds too.
    pub name: &'static str,
    /// Checks one input. False: there is nothing to learn from it.
    pub check: fn(&[u8]) -> bool,
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target { name: "chat", check: requests::chat },
    Target { name: "completions", check: requests::completions },
    Target { name: "responses", check: requests::responses },
    Target { name: "messages", check: requests::messages },
    Target { name: "ollama", check: requests::ollama },
    Target { name: "embeddings", check: requests::embeddings },
    Target { name: "scores", check: requests::scores },
    Target { name: "classes", check: requests::classes },
    Target { name: "tokens", check: requests::tokens },
    Target { name: "batches", check: requests::batches },
    Target { name: "uploads", check: requests::uploads },
    Target { name: "batch_lines", check: files::batch_lines },
    Target { name: "formats", check: formats::formats },
    Target { name: "outputs", check: outputs::outputs },
    Target { name: "templates", check: outputs::templates },
    Target { name: "pdf", check: files::pdf },
    Target { name: "safetensors", check: files::safetensors },
    Target { name: "config", check: files::config },
];

/// Runs the target of this name.
///
/// # Panics
/// If there is none, or if something doesn't hold.
pub fn run(name: &str, input: &[u8]) -> bool {
    let target = TARGETS.iter().find(|target| target.name == name);
    (target.expect("the target is in the list").check)(input)
}
