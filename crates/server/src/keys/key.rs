//! One key: whose it is, what it opens, and how much of it.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use millrace_api::{ApiError, ErrorKind};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::bucket::{Bucket, Short, Standing};

/// A key as the settings have it. The key itself is forgotten at once: only its digest is kept.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct KeySpec {
    /// For logs and metrics.
    pub(crate) name: String,
    pub(crate) digest: [u8; 32],
    pub(crate) requests_per_minute: Option<u64>,
    pub(crate) tokens_per_minute: Option<u64>,
    /// Names of models; `None` is all.
    pub(crate) models: Option<Vec<String>>,
    pub(crate) admin: bool,
}

/// A key in use.
pub(crate) struct Key {
    spec: KeySpec,
    requests: Option<Bucket>,
    tokens: Option<Bucket>,
    counts: Arc<KeyCounts>,
}

/// What a key was used for; kept when the file is read anew.
#[derive(Debug, Default)]
pub(crate) struct KeyCounts {
    /// Requests that were let in.
    pub(crate) requests: AtomicU64,
    /// Requests refused for their number or their tokens.
    pub(crate) limited: AtomicU64,
    /// Prompt tokens of admitted requests.
    pub(crate) prompt_tokens: AtomicU64,
    /// Tokens of answers.
    pub(crate) completion_tokens: AtomicU64,
}

impl KeySpec {
    /// A key without a limit.
    pub(crate) fn plain(name: String, key: &str) -> Self {
        Self {
            name,
            digest: digest(key.as_bytes()),
            requests_per_minute: None,
            tokens_per_minute: None,
            models: None,
            admin: false,
        }
    }
}

impl fmt::Debug for KeySpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeySpec").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Key {
    /// A key whose budgets go on from those of `before`, the key of the same name in an older file.
    pub(crate) fn new(spec: KeySpec, before: Option<&Self>, now: Instant) -> Self {
        let bucket = |limit: Option<u64>, old: Option<&Bucket>| {
            limit.map(|limit| old.map_or_else(|| Bucket::new(limit, now), |old| old.resized(limit, now)))
        };
        Self {
            requests: bucket(spec.requests_per_minute, before.and_then(|key| key.requests.as_ref())),
            tokens: bucket(spec.tokens_per_minute, before.and_then(|key| key.tokens.as_ref())),
            counts: before.map(|key| key.counts.clone()).unwrap_or_default(),
            spec,
        }
    }

    /// What stands for it in stores: the key can't be told from it.
    pub(crate) fn owner(&self) -> String {
        let digest =
            Sha256::new_with_prefix("millrace file owner ").chain_update(self.spec.digest).finalize();
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.spec.name
    }

    /// Whether it opens the administration.
    pub(crate) fn is_admin(&self) -> bool {
        self.spec.admin
    }

    pub(crate) fn counts(&self) -> &KeyCounts {
        &self.counts
    }

    /// Requests and tokens that are left, where they are limited.
    pub(crate) fn standing(&self) -> (Option<Standing>, Option<Standing>) {
        let now = Instant::now();
        let of = |bucket: &Option<Bucket>| bucket.as_ref().map(|bucket| bucket.standing(now));
        (of(&self.requests), of(&self.tokens))
    }

    /// Whether a digest is this key's; takes the same time for every digest.
    pub(super) fn has(&self, presented: &[u8; 32]) -> bool {
        self.spec.digest.ct_eq(presented).into()
    }

    /// Whether it opens a model with these names.
    pub(crate) fn may_use(&self, names: &[String]) -> bool {
        self.spec.models.as_ref().is_none_or(|models| names.iter().any(|name| models.contains(name)))
    }

    /// Counts a request.
    ///
    /// # Errors
    /// A 429 if there were too many within the last minute.
    pub(crate) fn take_request(&self) -> Result<(), ApiError> {
        if let Some(bucket) = &self.requests {
            bucket.take(1, Instant::now()).map_err(|short| {
                let limit = self.spec.requests_per_minute.unwrap_or_default();
                self.limited(short, &format!("requests: this key may send {limit} a minute"))
            })?;
        }
        self.counts.requests.fetch_add(1, Relaxed);
        Ok(())
    }

    /// Counts the tokens of a prompt that is about to be queued.
    ///
    /// # Errors
    /// A 429 if the key's budget has not so many left, a 400 if it never has.
    pub(crate) fn take_prompt(&self, tokens: usize) -> Result<(), ApiError> {
        if let Some(bucket) = &self.tokens {
            // One more, for the answer: a budget of exactly the prompt is used up before the answer begins.
            bucket.take(tokens as u64 + 1, Instant::now()).map_err(|short| {
                let limit = self.spec.tokens_per_minute.unwrap_or_default();
                let what =
                    format!("tokens: this key may use {limit} a minute, and the prompt alone has {tokens}");
                self.limited(short, &what)
            })?;
            bucket.give_back(1, Instant::now());
        }
        self.counts.prompt_tokens.fetch_add(tokens as u64, Relaxed);
        Ok(())
    }

    /// Undoes [`take_prompt`](Self::take_prompt): the request was not queued after all.
    pub(crate) fn return_prompt(&self, tokens: usize) {
        if let Some(bucket) = &self.tokens {
            bucket.give_back(tokens as u64, Instant::now());
        }
        self.counts.prompt_tokens.fetch_sub(tokens as u64, Relaxed);
    }

    /// Counts tokens of an answer. Running answers are not cut off: what they use too much, later requests wait for.
    pub(crate) fn charge(&self, tokens: usize) {
        if let Some(bucket) = &self.tokens {
            bucket.charge(tokens as u64, Instant::now());
        }
        self.counts.completion_tokens.fetch_add(tokens as u64, Relaxed);
    }

    fn limited(&self, short: Short, what: &str) -> ApiError {
        self.counts.limited.fetch_add(1, Relaxed);
        match short {
            Short::Wait(wait) => {
                let seconds = whole_seconds(wait);
                let message = format!("Too many {what}. Try again in {seconds} seconds.");
                ApiError { retry_after: Some(seconds), ..ApiError::new(ErrorKind::RateLimited, message) }
            }
            Short::Never => ApiError::bad_request(format!("Too many {what}. Waiting won't help: send less.")),
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.spec.fmt(f)
    }
}

