//! One batch, from its order to its end.

use std::{
    collections::{HashSet, VecDeque},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use millrace_api::{
    ApiError,
    openai::batches::{BatchLine, BatchRecord, End, LineError, State},
};
use tokio::{
    select,
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};

use super::{
    PAUSE,
    line::{self, Ended},
};
use crate::{files::Unrun, http::App, model::unix_time};

/// Most faults of an input that are told.
const MAX_ERRORS: usize = 100;

const EXPIRED: Unrun = Unrun {
    code: "batch_expired",
    message: "This request could not be executed before the completion window expired.",
};

const CANCELLED: Unrun =
    Unrun { code: "batch_cancelled", message: "This request was not executed: the batch was cancelled." };

/// Brings a batch to its end, or as far as it comes before the server stops; returns its id.
pub(super) async fn run(app: Arc<App>, id: String) -> String {
    while let Err(error) = advance(&app, &id).await {
        tracing::warn!("the batch `{id}` has to wait: {error}");
        sleep(PAUSE).await;
    }
    id
}

/// How the work on a batch ended.
enum Outcome {
    End(End),
    /// With this fault.
    Fault(LineError),
    /// The server stops; the next one goes on.
    Stopped,
}

/// Goes on where the batch is.
///
/// # Errors
/// The store can't be used now.
async fn advance(app: &Arc<App>, id: &str) -> Result<(), ApiError> {
    let files = app.jobs.files();
    let Some(mut batch) = files.find_batch(id).await? else { return Ok(()) };
    if batch.state == State::Validating {
        let (total, errors) = validate(app, &batch).await?;
        let valid = errors.is_empty();
        let begun = files.change(id, move |batch| {
            batch.begin(total, unix_time());
            batch.errors = errors;
        });
        let Some(begun) = begun.await? else { return Ok(()) };
        if !valid {
            return files.end(id, End::Failed, None).await;
        }
        batch = begun;
    }
    match work(app, batch).await? {
        Outcome::End(End::Completed) => {
            files.change(id, |batch| batch.finalize(unix_time())).await?;
            files.end(id, End::Completed, None).await
        }
        Outcome::End(End::Expired) => files.end(id, End::Expired, Some(EXPIRED)).await,
        Outcome::End(End::Cancelled) => files.end(id, End::Cancelled, Some(CANCELLED)).await,
        Outcome::End(End::Failed) => files.end(id, End::Failed, None).await,
        Outcome::Fault(fault) => {
            files.change(id, |batch| batch.errors.push(fault)).await?;
            files.end(id, End::Failed, None).await
        }
        Outcome::Stopped => Ok(()),
    }
}

/// Reads all requests: how many there are, and what is wrong with them.
async fn validate(app: &Arc<App>, batch: &BatchRecord) -> Result<(u32, Vec<LineError>), ApiError> {
    let (mut total, mut errors, mut names) = (0, Vec::new(), HashSet::new());
    let mut from = Some(0);
    while let Some(first) = from {
        let page = app.jobs.files().pending(&batch.id, first).await?;
        from = page.next;
        let (endpoint, limits) = (batch.endpoint.clone(), app.config.limits.clone());
        let read = move || {
            let lines = page.lines.into_iter();
            let read =
                lines.map(|(number, line)| (number, BatchLine::read(number, &line, &endpoint, &limits)));
            Ok(read
                .map(|(number, read)| (number, read.map(|line| line.map(|line| line.custom_id))))
                .collect())
        };
        let lines: Vec<(u32, Result<Option<String>, LineError>)> =
            app.service.offload().run(usize::MAX, read).await?;
        for (number, line) in lines {
            match line {
                Ok(Some(name)) if names.contains(&name) => errors.push(LineError {
                    code: "duplicate_custom_id".into(),
                    line: Some(number),
                    message: "The custom_id of this line stands in another one too.".into(),
                    param: Some("custom_id".into()),
                }),
                Ok(Some(name)) => {
                    names.insert(name);
                    total += 1;
                }
                Ok(None) => {}
                Err(error) => errors.push(error),
            }
        }
        errors.truncate(MAX_ERRORS);
    }
    if total == 0 && errors.is_empty() {
        errors.push(fault("empty_file", "The input file holds no requests."));
    }
    Ok((total, errors))
}

/// Runs the requests that have no result.
async fn work(app: &Arc<App>, batch: BatchRecord) -> Result<Outcome, ApiError> {
    let batch = Arc::new(batch);
    let mut cancelled = pin!(cancelled(app, &batch.id));
    let left = Duration::from_secs(batch.expires_at.saturating_sub(unix_time()));
    let mut deadline = pin!(sleep_until(Instant::now() + left));
    let (mut queue, mut from) = (VecDeque::new(), Some(0));
    let (mut running, mut stopping) = (JoinSet::new(), false);
    loop {
        while queue.is_empty()
            && !stopping
            && let Some(first) = from
        {
            let page = app.jobs.files().pending(&batch.id, first).await?;
            queue.extend(page.lines);
            from = page.next;
        }
        if running.is_empty() && (queue.is_empty() || stopping) {
            return Ok(if stopping { Outcome::Stopped } else { Outcome::End(End::Completed) });
        }
        select! {
            biased;
            failed = &mut cancelled => {
                failed?;
                running.shutdown().await;
                return Ok(Outcome::End(End::Cancelled));
            }
            () = &mut deadline => {
                running.shutdown().await;
                return Ok(Outcome::End(End::Expired));
            }
            Some(ended) = running.join_next() => match ended {
                Ok(Ended::Kept) => {}
                Ok(Ended::Stopped) => stopping = true,
                Ok(Ended::Full) => return Ok(Outcome::Fault(fault(
                    "store_full",
                    "The server's file store is full. Delete files, then order what has no result again.",
                ))),
                Ok(Ended::Locked) => return Ok(Outcome::Fault(fault(
                    "key_gone",
                    "The key that ordered this batch doesn't open the server any more.",
                ))),
                Err(_) => return Ok(Outcome::Fault(fault(
                    "server_error",
                    "The server hit an internal error. Order what has no result again.",
                ))),
            },
            Ok(permit) = app.jobs.slots.clone().acquire_owned(), if !queue.is_empty() && !stopping => {
                if let Some((number, line)) = queue.pop_front() {
                    let request = line::run(app.clone(), batch.clone(), number, line);
                    running.spawn(async move {
                        let _permit = permit;
                        request.await
                    });
                }
            }
        }
    }
}

/// Waits until the batch is to be cancelled.
///
/// # Errors
/// The store can't be used now.
async fn cancelled(app: &Arc<App>, id: &str) -> Result<(), ApiError> {
    let mut news = app.jobs.news.subscribe();
    loop {
        news.borrow_and_update();
        let batch = app.jobs.files().find_batch(id).await?;
        if batch.is_none_or(|batch| batch.state == State::Cancelling) {
            return Ok(());
        }
        // The sender lives as long as the server.
        let _ = news.changed().await;
    }
}

fn fault(code: &str, message: &str) -> LineError {
    LineError { code: code.into(), line: None, message: message.into(), param: None }
}
