//! What reading costs: nanoseconds per token for each family, over an answer with text and two calls with long
//! arguments, token by token. `cargo run --release -p millrace-parse --example cost`.
#![allow(clippy::print_stdout, reason = "it prints")]
#![allow(clippy::unwrap_used, reason = "what it measures is of its own making")]

#[path = "../tests/common/formats.rs"]
#[allow(unreachable_pub, reason = "it is shared")]
mod formats;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use formats::FORMATS;
use millrace_parse::{Families, ParseError, Start, Tools};
use serde_json::{Value, json};

/// Bytes of a token, about as many as in English and in code.
const TOKEN: usize = 4;

/// How long each family is measured, and how often.
const ROUND: Duration = Duration::from_millis(20);
const ROUNDS: usize = 9;

fn main() -> Result<(), ParseError> {
    let code = "fn main() {\n    println!(\"{}\", 1 < 2 && 'a' != 'b');\n}\n".repeat(40);
    let calls = [
        (
            "search",
            json!({"query": "rust parser combinators", "limit": 20, "sites": ["docs.rs", "github.com"]}),
        ),
        ("write_file", json!({"path": "src/main.rs", "content": code, "mode": {"executable": false}})),
    ];
    let text = "I'll look for that first, and then write the file as you asked.\n".repeat(10);
    let tools = Arc::new(Tools::from_json(&schemas())?);
    println!("| family | tokens | ns per token |\n|---|---|---|");
    for format in FORMATS {
        let families = Families::named(Some(format.name), None)?;
        // Bare calls stand alone.
        let output =
            if format.bare { (format.write)(&calls) } else { text.clone() + &(format.write)(&calls) };
        let tokens = cut(&output);
        let mut rounds: Vec<f64> = (0..ROUNDS).map(|_| measure(&families, &tools, &tokens)).collect();
        rounds.sort_by(f64::total_cmp);
        println!("| {} | {} | {:.0} |", format.name, tokens.len(), rounds[ROUNDS / 2]);
    }
    Ok(())
}

fn schemas() -> Value {
    json!([
        {"name": "search", "parameters": {"type": "object", "properties": {
            "query": {"type": "string"}, "limit": {"type": "integer"}, "sites": {"type": "array"}}}},
        {"name": "write_file", "parameters": {"type": "object", "properties": {
            "path": {"type": "string"}, "content": {"type": "string"}, "mode": {"type": "object"}}}},
    ])
}

/// The text in pieces of a token's size.
fn cut(text: &str) -> Vec<&str> {
    let mut rest = text;
    let mut pieces = Vec::new();
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(rest.ceil_char_boundary(TOKEN.min(rest.len())));
        pieces.push(piece);
        rest = after;
    }
    pieces
}

/// Nanoseconds per token.
fn measure(families: &Families, tools: &Arc<Tools>, tokens: &[&str]) -> f64 {
    let start = Instant::now();
    let mut answers = 0_u32;
    let mut events = Vec::new();
    while start.elapsed() < ROUND {
        let mut parser = families.parser(tools.clone(), Start::Content, 1);
        for token in tokens {
            parser.push(token, &mut events);
            events.clear();
        }
        parser.finish(&mut events);
        events.clear();
        answers += 1;
    }
    start.elapsed().as_nanos() as f64 / f64::from(answers) / tokens.len() as f64
}
