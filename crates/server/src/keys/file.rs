//! `--api-keys-file`: keys with names and limits, in YAML or JSON.
//!
//! Messages name the entry and the field and never show a value: what stands in the wrong place may be a key.

use std::{
    collections::HashSet,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use serde_json::{Map, Value};

use super::key::{KeySpec, digest};
use crate::ServerError;

/// Longest file, in bytes.
const MAX_FILE: u64 = 4 << 20;

/// Most keys: a request is compared with every one.
const MAX_KEYS: usize = 10_000;

/// Longest name, in characters.
const MAX_NAME: usize = 64;

/// A file of keys as it was read last. It holds no key, only digests.
#[derive(Debug, Clone)]
pub struct KeysFile {
    path: PathBuf,
    pub(super) keys: Vec<KeySpec>,
}

impl KeysFile {
    /// Reads a file: `keys:` with a list of entries that have a `name`, either `key` or its `sha256` in hexadecimal
    /// digits, and as they like `requests_per_minute`, `tokens_per_minute`, `models` (a list of names) and `admin`.
    ///
    /// # Errors
    /// The file can't be read, or an entry is wrong. No message shows a value from the file.
    pub fn open(path: &Path) -> Result<Self, ServerError> {
        let refuse = |reason| ServerError::KeysFile { path: path.to_owned(), reason };
        let text = read(path).map_err(refuse)?;
        let keys = parse(&text).map_err(refuse)?;
        Ok(Self { path: path.to_owned(), keys })
    }

    /// Reads the same file again.
    ///
    /// # Errors
    /// As in [`open`](Self::open).
    pub(crate) fn reopen(&self) -> Result<Self, ServerError> {
        Self::open(&self.path)
    }
}

fn read(path: &Path) -> Result<String, String> {
    let file = File::open(path).map_err(|error| format!("it cannot be opened ({error})"))?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("it cannot be read ({error})"))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(format!("it is longer than {MAX_FILE} bytes"));
    }
    String::from_utf8(bytes).map_err(|_| "it is not UTF-8 text".into())
}

/// JSON is YAML too.
fn parse(text: &str) -> Result<Vec<KeySpec>, String> {
    let value: Value = serde_saphyr::from_str(text).map_err(|error| match error.location() {
        Some(place) => format!("it is not valid YAML or JSON (line {})", place.line()),
        None => "it is not valid YAML or JSON".into(),
    })?;
    let Value::Object(mut file) = value else { return Err("it must hold `keys:` and a list".into()) };
    let Some(Value::Array(entries)) = file.remove("keys") else {
        return Err("it must hold `keys:` and a list".into());
    };
    if let Some(name) = file.keys().next() {
        return Err(format!("there is no setting `{}` beside `keys`", shown(name)));
    }
    if entries.is_empty() {
        return Err("it holds no key; leave out --api-keys-file to let everybody in".into());
    }
    if entries.len() > MAX_KEYS {
        return Err(format!("it holds {} keys; at most {MAX_KEYS} are allowed", entries.len()));
    }
    let keys: Vec<KeySpec> =
        (1..).zip(entries).map(|(number, entry)| read_entry(number, entry)).collect::<Result<_, _>>()?;
    check_unique(&keys)?;
    Ok(keys)
}

fn read_entry(number: usize, entry: Value) -> Result<KeySpec, String> {
    let Value::Object(fields) = entry else {
        return Err(format!("entry {number} must hold fields such as `name`"));
    };
    let mut entry = Entry { label: format!("entry {number}"), fields };
    let name = entry.text("name")?.ok_or_else(|| entry.problem("needs a `name`"))?;
    if name.is_empty() || name.chars().count() > MAX_NAME || name.chars().any(char::is_control) {
        return Err(entry.problem(&format!("needs a `name` of 1 to {MAX_NAME} printable characters")));
    }
    entry.label = format!("the key `{name}`");
    let spec = KeySpec {
        digest: entry.digest()?,
        requests_per_minute: entry.per_minute("requests_per_minute")?,
        tokens_per_minute: entry.per_minute("tokens_per_minute")?,
        models: entry.models()?,
        admin: entry.flag("admin")?,
        name,
    };
    match entry.fields.keys().next() {
        Some(field) => Err(entry.problem(&format!("has a field `{}` that nobody knows", shown(field)))),
        None => Ok(spec),
    }
}

/// Fields of one entry; each is taken out when it is read.
struct Entry {
    label: String,
    fields: Map<String, Value>,
}

impl Entry {
    fn problem(&self, what: &str) -> String {
        format!("{} {what}", self.label)
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        self.fields.remove(name).filter(|value| !value.is_null())
    }

