//! From the file to servers: strict, and nothing of a secret in the errors.

use std::{
    collections::BTreeMap,
    env, fs,
    io::Read,
    path::{Path, PathBuf},
    time::Duration,
};

use http::{HeaderName, HeaderValue};
use reqwest::Url;
use serde::Deserialize;
use serde_json::Value;

use super::{Endpoint, McpConfig, RemoteSpec, ServerSpec, StdioSpec, expand::expand};
use crate::{
    CommandRules, McpError, Secret,
    address::{PRIVATE, is_public},
    error::shorten,
    secret::{Redactor, names_a_secret},
};

const MOST_BYTES: u64 = 1 << 20;
const MOST_SERVERS: usize = 64;
const LONGEST_NAME: usize = 64;
const LONGEST_TIMEOUT: f64 = 3600.0;

/// Headers that belong to the protocol.
const RESERVED_HEADERS: [&str; 6] =
    ["accept", "content-type", "last-event-id", "mcp-protocol-version", "mcp-session-id", "host"];

/// One entry as it is written. Maps are ordered by name, so that errors are always the same.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
struct Entry {
    #[serde(rename = "type")]
    kind: Option<String>,
    command: Option<String>,
    args: Vec<String>,
    env: BTreeMap<String, String>,
    cwd: Option<String>,
    url: Option<String>,
    headers: BTreeMap<String, String>,
    allow_private: bool,
    timeout: Option<f64>,
    disabled: bool,
    allowed_tools: Option<Vec<String>>,
}

type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

impl ServerSpec {
    /// A server behind a URL, reached over streamable HTTP, that somebody else than the operator names: variables in its
    /// texts stay as they are.
    ///
    /// # Errors
    /// With the first field that is wrong, or if the URL leads to a private address and `allow_private` doesn't.
    pub fn remote(
        name: &str,
        url: String,
        headers: impl IntoIterator<Item = (String, String)>,
        allow_private: bool,
    ) -> Result<Self, McpError> {
        let place = place(name)?;
        let headers = headers.into_iter().collect();
        let entry = Entry { url: Some(url), headers, allow_private, ..Entry::default() };
        let mut reader = Reader { place, lookup: None, redactor: Redactor::default() };
        let endpoint = Endpoint::Http(reader.remote(&entry)?);
        Ok(Self {
            name: name.to_owned(),
            endpoint,
            timeout: None,
            disabled: false,
            allowed_tools: None,
            redactor: reader.redactor,
        })
    }
}

impl McpConfig {
    /// Reads a file. Variables come from this process's environment.
    ///
    /// # Errors
    /// If the file can't be read, or with the first field that is wrong.
    pub fn load(path: &Path, rules: &CommandRules) -> Result<Self, McpError> {
        let failed = |reason: String| McpError::File { path: path.to_owned(), reason };
        let mut text = String::new();
        let file = fs::File::open(path).map_err(|error| failed(error.to_string()))?;
        file.take(MOST_BYTES + 1).read_to_string(&mut text).map_err(|error| failed(error.to_string()))?;
        if text.len() as u64 > MOST_BYTES {
            return Err(failed(format!("it is larger than {MOST_BYTES} bytes")));
        }
        Self::parse(&text, rules, &|name| env::var(name).ok())
    }

    /// Reads the text of a file; `lookup` knows the variables.
    ///
    /// # Errors
    /// With the first field that is wrong.
    pub fn parse(text: &str, rules: &CommandRules, lookup: Lookup<'_>) -> Result<Self, McpError> {
        let whole: Value = serde_json::from_str(text).map_err(|error| {
            // The error's own words may quote the text.
            let place = format!("line {}, column {}", error.line(), error.column());
            wrong(&place, "this is no JSON; check commas, quotes and brackets")
        })?;
        let entries = whole.get("mcpServers").and_then(Value::as_object).ok_or_else(|| {
            wrong(
                "mcpServers",
                "it is missing or no object; write {\"mcpServers\": {\"NAME\": {\"command\": …}}}",
            )
        })?;
        if entries.len() > MOST_SERVERS {
            return Err(wrong(
                "mcpServers",
                &format!("there are more than {MOST_SERVERS} servers; leave some out"),
            ));
        }
        let servers = entries.iter().map(|(name, entry)| server(name, entry, rules, lookup));
        Ok(Self { servers: servers.collect::<Result<_, _>>()? })
    }
}

