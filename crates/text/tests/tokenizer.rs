//! Tokenizers against the `tokenizers` crate's own decoding, and streams against whole texts.

// Helpers that can't go on fail their test.
#![allow(clippy::unwrap_used, clippy::needless_pass_by_value)]

mod common;

use std::{fs, sync::Arc};

use common::*;
use millrace_text::{Detokenizer, TextError, TextFiles, Tokenizer};
use proptest::prelude::*;
use serde_json::{Value, json};

fn stream(mut detokenizer: Detokenizer, ids: &[u32]) -> String {
    let mut text: String = ids.iter().map(|id| detokenizer.push(*id)).collect();
    text.push_str(&detokenizer.finish());
    text
}

/// Tokens of any kind: random ones, ids out of range, and runs that spell a text byte by byte.
fn ids(vocab: u32, byte_tokens: Option<u32>) -> BoxedStrategy<Vec<u32>> {
    let any = prop::collection::vec(0..vocab + 3, 0..8);
    let Some(first) = byte_tokens else { return any.boxed() };
    let spelled =
        "[a你🙂é ]{0,4}".prop_map(move |text| text.bytes().map(|byte| first + u32::from(byte)).collect());
    prop::collection::vec(prop_oneof![any, spelled], 0..6)
        .prop_map(|runs: Vec<Vec<u32>>| runs.concat())
        .boxed()
}

