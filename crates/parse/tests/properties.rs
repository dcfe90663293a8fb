//! Whatever a model writes: no panic, the same in any pieces, nothing lost, and in time.

#![allow(clippy::unwrap_used)]

mod common;

use std::time::{Duration, Instant};

use common::formats::FORMATS;
use common::{events, parse_from, pieces};
use millrace_parse::{Event, Families, Start, reasoning_parsers, tool_parsers};
use proptest::prelude::*;
use serde_json::{Value, json};

/// Every tool-call family, each with a reasoning family, and every reasoning family alone.
fn all_families() -> Vec<Families> {
    let reasoning: Vec<&str> = reasoning_parsers().map(|(name, _)| name).collect();
    let tools = tool_parsers().enumerate();
    let mut all: Vec<Families> = tools
        .flat_map(|(i, (name, _))| {
            let other = reasoning[i % reasoning.len()];
            [Families::named(Some(name), None), Families::named(Some(name), Some(other))]
        })
        .map(Result::unwrap)
        .collect();
    all.extend(reasoning.iter().map(|name| Families::named(None, Some(name)).unwrap()));
    all
}

fn tools() -> Value {
    json!([{"name": "f", "input_schema": {"properties": {
        "s": {"type": "string"}, "n": {"type": "integer"}, "l": {"type": "array"}, "u": {}}}}])
}

const STARTS: [Start; 3] = [Start::Unknown, Start::Content, Start::Reasoning];

/// Pieces of all formats: what they write for a call, broken up at their marks.
fn fragments() -> Vec<String> {
    let calls =
        [("f", json!({"s": "a \"b\"\n{[é🤔", "n": 3, "l": [1, {"x": null}], "u": true})), ("g", json!({}))];
    let mut all: Vec<String> = Vec::new();
    for format in FORMATS {
        let text = (format.write)(&calls);
        let cut = text.split_inclusive(['>', '\n', '{', '(', '"', ':', ']']).map(str::to_owned);
        all.extend(cut);
        all.push(text);
    }
    let marks = "<think>|</think>|[THINK]|[/THINK]|<seed:think>|</seed:think>|<|channel>thought\n|<channel|>|\
        <|channel|>analysis<|message|>|<|channel|>final<|message|>|<|end|>|<|return|>|<|START_THINKING|>|\
        <|END_THINKING|>|Here is my thought process:|Here is my response:|<|begin_of_box|>|\\u00|\\ud83d|\\|'|\"\"\"|\
        , |]|}|)| |\n\n|some words |<|<tool|name|arguments|\"name\": \"f\", |\"arguments\": |null|-|1e|\u{7f}|\u{0}";
    all.extend(marks.split('|').map(str::to_owned));
    all.sort();
    all.dedup();
    all
}

/// Sequences of fragments, with characters taken out, doubled and put in.
fn outputs() -> impl Strategy<Value = String> {
    let fragment = proptest::sample::select(fragments());
    let text = prop_oneof![4 => fragment, 1 => "[ -~]{0,12}", 1 => any::<String>()];
    (
        proptest::collection::vec(text, 0..12),
        proptest::collection::vec((any::<u16>(), 0..3_u8, any::<char>()), 0..6),
    )
        .prop_map(|(parts, edits)| {
            let mut text: Vec<char> = parts.concat().chars().collect();
            for (at, edit, c) in edits {
                let at = at as usize % (text.len() + 1);
                match edit {
                    0 if at < text.len() => drop(text.remove(at)),
                    1 if at < text.len() => text.insert(at, text[at]),
                    _ => text.insert(at, c),
                }
            }
            text.into_iter().collect()
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_output_in_any_pieces(text in outputs(), seed in any::<usize>()) {
        let all = all_families();
        // All families over the run; all ways to cut would take their square.
        for step in 0..8 {
            let families = &all[(seed.wrapping_add(step * 7)) % all.len()];
            let start = STARTS[seed.wrapping_add(step) % STARTS.len()];
            let whole = parse_from(families, &tools(), &[&text], start);
            for pieces in pieces(&text).into_iter().step_by(1 + text.len() / 8) {
                prop_assert_eq!(&parse_from(families, &tools(), &pieces, start), &whole);
            }
        }
    }

    /// Text in which no family finds anything comes out as it went in.
    #[test]
    fn nothing_is_lost(words in proptest::collection::vec("[a-z0-9.,;!?'()*_#&/\n -]{1,9}", 0..40)) {
        let text = words.concat();
        for families in all_families() {
            // White space at the beginning belongs to the prompt's reasoning tag, if there may be one.
            let want = if families.reasoning().is_some() { text.trim_start() } else { &text };
            // One stands for another family's opening tag.
            prop_assume!(!text.contains("tool_code"));
            let answer = parse_from(&families, &tools(), &[&text], Start::Content);
            prop_assert_eq!(&answer.content, want, "{:?}", families);
        }
    }

    /// Behind a mark that is none, all the text comes out too.
    #[test]
    fn what_is_no_call_is_text(words in "[a-z ]{1,20}[.!]", cut in 0..100_usize) {
        for format in FORMATS.iter().filter(|format| format.name != "harmony") {
            let families = Families::named(Some(format.name), None).unwrap();
            let call = (format.write)(&[("f", json!({"s": "x"}))]);
            let mark = call.split_inclusive(['>', ']', ':']).next().unwrap();
            let mark: String = mark.chars().take(1 + cut).collect();
            // Longer than any name: a shorter one would be a call that was cut off.
            let text = format!("{mark}%{words}\n{}", "And more. ".repeat(30));
            let answer = parse_from(&families, &tools(), &[&text], Start::Content);
            if answer.calls.is_empty() {
                prop_assert_eq!(&answer.content, &text, "{}", format.name);
            }
        }
    }
}

/// Outputs made to be slow: the time must grow with the length alone, whatever the family and the cutting.
#[test]
fn hostile_outputs_take_linear_time() {
    let length = 100_000;
    let units = [
        "<tool_call>",
        "<tool_call>{\"arguments\":\"",
        "<tool_call>{\"arguments\":{\"a\":\"b\"},",
        "{",
        "[",
        "[{",
        "\n",
        " ",
        "<function=f><parameter=s>",
        "</parameter>",
        "</parameter> \n",
        "<|tool_call>call:f{a:",
        "<|tool_call>call:f{a:[",
        "[f(l=[",
        "[f(l=((",
        "[f(s='",
        "<think>",
        "</think>",
        "<",
        "\\u",
        "\"",
        "a",
        "[TOOL_CALLS]",
        "[TOOL_CALLS]f[ARGS]",
        "<|channel|>",
        "<|channel|>x<|message|>",
        "<tool_call>f<arg_key>",
        "<tool_call>f<arg_key>l</arg_key><arg_value>[",
        "{\"name\":\"f\",\"arguments\":{}}",
        "<tool_call>{\"name\":\"f\",\"arguments\":{}}</tool_call>",
        "tool_code = ",
        "`",
    ];
    for (name, _) in tool_parsers() {
        let families = Families::named(Some(name), Some("qwen3")).unwrap();
        for unit in units {
            let text = unit.repeat(length / unit.len());
            let pieces: Vec<&str> =
                text.as_bytes().chunks(3).map(|c| std::str::from_utf8(c).unwrap()).collect();
            let begin = Instant::now();
            let events = events(&families, &tools(), &pieces, Start::Unknown);
            // Hundreds of times what it takes; the square of the length would take longer.
            assert!(begin.elapsed() < Duration::from_secs(10), "{families:?} {unit:?}");
            assert!(matches!(events.last(), Some(Event::Done { .. })));
        }
    }
}
