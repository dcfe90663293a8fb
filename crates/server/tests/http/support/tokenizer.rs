//! A tokenizer whose tokens are bytes, made in code: token `b` is the byte `b`.

use std::sync::Arc;

use millrace_text::{ChatTemplate, TextFiles, Tokenizer};
use serde_json::{Map, Value, json};

/// End of sequence: special, so it has no text.
pub(crate) const EOS: u32 = 256;
/// `<special>`.
pub(crate) const SPECIAL: u32 = 257;
/// `<beyond>`: a token that the tokenizer knows and the model doesn't.
const BEYOND: u32 = 258;
/// `<|python_tag|>`: a special token that Llama's calls are marked with.
pub(crate) const PYTHON_TAG: u32 = 259;
/// What the model knows: 256 bytes and two special tokens.
pub(crate) const VOCAB_SIZE: usize = 258;

/// Shows all that a template gets.
pub(crate) const TEMPLATE: &str = "{%- if tools %}[{{ tools | length }} tools]{% endif -%}\
    {%- if enable_thinking is defined and not enable_thinking %}[no thinking]{% endif -%}\
    {%- for m in messages -%}\
    {%- if m.role == 'refused' %}{{ raise_exception('no such role') }}{% endif -%}\
    <{{ m.role }}>{{ m.content }}{% if not loop.last or add_generation_prompt %};{% endif -%}\
    {%- endfor -%}\
    {%- if add_generation_prompt %}<assistant>{% endif -%}";

/// Tokens around a gap, of a tokenizer that has them: prefix, suffix, middle.
pub(crate) const FILL: [u32; 3] = [260, 261, 262];

/// The byte tokenizer.
pub(crate) fn tokenizer() -> Arc<Tokenizer> {
    Arc::new(Tokenizer::from_files(&files(&[])).unwrap())
}

/// The same with tokens for filling in the middle.
pub(crate) fn filling_tokenizer() -> Arc<Tokenizer> {
    let names = ["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"];
    Arc::new(Tokenizer::from_files(&files(&names)).unwrap())
}

/// The same with the marks of gpt-oss' format: `<|channel|>` is token 260, then `<|message|>`, `<|end|>`, `<|start|>`.
pub(crate) fn harmony_tokenizer() -> Arc<Tokenizer> {
    let names = ["<|channel|>", "<|message|>", "<|end|>", "<|start|>"];
    Arc::new(Tokenizer::from_files(&files(&names)).unwrap())
}

/// A template for it.
pub(crate) fn template(source: &str) -> Arc<ChatTemplate> {
    Arc::new(ChatTemplate::from_source(source, &files(&[])).unwrap())
}

/// The files of a tokenizer, with further special tokens from 260 on.
fn files(more: &[&str]) -> TextFiles {
    let vocab: Map<String, Value> = (0..=255u8).map(|b| (stand_in(b).to_string(), json!(b))).collect();
    let special = |id: u32, content: &str| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
               "normalized": false, "special": true})
    };
    let mut added = vec![
        special(EOS, "<eos>"),
        special(SPECIAL, "<special>"),
        special(BEYOND, "<beyond>"),
        special(PYTHON_TAG, "<|python_tag|>"),
    ];
    added.extend((FILL[0]..).zip(more).map(|(id, name)| special(id, name)));
    let json = json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": added,
        "normalizer": null,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
        "post_processor": null,
        "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                  "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
                  "vocab": vocab, "merges": []},
    });
    TextFiles::from_bytes(json.to_string().into_bytes(), None, None).unwrap()
}

/// GPT-2's printable character for a byte.
fn stand_in(byte: u8) -> char {
    let printable = |b: u8| matches!(b, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
    if printable(byte) {
        return byte as char;
    }
    let before = (0..byte).filter(|b| !printable(*b)).count() as u32;
    char::from_u32(0x100 + before).unwrap()
}