/// All keys are compared by this, so that they have one length and none lies in memory.
pub(super) fn digest(key: &[u8]) -> [u8; 32] {
    Sha256::digest(key).into()
}

/// Rounded up, and at least one: a client that comes back a moment early is refused again.
fn whole_seconds(wait: Duration) -> u32 {
    u32::try_from(wait.as_secs()).unwrap_or(u32::MAX).saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limited() -> Key {
        let spec = KeySpec {
            requests_per_minute: Some(2),
            tokens_per_minute: Some(100),
            models: Some(vec!["small".into()]),
            ..KeySpec::plain("ada".into(), "secret")
        };
        Key::new(spec, None, Instant::now())
    }

    #[test]
    fn too_many_requests_are_refused_with_a_time() {
        let key = limited();
        key.take_request().unwrap();
        key.take_request().unwrap();
        let error = key.take_request().unwrap_err();
        assert_eq!(error.kind, ErrorKind::RateLimited);
        assert!((29..=31).contains(&error.retry_after.unwrap()), "{error:?}");
        assert_eq!((key.counts.requests.load(Relaxed), key.counts.limited.load(Relaxed)), (2, 1));
    }

    #[test]
    fn tokens_are_counted_on_both_sides_of_an_answer() {
        let key = limited();
        key.take_prompt(60).unwrap();
        assert_eq!(key.take_prompt(60).unwrap_err().kind, ErrorKind::RateLimited);
        key.return_prompt(60);
        key.take_prompt(60).unwrap();
        key.charge(100);
        assert_eq!(key.standing().1.unwrap().remaining, 0);
        assert!(key.take_prompt(1).unwrap_err().retry_after.unwrap() > 30);
        let error = key.take_prompt(100).unwrap_err();
        assert_eq!((error.kind, error.retry_after), (ErrorKind::BadRequest, None));
        assert_eq!(key.counts.completion_tokens.load(Relaxed), 100);
    }

    #[test]
    fn a_key_opens_its_models_only() {
        let key = limited();
        assert!(key.may_use(&["big".into(), "small".into()]));
        assert!(!key.may_use(&["big".into()]));
        assert!(Key::new(KeySpec::plain("x".into(), "y"), None, Instant::now()).may_use(&["big".into()]));
    }

    #[test]
    fn a_new_file_keeps_what_was_used() {
        let old = limited();
        old.take_request().unwrap();
        old.take_request().unwrap();
        let spec = KeySpec { requests_per_minute: Some(3), ..old.spec.clone() };
        let new = Key::new(spec, Some(&old), Instant::now());
        new.take_request().unwrap();
        assert!(new.take_request().is_err());
        assert_eq!(new.counts.requests.load(Relaxed), 3);
    }

    #[test]
    fn no_secret_is_shown() {
        let shown = format!("{:?} {:?}", limited(), limited().spec);
        assert!(shown.contains("ada") && !shown.contains("secret") && shown.len() < 80, "{shown}");
    }
}