    fn text(&mut self, name: &str) -> Result<Option<String>, String> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            // A key of digits only, written without quotes, has lost its leading zeros by now.
            Some(_) => Err(self.problem(&format!("has a `{name}` that is not text; put it into quotes"))),
        }
    }

    fn digest(&mut self) -> Result<[u8; 32], String> {
        match (self.text("key")?, self.text("sha256")?) {
            (Some(key), None) if key.trim().is_empty() => Err(self.problem("has an empty `key`")),
            (Some(key), None) => Ok(digest(key.as_bytes())),
            (None, Some(hex)) => from_hex(&hex).ok_or_else(|| {
                self.problem(
                    "has a `sha256` that is not 64 hexadecimal digits (see `printf %s KEY | sha256sum`)",
                )
            }),
            _ => Err(self.problem("needs either `key` or `sha256`")),
        }
    }

    fn per_minute(&mut self, name: &str) -> Result<Option<u64>, String> {
        match self.take(name) {
            None => Ok(None),
            Some(value) => match value.as_u64().filter(|limit| (1..=1 << 40).contains(limit)) {
                Some(limit) => Ok(Some(limit)),
                None => {
                    Err(self.problem(&format!("has a `{name}` that is not a whole number of at least 1")))
                }
            },
        }
    }

    fn models(&mut self) -> Result<Option<Vec<String>>, String> {
        let Some(value) = self.take("models") else { return Ok(None) };
        let names = value.as_array().and_then(|list| {
            list.iter().map(|name| name.as_str().map(str::to_owned)).collect::<Option<Vec<String>>>()
        });
        match names {
            Some(names) if !names.is_empty() => Ok(Some(names)),
            _ => Err(self.problem("has `models` that are not a list of names; leave it out to allow all")),
        }
    }

    fn flag(&mut self, name: &str) -> Result<bool, String> {
        match self.take(name) {
            None => Ok(false),
            Some(Value::Bool(on)) => Ok(on),
            Some(_) => Err(self.problem(&format!("has a `{name}` that is neither true nor false"))),
        }
    }
}

fn check_unique(keys: &[KeySpec]) -> Result<(), String> {
    let (mut names, mut digests) = (HashSet::new(), HashSet::new());
    for key in keys {
        if !names.insert(&key.name) {
            return Err(format!("two keys have the name `{}`", key.name));
        }
        if !digests.insert(key.digest) {
            return Err(format!("the key `{}` is the same as another one", key.name));
        }
    }
    Ok(())
}

fn from_hex(hex: &str) -> Option<[u8; 32]> {
    let hex = hex.trim().as_bytes();
    if hex.len() != 64 {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(hex.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

/// A field's name, as far as it can be one.
fn shown(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if name.chars().count() <= 30 && name.chars().all(plain) { name.to_owned() } else { "…".into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yaml_and_json_say_the_same() {
        let yaml = "\
# who may ask
keys:
  - name: ada
    key: sk-ada
    requests_per_minute: 60
    tokens_per_minute: 100000
    models: [small, big]
    admin: true
  - name: bob
    sha256: 2BB80D537B1DA3E38BD30361AA855686BDE0EACD7162FEF6A25FE97BF527A25B
";
        let json = r#"{"keys": [
            {"name": "ada", "key": "sk-ada", "requests_per_minute": 60, "tokens_per_minute": 100000,
             "models": ["small", "big"], "admin": true},
            {"name": "bob", "key": "secret"}]}"#;
        let keys = parse(yaml).unwrap();
        assert_eq!(keys, parse(json).unwrap());
        assert_eq!((keys[0].requests_per_minute, keys[0].tokens_per_minute), (Some(60), Some(100_000)));
        assert!(keys[0].admin && !keys[1].admin);
        assert_eq!(keys[1].models, None);
    }

    #[test]
    fn faults_are_named_and_values_are_not_shown() {
        for (text, part) in [
            ("", "must hold `keys:`"),
            ("- SECRET", "must hold `keys:`"),
            ("keys: []", "holds no key"),
            ("keys: {a: SECRET}", "must hold `keys:`"),
            ("keys: [SECRET]", "entry 1 must hold fields"),
            ("keys: [{key: SECRET}]", "entry 1 needs a `name`"),
            ("keys: [{name: '', key: SECRET}]", "1 to 64 printable"),
            ("keys: [{name: a}]", "the key `a` needs either"),
            ("keys: [{name: a, key: SECRET, sha256: SECRET}]", "the key `a` needs either"),
            ("keys: [{name: a, key: 1234}]", "put it into quotes"),
            ("keys: [{name: a, key: ' '}]", "empty `key`"),
            ("keys: [{name: a, sha256: SECRET}]", "64 hexadecimal digits"),
            ("keys: [{name: a, key: SECRET, requests_per_minute: 0}]", "`requests_per_minute`"),
            ("keys: [{name: a, key: SECRET, tokens_per_minute: SECRET}]", "`tokens_per_minute`"),
            ("keys: [{name: a, key: SECRET, models: SECRET}]", "`models`"),
            ("keys: [{name: a, key: SECRET, models: []}]", "`models`"),
            ("keys: [{name: a, key: SECRET, admin: SECRET}]", "`admin`"),
            ("keys: [{name: a, key: SECRET, limit: 3}]", "field `limit`"),
            ("keys: [{name: a, key: SECRET, 'SECRET!': 3}]", "field `…`"),
            ("keys: [{name: a, key: SECRET}, {name: a, key: b}]", "two keys have the name `a`"),
            ("keys: [{name: a, key: SECRET}, {name: b, key: SECRET}]", "`b` is the same"),
            ("key: 3\nkeys: [{name: a, key: SECRET}]", "setting `key`"),
            ("keys: [SECRET", "not valid YAML"),
            ("keys: !SECRET &SECRET *SECRET", "not valid YAML"),
        ] {
            let message = parse(text).unwrap_err();
            assert!(message.contains(part), "{text}: {message}");
            assert!(!message.contains("SECRET"), "{text}: {message}");
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        let message = KeysFile::open(Path::new("/no/such/keys")).unwrap_err().to_string();
        assert!(message.contains("/no/such/keys"), "{message}");
    }
}
