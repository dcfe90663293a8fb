//! Single values written as plain text.

use serde_json::{Number, Value};

use crate::json::quoted;
use crate::tools::Kinds;

/// No number and no word of JSON is longer, in bytes: longer text is a string.
pub(crate) const MAX_SCALAR: usize = 64;

/// A value as JSON, where the schema allows `kinds`. What fits none of them stays a string.
pub(crate) fn scalar(text: &str, kinds: Kinds) -> String {
    let value = text.trim();
    let is = |word: &str| value.eq_ignore_ascii_case(word);
    if (is("null") || is("none")) && (kinds.has(Kinds::NULL) || !kinds.has(Kinds::STRING)) {
        return "null".to_owned();
    }
    if (is("true") || is("false")) && kinds.has(Kinds::BOOLEAN) {
        return value.to_ascii_lowercase();
    }
    if kinds.has(Kinds::NUMBER)
        && let Some(number) = number(value)
    {
        return number;
    }
    if !kinds.has(Kinds::STRING) && matches!(serde_json::from_str(value), Ok(Value::String(_))) {
        return value.to_owned();
    }
    quoted(text)
}

/// An unquoted word in a literal. Without a schema it is what it looks like.
pub(crate) fn word(text: &str, kinds: Kinds) -> String {
    if matches!(text, "null" | "None" | "nil") {
        return "null".to_owned();
    }
    scalar(text, if kinds.is_unknown() { Kinds::ANY_BUT_STRING } else { kinds })
}

/// A number as JSON. Its digits stay as they are, if JSON can have them so.
fn number(text: &str) -> Option<String> {
    if is_json_number(text) {
        return Some(text.to_owned());
    }
    let begins = text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.'));
    let digits = text.chars().all(|c| c.is_ascii_digit() || matches!(c, '+' | '-' | '.' | 'e' | 'E'));
    // `007` is a code rather than a number.
    let padded = text.len() > 1 && text.starts_with('0') && !text.starts_with("0.");
    let value: f64 = text.parse().ok().filter(|_| begins && digits && !padded)?;
    match value {
        whole if whole.fract() == 0.0 && whole.abs() < 9e15 => Some(format!("{}", whole as i64)),
        other => Number::from_f64(other).map(|number| number.to_string()),
    }
}

/// `-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?`
fn is_json_number(text: &str) -> bool {
    let digits = |text: &str| text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let text = text.strip_prefix('-').unwrap_or(text);
    let whole = digits(text);
    if whole == 0 || (whole > 1 && text.starts_with('0')) {
        return false;
    }
    let mut rest = &text[whole..];
    if let Some(fraction) = rest.strip_prefix('.') {
        let count = digits(fraction);
        if count == 0 {
            return false;
        }
        rest = &fraction[count..];
    }
    match rest.strip_prefix(['e', 'E']) {
        Some(exponent) => {
            let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
            !exponent.is_empty() && digits(exponent) == exponent.len()
        }
        None => rest.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_follow_the_schema() {
        let all = Kinds::ANY_BUT_STRING;
        for (text, kinds, json) in [
            ("3", Kinds::NUMBER, "3"),
            (" 3\n", Kinds::NUMBER, "3"),
            ("-1.50e+3", Kinds::NUMBER, "-1.50e+3"),
            ("12345678901234567890123", Kinds::NUMBER, "12345678901234567890123"),
            ("+5", Kinds::NUMBER, "5"),
            (".5", Kinds::NUMBER, "0.5"),
            ("007", Kinds::NUMBER, "\"007\""),
            ("3 apples", Kinds::NUMBER, "\"3 apples\""),
            ("nan", Kinds::NUMBER, "\"nan\""),
            ("1e999", Kinds::NUMBER, "1e999"),
            ("-", Kinds::NUMBER, "\"-\""),
            ("True", Kinds::BOOLEAN, "true"),
            ("yes", Kinds::BOOLEAN, "\"yes\""),
            ("1", Kinds::BOOLEAN, "\"1\""),
            ("None", Kinds::NUMBER, "null"),
            ("null", Kinds::STRING, "\"null\""),
            ("null", all, "null"),
            ("\"x\"", all, "\"x\""),
            ("a\"b", all, "\"a\\\"b\""),
            ("", Kinds::NUMBER, "\"\""),
        ] {
            assert_eq!(scalar(text, kinds), json, "{text}");
        }
        assert_eq!(word("bob", Kinds::default()), "\"bob\"");
        assert_eq!(word("5", Kinds::STRING), "\"5\"");
        assert_eq!(word("5", Kinds::default()), "5");
        assert_eq!(word("None", Kinds::STRING), "null");
    }
}
