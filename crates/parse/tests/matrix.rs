//! The same questions to every family, in each of its forms.

#![allow(clippy::unwrap_used)]

mod common;

use common::formats::{Call, FORMATS, Format};
use common::{events, parse, parse_from, parse_pieces};
use millrace_parse::{Answer, Event, Families, Start, tool_parsers};
use serde_json::{Value, json};

/// The tools of the requests.
fn tools() -> Value {
    json!([
        {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {
            "city": {"type": "string"}, "days": {"type": "integer"}}}}},
        {"type": "function", "function": {"name": "write-file", "parameters": {"type": "object", "properties": {
            "path": {"type": "string"}, "content": {"type": "string"}}}}},
        {"type": "function", "function": {"name": "now"}},
        {"type": "function", "function": {"name": "all_types", "parameters": {"type": "object", "properties": {
            "text": {"type": "string"}, "count": {"type": "integer"}, "ratio": {"type": "number"},
            "flag": {"type": "boolean"}, "nothing": {"type": ["string", "null"]},
            "list": {"type": "array"}, "map": {"$ref": "#/$defs/map"}},
            "$defs": {"map": {"type": "object"}}}}},
    ])
}

fn families(format: &Format) -> Families {
    Families::named(Some(format.name), None).unwrap()
}

/// Whole and by character.
fn read(format: &Format, text: &str) -> Answer {
    let whole = parse(&families(format), &tools(), text);
    let characters: Vec<&str> = text.split("").filter(|c| !c.is_empty()).collect();
    assert_eq!(parse_pieces(&families(format), &tools(), &characters), whole, "{}: {text}", format.name);
    whole
}

