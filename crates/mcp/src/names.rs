//! The names under which models and clients know the tools.

use std::collections::HashMap;

use sha2::{Digest, Sha256};

/// OpenAI's bound for the name of a function.
const LONGEST: usize = 64;

/// Names for tools, given as (server, tool): `server__tool` where that is a valid function name and only one tool's,
/// else a cleaned and shortened form of it with a hash of both at its end. A name depends on nothing but the tools
/// themselves: not on their order, nor on which server came up first. Two tools that want the same name both get a
/// hash, so that no server takes another one's name away.
pub(crate) fn assign(tools: &[(&str, &str)]) -> Vec<String> {
    let plain: Vec<String> = tools.iter().map(|(server, tool)| format!("{server}__{tool}")).collect();
    let mut wanted: HashMap<&str, usize> = HashMap::new();
    for name in &plain {
        *wanted.entry(name).or_default() += 1;
    }
    let name = |(name, (server, tool)): (&String, &(&str, &str))| {
        let usable =
            name.len() <= LONGEST && name.bytes().all(is_plain) && wanted.get(name.as_str()) == Some(&1);
        if usable { name.clone() } else { hashed(name, server, tool) }
    };
    plain.iter().zip(tools).map(name).collect()
}

fn hashed(name: &str, server: &str, tool: &str) -> String {
    let mut hash = Sha256::new();
    // The length keeps ("a", "bc") and ("ab", "c") apart.
    hash.update((server.len() as u64).to_le_bytes());
    hash.update(server);
    hash.update(tool);
    let mark: String = hash.finalize().iter().take(5).map(|byte| format!("{byte:02x}")).collect();
    let most = LONGEST - mark.len() - 1;
    let clean = |c: char| if c.is_ascii() && is_plain(c as u8) { c } else { '_' };
    let head: String = name.chars().map(clean).take(most).collect();
    format!("{head}_{mark}")
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_names_stay_readable() {
        assert_eq!(assign(&[("time", "now"), ("files", "read-file")]), ["time__now", "files__read-file"]);
    }

    #[test]
    fn every_name_is_valid_unique_and_independent_of_the_order() {
        let long = "x".repeat(100);
        let tools = [
            ("a", "b__c"),
            ("a__b", "c"),
            ("my server", "näme"),
            ("my_server", "n_me"),
            ("s", long.as_str()),
            ("s", &long[..90]),
            ("s", ""),
            ("🙂", "🙂"),
            ("fine", "too"),
        ];
        let names = assign(&tools);
        let unique: std::collections::HashSet<&String> = names.iter().collect();
        assert_eq!(unique.len(), tools.len(), "{names:?}");
        assert!(
            names.iter().all(|name| (1..=LONGEST).contains(&name.len()) && name.bytes().all(is_plain)),
            "{names:?}"
        );
        let mut backwards = tools;
        backwards.reverse();
        let mut again = assign(&backwards);
        again.reverse();
        assert_eq!(names, again);
        // Neither of two tools that want the same name gets it.
        assert!(!names.contains(&"a__b__c".to_owned()), "{names:?}");
    }
}
