//! Where the cache is and how the hub is reached, from the environment variables that other tools use too.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::{Result, WeightsError};

/// How to reach the hub and where to keep what it sends.
#[derive(Clone)]
pub struct HubOptions {
    /// Cache folder (`$HF_HOME/hub`).
    pub cache: PathBuf,
    /// Address of the hub, with no slash at its end.
    pub endpoint: String,
    /// Sent to the hub's own address only, never to a host it redirects to.
    pub token: Option<String>,
    /// Use the cache only.
    pub offline: bool,
    /// How often a request that failed for a passing reason is tried again. A transfer that got further starts to
    /// count anew.
    pub retries: u32,
    /// Wait before the first retry; doubled for each further one.
    pub retry_wait: Duration,
}

impl HubOptions {
    /// Reads `HF_HUB_CACHE`, `HF_HOME`, `XDG_CACHE_HOME`, `HF_ENDPOINT`, `HF_TOKEN`, `HF_TOKEN_PATH` and
    /// `HF_HUB_OFFLINE`, with Hugging Face's defaults. Without `HF_TOKEN` the token of `$HF_HOME/token` is used.
    ///
    /// # Errors
    /// A variable has a value that can't be used, or neither it nor `HOME` says where the cache is.
    pub fn from_env() -> Result<Self> {
        Self::from_vars(|name| std::env::var(name).ok())
    }

    /// [`HubOptions::from_env`] with another source of variables. Empty values count as unset.
    ///
    /// # Errors
    /// As [`HubOptions::from_env`].
    pub fn from_vars(vars: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let var = |name: &str| vars(name).map(|v| v.trim().to_owned()).filter(|v| !v.is_empty());
        let home = hf_home(&var)?;
        let cache = var("HF_HUB_CACHE").or_else(|| var("HUGGINGFACE_HUB_CACHE"));
        let endpoint = var("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".into());
        Ok(Self {
            cache: cache.map_or_else(|| home.join("hub"), PathBuf::from),
            endpoint: check_endpoint(&endpoint)?,
            token: find_token(&var, &home)?,
            offline: var("HF_HUB_OFFLINE").is_some_and(|v| is_true(&v)),
            retries: 5,
            retry_wait: Duration::from_millis(500),
        })
    }
}

impl fmt::Debug for HubOptions {
    /// Leaves the token out: options are logged.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubOptions")
            .field("cache", &self.cache)
            .field("endpoint", &self.endpoint)
            .field("token", &self.token.as_ref().map(|_| "…"))
            .field("offline", &self.offline)
            .finish_non_exhaustive()
    }
}

fn hf_home(var: &impl Fn(&str) -> Option<String>) -> Result<PathBuf> {
    let cache = || var("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || var("HOME").map(|home| Path::new(&home).join(".cache"));
    var("HF_HOME")
        .map(PathBuf::from)
        .or_else(|| cache().or_else(home).map(|c| c.join("huggingface")))
        .ok_or_else(|| {
            environment("HF_HOME", "must be set to a folder for downloads, because HOME is not set")
        })
}

fn check_endpoint(endpoint: &str) -> Result<String> {
    let uri: Option<ureq::http::Uri> = endpoint.parse().ok();
    let usable = uri.is_some_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some() && uri.query().is_none()
    });
    if usable {
        Ok(endpoint.trim_end_matches('/').to_owned())
    } else {
        Err(environment("HF_ENDPOINT", "must be an address such as https://huggingface.co"))
    }
}

fn find_token(var: &impl Fn(&str) -> Option<String>, home: &Path) -> Result<Option<String>> {
    let path = var("HF_TOKEN_PATH").map_or_else(|| home.join("token"), PathBuf::from);
    let stored = || fs::read_to_string(path).ok().map(|t| t.trim().to_owned()).filter(|t| !t.is_empty());
    let token = var("HF_TOKEN").or_else(|| var("HUGGING_FACE_HUB_TOKEN")).or_else(stored);
    match token {
        Some(token) if !token.chars().all(|c| c.is_ascii_graphic()) => {
            Err(environment("HF_TOKEN", "holds characters that no token has; copy it again"))
        }
        other => Ok(other),
    }
}

fn is_true(value: &str) -> bool {
    matches!(value.to_ascii_lowercase().as_str(), "1" | "on" | "yes" | "true")
}

fn environment(name: &str, problem: &str) -> WeightsError {
    WeightsError::Config { file: "environment".into(), field: name.into(), problem: problem.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(vars: &[(&str, &str)]) -> Result<HubOptions> {
        HubOptions::from_vars(|name| vars.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned()))
    }

    #[test]
    fn the_cache_is_where_other_tools_have_it() {
        let cache = |vars: &[(&str, &str)]| options(vars).unwrap().cache.display().to_string();
        assert_eq!(cache(&[("HOME", "/h")]), "/h/.cache/huggingface/hub");
        assert_eq!(cache(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")]), "/x/huggingface/hub");
        assert_eq!(cache(&[("HOME", "/h"), ("HF_HOME", "/f")]), "/f/hub");
        assert_eq!(cache(&[("HF_HOME", "/f"), ("HF_HUB_CACHE", "/c")]), "/c");
        assert!(options(&[]).unwrap_err().to_string().starts_with("environment: HF_HOME must be set"));
    }

    #[test]
    fn tokens_come_from_the_variable_or_the_file_and_are_not_shown() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().to_str().unwrap();
        assert_eq!(options(&[("HF_HOME", home)]).unwrap().token, None);
        fs::write(dir.path().join("token"), "hf_file\n").unwrap();
        assert_eq!(options(&[("HF_HOME", home)]).unwrap().token.as_deref(), Some("hf_file"));
        let both = options(&[("HF_HOME", home), ("HF_TOKEN", " hf_var ")]).unwrap();
        assert_eq!(both.token.as_deref(), Some("hf_var"));
        assert!(!format!("{both:?}").contains("hf_var"));
        assert!(options(&[("HF_HOME", home), ("HF_TOKEN", "a\nb")]).is_err());
    }

    #[test]
    fn endpoint_and_offline() {
        let with = |name, value| options(&[("HOME", "/h"), (name, value)]);
        assert_eq!(with("X", "").unwrap().endpoint, "https://huggingface.co");
        assert_eq!(with("HF_ENDPOINT", "http://mirror:81/hf/").unwrap().endpoint, "http://mirror:81/hf");
        for bad in ["mirror", "ftp://x", "http://", "file:///etc", "http://x/?q"] {
            assert!(with("HF_ENDPOINT", bad).is_err(), "{bad}");
        }
        for (value, offline) in [("1", true), ("TRUE", true), ("on", true), ("0", false), ("", false)] {
            assert_eq!(with("HF_HUB_OFFLINE", value).unwrap().offline, offline, "{value}");
        }
    }
}