fn server(
    name: &str,
    entry: &Value,
    rules: &CommandRules,
    lookup: Lookup<'_>,
) -> Result<ServerSpec, McpError> {
    let place = place(name)?;
    let entry: Entry = serde_path_to_error::deserialize(entry).map_err(|error| {
        let field = error.path().to_string();
        let place = if field == "." { place.clone() } else { format!("{place}.{field}") };
        wrong(&place, &without_values(&error.inner().to_string()))
    })?;
    let mut reader = Reader { place, lookup: Some(lookup), redactor: Redactor::default() };
    let endpoint = reader.endpoint(&entry, rules)?;
    let timeout = reader.timeout(entry.timeout)?;
    Ok(ServerSpec {
        name: name.to_owned(),
        endpoint,
        timeout,
        disabled: entry.disabled,
        allowed_tools: entry.allowed_tools,
        redactor: reader.redactor,
    })
}

/// Where errors say that a server's mistakes are.
fn place(name: &str) -> Result<String, McpError> {
    let place = format!("mcpServers.{}", shorten(name, LONGEST_NAME));
    if name.is_empty() || name.chars().count() > LONGEST_NAME || name.chars().any(char::is_control) {
        let problem =
            format!("a name has 1 to {LONGEST_NAME} characters and no control characters; choose another");
        return Err(wrong(&place, &problem));
    }
    Ok(place)
}

/// Reads one entry and gathers its secrets.
struct Reader<'a> {
    place: String,
    /// Knows the variables, if any are put in.
    lookup: Option<Lookup<'a>>,
    redactor: Redactor,
}

