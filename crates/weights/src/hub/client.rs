//! Requests to the hub: the list of a model's files, what is known of one file, and its bytes.

use std::io::Read;
use std::time::Duration;

use serde::Deserialize;
use ureq::http::{Response, StatusCode, header};
use ureq::{Agent, Body};

use super::name::{ModelId, is_commit, is_safe_etag, is_safe_path, percent_encode};
use super::options::HubOptions;
use super::reply::{Failure, etag, location, origin, size, text};
use crate::{Result, WeightsError};

/// Longest JSON answer that is read, in bytes.
const MAX_LISTING_BYTES: u64 = 64 << 20;
/// The hub's own redirect, one to a CDN, and some room.
const MAX_REDIRECTS: usize = 6;
/// A connection on which nothing arrives for this long is given up (and the transfer resumed on a new one).
const STALLED: Duration = Duration::from_secs(60);

/// Speaks to one hub about one model.
pub(crate) struct Client<'a> {
    agent: Agent,
    pub(crate) model: &'a ModelId,
    pub(crate) options: &'a HubOptions,
    home: (String, String, u16),
}

/// A revision's commit and its files.
pub(crate) struct Listing {
    pub(crate) commit: String,
    pub(crate) files: Vec<String>,
}

/// What the hub says about a file before it is fetched.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct FileInfo {
    /// Names the content: SHA-256 for large files, a Git object id for small ones.
    pub(crate) etag: String,
    /// In bytes.
    pub(crate) size: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Method {
    Get,
    Head,
}

impl<'a> Client<'a> {
    pub(crate) fn new(model: &'a ModelId, options: &'a HubOptions) -> Result<Self> {
        let home = origin(&options.endpoint).ok_or_else(|| WeightsError::Config {
            file: "environment".into(),
            field: "HF_ENDPOINT".into(),
            problem: "must be an address such as https://huggingface.co".into(),
        })?;
        // Redirects are followed here and not by the agent, so that the token is seen to stay at home.
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(Duration::from_secs(10)))
            .timeout_recv_response(Some(STALLED))
            .timeout_per_read(Some(STALLED))
            .user_agent(concat!("millrace/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity")
            .build()
            .new_agent();
        Ok(Self { agent, model, options, home })
    }

    /// Asks what `revision` points to and which files it has, with this many retries.
    pub(crate) fn list(&self, revision: &str, retries: u32) -> Result<Listing> {
        #[derive(Deserialize)]
        struct Answer {
            sha: String,
            #[serde(default)]
            siblings: Vec<Sibling>,
        }
        #[derive(Deserialize)]
        struct Sibling {
            rfilename: String,
        }
        let revision_part = percent_encode(revision, false);
        let url = format!("{}/api/models/{}/revision/{revision_part}", self.options.endpoint, self.model);
        let bytes = self.with_retries(retries, &url, || self.get_small(&url, revision))?;
        let answer: Answer = serde_json::from_slice(&bytes)
            .map_err(|e| bad_answer(&url, format!("it is not the description of a model ({e})")))?;
        if !is_commit(&answer.sha) {
            return Err(bad_answer(&url, "its commit id is not one"));
        }
        let files: Vec<String> = answer.siblings.into_iter().map(|s| s.rfilename).collect();
        if let Some(file) = files.iter().find(|f| !is_safe_path(f)) {
            return Err(bad_answer(
                &url,
                format!("it names the file {file:?}, which could lead out of the cache"),
            ));
        }
        Ok(Listing { commit: answer.sha, files })
    }

    /// Asks for a file's identity and size.
    pub(crate) fn file_info(&self, commit: &str, file: &str) -> Result<FileInfo> {
        let url = self.file_url(commit, file);
        self.with_retries(self.options.retries, &url, || {
            let (url, response) = self.send_home(&url)?;
            let (status, headers) = (response.status(), response.headers());
            if !status.is_success() && !status.is_redirection() {
                return Err(self.refusal(&url, &response, &format!("file {file} in model {}", self.model)));
            }
            let etag = etag(headers).filter(|e| is_safe_etag(e));
            let etag = etag.ok_or_else(|| bad_answer(&url, "it has no usable etag"))?;
            let size = size(status, headers).ok_or_else(|| bad_answer(&url, "it has no size"))?;
            Ok(FileInfo { etag, size })
        })
    }

    /// Opens a file's bytes from `begin` on. The second value is the etag that the hub gave for this answer.
    pub(crate) fn open(
        &self,
        commit: &str,
        file: &str,
        begin: u64,
    ) -> Result<(Response<Body>, Option<String>), Failure> {
        let mut url = self.file_url(commit, file);
        let mut linked_etag = None;
        for _ in 0..MAX_REDIRECTS {
            let response = self.send(Method::Get, &url, begin)?;
            // Only the hub's own etag names the content; that of a CDN is another.
            if origin(&url).as_ref() == Some(&self.home) && linked_etag.is_none() {
                linked_etag = etag(response.headers());
            }
            let Some(next) = self.next_hop(&url, &response)? else {
                if response.status().is_success() || response.status() == StatusCode::RANGE_NOT_SATISFIABLE {
                    return Ok((response, linked_etag));
                }
                return Err(self.refusal(&url, &response, &format!("file {file} in model {}", self.model)));
            };
            url = next;
        }
        Err(bad_answer(&url, "it redirects too often").into())
    }

