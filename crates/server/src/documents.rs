//! Files that requests name by their ids.

use std::collections::HashMap;

use millrace_api::{ApiError, ErrorKind, StoredFile, file_ids, put_files};
use serde_json::Value;

use crate::{http::App, keys::Caller};

/// Puts the contents of the files that a body names in the place of their ids. Ids of no file of this caller stay, and
/// whoever reads the body refuses them.
///
/// # Errors
/// A 400 if they are too large together, or a 503 if they can't be read now.
pub(crate) async fn fill(app: &App, mut body: Value) -> Result<Value, ApiError> {
    let ids = file_ids(&body);
    if ids.is_empty() {
        return Ok(body);
    }
    let (files, bytes) = read(app, ids).await?;
    let put = move || {
        put_files(&mut body, &files);
        Ok(body)
    };
    app.service.offload().run(bytes, put).await
}

/// The files by their ids, and their bytes.
async fn read(app: &App, ids: Vec<String>) -> Result<(HashMap<String, StoredFile>, usize), ApiError> {
    let (store, owner, most) =
        (app.jobs.files(), Caller::current().owner(), app.config.limits.max_body_bytes);
    let (mut files, mut bytes) = (HashMap::new(), 0_usize);
    for id in ids {
        let record = match store.file(&owner, &id).await {
            Ok(record) => record,
            Err(error) if error.kind == ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        bytes = bytes.saturating_add(usize::try_from(record.bytes).unwrap_or(usize::MAX));
        if bytes > most {
            let message = format!("The files of a request may have at most {most} bytes together.");
            return Err(ApiError::bad_request(message));
        }
        let content = store.content(&id).await?;
        files.insert(id, StoredFile { name: record.filename, content });
    }
    Ok((files, bytes))
}
