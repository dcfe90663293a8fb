//! Files: what batches are made of and what comes of them, and what requests name by an id.

use std::sync::Arc;

use axum::{
    Json,
    body::{Body, Bytes},
    extract::{Path, Query, Request, State},
    http::{
        HeaderValue,
        header::{CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE},
    },
    response::{IntoResponse, Response},
};
use futures::stream;
use millrace_api::{
    ApiError, ErrorKind,
    openai::{
        files::{BATCH, FileRecord, UploadForm, check_line, file_name},
        paging::{ListBody, ListQuery},
    },
};
use serde_json::{Value, json};

use crate::{
    files::{Deletion, FileStore, Room, new_id, no_file},
    http::{App, multipart::Multipart, reply::Failure},
    keys::Caller,
    model::unix_time,
};

type Shared = State<Arc<App>>;
type Pairs = Query<Vec<(String, String)>>;

/// Bytes that a form may have besides its file.
const FORM_BYTES: u64 = 64 << 10;

/// Bytes of lines that are checked and kept at a time.
const PAGE: usize = 1 << 20;

/// Bytes of a piece of a file that has no lines.
const PIECE: usize = 64 << 10;

/// Seconds after which a client may try again while too many others upload.
const RETRY: u32 = 2;

/// `POST /v1/files`.
pub(crate) async fn upload(State(app): Shared, request: Request) -> Result<Json<Value>, Failure> {
    let _permit = app.jobs.uploads().try_acquire().map_err(|_| {
        let message = "Too many files are being uploaded at the moment. Try again later.";
        ApiError::unavailable(message, RETRY)
    })?;
    let kind = request.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = kind.unwrap_or_default().to_owned();
    let most = app.config.max_file_bytes.saturating_add(FORM_BYTES);
    let mut form = Multipart::new(&kind, request.into_body(), most, app.config.body_timeout)?;
    let mut fields = UploadForm::default();
    let mut file: Option<Upload> = None;
    while let Some(part) = form.part().await? {
        if part.name != "file" {
            let value = form.text(UploadForm::MAX_VALUE).await?;
            fields.take(&part.name, &value)?;
            continue;
        }
        if file.is_some() {
            return Err(Failure(ApiError::invalid("file", "Only one file can be uploaded at a time.")));
        }
        let mut upload = Upload::new(app.clone(), file_name(part.filename.as_deref()), fields.is_batch());
        while let Some(chunk) = form.chunk().await? {
            upload.push(&chunk).await?;
        }
        file = Some(upload);
    }
    let (purpose, expires_after) = fields.finish()?;
    let file = file.ok_or_else(|| ApiError::invalid("file", "`file` is required."))?;
    Ok(Json(file.finish(purpose, expires_after).await?.to_object()))
}

/// A file on its way into the store. Dropped before its end, it leaves nothing behind.
struct Upload {
    app: Arc<App>,
    store: FileStore,
    id: String,
    filename: String,
    bytes: u64,
    /// Whether it is a batch's; unknown if its purpose comes behind it.
    is_batch: Option<bool>,
    /// Why it can't be a batch's. From there on it is kept in pieces instead of lines.
    fault: Option<ApiError>,
    /// Lines or pieces that are in the store.
    kept: u32,
    /// Those that aren't yet, and their bytes.
    lines: Vec<Vec<u8>>,
    waiting: usize,
    /// The beginning of the next one.
    open: Vec<u8>,
    finished: bool,
}

impl Upload {
    fn new(app: Arc<App>, filename: String, is_batch: Option<bool>) -> Self {
        let store = app.jobs.files().clone();
        Self {
            app,
            store,
            id: new_id("file-"),
            filename,
            bytes: 0,
            is_batch,
            fault: None,
            kept: 0,
            lines: Vec::new(),
            waiting: 0,
            open: Vec::new(),
            finished: false,
        }
    }

    async fn push(&mut self, chunk: &[u8]) -> Result<(), ApiError> {
        self.bytes += chunk.len() as u64;
        let most = self.app.config.max_file_bytes;
        if self.bytes > most {
            let message = format!("The file is too large: at most {most} bytes are allowed.");
            let error = ApiError::new(ErrorKind::TooLarge, message);
            return Err(ApiError { param: Some("file".into()), ..error });
        }
        if self.has_lines() {
            self.push_lines(chunk)?;
        } else {
            self.push_pieces(chunk);
        }
        if self.waiting >= PAGE { self.keep().await } else { Ok(()) }
    }

    fn has_lines(&self) -> bool {
        self.is_batch != Some(false) && self.fault.is_none()
    }

    fn push_lines(&mut self, chunk: &[u8]) -> Result<(), ApiError> {
        for piece in chunk.split_inclusive(|byte| *byte == b'\n') {
            self.open.extend_from_slice(piece);
            let longest = self.app.config.limits.max_body_bytes;
            if self.open.len() > longest {
                let number = self.kept as usize + self.lines.len() + 1;
                let message = format!("Line {number} of the file has more than {longest} bytes.");
                self.fail(ApiError::invalid("file", message))?;
            }
            if piece.ends_with(b"\n") {
                self.close_line();
            }
        }
        Ok(())
    }

    fn push_pieces(&mut self, chunk: &[u8]) {
        self.open.extend_from_slice(chunk);
        if self.open.len() >= PIECE {
            self.close_line();
        }
    }

