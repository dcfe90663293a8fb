//! Tokenizers for tests: the demo model's, and tiny ones of other kinds.

// Each test binary uses its own part of this; a helper that can't go on fails its test.
#![allow(dead_code, clippy::unwrap_used, clippy::needless_pass_by_value)]

use std::{fs, path::Path, sync::Arc};

use millrace_text::{TextFiles, Tokenizer};
use serde_json::{Value, json};

/// The demo model's `tokenizer.json`.
pub(crate) fn demo_json() -> Vec<u8> {
    fs::read(demo_folder().join("tokenizer.json")).unwrap()
}

/// The demo model's folder in the repository.
pub(crate) fn demo_folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/demo"))
}

/// The demo model's tokenizer.
pub(crate) fn demo() -> Arc<Tokenizer> {
    let files = TextFiles::from_folder(demo_folder()).unwrap();
    Arc::new(Tokenizer::from_files(&files).unwrap())
}

/// A tokenizer from the contents of its files.
pub(crate) fn tokenizer(json: &Value, config: Option<&Value>) -> Arc<Tokenizer> {
    let config = config.map(Value::to_string);
    let files =
        TextFiles::from_bytes(json.to_string().into_bytes(), config.as_deref().map(str::as_bytes), None)
            .unwrap();
    Arc::new(Tokenizer::from_files(&files).unwrap())
}

/// Words in the vocabularies below, in SentencePiece's spelling.
pub(crate) const WORDS: [&str; 10] = ["▁", "▁▁", "▁Hello", "Hello", "▁world", "s", "▁é", "你", ".", "▁a▁b"];

/// As in Llama 2 and Mistral: byte tokens, one leading space of the text removed. Ids: `<unk>` `<s>` `</s>`, 256 byte
/// tokens, [`WORDS`].
pub(crate) fn sentencepiece_json() -> Value {
    spm(json!({"type": "Sequence", "decoders": [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0},
    ]}))
}

/// As in T5: a `Metaspace` decoder.
pub(crate) fn metaspace_json(prepend_scheme: &str) -> Value {
    spm(json!({"type": "Sequence", "decoders": [
        {"type": "ByteFallback"},
        {"type": "Metaspace", "replacement": "▁", "prepend_scheme": prepend_scheme, "split": true},
        {"type": "Fuse"},
    ]}))
}

/// As in BERT.
pub(crate) fn wordpiece_json() -> Value {
    base(
        json!({"type": "WordPiece", "prefix": "##", "cleanup": false}),
        json!({"type": "WordLevel", "unk_token": "[UNK]",
               "vocab": {"[UNK]": 0, "hello": 1, "##s": 2, "world": 3, "</s>": 4}}),
        &[(4, "</s>")],
    )
}

fn spm(decoder: Value) -> Value {
    let bytes = (0..=255u8).map(|byte| format!("<0x{byte:02X}>"));
    let names = ["<unk>", "<s>", "</s>"].map(String::from).into_iter().chain(bytes);
    let names = names.chain(WORDS.map(String::from));
    let vocab: Vec<Value> = names.map(|name| json!([name, -1.0])).collect();
    base(
        decoder,
        json!({"type": "Unigram", "unk_id": 0, "byte_fallback": true, "vocab": vocab}),
        &[(0, "<unk>"), (1, "<s>"), (2, "</s>")],
    )
}

fn base(decoder: Value, model: Value, special: &[(u32, &str)]) -> Value {
    let added: Vec<Value> = special
        .iter()
        .map(|(id, content)| {
            json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                   "normalized": false, "special": true})
        })
        .collect();
    json!({
        "version": "1.0", "truncation": {"max_length": 3, "stride": 0, "strategy": "LongestFirst", "direction": "Right"},
        "padding": null, "added_tokens": added, "normalizer": null,
        "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": true},
        "post_processor": {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "</s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": {"</s>": {"id": "</s>", "ids": [special.last().unwrap().0], "tokens": ["</s>"]}}},
        "decoder": decoder, "model": model,
    })
}
