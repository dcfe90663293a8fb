//! What JSON Schema says of strings, for strings that stand without quotes.

/// A schema's `pattern`, which may match anywhere in a text, as one that matches the whole of it. Where it has
/// alternatives with anchors of their own, this allows fewer texts.
pub(super) fn schema_pattern(pattern: &str) -> String {
    const ANY: &str = r"(.|\n)*";
    let (before, pattern) = match pattern.strip_prefix('^') {
        Some(rest) => ("", rest),
        None => (ANY, pattern),
    };
    let anchored = pattern.strip_suffix('$').filter(|rest| {
        let escapes = rest.len() - rest.trim_end_matches('\\').len();
        escapes.is_multiple_of(2)
    });
    match anchored {
        Some(pattern) => format!("{before}(?:{pattern})"),
        None => format!("{before}(?:{pattern}){ANY}"),
    }
}

/// A `format` that can be told from the text alone, as a pattern that matches the whole of it. It may allow fewer texts.
pub(super) fn format_pattern(format: &str) -> Option<String> {
    if let Some(pattern) = millrace_grammar::format_pattern(format) {
        return Some(schema_pattern(pattern));
    }
    let pattern = match format {
        "uuid" => "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
        "ipv4" => {
            "(?:(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])\\.){3}(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
        }
        "email" => {
            "[a-zA-Z0-9_+-]{1,32}(?:\\.[a-zA-Z0-9_+-]{1,32}){0,4}@[a-zA-Z0-9]{1,32}(?:[.-][a-zA-Z0-9]{1,32}){1,6}"
        }
        "uri" => {
            "https?://[a-zA-Z0-9]{1,63}(?:[.-][a-zA-Z0-9]{1,63}){0,8}(?::[1-9][0-9]{0,3})?(?:/[a-zA-Z0-9._~-]*)*"
        }
        _ => return None,
    };
    Some(pattern.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_the_whole() {
        assert_eq!(schema_pattern("^a$"), "(?:a)");
        assert_eq!(schema_pattern("a"), r"(.|\n)*(?:a)(.|\n)*");
        assert_eq!(schema_pattern(r"^a\$"), r"(?:a\$)(.|\n)*");
        assert!(format_pattern("uuid").is_some() && format_pattern("colour").is_none());
        let date = format_pattern("date").unwrap();
        assert!(date.starts_with("(?:") && date.ends_with(')') && !date.contains('$'));
    }
}
