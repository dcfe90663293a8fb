//! The loop of every engine, whatever it computes: commands in, a step, news out.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::Instant,
};

use millrace_backend::BackendError;
use millrace_types::{FinishReason, Request, RequestId, RequestOutput};
use tokio::sync::{mpsc::UnboundedSender, watch};

use crate::{
    Command, EngineStats, Inspection,
    handle::EnginePort,
    inbox::{Inbox, Mode},
    ledger::Ledger,
};

/// What an engine computes, and in which order.
pub(crate) trait Work {
    /// Opens a request in the ledger and queues it, or closes it at once if it can't ever be computed.
    fn open(&mut self, desk: &mut Desk, request: Request, outputs: UnboundedSender<RequestOutput>);

    /// Takes a request out of the queue, and out of whatever comes after the step under way; what it held is free.
    /// Unknown ids are ignored.
    fn release(&mut self, id: RequestId);

    /// Computes a step, if there is anything to do.
    fn step(&mut self, desk: &mut Desk);

    /// Writes the figures that the desk doesn't know.
    fn gauges(&self, stats: &mut EngineStats);

    /// Adds what the ledger doesn't know.
    fn describe(&self, inspection: &mut Inspection);

    /// Forgets what is kept for later requests only; says how many blocks held it.
    fn drop_cache(&mut self) -> usize;

    /// Ends a request from outside of a step; what it held is free at once.
    fn close(&mut self, desk: &mut Desk, id: RequestId, reason: FinishReason, error: Option<String>) {
        self.release(id);
        desk.close(id, reason, error);
    }

    /// The device failed: the step's requests end with an error, the others go on.
    fn fail_step(&mut self, desk: &mut Desk, ids: Vec<RequestId>, error: &BackendError) {
        tracing::error!(%error, "a step failed");
        for id in ids {
            self.close(desk, id, FinishReason::Error, Some(error.to_string()));
        }
    }
}

/// What every engine keeps: the open requests, and the figures that others see.
pub(crate) struct Desk {
    pub(crate) ledger: Ledger,
    pub(crate) stats: EngineStats,
    queued: Arc<AtomicUsize>,
    stats_out: watch::Sender<EngineStats>,
}

impl Desk {
    /// Notes that a request is being computed; the first time, it leaves the queue.
    pub(crate) fn admit(&mut self, id: RequestId, cached_tokens: usize) {
        if self.ledger.admitted(id, cached_tokens) {
            self.queued.fetch_sub(1, Ordering::AcqRel);
        }
    }

    fn close(&mut self, id: RequestId, reason: FinishReason, error: Option<String>) {
        if !self.ledger.was_admitted(id) && self.ledger.get(id).is_some() {
            self.queued.fetch_sub(1, Ordering::AcqRel);
        }
        self.ledger.close(id, reason, error);
    }

    /// Shows the figures as they are.
    pub(crate) fn publish(&mut self, work: &impl Work) {
        let mut stats = EngineStats {
            prompt_tokens: self.ledger.prompt_tokens,
            generation_tokens: self.ledger.generation_tokens,
            finished: self.ledger.finished,
            ..self.stats
        };
        work.gauges(&mut stats);
        self.stats_out.send_replace(stats);
    }
}

/// Starts the thread that owns `work` and all that it changes.
///
/// # Errors
/// The system refuses the thread.
pub(crate) fn spawn(
    name: &str,
    work: impl Work + Send + 'static,
    port: EnginePort,
) -> std::io::Result<JoinHandle<()>> {
    let desk = Desk {
        ledger: Ledger::default(),
        stats: EngineStats { alive: true, ..EngineStats::default() },
        queued: port.queued,
        stats_out: port.stats,
    };
    let engine = Loop { work, desk, inbox: Inbox::new(port.commands) };
    std::thread::Builder::new().name(name.into()).spawn(move || engine.run())
}

struct Loop<W> {
    work: W,
    desk: Desk,
    inbox: Inbox,
}

impl<W: Work> Loop<W> {
    /// Runs until told to stop, or until every handle is gone.
    fn run(mut self) {
        self.desk.publish(&self.work);
        loop {
            self.receive();
            match self.inbox.mode() {
                Mode::Stopping => break,
                Mode::Draining if self.desk.ledger.is_empty() => break,
                _ => {}
            }
            self.sweep();
            self.work.step(&mut self.desk);
            self.desk.publish(&self.work);
        }
        for id in self.desk.ledger.ids() {
            self.close(id, FinishReason::Abort, None);
        }
        self.desk.stats.alive = false;
        self.desk.publish(&self.work);
    }

    /// Takes all commands that are there; waits for one if there is nothing else to do.
    fn receive(&mut self) {
        let mut wait = self.desk.ledger.is_empty();
        while let Some(command) = self.inbox.next(std::mem::take(&mut wait)) {
            match command {
                Command::Submit(request, outputs) => self.work.open(&mut self.desk, *request, outputs),
                Command::Abort(id) => self.close(id, FinishReason::Abort, None),
                // Whoever asked may have left.
                Command::Inspect(reply) => drop(reply.send(self.inspect())),
                Command::DropCache(reply) => drop(reply.send(self.work.drop_cache())),
                // The inbox has seen to them.
                Command::Drain | Command::Shutdown => {}
            }
        }
    }

    fn inspect(&self) -> Inspection {
        let mut inspection = Inspection { requests: self.desk.ledger.states(), cached_blocks: 0 };
        self.work.describe(&mut inspection);
        inspection
    }

    /// Ends requests whose client has gone or whose time is up.
    fn sweep(&mut self) {
        for (id, reason, error) in self.desk.ledger.expired(Instant::now()) {
            self.close(id, reason, error);
        }
    }

    fn close(&mut self, id: RequestId, reason: FinishReason, error: Option<String>) {
        self.work.close(&mut self.desk, id, reason, error);
    }
}
