//! From the text of a pattern to its parts, in the narrowest or the widest sense of what dialects disagree about.

use regex_syntax::{ParserBuilder, hir::Hir};

use super::NotRegular;

/// Longest pattern in bytes.
const MAX_BYTES: usize = 4096;

/// Levels of nesting.
const MAX_NESTING: u32 = 64;

/// Reads a pattern; `narrow`ly, it matches no text that any dialect wouldn't.
///
/// # Errors
/// It isn't one, or it is written in a way that dialects read differently.
pub(super) fn parse(pattern: &str, narrow: bool) -> Result<Hir, NotRegular> {
    if pattern.len() > MAX_BYTES {
        return Err(NotRegular);
    }
    let plain = respelled(pattern, narrow)?;
    let mut parser = ParserBuilder::new().nest_limit(MAX_NESTING).build();
    parser.parse(&plain).map_err(|_| NotRegular)
}

/// The pattern with classes in place of `\d` and its like: Rust's are those of Unicode, ECMA's those of ASCII.
fn respelled(pattern: &str, narrow: bool) -> Result<String, NotRegular> {
    let mut out = String::with_capacity(pattern.len());
    let mut in_class = false;
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => {
                let escaped = chars.next().ok_or(NotRegular)?;
                match (escaped, narrow) {
                    ('d', true) => out.push_str("[0-9]"),
                    ('w', true) => out.push_str("[A-Za-z0-9_]"),
                    ('s', true) => out.push_str(r"[ \t\n\r\x0B\x0C]"),
                    ('D', false) => out.push_str("[^0-9]"),
                    ('W', false) => out.push_str("[^A-Za-z0-9_]"),
                    ('S', false) => out.push_str(r"[^ \t\n\r\x0B\x0C]"),
                    ('d' | 'w' | 's' | 'D' | 'W' | 'S', _) => out.extend(['\\', escaped]),
                    // Back-references, word boundaries, properties, and control characters.
                    ('0'..='9' | 'A'..='Z' | 'b' | 'c' | 'k' | 'p', _) => return Err(NotRegular),
                    _ => out.extend(['\\', escaped]),
                }
            }
            // What Rust reads as a class in a class, or as an operation on classes.
            '[' if in_class => return Err(NotRegular),
            '&' | '-' | '~' if in_class && chars.peek() == Some(&c) => return Err(NotRegular),
            '[' => {
                in_class = true;
                out.push(c);
                if chars.peek() == Some(&'^') {
                    out.extend(chars.next());
                }
                // In ECMA this is an empty class, in Rust a bracket in it.
                if chars.peek() == Some(&']') {
                    return Err(NotRegular);
                }
            }
            ']' if in_class => {
                in_class = false;
                out.push(c);
            }
            // Groups with options or names, and look-around; only plain ones are the same everywhere.
            '(' if !in_class && chars.peek() == Some(&'?') => {
                chars.next();
                if chars.next() != Some(':') {
                    return Err(NotRegular);
                }
                out.push_str("(?:");
            }
            // Python's ends at a line break, ECMA's at four characters.
            '.' if !in_class && narrow => out.push_str(r"[^\n\r\x{2028}\x{2029}]"),
            '.' if !in_class => out.push_str(r"[^\n]"),
            _ => out.push(c),
        }
    }
    Ok(out)
}
