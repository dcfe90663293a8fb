//! Long answers cost what short ones cost, token by token. Counted, not timed: a parser that keeps text and looks at all
//! of it again with each token has ever more of it in its buffer.
#![allow(
    clippy::unwrap_used,
    dead_code,
    reason = "a test may fail; the formats are those of other tests too"
)]

#[path = "../../tests/common/formats.rs"]
#[allow(unreachable_pub, reason = "it is shared")]
mod formats;

use std::{cell::Cell, sync::Arc};

use formats::FORMATS;
use serde_json::json;

use crate::{Event, Families, Start, Tools};

thread_local! {
    static LOOKED_AT: Cell<u64> = const { Cell::new(0) };
}

/// More text has come: so much is in the buffer now.
pub(super) fn note(buffered: usize) {
    LOOKED_AT.set(LOOKED_AT.get() + buffered as u64);
}

/// Bytes in the buffer, summed over all tokens, for each byte of the output.
fn looks(families: Families, output: &str) -> f64 {
    let tools = json!([{"name": "f", "parameters": {"type": "object", "properties": {
        "text": {"type": "string"}, "list": {"type": "array"}, "map": {"type": "object"}}}}]);
    let mut parser = families.parser(Arc::new(Tools::from_json(&tools).unwrap()), Start::Unknown, 1);
    let mut events: Vec<Event> = Vec::new();
    LOOKED_AT.set(0);
    let mut rest = output;
    while !rest.is_empty() {
        let (token, after) = rest.split_at(rest.ceil_char_boundary(4.min(rest.len())));
        parser.push(token, &mut events);
        events.clear();
        rest = after;
    }
    parser.finish(&mut events);
    LOOKED_AT.get() as f64 / output.len() as f64
}

#[test]
fn a_hundred_thousand_tokens_cost_the_same_each() {
    for format in FORMATS {
        let families = Families::named(Some(format.name), Some("qwen3")).unwrap();
        let unit = "a line of text \\ with \"quotes\", <tags> and {braces}\n</parameter> </tool_call> ``` ]] }} <arg_key> \n\n";
        let long = (unit.to_owned() + &" ".repeat(40)).repeat(2_900);
        for arguments in
            [json!({"text": long}), json!({"list": [{"a": long}, [1, 2, 3]], "map": {"k": long}})]
        {
            let output = (format.write)(&[("f", arguments)]);
            assert!(output.len() > 400_000);
            let cost = looks(families, &output);
            assert!(cost < 200.0, "{}: each byte was looked at {cost} times", format.name);
        }
        let answer = "Some <b>text</b> [1] {2} call:\n".repeat(400_000 / 31);
        let cost = looks(families, &answer);
        assert!(cost < 200.0, "{}: each byte of text was looked at {cost} times", format.name);
    }
}