/// Checks the calls of an output.
fn check(format: &Format, text: &str, calls: &[Call<'_>]) -> Answer {
    let answer = read(format, text);
    let got: Vec<(&str, Value)> = answer
        .calls
        .iter()
        .map(|call| (call.name.as_str(), serde_json::from_str(&call.arguments).unwrap_or(Value::Null)))
        .collect();
    assert_eq!(got, calls, "{}: {text}\n{answer:?}", format.name);
    assert!(answer.calls.iter().all(|call| call.complete));
    answer
}

/// A row of the matrix: these calls, and nothing else, come out of what the family writes for them.
fn row(calls: &[Call<'_>]) {
    for format in FORMATS {
        let answer = check(format, &(format.write)(calls), calls);
        assert_eq!((answer.content.as_str(), answer.reasoning.as_str()), ("", ""), "{}", format.name);
    }
}

#[test]
fn every_family_is_here() {
    for (name, others) in tool_parsers() {
        let is_here = |name: &str| FORMATS.iter().any(|format| format.name == name);
        assert!(is_here(name) || others.iter().any(|other| is_here(other)), "{name}");
    }
}

#[test]
fn one_call() {
    row(&[("get_weather", json!({"city": "Oslo"}))]);
}

#[test]
fn parallel_calls() {
    row(&[
        ("get_weather", json!({"city": "Oslo"})),
        ("get_weather", json!({"city": "Rome", "days": 2})),
        ("write-file", json!({"path": "/a", "content": "x"})),
    ]);
}

#[test]
fn equal_calls_are_two_calls() {
    let call = ("get_weather", json!({"city": "Oslo"}));
    row(&[call.clone(), call]);
}

#[test]
fn no_arguments() {
    row(&[("now", json!({}))]);
    row(&[("now", json!({})), ("now", json!({}))]);
}

#[test]
fn all_types() {
    row(&[(
        "all_types",
        json!({"text": "3", "count": -3, "ratio": 2.5, "flag": true, "nothing": null,
            "list": [1, "two", [true, null]], "map": {"a": {"b": [1.5]}, "c": ""}}),
    )]);
}

#[test]
fn strings_of_all_kinds() {
    for text in [
        "",
        "say \"hi\" to 'all'",
        "a\\b\\n \\u00e9",
        "line 1\nline 2\n\tindented",
        "日本語 🤔 é",
        "{\"a\": [1, 2}",
        "x > 5 & y < 10, f(x); [1] = (2)",
        "<html><b>&amp;</b></html>",
        "true",
        "null",
        "12",
        "```json\n{\"a\": 1}\n```",
    ] {
        row(&[("write-file", json!({"path": "p", "content": text})), ("now", json!({}))]);
    }
}

#[test]
fn markers_in_strings() {
    for format in FORMATS {
        // Gemma's and Python's quotes can't be quoted by themselves; everything else can stand in a string.
        let inner = (format.write)(&[("get_weather", json!({"city": "Rome"}))]).replace("<|\"|>", "`");
        let calls =
            [("write-file", json!({"path": "p", "content": format!("a {inner} b")})), ("now", json!({}))];
        check(format, &(format.write)(&calls), &calls);
    }
}

#[test]
fn text_around() {
    let one = [("get_weather", json!({"city": "Oslo"}))];
    let two = [one[0].clone(), one[0].clone()];
    for format in FORMATS {
        let call = (format.write)(&one);
        let harmony = |text: &str| match format.name {
            "harmony" => format!("<|start|>assistant<|channel|>final<|message|>{text}<|end|>"),
            _ => text.to_owned(),
        };
        let before = harmony("Let me look, 1 < 2.\n");
        let after = harmony("\nHere [it] is {so}.");
        let answer = check(format, &format!("{before}{call}"), &one);
        assert_eq!(answer.content, "Let me look, 1 < 2.", "{}", format.name);
        let answer = check(format, &format!("{call}{after}"), &one);
        assert_eq!(answer.content, "Here [it] is {so}.", "{}", format.name);
        let answer = check(format, &format!("{before}{call}{after}"), &one);
        assert!(answer.content.starts_with("Let me look, 1 < 2."), "{}", format.name);
        assert!(answer.content.ends_with("Here [it] is {so}."), "{}", format.name);
        let answer = check(format, &format!("{before}{call}{after}\n{call}"), &two);
        assert!(answer.content.ends_with("Here [it] is {so}."), "{}", format.name);
    }
}

#[test]
fn unknown_tools() {
    let calls = [("launch_rocket", json!({"city": "Oslo"}))];
    for format in FORMATS {
        let text = (format.write)(&calls);
        if format.bare {
            // Nothing but the name would tell it from an example.
            let answer = check(format, &text, &[]);
            assert_eq!(answer.content, text, "{}", format.name);
        } else {
            check(format, &text, &calls);
        }
    }
}

#[test]
fn plain_text_is_left_alone() {
    for format in FORMATS {
        for text in [
            "Hello! How are you?",
            "  Two\n\n\tlines \n",
            "if a[0] < b && c > d { return [1, 2]; } // <tag> call: x",
            "{\"result\": 42, \"status\": \"ok\"}",
            "[\"a\", \"b\"] and [link](https://example.org) and [x](f(a))",
            "The name is {\"name\": \"John\", \"age\": 25}.",
            "a <tool",
            "tool_code, functools, <functional>, <|tool|>, [TOOL], <inv",
        ] {
            assert_eq!(read(format, text).content, text, "{}", format.name);
        }
    }
}

#[test]
fn calls_in_reasoning() {
    let calls = [("get_weather", json!({"city": "Oslo"}))];
    for format in FORMATS.iter().filter(|format| !format.bare && format.name != "harmony") {
        let families = Families::named(Some(format.name), Some("qwen3")).unwrap();
        let call = (format.write)(&calls);
        for text in
            [format!("<think>Hm.\n{call}\nSo.</think>\nDone."), format!("Hm.\n{call}\nSo.</think>\nDone.")]
        {
            let answer = parse_from(&families, &tools(), &[&text], Start::Reasoning);
            assert_eq!(answer.calls.len(), 1, "{}", format.name);
            assert!(answer.reasoning.starts_with("Hm.") && answer.reasoning.ends_with("So."), "{answer:?}");
            assert_eq!(answer.content, "Done.", "{}", format.name);
        }
    }
}

/// A call whose brackets don't close is not complete, and does no harm to the next.
#[test]
fn missing_brackets() {
    let arguments = "{\"city\": \"Oslo\", \"days\": [1";
    for (name, before, after) in [
        ("hermes", "<tool_call>{\"name\": \"get_weather\", \"arguments\": ", "</tool_call>"),
        ("qwen3_coder", "<tool_call>\n<function=get_weather>\n", "</function>\n</tool_call>"),
        (
            "deepseek_v3",
            "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>",
            "<｜tool▁call▁end｜>",
        ),
        (
            "kimi_k2",
            "<|tool_call_begin|>functions.get_weather:0<|tool_call_argument_begin|>",
            "<|tool_call_end|>",
        ),
        ("harmony", "<|channel|>commentary to=functions.get_weather<|message|>", "<|end|>"),
    ] {
        let format = FORMATS.iter().find(|format| format.name == name).unwrap();
        let next = (format.write)(&[("now", json!({}))]);
        let answer = read(format, &format!("{before}{arguments}{after}\n{next}"));
        let calls: Vec<_> =
            answer.calls.iter().map(|c| (c.name.as_str(), c.arguments.as_str(), c.complete)).collect();
        assert_eq!(calls, [("get_weather", arguments, false), ("now", "{}", true)], "{name}");
    }
}

/// What models get wrong and still mean.
#[test]
fn slips() {
    let weather = [("get_weather", json!({"city": "Oslo", "days": 2}))];
    for (name, text) in [
        // A brace too few, keys in another order, arguments as a string, OpenAI's own form, other words for the keys.
        (
            "hermes",
            "<tool_call>{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Oslo\", \"days\": 2}</tool_call>",
        ),
        (
            "hermes",
            "<tool_call>{\"arguments\": {\"city\": \"Oslo\", \"days\": 2}, \"name\": \"get_weather\"}</tool_call>",
        ),
        (
            "hermes",
            "<tool_call>{\"name\": \"get_weather\", \"arguments\": \"{\\\"city\\\": \\\"\\u004fslo\\\", \\\"days\\\": 2}\"}</tool_call>",
        ),
        (
            "hermes",
            "<tool_call>{\"id\": \"x\", \"type\": \"function\", \"function\": {\"name\": \"get_weather\", \"arguments\": {\"city\": \"Oslo\", \"days\": 2}}}</tool_call>",
        ),
        ("json", "{\"parameters\": {\"city\": \"Oslo\", \"days\": 2}, \"tool_name\": \"get_weather\"}"),
        (
            "hermes",
            "<tool_call>\n```json\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Oslo\", \"days\": 2}}\n```\n</tool_call>",
        ),
        // A tag too few; a number in quotes where the schema says number; arguments without keys.
        (
            "qwen3_coder",
            "<tool_call>\n<function=get_weather>\n<parameter=city>Oslo</parameter>\n<parameter=days>\n2\n</function>\n</tool_call>",
        ),
        (
            "qwen3_coder",
            "<function=get_weather><parameter=city>Oslo</parameter><parameter=days>2</parameter></tool_call>",
        ),
        ("pythonic", "[get_weather(city=\"Oslo\", days=\"2\")]"),
        ("pythonic", "[get_weather(\"Oslo\", days=2)]"),
        ("gemma4", "<|tool_call>call:get_weather{city:Oslo,days:2}<tool_call|>"),
        ("llama3_json", "<|python_tag|>get_weather.call(city=\"Oslo\", days=2)"),
        (
            "kimi_k2",
            "<|tool_call_begin|>get_weather<|tool_call_argument_begin|> {\"city\": \"Oslo\", \"days\": 2} <|tool_call_end|>",
        ),
    ] {
        let format = FORMATS.iter().find(|format| format.name == name).unwrap();
        let answer = check(format, text, &weather);
        assert_eq!(answer.content, "", "{text}");
    }
}

/// Ids that the format has are kept.
#[test]
fn ids() {
    for (name, text, id) in [
        (
            "kimi_k2",
            "<|tool_call_begin|>functions.now:3<|tool_call_argument_begin|>{}<|tool_call_end|>",
            "functions.now:3",
        ),
        ("mistral", "[TOOL_CALLS]now[CALL_ID]abc123XYZ[ARGS]{}", "abc123XYZ"),
        (
            "command_r",
            "<|START_ACTION|>[{\"tool_call_id\": \"0\", \"tool_name\": \"now\", \"parameters\": {}}]",
            "0",
        ),
        (
            "solar_open",
            "<|tool_call:begin|>x1<|tool_call:name|>now<|tool_call:args|>{}<|tool_call:end|>",
            "x1",
        ),
    ] {
        let format = FORMATS.iter().find(|format| format.name == name).unwrap();
        assert_eq!(check(format, text, &[("now", json!({}))]).calls[0].id, id);
    }
    let mistral = FORMATS.iter().find(|format| format.name == "mistral").unwrap();
    let answer = check(mistral, "[TOOL_CALLS]now[ARGS]{}", &[("now", json!({}))]);
    assert_eq!(answer.calls[0].id.len(), 9);
}

/// Models that write ids themselves may repeat them; within one answer each is used once.
#[test]
fn repeated_ids_are_replaced() {
    let call = "<|tool_call_begin|>functions.now:0<|tool_call_argument_begin|>{}<|tool_call_end|>";
    let format = FORMATS.iter().find(|format| format.name == "kimi_k2").unwrap();
    let calls =
        check(format, &call.repeat(3), &[("now", json!({})), ("now", json!({})), ("now", json!({}))]).calls;
    assert_eq!(calls[0].id, "functions.now:0");
    assert!(calls[1].id.starts_with("call_") && calls[2].id.starts_with("call_"), "{calls:?}");
    assert_ne!(calls[1].id, calls[2].id);
}

/// Cut off anywhere, the calls and their arguments are a beginning of what they are in full, and only what came to its
/// end is complete.
#[test]
fn truncation() {
    let calls = [
        ("write-file", json!({"path": "a\"b", "content": "x\ny"})),
        ("all_types", json!({"count": 12, "list": [1, {"a": "b"}], "flag": true})),
    ];
    for format in FORMATS {
        let full = (format.write)(&calls);
        let whole = read(format, &full);
        for at in full.char_indices().map(|(at, _)| at) {
            let cut = read(format, &full[..at]);
            assert!(cut.calls.len() <= whole.calls.len());
            for (part, call) in cut.calls.iter().zip(&whole.calls) {
                assert_eq!(part.name, call.name, "{}: {}", format.name, &full[..at]);
                assert!(
                    call.arguments.starts_with(&part.arguments),
                    "{}: {} is no beginning of {}",
                    format.name,
                    part.arguments,
                    call.arguments
                );
                assert!(!part.complete || part.arguments == call.arguments, "{}", &full[..at]);
            }
        }
    }
}

/// A string goes out as it comes in, whatever the format.
#[test]
fn arguments_stream() {
    let long = "All work and no play makes Jack a dull boy. ".repeat(20);
    let calls = [("write-file", json!({"path": "p", "content": long}))];
    for format in FORMATS {
        let text = (format.write)(&calls);
        let characters: Vec<&str> = text.split("").filter(|c| !c.is_empty()).collect();
        let events = events(&families(format), &tools(), &characters, Start::Content);
        let deltas = events.iter().filter(|event| matches!(event, Event::ToolArguments { .. })).count();
        assert!(deltas > long.len() / 2, "{}: {deltas}", format.name);
    }
}
