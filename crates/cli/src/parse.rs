//! `millrace parse`: the parsers on their own, for tests and bug reports.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use millrace_parse::{Answer, Event, Families, Start, Tools};
use serde_json::{Value, json};

use crate::args::{ParseArgs, PromptThinking};
use crate::output;

/// Longest output, and longest file of tools, in bytes.
const MAX_INPUT: u64 = 64 << 20;

/// Runs the command.
pub(crate) fn run(args: &ParseArgs) -> Result<()> {
    let families = Families::named(args.tool_parser.as_deref(), args.reasoning_parser.as_deref())?;
    let tools = args.tools.as_deref().map(read_tools).transpose()?.unwrap_or_default();
    let start = match args.prompt_thinking {
        PromptThinking::Open => Start::Reasoning,
        PromptThinking::Closed => Start::Content,
        PromptThinking::Auto => Start::Unknown,
    };
    let text = read(std::io::stdin().lock(), "standard input")?;
    let mut parser = families.parser(Arc::new(tools), start, 0);
    let mut answer = Answer::default();
    let mut print = |events: &mut Vec<Event>| -> Result<()> {
        for event in events.drain(..) {
            answer.push(&event);
            if let Some(line) = to_json(&event, &answer) {
                output::print(&format!("{line}\n"))?;
            }
        }
        Ok(())
    };
    let mut events = Vec::new();
    for piece in pieces(&text, args.chunk) {
        parser.push(piece, &mut events);
        print(&mut events)?;
    }
    parser.finish(&mut events);
    print(&mut events)
}

fn read_tools(path: &Path) -> Result<Tools> {
    let name = path.display().to_string();
    let file = std::fs::File::open(path).with_context(|| format!("cannot read {name}"))?;
    let tools: Value =
        serde_json::from_str(&read(file, &name)?).with_context(|| format!("{name} is not JSON"))?;
    Tools::from_json(&tools).with_context(|| format!("{name} is no list of tools"))
}

fn read(from: impl Read, name: &str) -> Result<String> {
    let mut text = String::new();
    let read = from.take(MAX_INPUT + 1).read_to_string(&mut text);
    read.with_context(|| format!("{name} cannot be read as text"))?;
    ensure!(text.len() as u64 <= MAX_INPUT, "{name} is longer than {MAX_INPUT} bytes");
    Ok(text)
}

/// The text in pieces of so many characters; whole without a size.
fn pieces(text: &str, characters: Option<usize>) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let end =
            characters.and_then(|count| rest.char_indices().nth(count)).map_or(rest.len(), |(at, _)| at);
        let (piece, after) = rest.split_at(end);
        rest = after;
        (!piece.is_empty()).then_some(piece)
    })
}

/// An event as it is printed. The end of a call is not: `done` has the calls that are complete.
fn to_json(event: &Event, answer: &Answer) -> Option<Value> {
    Some(match event {
        Event::Text(delta) => json!({"type": "text", "delta": delta}),
        Event::Reasoning(delta) => json!({"type": "reasoning", "delta": delta}),
        Event::ToolCall { index, id, name } => {
            json!({"type": "tool_call", "index": index, "id": id, "name": name})
        }
        Event::ToolArguments { index, delta } => {
            json!({"type": "tool_arguments", "index": index, "delta": delta})
        }
        Event::ToolCallEnd { .. } => return None,
        Event::Done { .. } => {
            let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            let call = |call: &millrace_parse::Call| json!({"name": call.name, "arguments": call.arguments});
            json!({
                "type": "done",
                "content": some(&answer.content),
                "reasoning": some(&answer.reasoning),
                "tool_calls": answer.complete_calls().map(call).collect::<Vec<_>>(),
            })
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_have_their_size() {
        assert_eq!(pieces("añb🤔c", Some(2)).collect::<Vec<_>>(), ["añ", "b🤔", "c"]);
        assert_eq!(pieces("añb", None).collect::<Vec<_>>(), ["añb"]);
        assert_eq!(pieces("", Some(1)).count(), 0);
    }

    #[test]
    fn the_end_has_complete_calls_only() {
        let events = [
            Event::Text("a".into()),
            Event::ToolCall { index: 0, id: "x".into(), name: "f".into() },
            Event::ToolArguments { index: 0, delta: "{}".into() },
            Event::ToolCallEnd { index: 0, complete: true },
            Event::ToolCall { index: 1, id: "y".into(), name: "g".into() },
            Event::ToolCallEnd { index: 1, complete: false },
        ];
        let answer: Answer = events.iter().collect();
        assert_eq!(
            to_json(&Event::Done { calls: 1 }, &answer).unwrap().to_string(),
            r#"{"type":"done","content":"a","reasoning":null,"tool_calls":[{"name":"f","arguments":"{}"}]}"#
        );
    }
}
