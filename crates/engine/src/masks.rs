//! Constraints at work: each sampled token is shown to its constraint, and the mask of the next one computed, for all
//! sequences of a step at once and on other threads than the engine's.
//!
//! There are two stages. The engine waits for the first before it plans the next step: a constraint takes its token, and
//! says which ones it forces, so that they enter the plan as well. For the second it waits as late as it can, just before
//! it samples: meanwhile it plans, and the device computes the logits that the mask is for. The engine thread takes part
//! wherever it would have to wait, and what it waits for is bounded by the constraints' own limits; a panic or an error
//! is one request's end.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, Sender, channel},
    },
    thread::available_parallelism,
    time::Instant,
};

use millrace_types::{RequestId, TokenId};

use crate::constrained::{After, Constrained};

/// Threads that share a step's jobs, the engine's own included. More threads than these would wait for each other's jobs.
const MAX_THREADS: usize = 16;

/// Waking a thread takes about as long as this many masks.
const JOBS_PER_THREAD: usize = 4;

/// A constraint on its way.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) id: RequestId,
    pub(crate) constrained: Box<Constrained>,
    /// What it has to take first; `None` if only its mask is wanted.
    pub(crate) after: Option<After>,
}

/// What became of a job, or of its first stage.
#[derive(Debug)]
pub(crate) struct News {
    pub(crate) id: RequestId,
    pub(crate) what: What,
}

/// Errors are sentences for the client, and the end of the job.
#[derive(Debug)]
pub(crate) enum What {
    /// It has taken its token, and these follow without a choice. The mask behind them is on its way, unless the constraint
    /// is back because none is wanted.
    Advanced(Vec<TokenId>, Option<Box<Constrained>>),
    /// Its token may not come. It is back, with the mask of those that may.
    Refused(Box<Constrained>),
    /// It has its mask and is back.
    Masked(Box<Constrained>),
    /// Its first stage failed.
    Failed(String),
    /// Its second stage failed.
    MaskFailed(String),
}

impl What {
    /// Whether it is the end of a first stage.
    fn is_advance(&self) -> bool {
        matches!(self, Self::Advanced(..) | Self::Refused(_) | Self::Failed(_))
    }

    /// Whether more is to come.
    fn is_halfway(&self) -> bool {
        matches!(self, Self::Advanced(_, None))
    }
}

/// Threads that help with a step's jobs; parked when there are none, and started with the first step that has many.
pub(crate) struct MaskPool {
    shared: Arc<Shared>,
    results: Receiver<News>,
    sender: Sender<News>,
    helpers: Option<usize>,
    /// Jobs whose first stage isn't over.
    advancing: usize,
    /// Jobs that aren't over, those included.
    open: usize,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
}

/// Jobs by their next stage.
#[derive(Default)]
struct Queue {
    tokens: VecDeque<Job>,
    masks: VecDeque<Job>,
    closed: bool,
}

impl MaskPool {
    pub(crate) fn new() -> Self {
        let (sender, results) = channel();
        Self { shared: Arc::default(), results, sender, helpers: None, advancing: 0, open: 0 }
    }

    /// Takes all jobs. If there are many, other threads begin at once; else they wait for the engine's.
    pub(crate) fn start(&mut self, jobs: &mut Vec<Job>) {
        let wanted = jobs.len().saturating_sub(1) / JOBS_PER_THREAD;
        self.open += jobs.len();
        let mut queue = self.shared.lock();
        for job in jobs.drain(..) {
            match job.after {
                Some(_) => {
                    self.advancing += 1;
                    queue.tokens.push_back(job);
                }
                None => queue.masks.push_back(job),
            }
        }
        drop(queue);
        if wanted > 0 {
            (0..self.helpers().min(wanted)).for_each(|_| self.shared.wake.notify_one());
        }
    }

    /// Returns when every constraint has taken its token; adds what there is to tell to `news`, in no particular order.
    pub(crate) fn advance(&mut self, news: &mut Vec<News>) {
        while self.advancing > 0 {
            let job = self.shared.lock().tokens.pop_front();
            self.proceed(job, news);
        }
    }

    /// Returns when every job is over.
    pub(crate) fn finish(&mut self, news: &mut Vec<News>) {
        while self.open > 0 {
            let job = self.shared.lock().pop();
            self.proceed(job, news);
        }
    }

    /// Works on a job, or waits for somebody else's.
    fn proceed(&mut self, job: Option<Job>, news: &mut Vec<News>) {
        // Every stage that a thread takes on is answered: it catches panics, and we hold a sender ourselves.
        let next = job.map(|job| self.shared.work(job)).or_else(|| self.results.recv().ok());
        if let Some(next) = next {
            self.advancing -= usize::from(next.what.is_advance());
            self.open -= usize::from(!next.what.is_halfway());
            news.push(next);
        }
    }

    /// How many threads there are; starts them the first time.
    fn helpers(&mut self) -> usize {
        *self.helpers.get_or_insert_with(|| {
            let count = available_parallelism().map_or(1, usize::from).min(MAX_THREADS) - 1;
            let start = |index| {
                let (shared, results) = (self.shared.clone(), self.sender.clone());
                let thread = std::thread::Builder::new().name(format!("millrace-mask-{index}"));
                thread.spawn(move || help(&shared, &results)).is_ok()
            };
            (0..count).filter(|index| start(*index)).count()
        })
    }
}

impl Drop for MaskPool {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.wake.notify_all();
    }
}

impl Shared {
    /// The next stage of a job. Behind the first one it waits again, if a mask is wanted.
    fn work(&self, mut job: Job) -> News {
        let (id, after) = (job.id, job.after.take());
        let start = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| match after {
            Some(after) => job.constrained.advance(after),
            None => job.constrained.renew_mask().map(|()| None),
        }));
        job.constrained.took += start.elapsed();
        let outcome = match outcome {
            Ok(outcome) => outcome.map_err(|error| error.to_string()),
            Err(_) => {
                Err("The constraint on this request's output failed; that is a fault of the server."
                    .to_owned())
            }
        };
        let what = match (after, outcome) {
            (None, Ok(_)) => What::Masked(job.constrained),
            (None, Err(error)) => What::MaskFailed(error),
            (Some(_), Err(error)) => What::Failed(error),
            (Some(_), Ok(None)) => What::Refused(job.constrained),
            (Some(after), Ok(Some(forced))) if after.ends || job.constrained.is_tried() => {
                What::Advanced(forced, Some(job.constrained))
            }
            (Some(_), Ok(Some(forced))) => {
                self.lock().masks.push_back(job);
                What::Advanced(forced, None)
            }
        };
        News { id, what }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Jobs run outside of the lock, so nothing can leave the queue half changed.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    /// First what the engine waits for first.
    fn pop(&mut self) -> Option<Job> {
        self.tokens.pop_front().or_else(|| self.masks.pop_front())
    }
}

/// A helper's life.
fn help(shared: &Shared, results: &Sender<News>) {
    loop {
        let mut queue = shared.lock();
        let job = loop {
            if queue.closed {
                return;
            }
            match queue.pop() {
                Some(job) => break job,
                None => queue = shared.wake.wait(queue).unwrap_or_else(PoisonError::into_inner),
            }
        };
        drop(queue);
        if results.send(shared.work(job)).is_err() {
            return;
        }
    }
}

#[cfg(test)]
#[path = "masks_tests.rs"]
mod tests;