/// Whether every run of byte tokens is UTF-8: elsewhere the `tokenizers` crate gives up the valid bytes, too.
fn byte_runs_are_utf8(ids: &[u32]) -> bool {
    let byte = |id: &u32| id.checked_sub(3).and_then(|byte| u8::try_from(byte).ok());
    ids.split(|id| byte(id).is_none()).all(|run| {
        let bytes: Vec<u8> = run.iter().filter_map(byte).collect();
        std::str::from_utf8(&bytes).is_ok()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn sentencepiece_streams_equal_the_whole(
        kind in 0..4usize,
        ids in ids(269, Some(3)),
        skip in any::<bool>(),
    ) {
        let json = match kind {
            0 => sentencepiece_json(),
            1 => metaspace_json("always"),
            2 => metaspace_json("first"),
            _ => metaspace_json("never"),
        };
        let ours = tokenizer(&json, None);
        let whole = ours.decode(&ids, skip);
        prop_assert_eq!(&stream(Detokenizer::new(ours, skip), &ids), &whole);
        let seen: Vec<u32> = ids.iter().copied().filter(|id| *id < 269 && !(skip && *id < 3)).collect();
        if byte_runs_are_utf8(&seen) {
            let theirs: tokenizers::Tokenizer = serde_json::from_value(json).unwrap();
            prop_assert_eq!(whole, theirs.decode(&ids, skip).unwrap());
        }
    }

    #[test]
    fn wordpiece_streams_equal_the_whole(ids in ids(5, None), skip in any::<bool>()) {
        let ours = tokenizer(&wordpiece_json(), None);
        let theirs: tokenizers::Tokenizer = serde_json::from_value(wordpiece_json()).unwrap();
        let whole = ours.decode(&ids, skip);
        prop_assert_eq!(&stream(Detokenizer::new(ours, skip), &ids), &whole);
        prop_assert_eq!(whole, theirs.decode(&ids, skip).unwrap());
    }
}

#[test]
fn byte_level_streams_equal_the_whole_for_any_tokens() {
    let ours = demo();
    let theirs = tokenizers::Tokenizer::from_bytes(demo_json()).unwrap();
    let vocab = u32::try_from(ours.vocab_size()).unwrap();
    // Tokens that are no whole character come up too rarely by chance.
    let broken: Vec<u32> =
        (0..vocab).filter(|id| std::str::from_utf8(ours.token_bytes(*id)).is_err()).collect();
    assert!(broken.len() > 64);
    let token = prop_oneof![0..vocab + 3, prop::sample::select(broken), vocab - 12..vocab];
    let case = (prop::collection::vec(token, 0..24), any::<bool>());
    proptest!(ProptestConfig::with_cases(3000), |((ids, skip) in case)| {
        let whole = ours.decode(&ids, skip);
        prop_assert_eq!(&stream(Detokenizer::new(Arc::clone(&ours), skip), &ids), &whole);
        prop_assert_eq!(whole, theirs.decode(&ids, skip).unwrap());
    });
}

#[test]
fn any_text_survives_the_demo_tokenizer() {
    let ours = demo();
    // Composed characters only: the tokenizer's normalizer composes the others.
    let text = "[ -~]{0,40}|[ \n\t\r]{0,9}|([ -~]|你|🙂|é|ß|\u{a0}|\n| |<think>){0,30}";
    proptest!(ProptestConfig::with_cases(500), |(text in text)| {
        let ids = ours.encode(&text, false).unwrap();
        prop_assert_eq!(&ours.decode(&ids, false), &text);
        let bytes: Vec<u8> = ids.iter().flat_map(|id| ours.token_bytes(*id)).copied().collect();
        prop_assert_eq!(bytes, text.as_bytes());
    });
}

#[test]
fn the_evaluation_texts_survive_and_count_as_recorded() {
    let ours = demo();
    let lines = fs::read_to_string(demo_folder().join("eval.jsonl")).unwrap();
    let mut checked = 0;
    for line in lines.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let expected = line["expected"].as_str().unwrap();
        let ids = ours.encode(expected, false).unwrap();
        assert_eq!(ours.decode(&ids, false), expected);
        assert_eq!(stream(Detokenizer::new(Arc::clone(&ours), false), &ids), expected);
        checked += 1;
    }
    assert!(checked > 200);
}

#[test]
fn text_is_released_with_the_token_that_completes_a_character() {
    let ours = tokenizer(&sentencepiece_json(), None);
    let mut detokenizer = Detokenizer::new(ours, true);
    let deltas: Vec<String> = "é🙂".bytes().map(|byte| detokenizer.push(3 + u32::from(byte))).collect();
    assert_eq!(deltas, ["", "é", "", "", "", "🙂"]);
    assert_eq!(detokenizer.push(3 + 0xf0), "");
    assert_eq!(detokenizer.finish(), "\u{fffd}");
    assert_eq!(detokenizer.finish(), "");
}

#[test]
fn a_leading_space_counts_only_after_a_prompt() {
    let ours = tokenizer(&sentencepiece_json(), None);
    let hello = ours.token_to_id("▁Hello").unwrap();
    assert_eq!(ours.decode(&[hello, hello], true), "Hello Hello");
    let mut after = Detokenizer::after_prompt(Arc::clone(&ours), true, &[1, hello]);
    assert_eq!(after.push(hello), " Hello");
    let mut after_nothing = Detokenizer::after_prompt(Arc::clone(&ours), true, &[]);
    assert_eq!(after_nothing.push(hello), "Hello");
    let long: Vec<u32> = vec![hello; 50];
    assert_eq!(Detokenizer::after_prompt(ours, true, &long).push(hello), " Hello");
}

#[test]
fn a_character_that_the_prompt_begins_is_completed() {
    let ours = tokenizer(&sentencepiece_json(), None);
    let bytes: Vec<u32> = "🙂".bytes().map(|byte| 3 + u32::from(byte)).collect();
    let mut detokenizer = Detokenizer::after_prompt(ours, true, &bytes[..2]);
    assert_eq!((detokenizer.push(bytes[2]), detokenizer.push(bytes[3])), (String::new(), "🙂".into()));
}

#[test]
fn special_tokens_are_known_and_skipped() {
    let ours = demo();
    let end = ours.token_to_id("<|im_end|>").unwrap();
    let think = ours.token_to_id("<think>").unwrap();
    assert!(ours.is_special(end) && !ours.is_special(think) && !ours.is_special(u32::MAX));
    let ids = ours.encode("a<|im_end|><think>b", false).unwrap();
    assert_eq!(ours.decode(&ids, true), "a<think>b");
    assert_eq!(ours.decode(&ids, false), "a<|im_end|><think>b");
    assert_eq!(ours.id_to_token(end).as_deref(), Some("<|im_end|>"));
    assert_eq!(ours.token_bytes(u32::MAX), b"");
    assert_eq!(ours.vocab_size(), 8192);
}

#[test]
fn the_configuration_says_what_stands_around_a_text() {
    let names = json!({"bos_token": "<s>", "eos_token": {"content": "</s>"}});
    let with = |flags: Value| {
        let mut config = names.clone();
        config.as_object_mut().unwrap().extend(flags.as_object().unwrap().clone());
        tokenizer(&sentencepiece_json(), Some(&config)).encode("Hello", true).unwrap()
    };
    let word = tokenizer(&sentencepiece_json(), None).encode("Hello", false).unwrap();
    let framed = |before: &[u32], after: &[u32]| [before, &word, after].concat();
    assert_eq!(with(json!({})), framed(&[2], &[]), "the post-processor's");
    assert_eq!(with(json!({"add_bos_token": true})), framed(&[1], &[]));
    assert_eq!(with(json!({"add_bos_token": true, "add_eos_token": true})), framed(&[1], &[2]));
    assert_eq!(with(json!({"add_bos_token": false})), word);
}

#[test]
fn the_configuration_adds_tokens_and_makes_them_special() {
    let config = json!({
        "added_tokens_decoder": {"259": {"content": "▁", "special": true}},
        "additional_special_tokens": ["▁▁", "not in the vocabulary"],
    });
    let ours = tokenizer(&sentencepiece_json(), Some(&config));
    assert!(ours.is_special(259) && ours.is_special(260) && !ours.is_special(261));
    assert_eq!(ours.vocab_size(), 269, "no ids that the model has no row for");
}

#[test]
fn truncation_left_from_training_is_off() {
    let ours = tokenizer(&sentencepiece_json(), None);
    assert!(ours.encode("Hello world Hello world", false).unwrap().len() > 3);
}

#[test]
fn too_long_a_text_is_refused_with_a_lower_bound() {
    let ours = demo();
    let huge = "word ".repeat(100_000);
    match ours.encode_within(&huge, false, 100) {
        Err(error @ TextError::TooLong { at_least, limit: 100 }) => {
            assert!(error.is_bad_request());
            assert!(at_least > 100 && at_least <= ours.encode(&huge, false).unwrap().len());
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(ours.encode_within("a b c", false, 1), Err(TextError::TooLong { .. })));
    assert!(ours.encode_within("a", false, 1).is_ok());
}

#[test]
fn hostile_texts_are_tokenized_in_bounded_time() {
    let ours = demo();
    for text in [
        " ".repeat(400_000),
        "a".repeat(400_000),
        "\n".repeat(400_000),
        "'".repeat(400_000),
        "é你🙂".repeat(50_000),
    ] {
        let ids = ours.encode(&text, false).unwrap();
        assert!(ours.decode(&ids, false) == text);
    }
}

#[test]
fn a_folder_is_read_with_all_its_files() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    assert!(
        matches!(TextFiles::from_folder(folder.path()), Err(TextError::Read { path, .. }) if path.ends_with("tokenizer.json"))
    );
    write("tokenizer.json", &sentencepiece_json().to_string());
    write(
        "tokenizer_config.json",
        r#"{"bos_token": null, "eos_token": "</s>", "chat_template": "from config"}"#,
    );
    write("special_tokens_map.json", r#"{"bos_token": {"content": "<s>"}, "eos_token": "<unk>"}"#);
    let files = TextFiles::from_folder(folder.path()).unwrap();
    assert_eq!(
        (files.special_token("bos_token"), files.special_token("eos_token")),
        (Some("<s>"), Some("</s>"))
    );
    assert_eq!(render(&files), "from config");
    write("chat_template.jinja", "from file");
    assert_eq!(render(&TextFiles::from_folder(folder.path()).unwrap()), "from file");
}

fn render(files: &TextFiles) -> String {
    let template = millrace_text::ChatTemplate::from_files(files).unwrap().unwrap();
    let messages = [json!({"role": "user", "content": "Hi"})];
    template.render(&millrace_text::TemplateInput { messages: &messages, ..Default::default() }).unwrap()
}

#[test]
fn broken_files_are_named() {
    for (tokenizer_json, config, name) in [
        ("{}", None, "tokenizer.json"),
        ("nonsense", None, "tokenizer.json"),
        ("{}", Some("[1]"), "tokenizer_config.json"),
    ] {
        let files = TextFiles::from_bytes(tokenizer_json.as_bytes(), config.map(str::as_bytes), None);
        let error = files.and_then(|files| Tokenizer::from_files(&files)).unwrap_err();
        assert!(!error.is_bad_request());
        assert!(error.to_string().contains(name), "{error}");
    }
}

/// As in BERT: `[CLS] A [SEP] B [SEP]`, types 0 and 1.
fn bert() -> Value {
    let special = |id: &str, kind: u32| json!({"SpecialToken": {"id": id, "type_id": kind}});
    let text = |id: &str, kind: u32| json!({"Sequence": {"id": id, "type_id": kind}});
    let mut json = wordpiece_json();
    json["model"]["vocab"]["[CLS]"] = json!(5);
    json["post_processor"] = json!({
        "type": "TemplateProcessing",
        "single": [special("[CLS]", 0), text("A", 0), special("</s>", 0)],
        "pair": [special("[CLS]", 0), text("A", 0), special("</s>", 0), text("B", 1), special("</s>", 1)],
        "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [5], "tokens": ["[CLS]"]},
                           "</s>": {"id": "</s>", "ids": [4], "tokens": ["</s>"]}},
    });
    json["pre_tokenizer"] = json!({"type": "Whitespace"});
    json
}

#[test]
fn whole_texts_and_pairs_are_cut_between_their_special_tokens() {
    let whole = |first: &str, second: Option<&str>, special: bool, most: Option<usize>| {
        let text = tokenizer(&bert(), None).encode_whole(first, second, special, most).unwrap();
        (text.tokens, text.second)
    };
    assert_eq!(whole("hello world", None, true, None), (vec![5, 1, 3, 4], None));
    assert_eq!(whole("hello world", None, false, None), (vec![1, 3], None));
    assert_eq!(whole("hello", Some("world world"), true, None), (vec![5, 1, 4, 3, 3, 4], Some(3)));
    assert_eq!(whole("hello world", None, true, Some(3)), (vec![5, 1, 4], None));
    assert_eq!(whole("hello world", None, false, Some(1)), (vec![1], None));
    // The longer one is cut first.
    assert_eq!(whole("hello", Some("world hello world"), true, Some(5)), (vec![5, 1, 4, 3, 4], Some(3)));
    let error = tokenizer(&bert(), None).encode_whole("hello", None, true, Some(1)).unwrap_err();
    assert!(error.is_bad_request() && error.to_string().contains("no room"), "{error}");
}

#[test]
fn a_configuration_that_adds_nothing_leaves_the_post_processor_alone() {
    let none = json!({"add_bos_token": false, "add_eos_token": false});
    let text = tokenizer(&bert(), Some(&none)).encode_whole("hello", None, true, None).unwrap();
    assert_eq!(text.tokens, [5, 1, 4]);
    let eos = json!({"add_eos_token": true, "eos_token": "</s>"});
    let text = tokenizer(&bert(), Some(&eos)).encode_whole("hello", None, true, Some(2)).unwrap();
    assert_eq!(text.tokens, [1, 4]);
}
