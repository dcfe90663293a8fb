//! Chat completions that are kept. Their owner is a part of the name under which they are, so no caller finds another's.

use millrace_api::{
    ApiError, ErrorKind,
    openai::chat::{CompletionsQuery, StoredCompletion},
};

use crate::{Service, Store};

/// The store's part for completions.
#[derive(Debug)]
pub(crate) struct Completions {
    store: Store,
}

impl Completions {
    pub(crate) fn new(store: Store) -> Self {
        Self { store }
    }

    /// Stores a completion; a failure is logged and nothing more.
    pub(crate) async fn save(&self, owner: &str, completion: &StoredCompletion) {
        match serde_json::to_vec(completion) {
            Ok(bytes) => self.store.put(&name(owner, completion.id()), bytes).await,
            Err(error) => tracing::warn!("`{}` could not be stored: {error}", completion.id()),
        }
    }

    /// A stored completion.
    ///
    /// # Errors
    /// A 404 if there is none for this caller.
    pub(crate) async fn get(
        &self,
        service: &Service,
        owner: &str,
        id: &str,
    ) -> Result<StoredCompletion, ApiError> {
        let bytes = self.store.get(&name(owner, id)).await?.ok_or_else(|| not_found(id))?;
        let found = service.offload().run(bytes.len(), move || Ok(read(&bytes))).await?;
        found.ok_or_else(|| not_found(id))
    }

    /// Forgets a completion.
    ///
    /// # Errors
    /// As in [`get`](Self::get).
    pub(crate) async fn delete(&self, owner: &str, id: &str) -> Result<(), ApiError> {
        if self.store.delete(&name(owner, id)).await? { Ok(()) } else { Err(not_found(id)) }
    }

    /// A page of those that are wanted, and whether there are more.
    ///
    /// # Errors
    /// A 503 if the store can't be read now.
    pub(crate) async fn list(
        &self,
        service: &Service,
        owner: &str,
        query: &CompletionsQuery,
    ) -> Result<(Vec<StoredCompletion>, bool), ApiError> {
        let page = &query.page;
        let mut from = page.after.as_deref().map(|id| name(owner, id));
        let mut found = Vec::new();
        loop {
            let entries = self.store.page(&name(owner, ""), from.take(), !page.ascending).await?;
            let Some((last, _)) = entries.last() else { return Ok((found, false)) };
            from = Some(last.clone());
            let (size, wanted) = (entries.iter().map(|(_, bytes)| bytes.len()).sum(), query.clone());
            let filter = move || {
                let read = entries.iter().filter_map(|(_, bytes)| read(bytes));
                Ok(read.filter(|completion| wanted.wants(completion)).collect::<Vec<_>>())
            };
            found.extend(service.offload().run(size, filter).await?);
            if found.len() > page.limit {
                found.truncate(page.limit);
                return Ok((found, true));
            }
        }
    }
}

/// Ids sort by the time of their making, and no owner's name holds a slash.
fn name(owner: &str, id: &str) -> String {
    format!("completions/{owner}/{id}")
}

fn read(bytes: &[u8]) -> Option<StoredCompletion> {
    let read = serde_json::from_slice(bytes);
    read.inspect_err(|error| tracing::warn!("a stored completion can't be read: {error}")).ok()
}

fn not_found(id: &str) -> ApiError {
    let id: String = id.chars().take(100).collect();
    ApiError::new(ErrorKind::NotFound, format!("Chat completion with id '{id}' not found."))
}
