//! What is kept of a batch, and what clients see of it.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{BatchOrder, LineError};
use crate::openai::files::{BATCH_OUTPUT, FileRecord};

/// Where a batch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Its lines are being read.
    Validating,
    /// Its lines can't be run, or its results not be kept.
    Failed,
    /// Its requests run.
    InProgress,
    /// Its results are being put together.
    Finalizing,
    /// All its requests have run.
    Completed,
    /// Time was up before.
    Expired,
    /// It is being cancelled.
    Cancelling,
    /// It was cancelled.
    Cancelled,
}

/// How a batch ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// All its requests have run.
    Completed,
    /// Time was up before.
    Expired,
    /// It was cancelled.
    Cancelled,
    /// It can't go on.
    Failed,
}

/// Requests of a batch; those that wait or run are in `total` only.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// All.
    pub total: u32,
    /// Those with an answer.
    pub completed: u32,
    /// Those with an error.
    pub failed: u32,
}

/// A batch as it is stored. Times are Unix times in seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchRecord {
    /// `batch_…`; ids that sort higher are newer.
    pub id: String,
    /// Whose it is; nobody else gets to see it.
    pub owner: String,
    /// The file with its requests.
    pub input_file_id: String,
    /// The file of the answers, which clients see when the batch has ended.
    pub output_file_id: String,
    /// The file of the errors, likewise.
    pub error_file_id: String,
    /// The path that the requests go to.
    pub endpoint: String,
    /// Where it is.
    pub state: State,
    /// What is wrong with it.
    pub errors: Vec<LineError>,
    /// Its requests.
    pub counts: Counts,
    /// Bytes of the answers so far.
    pub output_bytes: u64,
    /// Bytes of the errors so far.
    pub error_bytes: u64,
    /// When its time is up.
    pub expires_at: u64,
    /// When it was ordered.
    pub created_at: u64,
    completion_window: String,
    metadata: Map<String, Value>,
    output_expires_after: Option<u64>,
    in_progress_at: Option<u64>,
    finalizing_at: Option<u64>,
    completed_at: Option<u64>,
    failed_at: Option<u64>,
    expired_at: Option<u64>,
    cancelling_at: Option<u64>,
    cancelled_at: Option<u64>,
}

impl BatchRecord {
    /// A batch that is ordered now. `ids` are its own and those of its two files of results.
    pub fn new(ids: [String; 3], owner: String, order: BatchOrder, now: u64) -> Self {
        let [id, output_file_id, error_file_id] = ids;
        Self {
            id,
            owner,
            input_file_id: order.input_file_id,
            output_file_id,
            error_file_id,
            endpoint: order.endpoint,
            state: State::Validating,
            errors: Vec::new(),
            counts: Counts::default(),
            output_bytes: 0,
            error_bytes: 0,
            expires_at: now.saturating_add(order.window),
            created_at: now,
            completion_window: order.completion_window,
            metadata: order.metadata,
            output_expires_after: order.output_expires_after,
            in_progress_at: None,
            finalizing_at: None,
            completed_at: None,
            failed_at: None,
            expired_at: None,
            cancelling_at: None,
            cancelled_at: None,
        }
    }

    /// Whether nothing more happens to it.
    pub fn is_final(&self) -> bool {
        matches!(self.state, State::Failed | State::Completed | State::Expired | State::Cancelled)
    }

    /// Its requests are read, and there are `total` of them.
    pub fn begin(&mut self, total: u32, now: u64) {
        // A client may have cancelled it meanwhile.
        if self.state == State::Validating {
            self.state = State::InProgress;
            self.in_progress_at = Some(now);
        }
        self.counts.total = total;
    }

    /// It is to end early. Nothing happens to a batch that has ended.
    pub fn cancel(&mut self, now: u64) {
        if !self.is_final() && self.state != State::Cancelling {
            self.state = State::Cancelling;
            self.cancelling_at = Some(now);
        }
    }

    /// A request has come to its end; its line has so many bytes.
    pub fn count(&mut self, succeeded: bool, bytes: u64) {
        let (count, sum) = if succeeded {
            (&mut self.counts.completed, &mut self.output_bytes)
        } else {
            (&mut self.counts.failed, &mut self.error_bytes)
        };
        *count += 1;
        *sum += bytes;
    }

    /// Requests that have not come to their end.
    pub fn open_lines(&self) -> u32 {
        self.counts.total.saturating_sub(self.counts.completed).saturating_sub(self.counts.failed)
    }

