//! `../shared/parsers/cases.json` beside the checkout (or `MILLRACE_PARSER_CASES`): every case, whole and in every
//! split that is tried here, through the public interface.

#![allow(clippy::unwrap_used)]

mod common;

use std::path::PathBuf;

use common::{Expected, parse, parse_pieces, pieces};
use millrace_parse::{Families, ParseError};
use serde_json::Value;

#[test]
fn every_case_holds_for_every_split() {
    let Some(cases) = load() else { return };
    let mut failures = Vec::new();
    for case in &cases {
        let text = case["text"].as_str().unwrap();
        let families = families(case).unwrap();
        let whole = parse(&families, &case["tools"], text);
        failures.extend(
            Expected(&case["expected"])
                .check(&whole)
                .into_iter()
                .map(|what| format!("{}: {what}\n  text {text:?}\n  got {whole:?}", case["id"])),
        );
        for pieces in pieces(text) {
            let split = parse_pieces(&families, &case["tools"], &pieces);
            assert_eq!(split, whole, "{} in {pieces:?}", case["id"]);
        }
    }
    assert!(failures.is_empty(), "{} of {}:\n{}", failures.len(), cases.len(), failures.join("\n"));
    assert!(cases.len() > 100);
}

fn load() -> Option<Vec<Value>> {
    let path = std::env::var_os("MILLRACE_PARSER_CASES").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/parsers/cases.json"),
        PathBuf::from,
    );
    let Ok(text) = std::fs::read_to_string(&path) else {
        eprintln!("skipped: there is no {}", path.display());
        return None;
    };
    Some(serde_json::from_str(&text).unwrap())
}

fn families(case: &Value) -> Result<Families, ParseError> {
    let parser = case["parser"].as_str();
    match case["kind"].as_str() {
        Some("tool") => Families::named(parser, None),
        _ => Families::named(None, parser),
    }
}
