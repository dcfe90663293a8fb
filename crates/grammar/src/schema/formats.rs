//! Patterns for what the compiler has none for. Where a format is wide (a name in any script, a regular expression), the
//! pattern is a plain part of it.

/// The pattern of a format.
pub(super) fn pattern(format: &str) -> Option<&'static str> {
    Some(match format {
        "json-pointer" => r"^(/([^~/]|~[01])*)*$",
        "relative-json-pointer" => r"^(0|[1-9][0-9]*)(#|(/([^~/]|~[01])*)*)$",
        "uri-reference" | "iri-reference" => REFERENCE,
        "iri" => {
            r"^[A-Za-z][A-Za-z0-9+.-]*:(//[A-Za-z0-9.-]+(:[0-9]{1,5})?)?(/([A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})*)*(\?([A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*)?(#([A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*)?$"
        }
        "uri-template" => {
            r"^([A-Za-z0-9._~!$&()*+,;=:@/?#\[\]-]|%[0-9A-Fa-f]{2}|\{[+#./;?&]?[A-Za-z0-9_]+(\*|:[1-9][0-9]{0,3})?(,[A-Za-z0-9_]+(\*|:[1-9][0-9]{0,3})?)*\})*$"
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

/// A path, perhaps with a query and a fragment, perhaps behind a scheme and a host.
const REFERENCE: &str = r"^([A-Za-z][A-Za-z0-9+.-]*://[A-Za-z0-9.-]+(:[0-9]{1,5})?)?(/?([A-Za-z0-9._~!$&'()*+,;=@-]|%[0-9A-Fa-f]{2})+)*/?(\?([A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*)?(#([A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*)?$";

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