    /// All its requests have run; the results are put together.
    pub fn finalize(&mut self, now: u64) {
        if self.state == State::InProgress {
            self.state = State::Finalizing;
            self.finalizing_at = Some(now);
        }
    }

    /// It ends. Returns the files of results that there are now, kept for `ttl` seconds if the client asked for nothing
    /// shorter; `lines` is how many lines the input has.
    pub fn end(&mut self, end: End, now: u64, ttl: u64, lines: u32) -> Vec<FileRecord> {
        let (state, at) = match end {
            End::Completed => (State::Completed, &mut self.completed_at),
            End::Expired => (State::Expired, &mut self.expired_at),
            End::Cancelled => (State::Cancelled, &mut self.cancelled_at),
            End::Failed => (State::Failed, &mut self.failed_at),
        };
        self.state = state;
        *at = Some(now);
        let expires_at = now.saturating_add(self.output_expires_after.unwrap_or(ttl).min(ttl));
        let file = |(id, name, bytes): (&String, &str, u64)| FileRecord {
            id: id.clone(),
            owner: self.owner.clone(),
            bytes,
            lines,
            created_at: now,
            expires_at,
            filename: format!("{}_{name}.jsonl", self.id),
            purpose: BATCH_OUTPUT.to_owned(),
        };
        let files = [
            (&self.output_file_id, "output", self.output_bytes),
            (&self.error_file_id, "error", self.error_bytes),
        ];
        files.into_iter().filter(|(.., bytes)| *bytes > 0).map(file).collect()
    }

    /// The batch as clients see it.
    pub fn to_object(&self) -> Value {
        let file = |id: &str, bytes: u64| (self.is_final() && bytes > 0).then(|| id.to_owned());
        let errors = (!self.errors.is_empty()).then(|| json!({"object": "list", "data": self.errors}));
        json!({
            "id": self.id,
            "object": "batch",
            "endpoint": self.endpoint,
            "errors": errors,
            "input_file_id": self.input_file_id,
            "completion_window": self.completion_window,
            "status": self.state,
            "output_file_id": file(&self.output_file_id, self.output_bytes),
            "error_file_id": file(&self.error_file_id, self.error_bytes),
            "created_at": self.created_at,
            "in_progress_at": self.in_progress_at,
            "expires_at": self.expires_at,
            "finalizing_at": self.finalizing_at,
            "completed_at": self.completed_at,
            "failed_at": self.failed_at,
            "expired_at": self.expired_at,
            "cancelling_at": self.cancelling_at,
            "cancelled_at": self.cancelled_at,
            "request_counts": self.counts,
            "metadata": self.metadata,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> BatchRecord {
        let body = json!({"input_file_id": "file-1", "endpoint": "/e", "completion_window": "1h"});
        let order = super::super::parse(&body, &["/e"]).unwrap();
        BatchRecord::new(["batch_1", "file-o", "file-e"].map(str::to_owned), "me".into(), order, 100)
    }

    #[test]
    fn results_are_shown_when_the_batch_has_ended() {
        let mut batch = record();
        assert_eq!(batch.to_object()["status"], "validating");
        batch.begin(3, 101);
        batch.count(true, 10);
        batch.count(true, 5);
        assert_eq!((batch.open_lines(), &batch.to_object()["output_file_id"]), (1, &Value::Null));
        batch.count(true, 1);
        batch.finalize(102);
        assert_eq!(batch.to_object()["status"], "finalizing");
        let files = batch.end(End::Completed, 103, 50, 4);
        assert_eq!(files.len(), 1, "there are no errors");
        assert_eq!((files[0].bytes, files[0].lines, files[0].expires_at), (16, 4, 153));
        let object = batch.to_object();
        assert_eq!(object["request_counts"], json!({"total": 3, "completed": 3, "failed": 0}));
        assert_eq!((&object["output_file_id"], &object["error_file_id"]), (&json!("file-o"), &Value::Null));
        assert_eq!((&object["completed_at"], &object["expires_at"]), (&json!(103), &json!(3700)));
    }

    #[test]
    fn what_has_ended_is_not_cancelled() {
        let mut batch = record();
        batch.cancel(5);
        batch.begin(1, 6);
        assert_eq!((batch.state, batch.counts.total), (State::Cancelling, 1));
        batch.end(End::Cancelled, 7, 1, 1);
        batch.cancel(8);
        assert_eq!(batch.state, State::Cancelled);
    }
}
