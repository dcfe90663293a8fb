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
pub(super) fn format_pattern(format: &str) -> Option<&'static str> {
    const DATE: &str = "[1-9][0-9]{3}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)\
                        |02-(?:0[1-9]|1[0-9]|2[0-8]))";
    Some(match format {
        "date" => DATE,
        "time" => "(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])",
        "date-time" => {
            "[1-9][0-9]{3}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)\
             |02-(?:0[1-9]|1[0-9]|2[0-8]))T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]\
             (?:\\.[0-9]{1,6})?(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
        }
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
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_the_whole() {
        assert_eq!(schema_pattern("^a$"), "(?:a)");
        assert_eq!(schema_pattern("a"), r"(.|\n)*(?:a)(.|\n)*");
        assert_eq!(schema_pattern(r"^a\$"), r"(?:a\$)(.|\n)*");
        assert!(format_pattern("date").is_some() && format_pattern("regex").is_none());
    }
}
