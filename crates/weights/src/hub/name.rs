//! Names of models, revisions and files: what is allowed, and nothing else.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::{Result, WeightsError};

/// A model's id on the Hub: `ORG/NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelId {
    org: String,
    name: String,
}

impl ModelId {
    /// Checks the form: two parts of letters, digits, `-`, `_` and `.`, at most 96 characters each.
    ///
    /// # Errors
    /// [`WeightsError::BadName`], which says what would be accepted.
    pub fn parse(text: &str) -> Result<Self> {
        let bad = |problem: &str| WeightsError::BadName {
            name: text.chars().take(200).collect(),
            problem: problem.into(),
        };
        let looks_like_path = text.starts_with(['/', '.', '~']) || text.ends_with('/');
        if looks_like_path || text.matches('/').count() > 1 {
            return Err(bad("there is no such file or folder"));
        }
        let (org, name) = text
            .split_once('/')
            .ok_or_else(|| bad("there is no such folder, and a Hub id has the form ORG/NAME"))?;
        if !is_id_part(org) || !is_id_part(name) {
            return Err(bad("a Hub id is ORG/NAME of letters, digits, '-', '_' and '.'"));
        }
        Ok(Self { org: org.into(), name: name.into() })
    }

    /// The folder of this model in the cache.
    pub fn cache_name(&self) -> String {
        format!("models--{}--{}", self.org, self.name)
    }
}

impl fmt::Display for ModelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.org, self.name)
    }
}

fn is_id_part(part: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
    edge(part.chars().next())
        && part.len() <= 96
        && !part.contains("--")
        && !part.contains("..")
        && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

/// A revision may hold slashes (`refs/pr/1`), but must be a path that stays inside `refs/`.
pub(crate) fn check_revision(revision: &str) -> Result<()> {
    if is_safe_path(revision) {
        return Ok(());
    }
    let problem = "a revision is the name of a branch, a tag or a commit".into();
    Err(WeightsError::BadName { name: revision.chars().take(200).collect(), problem })
}

/// A relative path with plain parts only: it can't lead out of the folder it is appended to.
pub(crate) fn is_safe_path(path: &str) -> bool {
    path.len() <= 1024 && path.split('/').all(crate::local::is_plain_name)
}

/// An etag that can be a file name.
pub(crate) fn is_safe_etag(etag: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    !etag.is_empty() && etag.len() <= 128 && etag.chars().all(allowed)
}

/// A commit id: 40 hexadecimal digits, or 64 for newer repositories.
pub(crate) fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'))
}

/// An existing folder, or the folder of an existing file.
pub(crate) fn find_local(path: &Path) -> Option<PathBuf> {
    if path.is_dir() {
        return Some(path.into());
    }
    let parent = path.is_file().then(|| path.parent())??;
    Some(if parent.as_os_str().is_empty() { PathBuf::from(".") } else { parent.into() })
}

/// A revision or file name as part of a URL; slashes stay if `keep_slash`.
pub(crate) fn percent_encode(text: &str, keep_slash: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(byte.into()),
            b'/' if keep_slash => out.push('/'),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_two_plain_parts() {
        for good in ["Qwen/Qwen3-0.6B", "a/b", "_x/Llama.3"] {
            assert_eq!(ModelId::parse(good).unwrap().to_string(), good);
        }
        assert_eq!(ModelId::parse("Qwen/Qwen3-0.6B").unwrap().cache_name(), "models--Qwen--Qwen3-0.6B");
        for bad in [
            "", "a", "a/b/c", "/a/b", "./a", "../a", "~/a", "a/", "/a", "a/..", "a--b/c", "a/b c", "a/b?x",
            "a/-b", "ä/b",
        ] {
            assert!(ModelId::parse(bad).is_err(), "{bad}");
        }
        assert!(ModelId::parse(&format!("a/{}", "b".repeat(97))).is_err());
    }

    #[test]
    fn paths_and_etags_stay_inside() {
        for good in ["main", "refs/pr/1", "v1.0", "a b"] {
            assert!(is_safe_path(good), "{good}");
        }
        for bad in ["", "..", "a/../b", "/a", "a//b", "a/", "a\\b", "a\nb", "c:/x"] {
            assert!(!is_safe_path(bad), "{bad}");
        }
        assert!(is_safe_etag("d41d8cd98f00b204-3") && !is_safe_etag("../x") && !is_safe_etag("a.lock"));
        assert!(is_commit(&"0a".repeat(20)) && !is_commit("main") && !is_commit(&"0A".repeat(20)));
    }

    #[test]
    fn urls_are_encoded() {
        assert_eq!(percent_encode("refs/pr/1", false), "refs%2Fpr%2F1");
        assert_eq!(percent_encode("a b/c#?.json", true), "a%20b/c%23%3F.json");
    }
}