    fn close_line(&mut self) {
        let line = std::mem::take(&mut self.open);
        // Empty lines take room too.
        self.waiting += line.len() + size_of::<Vec<u8>>();
        self.lines.push(line);
    }

    /// Ends the upload if the file is a batch's; else it is told when the purpose is known.
    fn fail(&mut self, fault: ApiError) -> Result<(), ApiError> {
        if self.is_batch == Some(true) {
            return Err(fault);
        }
        self.fault.get_or_insert(fault);
        Ok(())
    }

    /// Checks the lines that wait, and puts them into the store.
    async fn keep(&mut self) -> Result<(), ApiError> {
        let (lines, first) = (std::mem::take(&mut self.lines), self.kept.saturating_add(1));
        let (count, limits) =
            (u32::try_from(lines.len()).unwrap_or(u32::MAX), self.app.config.limits.clone());
        let checked = self.has_lines();
        let check = move || {
            let mut numbered = (first..).zip(&lines).filter(|_| checked);
            let fault = numbered.find_map(|(number, line)| check_line(number, line, &limits).err());
            Ok((lines, fault))
        };
        let (lines, fault) = self.app.service.offload().run(self.waiting, check).await?;
        if let Some(fault) = fault {
            self.fail(fault)?;
        }
        self.waiting = 0;
        self.kept = self.kept.saturating_add(count);
        enough(self.store.append(&self.id, first, lines).await?)
    }

    async fn finish(mut self, purpose: String, expires_after: Option<u64>) -> Result<FileRecord, ApiError> {
        if !self.open.is_empty() {
            self.close_line();
        }
        self.keep().await?;
        if self.bytes == 0 {
            return Err(ApiError::invalid("file", "The file is empty."));
        }
        if let Some(fault) = self.fault.take().filter(|_| purpose == BATCH) {
            return Err(fault);
        }
        let now = unix_time();
        let file = FileRecord {
            id: self.id.clone(),
            owner: Caller::current().owner(),
            bytes: self.bytes,
            lines: self.kept,
            created_at: now,
            expires_at: self.store.expiry(now, expires_after),
            filename: std::mem::take(&mut self.filename),
            purpose,
        };
        enough(self.store.finish(file.clone()).await?)?;
        self.finished = true;
        Ok(file)
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if !self.finished {
            self.store.discard(std::mem::take(&mut self.id));
        }
    }
}

fn enough(room: Room) -> Result<(), ApiError> {
    match room {
        Room::Enough => Ok(()),
        Room::Full => {
            let message = "The server's file store is full. Delete files that you no longer need.";
            Err(ApiError { param: Some("file".into()), ..ApiError::new(ErrorKind::TooLarge, message) })
        }
    }
}

/// `GET /v1/files`.
pub(crate) async fn list(State(app): Shared, Query(pairs): Pairs) -> Result<Json<ListBody<Value>>, Failure> {
    let query = ListQuery::of_files(pairs)?;
    let page = app.jobs.files().files(&Caller::current().owner(), query).await?;
    let files = page.entries.iter().map(FileRecord::to_object).collect();
    Ok(Json(ListBody::new(files, |file| file["id"].as_str().unwrap_or_default(), page.has_more)))
}

/// `GET /v1/files/{id}`.
pub(crate) async fn retrieve(State(app): Shared, Path(id): Path<String>) -> Result<Json<Value>, Failure> {
    Ok(Json(app.jobs.files().file(&Caller::current().owner(), &id).await?.to_object()))
}

/// `DELETE /v1/files/{id}`.
pub(crate) async fn delete(State(app): Shared, Path(id): Path<String>) -> Result<Json<Value>, Failure> {
    match app.jobs.files().delete(&Caller::current().owner(), &id).await? {
        Deletion::Done => Ok(Json(json!({"id": id, "object": "file", "deleted": true}))),
        Deletion::Unknown => Err(Failure(no_file(&id))),
        Deletion::InUse(batch) => {
            let message = format!("The batch '{batch}' still reads this file. Cancel it first.");
            Err(Failure(ApiError::bad_request(message)))
        }
    }
}

/// `GET /v1/files/{id}/content`.
pub(crate) async fn content(State(app): Shared, Path(id): Path<String>) -> Result<Response, Failure> {
    let store = app.jobs.files().clone();
    let file = store.file(&Caller::current().owner(), &id).await?;
    let name: String =
        file.filename.chars().filter(|c| c.is_ascii_graphic() && !"\"\\".contains(*c)).collect();
    let pages = stream::try_unfold((store, id, 0), |(store, id, from)| async move {
        let lines = store.lines(&id, from).await?;
        let Some((last, _)) = lines.last() else { return Ok(None) };
        let next = last.saturating_add(1);
        let page: Vec<u8> = lines.into_iter().flat_map(|(_, line)| line).collect();
        Ok::<_, ApiError>(Some((Bytes::from(page), (store, id, next))))
    });
    let mut response = Body::from_stream(pages).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(file.bytes));
    if let Ok(value) = HeaderValue::from_str(&format!("attachment; filename=\"{name}\"")) {
        headers.insert(CONTENT_DISPOSITION, value);
    }
    Ok(response)
}
