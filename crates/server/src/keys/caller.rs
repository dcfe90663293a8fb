//! Who asks, for code that knows no HTTP.

use std::{future::Future, sync::Arc};

use millrace_api::{ApiError, ErrorKind};

use super::Key;

tokio::task_local! {
    /// Set around each guarded request. Handlers pass it on unseen: a route can't forget its caller.
    static CALLER: Option<Arc<Key>>;
}

/// Who asks: the holder of a key, or somebody who needs none.
#[derive(Debug, Clone, Default)]
pub(crate) struct Caller(Option<Arc<Key>>);

impl Caller {
    /// The holder of a key; `None` if the server has no keys.
    pub(crate) fn new(key: Option<Arc<Key>>) -> Self {
        Self(key)
    }

    /// The caller of the request that this task serves. A task that is spawned to go on with a request has none,
    /// unless it runs in [`scope`](Self::scope).
    pub(crate) fn current() -> Self {
        Self(CALLER.try_with(Clone::clone).ok().flatten())
    }

    /// Runs a future on behalf of this caller.
    pub(crate) async fn scope<F: Future>(self, future: F) -> F::Output {
        CALLER.scope(self.0, future).await
    }

    /// The name of its key.
    pub(crate) fn name(&self) -> Option<&str> {
        self.0.as_deref().map(Key::name)
    }

    /// Whether two requests are of one caller. Without keys all are.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.name() == other.name()
    }

    /// Whether it may use a model with these names.
    pub(crate) fn may_use(&self, names: &[String]) -> bool {
        self.0.as_ref().is_none_or(|key| key.may_use(names))
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
            format!("This key may not use the model `{name}`. `GET /v1/models` lists those it may use.");
        Err(ApiError { param: Some("model".into()), ..ApiError::new(ErrorKind::Forbidden, message) })
    }

    /// Takes the tokens of a prompt from the caller's budget.
    ///
    /// # Errors
    /// A 429 if the budget has not so many left now, a 400 if it never has.
    pub(crate) fn take_prompt(&self, tokens: usize) -> Result<(), ApiError> {
        self.0.as_ref().map_or(Ok(()), |key| key.take_prompt(tokens))
    }

    /// Gives them back: the request was not queued.
    pub(crate) fn return_prompt(&self, tokens: usize) {
        if let Some(key) = &self.0 {
            key.return_prompt(tokens);
        }
    }

    /// Takes tokens of an answer from the budget.
    pub(crate) fn charge(&self, tokens: usize) {
        if let Some(key) = &self.0 {
            key.charge(tokens);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_request_has_its_caller_wherever_it_goes() {
        let key = |name: &str| {
            let spec = super::super::KeySpec::plain(name.into(), "x");
            Caller::new(Some(Arc::new(Key::new(spec, None, std::time::Instant::now()))))
        };
        assert!(Caller::current().name().is_none());
        let seen = key("ada").scope(async { Caller::current() }).await;
        assert!(seen.is(&key("ada")) && !seen.is(&key("bob")));
        assert!(Caller::current().is(&Caller::default()));
    }
}