    /// After passing failure number `failures` (from 0): waits, or makes it final if there were more than `retries`.
    pub(crate) fn wait_or_give_up(
        &self,
        failures: &mut u32,
        retries: u32,
        url: &str,
        problem: String,
    ) -> Result<()> {
        if *failures >= retries {
            return Err(WeightsError::Network { url: url.into(), problem });
        }
        tracing::debug!(url, problem, "trying again");
        std::thread::sleep(self.options.retry_wait * 2u32.saturating_pow(*failures).min(64));
        *failures += 1;
        Ok(())
    }

    /// The address of a file at a commit.
    pub(crate) fn file_url(&self, commit: &str, file: &str) -> String {
        format!("{}/{}/resolve/{commit}/{}", self.options.endpoint, self.model, percent_encode(file, true))
    }

    /// Runs `attempt` until it succeeds, fails for good, or has failed for passing reasons too often.
    fn with_retries<T>(
        &self,
        retries: u32,
        url: &str,
        mut attempt: impl FnMut() -> Result<T, Failure>,
    ) -> Result<T> {
        let mut failures = 0;
        loop {
            match attempt() {
                Ok(value) => return Ok(value),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Passing(problem)) => {
                    self.wait_or_give_up(&mut failures, retries, url, problem)?;
                }
            }
        }
    }

    /// A whole small answer.
    fn get_small(&self, url: &str, revision: &str) -> Result<Vec<u8>, Failure> {
        let mut url = url.to_owned();
        for _ in 0..MAX_REDIRECTS {
            let response = self.send(Method::Get, &url, 0)?;
            if let Some(next) = self.next_hop(&url, &response)? {
                url = next;
                continue;
            }
            if !response.status().is_success() {
                return Err(self.refusal(&url, &response, &self.model_or_revision(&response, revision)));
            }
            let mut bytes = Vec::new();
            let mut body = response.into_body().into_reader().take(MAX_LISTING_BYTES + 1);
            body.read_to_end(&mut bytes).map_err(|e| Failure::Passing(e.to_string()))?;
            if bytes.len() as u64 > MAX_LISTING_BYTES {
                return Err(bad_answer(&url, "it is too long").into());
            }
            return Ok(bytes);
        }
        Err(bad_answer(&url, "it redirects too often").into())
    }

    /// `HEAD`, following redirects within the hub only: one that leads to a CDN already says all about the file.
    fn send_home(&self, url: &str) -> Result<(String, Response<Body>), Failure> {
        let mut url = url.to_owned();
        for _ in 0..MAX_REDIRECTS {
            let response = self.send(Method::Head, &url, 0)?;
            match self.next_hop(&url, &response)? {
                Some(next) if origin(&next).as_ref() == Some(&self.home) => url = next,
                _ => return Ok((url, response)),
            }
        }
        Err(bad_answer(&url, "it redirects too often").into())
    }

    /// Where a response redirects to, if it does and that is safe.
    fn next_hop(&self, url: &str, response: &Response<Body>) -> Result<Option<String>, Failure> {
        let Some(next) = location(response.status(), response.headers(), url) else { return Ok(None) };
        let secure = |url: &str| origin(url).is_some_and(|(scheme, ..)| scheme == "https");
        if origin(&next).is_none() || (secure(url) && !secure(&next)) {
            return Err(bad_answer(url, "it redirects to an address that is not secure").into());
        }
        Ok(Some(next))
    }

    /// One request, no redirects. The token goes along only to the hub itself.
    fn send(&self, method: Method, url: &str, begin: u64) -> Result<Response<Body>, Failure> {
        let mut request = match method {
            Method::Get => self.agent.get(url),
            Method::Head => self.agent.head(url),
        };
        if let Some(token) = &self.options.token
            && origin(url).as_ref() == Some(&self.home)
        {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if begin > 0 {
            request = request.header(header::RANGE, format!("bytes={begin}-"));
        }
        request.call().map_err(|error| Failure::Passing(error.to_string()))
    }

    /// The error for a status that is neither success nor redirect.
    fn refusal(&self, url: &str, response: &Response<Body>, what: &str) -> Failure {
        let status = response.status().as_u16();
        let endpoint = self.options.endpoint.clone();
        match status {
            401 | 403 => {
                let hint = denied_hint(response, self.options.token.is_some());
                Failure::Final(WeightsError::Denied { endpoint, model: self.model.to_string(), status, hint })
            }
            404 => Failure::Final(WeightsError::NotOnHub { endpoint, what: what.into() }),
            408 | 429 | 500..=599 => Failure::Passing(format!("the server answered with status {status}")),
            _ => bad_answer(url, format!("its status is {status}")).into(),
        }
    }

    fn model_or_revision(&self, response: &Response<Body>, revision: &str) -> String {
        match text(response.headers(), "x-error-code") {
            Some("RevisionNotFound") => format!("revision {revision} of model {}", self.model),
            Some("RepoNotFound") => format!("model {}", self.model),
            _ => format!("model {} with revision {revision}", self.model),
        }
    }
}

fn denied_hint(response: &Response<Body>, has_token: bool) -> &'static str {
    if text(response.headers(), "x-error-code") == Some("GatedRepo") {
        "accept its conditions on its web page, then set HF_TOKEN to a token of that account"
    } else if has_token {
        "the token (HF_TOKEN or $HF_HOME/token) is not valid or may not read it; check the token and the model's name"
    } else {
        "it does not exist or is not public; check the name, or set HF_TOKEN to a token that may read it"
    }
}

fn bad_answer(url: &str, problem: impl Into<String>) -> WeightsError {
    WeightsError::BadAnswer { url: url.into(), problem: problem.into() }
}
