//! What the tests share.

#![allow(dead_code, unreachable_pub)]

pub mod formats;

use std::sync::Arc;

use millrace_parse::{Answer, Event, Families, Start, Tools};
use serde_json::Value;

/// Parses a whole output.
pub fn parse(families: &Families, tools: &Value, text: &str) -> Answer {
    parse_pieces(families, tools, &[text])
}

/// Parses an output in pieces, and checks what holds for the events of any output.
pub fn parse_pieces(families: &Families, tools: &Value, pieces: &[&str]) -> Answer {
    parse_from(families, tools, pieces, Start::Unknown)
}

/// The same from a given start on.
pub fn parse_from(families: &Families, tools: &Value, pieces: &[&str], start: Start) -> Answer {
    let events = events(families, tools, pieces, start);
    let mut open = None;
    let mut calls = 0;
    for event in &events {
        match event {
            Event::Text(delta) | Event::Reasoning(delta) => assert!(!delta.is_empty()),
            Event::ToolCall { index, id, name } => {
                assert_eq!((*index, open), (calls, None), "calls come one after the other");
                assert!(!id.is_empty() && !name.is_empty());
                open = Some(*index);
                calls += 1;
            }
            Event::ToolArguments { index, delta } => {
                assert_eq!(Some(*index), open);
                assert!(!delta.is_empty());
            }
            Event::ToolCallEnd { index, .. } => assert_eq!(open.take(), Some(*index)),
            Event::Done { .. } => {}
        }
    }
    assert_eq!(open, None, "a call has no end");
    let answer: Answer = events.iter().collect();
    assert_eq!(events.last(), Some(&Event::Done { calls: answer.complete_calls().count() }));
    answer
}

/// All events of an output.
pub fn events(families: &Families, tools: &Value, pieces: &[&str], start: Start) -> Vec<Event> {
    let mut parser = families.parser(Arc::new(Tools::from_json(tools).unwrap()), start, 1);
    let mut events = Vec::new();
    for piece in pieces {
        parser.push(piece, &mut events);
    }
    parser.finish(&mut events);
    events
}

/// Ways to cut a text: characters, pieces of a few sizes, and in two at each place.
pub fn pieces(text: &str) -> Vec<Vec<&str>> {
    let bounds: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
    let sized = |size: usize| {
        let ends = bounds.iter().copied().skip(size).step_by(size).chain([text.len()]);
        let mut start = 0;
        ends.map(|end| &text[std::mem::replace(&mut start, end)..end]).collect()
    };
    let mut all: Vec<Vec<&str>> = [1, 2, 3, 5, 8, 13].into_iter().map(sized).collect();
    all.extend(bounds.iter().map(|at| vec![&text[..*at], &text[*at..]]));
    all
}

/// What a case expects, see the README beside the cases.
pub struct Expected<'a>(pub &'a Value);

impl Expected<'_> {
    /// What doesn't hold.
    pub fn check(&self, answer: &Answer) -> Vec<String> {
        let mut wrong = Vec::new();
        let calls: Vec<_> = answer.complete_calls().collect();
        for (key, want) in self.0.as_object().unwrap() {
            let list = || want.as_array().unwrap().iter().map(|v| v.as_str().unwrap());
            let (field, text) = match key.split('_').next().unwrap() {
                "reasoning" => ("reasoning", &answer.reasoning),
                _ => ("content", &answer.content),
            };
            let good = match key.strip_prefix(field).unwrap_or(key) {
                "" => text == want.as_str().unwrap_or_default(),
                "_contains" => list().all(|part| text.contains(part)),
                "_not_contains" => list().all(|part| !text.contains(part)),
                "_startswith" => list().all(|part| text.starts_with(part)),
                "_endswith" => list().all(|part| text.ends_with(part)),
                "tools_called" => want.as_bool() == Some(!calls.is_empty()),
                "num_calls" => want.as_u64() == Some(calls.len() as u64),
                "calls" => {
                    let wants = want.as_array().unwrap();
                    wants.len() == calls.len()
                        && wants
                            .iter()
                            .zip(&calls)
                            .all(|(want, call)| is_call(want, &call.name, &call.arguments))
                }
                _ => panic!("the cases have a new key, {key}"),
            };
            if !good {
                wrong.push(format!("{key} should be {want}"));
            }
        }
        wrong
    }
}

fn is_call(want: &Value, name: &str, arguments: &str) -> bool {
    let json: Option<Value> = serde_json::from_str(arguments).ok();
    want.as_object().unwrap().iter().all(|(key, want)| match key.as_str() {
        "name" => want == name,
        "arguments" => json.as_ref() == Some(want),
        "arguments_subset" => json
            .as_ref()
            .is_some_and(|json| want.as_object().unwrap().iter().all(|(key, value)| &json[key] == value)),
        "arguments_string" => want == arguments,
        "arguments_contains" => {
            want.as_array().unwrap().iter().all(|p| arguments.contains(p.as_str().unwrap()))
        }
        "arguments_absent_keys" => want
            .as_array()
            .unwrap()
            .iter()
            .all(|key| json.as_ref().is_some_and(|json| json.get(key.as_str().unwrap()).is_none())),
        "arguments_valid_json" => want.as_bool() == Some(json.is_some()),
        _ => panic!("the cases have a new key, {key}"),
    })
}
