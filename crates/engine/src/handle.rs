//! The channel pair between the async edge and the engine thread.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Instant,
};

use millrace_model::spec::encoder::PoolingTask;
use millrace_types::{Constraint, Request, RequestId, RequestOutput, SamplingParams, TokenId};
use tokio::sync::{mpsc, oneshot, watch};

use crate::{EngineStats, Inspection};

/// What the engine serves; fixed for its life.
#[derive(Debug, Clone)]
pub struct EngineInfo {
    /// Longest prompt plus output, in tokens.
    pub max_model_len: usize,
    /// Size of the vocabulary (valid token ids are below it).
    pub vocab_size: usize,
    /// Tokens that the KV cache holds.
    pub kv_capacity_tokens: usize,
    /// Tokens per KV block.
    pub block_size: usize,
    /// Requests that may wait for admission before [`SubmitError::QueueFull`].
    pub max_queued: usize,
    /// Whether prefixes are reused.
    pub prefix_caching: bool,
    /// For people: the backend and its feature level, such as `cpu (avx512_bf16, 2 threads)`.
    pub device: String,
    /// What the model makes of whole texts; `None`: it generates text.
    pub pooling: Option<PoolingInfo>,
}

/// What a model makes of whole texts.
#[derive(Debug, Clone)]
pub struct PoolingInfo {
    /// Elements of a row.
    pub dim: usize,
    /// What a row means.
    pub task: PoolingTask,
}

/// Messages to the engine thread.
#[derive(Debug)]
pub enum Command {
    /// Queue a request; its outputs go to the sender. A closed sender aborts the request.
    Submit(Box<Request>, mpsc::UnboundedSender<RequestOutput>),
    /// End a request; unknown and finished ids are ignored.
    Abort(RequestId),
    /// Tell about the open requests and the cache.
    Inspect(oneshot::Sender<Inspection>),
    /// Forget the cached prefixes that no request uses, and say how many blocks held them.
    DropCache(oneshot::Sender<usize>),
    /// Take no more requests, finish the running ones, then end the thread.
    Drain,
    /// Abort everything and end the thread.
    Shutdown,
}

/// Why a request was not taken. Nothing was queued.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// The queue is at `--max-num-queued-reqs`.
    #[error("The engine is currently busy and cannot accept new requests. Please try again later.")]
    QueueFull,
    /// More sequences than `--max-num-queued-reqs` lets wait together; trying again won't help.
    #[error(
        "The request makes {count} sequences (prompts times `n`), but at most {most} may wait at a time; ask for fewer."
    )]
    TooMany {
        /// What was asked for.
        count: usize,
        /// `--max-num-queued-reqs`.
        most: usize,
    },
    /// Shutting down.
    #[error("The server is shutting down and takes no new requests.")]
    Draining,
    /// The engine thread has ended.
    #[error("The engine is not running.")]
    Dead,
}

/// The edge's side of the engine: cheap to clone, usable from any thread.
#[derive(Debug, Clone)]
pub struct EngineHandle {
    commands: mpsc::UnboundedSender<Command>,
    stats: watch::Receiver<EngineStats>,
    info: Arc<EngineInfo>,
    next_id: Arc<AtomicU64>,
    /// Requests submitted and not yet admitted or ended; the engine counts down.
    queued: Arc<AtomicUsize>,
    draining: Arc<std::sync::atomic::AtomicBool>,
}

/// Optional parts of a submission.
#[derive(Debug, Clone, Default)]
pub struct SubmitOptions {
    /// Lower runs earlier.
    pub priority: i32,
    /// Keeps prefix blocks apart.
    pub cache_salt: Option<String>,
    /// Ends the request with a timeout past this moment.
    pub deadline: Option<Instant>,
    /// Ends the request if it still waits for its first step at this moment.
    pub start_by: Option<Instant>,
    /// What the output has to obey; a clone is independent.
    pub constraint: Option<Box<dyn Constraint>>,
    /// Where the second text of a pair begins in the prompt, for models that tell the two apart.
    pub second: Option<usize>,
}

/// The engine's end of [`channel`].
#[derive(Debug)]
pub struct EnginePort {
    /// Commands in order of submission.
    pub commands: mpsc::UnboundedReceiver<Command>,
    /// Where the engine publishes its snapshot.
    pub stats: watch::Sender<EngineStats>,
    /// Count of requests that wait for admission; the engine decrements it when one leaves the queue.
    pub queued: Arc<AtomicUsize>,
}

/// A connected handle and port. Tests put a mock engine behind the port.
pub fn channel(info: EngineInfo) -> (EngineHandle, EnginePort) {
    let (tx, rx) = mpsc::unbounded_channel();
    let (stats_tx, stats_rx) = watch::channel(EngineStats { alive: true, ..EngineStats::default() });
    let queued = Arc::new(AtomicUsize::new(0));
    let handle = EngineHandle {
        commands: tx,
        stats: stats_rx,
        info: Arc::new(info),
        next_id: Arc::new(AtomicU64::new(1)),
        queued: queued.clone(),
        draining: Arc::default(),
    };
    (handle, EnginePort { commands: rx, stats: stats_tx, queued })
}

impl EngineHandle {
    /// What the engine serves.
    pub fn info(&self) -> &EngineInfo {
        &self.info
    }

    /// The newest snapshot.
    pub fn stats(&self) -> EngineStats {
        let mut stats = *self.stats.borrow();
        stats.alive &= !self.commands.is_closed();
        stats
    }

    /// Follows the snapshots; one change per step.
    pub fn watch(&self) -> watch::Receiver<EngineStats> {
        self.stats.clone()
    }

