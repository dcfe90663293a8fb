use proptest::prelude::*;
use regex::Regex;

use super::*;

/// Patterns that Rust's engine reads as ECMA does.
const PATTERNS: [&str; 22] = [
    "",
    "a",
    "^a",
    "a$",
    "^a$",
    "^ab",
    "^[ab]",
    "^[^a]*$",
    "^(a|bc)+$",
    "^a{2,3}$",
    "b.a",
    "^x-",
    "^[A-Z]{2}-[0-9]{1,3}$",
    "^$",
    "^a|b$",
    "(^a|b)c",
    "^(?:ab?)*$",
    "[0-9]+$",
    "é",
    "^.$",
    r"^\.",
    r"^[a\-b\]]+$",
];

/// A pattern of one of these must match, the other must or must not.
fn check(first: &str, second: &str, matches: bool, texts: &[String]) {
    let found = joined(&[(first, true), (second, matches)], Opposite::Exact).unwrap();
    let whole = found.as_deref().map(|found| Regex::new(found).unwrap());
    let (a, b) = (Regex::new(first).unwrap(), Regex::new(second).unwrap());
    for text in texts {
        let expected = a.is_match(text) && b.is_match(text) == matches;
        let accepted = whole.as_ref().is_some_and(|whole| whole.is_match(text));
        assert_eq!(accepted, expected, "{first:?} {second:?} {matches} {text:?}: {found:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn texts_match_the_joined_pattern_if_they_match_its_parts(
        first in 0..PATTERNS.len(),
        second in 0..PATTERNS.len(),
        matches: bool,
        texts in proptest::collection::vec("[abcxAZ09\\-.é\\]]{0,5}", 60),
    ) {
        check(PATTERNS[first], PATTERNS[second], matches, &texts);
    }
}

#[test]
fn every_pattern_is_apart_from_its_opposite() {
    for pattern in PATTERNS {
        assert_eq!(joined(&[(pattern, true), (pattern, false)], Opposite::Exact), Ok(None), "{pattern}");
        assert!(joined(&[(pattern, true)], Opposite::Safe).unwrap().is_some());
    }
    assert_eq!(joined(&[("", false)], Opposite::Safe), Ok(None));
    assert_eq!(joined(&[("^a", true), ("^b", true)], Opposite::Safe), Ok(None));
}

#[test]
fn what_dialects_read_differently_is_left_out() {
    let matches = |pattern: &str, text: &str| {
        let found = joined(&[(pattern, false)], Opposite::Safe).unwrap();
        found.is_some_and(|found| Regex::new(&found).unwrap().is_match(text))
    };
    // A digit to Python but not to ECMA, and a line break before which Python's `$` stands.
    assert!(!matches(r"^\d$", "٣") && !matches(r"^\d$", "3") && matches(r"^\d$", "x"));
    assert!(!matches("^a$", "a\n") && matches("^a$", "a\n\n") && matches("^a$", "b\n"));
    assert!(!matches(r"^\D$", "٣") && matches(r"^\D$", "3"));
    assert!(!matches("^.$", "\r") && matches("^.$", "\n"));
    let narrow = joined(&[(r"^\d$", true)], Opposite::Safe).unwrap().unwrap();
    assert!(Regex::new(&narrow).unwrap().is_match("3") && !Regex::new(&narrow).unwrap().is_match("٣"));
}

#[test]
fn what_is_not_regular_or_too_large_is_told() {
    for pattern in
        ["(?=a)b", r"(a)\1", r"\bword\b", "(", "[a[b]", "[a&&b]", "[]a]", r"\p{L}", "(?i)a", "a{1000}{1000}"]
    {
        assert_eq!(joined(&[(pattern, false)], Opposite::Safe), Err(NotRegular), "{pattern}");
    }
    let blowing_up = format!("(a|b)*a{}", "(a|b)".repeat(20));
    assert_eq!(joined(&[(&blowing_up, false)], Opposite::Safe), Err(NotRegular));
    let mut long = "a|".repeat(4000);
    long.push('b');
    assert_eq!(joined(&[(&long, false)], Opposite::Safe), Err(NotRegular));
}
