//! Who asks, for code that knows no HTTP.

use std::{future::Future, sync::Arc, time::Duration};

use millrace_api::{ApiError, ErrorKind};

use super::Key;

tokio::task_local! {
    /// Set around each guarded request, so that no route can forget its caller.
    static CALLER: Caller;
}

/// Who asks: the holder of a key, or somebody who needs none. It goes with the task that serves the request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Caller {
    key: Option<Arc<Key>>,
    /// The time limit in the request's headers.
    time_limit: Option<Duration>,
    /// Reached the administration from this machine.
    local_admin: bool,
}

impl Caller {
    /// The holder of a key; `None` if none was asked for.
    pub(crate) fn new(key: Option<Arc<Key>>, time_limit: Option<Duration>) -> Self {
        Self { key, time_limit, local_admin: false }
    }

    /// Somebody on this machine, in the administration.
    pub(crate) fn local_admin() -> Self {
        Self { local_admin: true, ..Self::default() }
    }

    /// The caller of the request that this task serves. A task that is spawned to go on with a request has none,
    /// unless it runs in [`scope`](Self::scope).
    pub(crate) fn current() -> Self {
        CALLER.try_with(Clone::clone).unwrap_or_default()
    }

    /// Runs a future on behalf of this caller.
    pub(crate) async fn scope<F: Future>(self, future: F) -> F::Output {
        CALLER.scope(self, future).await
    }

    /// The name of its key.
    pub(crate) fn name(&self) -> Option<&str> {
        self.key.as_deref().map(Key::name)
    }

    /// What stands for its key in stores; empty if it needs none.
    pub(crate) fn owner(&self) -> String {
        self.key.as_ref().map(|key| key.owner()).unwrap_or_default()
    }

    /// The shorter one of the time limits in a request's headers and in its body.
    pub(crate) fn time_limit(&self, body: Option<Duration>) -> Option<Duration> {
        self.time_limit.into_iter().chain(body).min()
    }

    /// Whether it may end a request of `owner`: its own (without keys all are), or any as an administrator.
    pub(crate) fn rules(&self, owner: &Self) -> bool {
        self.local_admin || self.name() == owner.name() || self.key.as_ref().is_some_and(|key| key.is_admin())
    }

    /// Whether it may use a model with these names.
    pub(crate) fn may_use(&self, names: &[String]) -> bool {
        self.key.as_ref().is_none_or(|key| key.may_use(names))
    }

    /// Refuses a model that the caller may not use.
    ///
    /// # Errors
    /// A 403.
    pub(crate) fn check_model(&self, names: &[String]) -> Result<(), ApiError> {
        if self.may_use(names) {
            return Ok(());
        }
        let name = names.first().map_or("", String::as_str);
        let message =
            format!("This key may not use the model `{name}`; `GET /v1/models` lists those that it may use.");
        Err(ApiError { param: Some("model".into()), ..ApiError::new(ErrorKind::Forbidden, message) })
    }

    /// Takes the tokens of a prompt from the caller's budget.
    ///
    /// # Errors
    /// A 429 if the budget has not so many left now, a 400 if it never has.
    pub(crate) fn take_prompt(&self, tokens: usize) -> Result<(), ApiError> {
        self.key.as_ref().map_or(Ok(()), |key| key.take_prompt(tokens))
    }

    /// Gives them back: the request was not queued.
    pub(crate) fn return_prompt(&self, tokens: usize) {
        if let Some(key) = &self.key {
            key.return_prompt(tokens);
        }
    }

    /// Takes tokens of an answer from the budget.
    pub(crate) fn charge(&self, tokens: usize) {
        if let Some(key) = &self.key {
            key.charge(tokens);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::keys::KeySpec;

    fn holder(name: &str, admin: bool) -> Caller {
        let spec = KeySpec { admin, ..KeySpec::plain(name.into(), "x") };
        Caller::new(Some(Arc::new(Key::new(spec, None, Instant::now()))), None)
    }

    #[tokio::test]
    async fn a_request_has_its_caller_wherever_it_goes() {
        assert!(Caller::current().name().is_none());
        let seen = holder("ada", false).scope(async { Caller::current() }).await;
        assert_eq!(seen.name(), Some("ada"));
        assert!(Caller::current().name().is_none());
    }

    #[test]
    fn a_request_is_its_owners_and_the_administrators() {
        let (ada, bob, root, nobody) =
            (holder("ada", false), holder("bob", false), holder("root", true), Caller::default());
        assert!(ada.rules(&ada) && root.rules(&ada) && nobody.rules(&nobody));
        assert!(!bob.rules(&ada) && !ada.rules(&root) && !nobody.rules(&ada));
        assert!(Caller::local_admin().rules(&ada));
    }

    #[test]
    fn the_shorter_time_limit_counts() {
        let second = Duration::from_secs(1);
        let caller = Caller::new(None, Some(second * 2));
        assert_eq!(caller.time_limit(None), Some(second * 2));
        assert_eq!(caller.time_limit(Some(second)), Some(second));
        assert_eq!(caller.time_limit(Some(second * 3)), Some(second * 2));
        assert_eq!(Caller::default().time_limit(None), None);
    }
}