    /// Takes `count` places in the queue, all of them or none. Places that are not used are free again when the
    /// reservation is dropped.
    ///
    /// # Errors
    /// The queue has not so many places, now or ever, or the engine is stopping.
    pub fn reserve(&self, count: usize) -> Result<Reservation, SubmitError> {
        self.check_serving()?;
        let most = self.info.max_queued;
        if count > most {
            return Err(SubmitError::TooMany { count, most });
        }
        let more = |queued: usize| queued.checked_add(count).filter(|queued| *queued <= most);
        let taken = self.queued.fetch_update(Ordering::AcqRel, Ordering::Acquire, more);
        taken.map_err(|_| SubmitError::QueueFull)?;
        Ok(Reservation { handle: self.clone(), left: count })
    }

    /// Queues one sequence. The prompt must hold `1..max_model_len` tokens below `vocab_size`
    /// (the API edge has checked). Dropping the stream aborts the request.
    ///
    /// # Errors
    /// The queue is full, or the engine is stopping or gone.
    pub fn submit(
        &self,
        prompt: Vec<TokenId>,
        sampling: SamplingParams,
        options: SubmitOptions,
    ) -> Result<ResponseStream, SubmitError> {
        self.reserve(1)?.submit(prompt, sampling, options)
    }

    /// Sends a sequence to the engine; its place in the queue is taken already.
    fn send(
        &self,
        prompt: Vec<TokenId>,
        sampling: SamplingParams,
        options: SubmitOptions,
    ) -> Result<ResponseStream, SubmitError> {
        self.check_serving()?;
        let id = RequestId(self.next_id.fetch_add(1, Ordering::Relaxed));
        let SubmitOptions { priority, cache_salt, deadline, start_by, constraint, second } = options;
        let arrival = Instant::now();
        let request = Request {
            id,
            prompt,
            sampling,
            constraint,
            second,
            priority,
            cache_salt,
            deadline,
            start_by,
            arrival,
        };
        let (tx, outputs) = mpsc::unbounded_channel();
        if self.commands.send(Command::Submit(Box::new(request), tx)).is_err() {
            return Err(SubmitError::Dead);
        }
        Ok(ResponseStream { id, outputs, commands: self.commands.clone(), finished: false })
    }

    fn check_serving(&self) -> Result<(), SubmitError> {
        if self.is_draining() { Err(SubmitError::Draining) } else { Ok(()) }
    }

    /// Ends a request; its stream gets a last output with `Abort`.
    pub fn abort(&self, id: RequestId) {
        // A dead engine has no requests left to abort.
        let _ = self.commands.send(Command::Abort(id));
    }

    /// What the engine has open and cached; `None` if it has ended.
    pub async fn inspect(&self) -> Option<Inspection> {
        self.ask(Command::Inspect).await
    }

    /// Forgets the cached prefixes that no request uses; says how many blocks held them. `None` if the engine has
    /// ended.
    pub async fn drop_cache(&self) -> Option<usize> {
        self.ask(Command::DropCache).await
    }

    async fn ask<T>(&self, question: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(question(reply)).ok()?;
        answer.await.ok()
    }

    /// No new requests; the thread ends when the running ones are done.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
        let _ = self.commands.send(Command::Drain);
    }

    /// Aborts everything and ends the thread.
    pub fn shutdown(&self) {
        self.draining.store(true, Ordering::Release);
        let _ = self.commands.send(Command::Shutdown);
    }

    /// Whether [`drain`](Self::drain) or [`shutdown`](Self::shutdown) was called.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }
}

/// Places in an engine's queue, for sequences that run together or not at all.
#[derive(Debug)]
pub struct Reservation {
    handle: EngineHandle,
    left: usize,
}

impl Reservation {
    /// [`EngineHandle::submit`] on one of the places; the engine gives it back once the sequence runs.
    ///
    /// # Errors
    /// All places are used ([`SubmitError::QueueFull`]), or the engine is stopping or gone.
    pub fn submit(
        &mut self,
        prompt: Vec<TokenId>,
        sampling: SamplingParams,
        options: SubmitOptions,
    ) -> Result<ResponseStream, SubmitError> {
        let left = self.left.checked_sub(1).ok_or(SubmitError::QueueFull)?;
        let stream = self.handle.send(prompt, sampling, options)?;
        self.left = left;
        Ok(stream)
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.handle.queued.fetch_sub(self.left, Ordering::AcqRel);
    }
}

/// The outputs of one request. Dropping it before the end aborts the request.
#[derive(Debug)]
pub struct ResponseStream {
    id: RequestId,
    outputs: mpsc::UnboundedReceiver<RequestOutput>,
    commands: mpsc::UnboundedSender<Command>,
    finished: bool,
}

impl ResponseStream {
    /// The engine's id of this request.
    pub fn id(&self) -> RequestId {
        self.id
    }

    /// The next output; `None` after the one with `finish`, or if the engine died.
    pub async fn recv(&mut self) -> Option<RequestOutput> {
        if self.finished {
            return None;
        }
        let output = self.outputs.recv().await;
        self.finished = output.as_ref().is_none_or(|o| o.finish.is_some());
        output
    }

    /// [`recv`](Self::recv) for threads outside an async runtime.
    pub fn blocking_recv(&mut self) -> Option<RequestOutput> {
        if self.finished {
            return None;
        }
        let output = self.outputs.blocking_recv();
        self.finished = output.as_ref().is_none_or(|o| o.finish.is_some());
        output
    }
}

impl Drop for ResponseStream {
    fn drop(&mut self) {
        if !self.finished {
            let _ = self.commands.send(Command::Abort(self.id));
        }
    }
}
