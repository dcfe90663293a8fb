//! Values that nobody may see: environment variables, headers, parts of URLs.

use std::{borrow::Cow, fmt};

/// Shorter values would blank out half of every text, and are no secrets either.
const SHORTEST: usize = 4;

/// In results, which the model needs, even more so: paths and numbers are left alone unless they are long.
const SHORTEST_IN_RESULTS: usize = 8;

/// What stands in a secret's place.
const BLANK: &str = "[secret]";

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for whom it is meant.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(BLANK)
    }
}

/// Takes the secrets of one server out of texts that leave this crate.
#[derive(Clone, Default)]
pub(crate) struct Redactor {
    /// Everything that the configuration gives the server in confidence; longest first.
    all: Vec<String>,
    /// Of these, what is a secret beyond doubt; longest first.
    sure: Vec<String>,
}

impl Redactor {
    /// Adds a value. `sure`: it is a secret by its name or its origin, and not only by its place.
    pub(crate) fn add(&mut self, value: &str, sure: bool) {
        insert(&mut self.all, value, SHORTEST);
        if sure {
            insert(&mut self.sure, value, SHORTEST_IN_RESULTS);
        }
    }

    /// For logs, errors and states.
    pub(crate) fn clean(&self, text: &str) -> String {
        replace(&self.all, text).into_owned()
    }

    /// For results of calls, which models read.
    pub(crate) fn clean_result(&self, text: String) -> String {
        match replace(&self.sure, &text) {
            Cow::Borrowed(_) => text,
            Cow::Owned(cleaned) => cleaned,
        }
    }
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Redactor({} values)", self.all.len())
    }
}

/// Whether a variable of this name holds a secret.
pub(crate) fn names_a_secret(name: &str) -> bool {
    const WORDS: [&str; 8] = ["KEY", "TOKEN", "SECRET", "PASS", "AUTH", "CRED", "COOKIE", "PRIVATE"];
    let name = name.to_ascii_uppercase();
    WORDS.iter().any(|word| name.contains(word))
}

fn insert(values: &mut Vec<String>, value: &str, shortest: usize) {
    if value.len() < shortest || values.iter().any(|known| known == value) {
        return;
    }
    // A secret that holds another one has to go first.
    let at = values.partition_point(|known| known.len() >= value.len());
    values.insert(at, value.to_owned());
}

fn replace<'a>(values: &[String], text: &'a str) -> Cow<'a, str> {
    values.iter().fold(Cow::Borrowed(text), |text, value| {
        if text.contains(value.as_str()) { Cow::Owned(text.replace(value.as_str(), BLANK)) } else { text }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_go_and_the_rest_stays() {
        let mut redactor = Redactor::default();
        redactor.add("hunter2-token", true);
        redactor.add("hunter2", true);
        redactor.add("/data/projects", false);
        redactor.add("on", true);
        let text = "hunter2-token hunter2 on /data/projects/a";
        assert_eq!(redactor.clean(text), "[secret] [secret] on [secret]/a");
        assert_eq!(redactor.clean_result(text.to_owned()), "[secret] hunter2 on /data/projects/a");
    }

    #[test]
    fn debug_shows_nothing() {
        let mut redactor = Redactor::default();
        redactor.add("hunter2", true);
        assert_eq!(format!("{redactor:?} {:?}", Secret::new("hunter2")), "Redactor(1 values) [secret]");
    }

    #[test]
    fn names_tell() {
        assert!(["API_KEY", "githubToken", "PGPASSWORD"].iter().all(|name| names_a_secret(name)));
        assert!(["HOME", "PORT", "LOG_LEVEL"].iter().all(|name| !names_a_secret(name)));
    }
}