impl Reader<'_> {
    fn endpoint(&mut self, entry: &Entry, rules: &CommandRules) -> Result<Endpoint, McpError> {
        let kind = match (entry.kind.as_deref(), &entry.command, &entry.url) {
            (None | Some("stdio"), Some(_), None) => "stdio",
            (
                None | Some("http" | "streamable-http" | "streamableHttp" | "streamable_http"),
                None,
                Some(_),
            ) => "http",
            (Some("sse"), None, Some(_)) => "sse",
            (_, Some(_), Some(_)) => {
                return Err(self.wrong("", "it has both `command` and `url`; leave one out"));
            }
            (_, None, None) => {
                return Err(self.wrong("", "it needs a `command` (a program to start) or a `url`"));
            }
            (Some("stdio"), ..) => {
                return Err(self.wrong(".type", "\"stdio\" needs a `command`, not a `url`"));
            }
            (Some("http" | "sse"), ..) => {
                return Err(self.wrong(".type", "this type needs a `url`, not a `command`"));
            }
            _ => return Err(self.wrong(".type", "it must be \"stdio\", \"http\" or \"sse\"")),
        };
        let foreign = if kind == "stdio" {
            [("headers", entry.headers.is_empty()), ("allowPrivate", !entry.allow_private), ("", true)]
        } else {
            [("args", entry.args.is_empty()), ("env", entry.env.is_empty()), ("cwd", entry.cwd.is_none())]
        };
        if let Some((name, _)) = foreign.iter().find(|(_, absent)| !absent) {
            return Err(self
                .wrong(&format!(".{name}"), &format!("it means nothing to a {kind} server; leave it out")));
        }
        Ok(match kind {
            "stdio" => Endpoint::Stdio(self.stdio(entry, rules)?),
            "http" => Endpoint::Http(self.remote(entry)?),
            _ => Endpoint::Sse(self.remote(entry)?),
        })
    }

    fn stdio(&mut self, entry: &Entry, rules: &CommandRules) -> Result<StdioSpec, McpError> {
        let command = entry.command.clone().unwrap_or_default();
        rules.check(&command).map_err(|problem| self.wrong(".command", &problem))?;
        let mut args = Vec::with_capacity(entry.args.len());
        for (index, arg) in entry.args.iter().enumerate() {
            let (value, expanded) = self.expand(&format!(".args[{index}]"), arg)?;
            if expanded {
                self.redactor.add(&value, true);
            }
            args.push(Secret::new(value));
        }
        let mut env = Vec::with_capacity(entry.env.len());
        for (name, text) in &entry.env {
            let field = format!(".env.{name}");
            if name.is_empty() || name.contains(['=', '\0']) {
                return Err(self.wrong(&field, "this is no name for an environment variable"));
            }
            let (value, expanded) = self.expand(&field, text)?;
            self.redactor.add(&value, expanded || names_a_secret(name));
            env.push((name.clone(), Secret::new(value)));
        }
        let cwd = entry.cwd.as_ref().map(PathBuf::from);
        if cwd.as_ref().is_some_and(|cwd| !cwd.is_dir()) {
            return Err(self.wrong(".cwd", "there is no such folder"));
        }
        Ok(StdioSpec { command, args, env, cwd })
    }

    fn remote(&mut self, entry: &Entry) -> Result<RemoteSpec, McpError> {
        let (text, expanded) = self.expand(".url", entry.url.as_deref().unwrap_or_default())?;
        let url =
            Url::parse(&text).map_err(|_| self.wrong(".url", "this is no URL; write https://HOST/PATH"))?;
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return Err(self.wrong(".url", "only http:// and https:// URLs can be served"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            let problem = "it holds a user or a password; put them into `headers` as \"Authorization\"";
            return Err(self.wrong(".url", problem));
        }
        // A host is plain in logs anyway; what follows it may be a key.
        self.redactor.add(url.path().trim_matches('/'), expanded);
        for (_, value) in url.query_pairs() {
            self.redactor.add(&value, true);
        }
        self.redactor.add(url.query().unwrap_or_default(), true);
        if !entry.allow_private && literal_address(&url).is_some_and(|address| !is_public(address)) {
            return Err(self.wrong(".url", PRIVATE));
        }
        let mut headers = Vec::with_capacity(entry.headers.len());
        for (name, text) in &entry.headers {
            headers.push(self.header(name, text)?);
        }
        Ok(RemoteSpec { url, headers, allow_private: entry.allow_private })
    }

    fn header(&mut self, name: &str, text: &str) -> Result<(HeaderName, HeaderValue), McpError> {
        let field = format!(".headers.{}", shorten(name, 64));
        let header =
            HeaderName::try_from(name).map_err(|_| self.wrong(&field, "this is no name for a header"))?;
        if RESERVED_HEADERS.contains(&header.as_str()) {
            return Err(self.wrong(&field, "the protocol sets this header itself; leave it out"));
        }
        let (value, _) = self.expand(&field, text)?;
        let mut sent = HeaderValue::from_str(&value)
            .map_err(|_| self.wrong(&field, "the value can't be sent in a header"))?;
        sent.set_sensitive(true);
        self.redactor.add(&value, true);
        // Servers quote the token alone.
        if let Some((_, token)) = value.split_once(' ') {
            self.redactor.add(token.trim(), true);
        }
        Ok((header, sent))
    }

    fn timeout(&self, seconds: Option<f64>) -> Result<Option<Duration>, McpError> {
        match seconds {
            Some(s) if !(s > 0.0 && s <= LONGEST_TIMEOUT) => {
                let problem = format!("it must be a number of seconds above 0, at most {LONGEST_TIMEOUT}");
                Err(self.wrong(".timeout", &problem))
            }
            seconds => Ok(seconds.map(Duration::from_secs_f64)),
        }
    }

    fn expand(&self, field: &str, text: &str) -> Result<(String, bool), McpError> {
        let (value, expanded) = match self.lookup {
            Some(lookup) => expand(text, lookup).map_err(|problem| self.wrong(field, &problem))?,
            None => (text.to_owned(), false),
        };
        if value.contains('\0') {
            return Err(self.wrong(field, "it holds a zero byte"));
        }
        Ok((value, expanded))
    }

    fn wrong(&self, field: &str, problem: &str) -> McpError {
        wrong(&format!("{}{field}", self.place), problem)
    }
}

fn wrong(place: &str, problem: &str) -> McpError {
    McpError::Config { place: place.to_owned(), problem: problem.to_owned() }
}

fn literal_address(url: &Url) -> Option<std::net::IpAddr> {
    url.host_str()?.trim_matches(['[', ']']).parse().ok()
}

/// A parser's complaint without the value that it complains about.
fn without_values(text: &str) -> String {
    if text.starts_with("unknown field") {
        return format!("{text}; leave it out or correct its name");
    }
    match text.rsplit_once("expected ") {
        Some((_, wanted)) => format!("it has the wrong type; it must be {wanted}"),
        None => "it can't be understood".into(),
    }
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
