//! Patterns for formats that the compiler doesn't know, or knows less exactly. Where a format is wide (a name in any script,
//! a regular expression), the pattern is a plain part of it. `bench/random_formats.py` tries them all.

/// A day from 0001-01-01 to 9999-12-31. RFC 3339 has a year 0, which hardly a program reads.
macro_rules! day {
    () => {
        concat!(
            "(?:",
            r"(?:[0-9]{3}[1-9]|[0-9]{2}[1-9]0|[0-9][1-9]00|[1-9]000)-",
            r"(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-8]))",
            // The years that four divides, of which a hundred divides only those that four hundred does.
            r"|(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00)-02-29",
            ")",
        )
    };
}

/// A time with its offset. RFC 3339 has leap seconds and small letters, which hardly a program reads.
macro_rules! time {
    () => {
        r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,9})?(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
    };
}

/// The pattern of a format.
pub(super) fn pattern(format: &str) -> Option<&'static str> {
    Some(match format {
        "date" => concat!("^", day!(), "$"),
        "time" => concat!("^", time!(), "$"),
        "date-time" => concat!("^", day!(), "T", time!(), "$"),
        "json-pointer" => r"^(/([^~/]|~[01])*)*$",
        "relative-json-pointer" => r"^(0|[1-9]+0?)(#|(/([^~/]|~[01])*)*)$",
        "uri-reference" | "iri-reference" => REFERENCE,
        "iri" => {
            r"^[A-Za-z][A-Za-z0-9+.-]*:(//[A-Za-z0-9.-]+(:[0-9]{1,5})?)?(/([A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})*)*(\?([A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*)?(#([A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*)?$"
        }
        "uri-template" => {
            r"^([A-Za-z0-9._~!$&()*+,;=:@/?#\[\]-]|%[0-9A-Fa-f]{2}|\{[+#./;?&]?[A-Za-z0-9_]+(\*|:[1-9][0-9]{0,2})?(,[A-Za-z0-9_]+(\*|:[1-9][0-9]{0,2})?)*\})*$"
        }
        "idn-email" => {
            r"^[A-Za-z0-9_+-]+(\.[A-Za-z0-9_+-]+)*@[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$"
        }
        "idn-hostname" => r"^[a-z0-9]([a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9]{0,61}[a-z0-9])?){0,3}$",
        "regex" => {
            r"^((\^|\$|([A-Za-z0-9 _,:;@/=<>!%&~'-]|\.|\\[dDwWsSbnrt.*+?^$|(){}\[\]\\/-]|\[\^?([A-Za-z0-9 _.,:;@/]|a-z|A-Z|0-9|\\[dws])+\])([*+?]|\{[0-9]\})?)\|?)*$"
        }
        _ => return None,
    })
}

/// A pattern that every text of a format matches, and others besides: what doesn't match it surely hasn't the format.
pub(super) fn wide(format: &str) -> Option<&'static str> {
    Some(match format {
        "date" => "^[0-9]{4}-[0-9]{2}-[0-9]{2}$",
        "time" => "^[0-9]{2}:[0-9]{2}:[0-9]{2}",
        "date-time" => "^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ]",
        "duration" => "^[+-]?P",
        "email" | "idn-email" => "@",
        "hostname" => "^[A-Za-z0-9._-]*$",
        "ipv4" => r"^[0-9.]*$",
        "ipv6" => ":",
        "uri" | "iri" => "^[A-Za-z][A-Za-z0-9+.-]*:",
        "uuid" => "^[A-Fa-f0-9-]{36}$",
        "json-pointer" => "^(/|$)",
        "relative-json-pointer" => "^[0-9]",
        _ => return None,
    })
}

/// A path, perhaps with a query and a fragment, perhaps behind a scheme and a host.
const REFERENCE: &str = r"^([A-Za-z][A-Za-z0-9+.-]*://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/([A-Za-z0-9._~!$&'()*+,;=@-]|%[0-9A-Fa-f]{2})*)*|/?([A-Za-z0-9._~!$&'()*+,;=@-]|%[0-9A-Fa-f]{2})+(/([A-Za-z0-9._~!$&'()*+,;=@-]|%[0-9A-Fa-f]{2})+)*/?|/)?(\?([A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*)?(#([A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*)?$";

/// A pattern of all texts but these: along the tree of their letters, each text that leaves it or ends elsewhere.
pub(super) fn except(texts: &[&str]) -> String {
    let mut rests: Vec<&str> = texts.to_vec();
    rests.sort_unstable();
    rests.dedup();
    format!("^{}$", branch(&rests))
}

/// All but these texts, which differ and are in order.
fn branch(rests: &[&str]) -> String {
    let ends_here = rests.first() == Some(&"");
    let mut firsts: Vec<char> = rests.iter().filter_map(|rest| rest.chars().next()).collect();
    firsts.dedup();
    let class: String = firsts.iter().map(|c| escape(*c)).collect();
    let mut ways = vec![if class.is_empty() { "(?s:.)+".into() } else { format!("[^{class}](?s:.)*") }];
    if !ends_here {
        ways.push(String::new());
    }
    ways.extend(firsts.iter().map(|first| {
        let below: Vec<&str> = rests.iter().filter_map(|rest| rest.strip_prefix(*first)).collect();
        format!("{}{}", escape(*first), branch(&below))
    }));
    format!("({})", ways.join("|"))
}

/// A character in a pattern or in a class of one.
fn escape(c: char) -> String {
    if c.is_alphanumeric() { c.to_string() } else { format!(r"\x{{{:X}}}", u32::from(c)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_texts_but_some() {
        assert_eq!(except(&["a"]), "^([^a](?s:.)*||a((?s:.)+))$");
        assert_eq!(except(&["", "a-"]), r"^([^a](?s:.)*|a([^\x{2D}](?s:.)*||\x{2D}((?s:.)+)))$");
    }
}
