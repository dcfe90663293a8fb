//! What models write, and the templates that show them conversations.

use std::sync::Arc;

use millrace_parse::{Answer, Event, Families, Start, Tools, reasoning_parsers, tool_parsers};
use millrace_text::{ChatTemplate, TemplateInput, TextFiles};
use serde_json::{Value, json};

use crate::{input::SEPARATOR, models};

/// Most characters of an output: each is parsed three times.
const MAX_CHARS: usize = 20_000;

/// Any text as the output of any family: how it is cut makes no difference, and the events are in order. The first
/// three bytes choose the families, the start and the cuts.
pub(crate) fn outputs(input: &[u8]) -> bool {
    let Some(([which, start, cuts], text)) = input.split_first_chunk() else { return false };
    let text: String = String::from_utf8_lossy(text).chars().take(MAX_CHARS).collect();
    let families = families(usize::from(*which), usize::from(*start) / 4);
    let start = [Start::Unknown, Start::Content, Start::Reasoning, Start::Continued][usize::from(*start) % 4];
    let whole = parse(families, start, &[&text]);
    let single: Vec<&str> = text.split("").collect();
    assert_eq!(parse(families, start, &single), whole, "{families:?} by characters: {text:?}");
    assert_eq!(parse(families, start, &cut(&text, *cuts)), whole, "{families:?} in pieces: {text:?}");
    true
}

fn families(tool: usize, reasoning: usize) -> Families {
    let tools: Vec<&str> = tool_parsers().map(|(name, _)| name).collect();
    let reasonings: Vec<Option<&str>> =
        reasoning_parsers().map(|(name, _)| Some(name)).chain([None]).collect();
    Families::named(Some(tools[tool % tools.len()]), reasonings[reasoning % reasonings.len()]).unwrap()
}

/// Pieces of changing lengths.
fn cut(text: &str, seed: u8) -> Vec<&str> {
    let (mut pieces, mut rest, mut state) = (Vec::new(), text, u32::from(seed));
    while !rest.is_empty() {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let length = 1 + (state >> 24) as usize % 17;
        let end = rest.char_indices().nth(length).map_or(rest.len(), |(at, _)| at);
        let (piece, others) = rest.split_at(end);
        pieces.push(piece);
        rest = others;
    }
    pieces
}

fn parse(families: Families, start: Start, pieces: &[&str]) -> Answer {
    let tools = json!([{"name": "get_weather", "input_schema": {"properties": {"city": {"type": "string"},
        "n": {"type": "integer"}, "l": {"type": "array"}, "u": {}}}}]);
    let mut parser = families.parser(Arc::new(Tools::from_json(&tools).unwrap()), start, 1);
    let mut events = Vec::new();
    pieces.iter().for_each(|piece| parser.push(piece, &mut events));
    parser.finish(&mut events);
    check_order(&events);
    events.iter().collect()
}

/// Calls come one after the other, each with a beginning and an end, and nothing follows the last event.
fn check_order(events: &[Event]) {
    let (mut open, mut calls, mut complete) = (None, 0, 0);
    for (at, event) in events.iter().enumerate() {
        match event {
            Event::Text(delta) | Event::Reasoning(delta) => assert!(!delta.is_empty()),
            Event::ToolCall { index, id, name } => {
                assert!((*index, open) == (calls, None) && !id.is_empty() && !name.is_empty(), "{events:?}");
                open = Some(*index);
                calls += 1;
            }
            Event::ToolArguments { index, delta } => assert!(Some(*index) == open && !delta.is_empty()),
            Event::ToolCallEnd { index, complete: whole } => {
                assert_eq!(open.take(), Some(*index));
                complete += usize::from(*whole);
            }
            Event::Done { calls } => assert_eq!((at, *calls), (events.len() - 1, complete)),
        }
    }
    assert_eq!(open, None, "a call has no end");
    assert!(matches!(events.last(), Some(Event::Done { .. })));
}

/// A conversation in JSON (`messages`, `tools`, `chat_template_kwargs`), and behind the separator a template, if it isn't
/// the demo model's. What templates may cost is bounded, and they give the same text each time.
pub(crate) fn templates(input: &[u8]) -> bool {
    let (body, source) = match input.iter().position(|byte| *byte == SEPARATOR) {
        Some(at) => (&input[..at], std::str::from_utf8(&input[at + 1..]).ok()),
        None => (input, None),
    };
    let Ok(body) = serde_json::from_slice::<Value>(body) else { return false };
    let Some(messages) = body["messages"].as_array() else { return false };
    models::with_files(|files| match source {
        Some(source) => ChatTemplate::from_source(source, files).is_ok_and(|template| {
            render(&template, messages, &body);
            true
        }),
        None => {
            render(&demo(files), messages, &body);
            true
        }
    })
}

fn demo(files: &TextFiles) -> ChatTemplate {
    ChatTemplate::from_files(files).unwrap().expect("the demo model has a template")
}

fn render(template: &ChatTemplate, messages: &[Value], body: &Value) {
    let mut messages = messages.to_vec();
    let list = |name: &str| body[name].as_array().map(Vec::as_slice);
    for text_arguments in [true, false] {
        template.prepare_messages(&mut messages, text_arguments);
        let once = messages.clone();
        template.prepare_messages(&mut messages, text_arguments);
        assert_eq!(messages, once, "what is prepared needs no preparation");
        let input = TemplateInput {
            messages: &messages,
            tools: list("tools"),
            documents: list("documents"),
            add_generation_prompt: body["add_generation_prompt"] == true,
            continue_final_message: body["continue_final_message"] == true,
            kwargs: body["chat_template_kwargs"].as_object(),
            now: None,
        };
        if let Err(error) = template.render(&input) {
            assert!(!error.to_string().is_empty());
        }
    }
}
