//! The tables of `docs/tools-and-reasoning.md` are made from the registry, so that they can't go out of date.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::path::Path;

/// What ends the part of the page that is written by hand.
const MARK: &str = "--test page -->\n";

fn table(head: &str, families: impl Iterator<Item = (&'static str, &'static [&'static str])>) -> String {
    let code = |names: &[&str]| match names {
        [] => "–".to_owned(),
        names => names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "),
    };
    let row = |(name, others): (&str, &[&str])| format!("| `{name}` | {} |\n", code(others));
    format!("\n| {head} | other names |\n|---|---|\n{}", families.map(row).collect::<String>())
}

#[test]
fn the_page_has_all_families() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/tools-and-reasoning.md");
    let written = std::fs::read_to_string(&page).unwrap();
    let (prose, _) = written.split_once(MARK).unwrap();
    let made = [
        prose,
        MARK,
        &table("tool calls", millrace_parse::tool_parsers()),
        &table("reasoning", millrace_parse::reasoning_parsers()),
    ]
    .concat();
    if std::env::var_os("MILLRACE_BLESS").is_some() {
        std::fs::write(&page, &made).unwrap();
        return;
    }
    assert!(
        written == made,
        "docs/tools-and-reasoning.md is out of date: run MILLRACE_BLESS=1 cargo test -p millrace-parse --test page"
    );
}
