//! What a grammar makes a model write is read back as the same calls.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use millrace_parse::{ArgumentsShape, CallId, CallShape, Families, Start, Tools, tool_parsers};
use serde_json::json;

fn write(shape: &CallShape, calls: &[(&str, &str)]) -> String {
    let call = |(name, arguments): &(&str, &str)| {
        let (before, after) = match shape.id {
            CallId::None => ("".to_owned(), "".to_owned()),
            CallId::BeforeName(_, then) => (format!("7{then}"), String::new()),
            CallId::AfterName(first, _) => (String::new(), format!("{first}7")),
        };
        [shape.before, &before, name, &after, shape.between, arguments, shape.after].concat()
    };
    let calls: Vec<String> = calls.iter().map(call).collect();
    [shape.begin, &calls.join(shape.separator), shape.end].concat()
}

#[test]
fn calls_in_every_shape_are_read_as_they_were_written() {
    let tools = json!([{"name": "f"}, {"name": "get_weather-2"}]);
    let tools = Arc::new(Tools::from_json(&tools).unwrap());
    let mut shapes = 0;
    for (family, _) in tool_parsers() {
        let families = Families::named(Some(family), None).unwrap();
        // The others are written by grammars: `millrace-server` shows that these are read back.
        let json = |shape: &&CallShape| shape.arguments == ArgumentsShape::Json;
        for shape in families.call_shapes().iter().filter(json) {
            shapes += 1;
            let one = [("f", r#"{"a": [1, "]}</tool_call>"], "b": {}}"#)];
            let two = [one[0], ("get_weather-2", "{}")];
            for calls in [&one[..], &two] {
                let text = write(shape, calls);
                let answer = families.parser(tools.clone(), Start::Content, 1).parse(&text);
                let read: Vec<(&str, &str)> =
                    answer.calls.iter().map(|call| (call.name.as_str(), call.arguments.as_str())).collect();
                assert_eq!(read, calls, "{family}: {text}");
                assert_eq!(answer.content, "", "{family}: {text}");
            }
            let opening = if shape.begin.is_empty() { shape.before } else { shape.begin };
            assert!(opening.starts_with(shape.marker), "{family}");
        }
    }
    assert!(shapes >= 18, "{shapes}");
}

#[test]
fn reasoning_that_the_prompt_ended_is_known() {
    let families = Families::named(None, Some("qwen3")).unwrap();
    assert!(families.is_reasoned("<|im_start|>assistant\n<think>\n\n</think>\n\n"));
    assert!(!families.is_reasoned("<|im_start|>assistant\n<think>\n"));
    assert!(!Families::default().is_reasoned("</think>"));
    assert!(Families::named(Some("harmony"), None).unwrap().is_framed() && !families.is_framed());
}
