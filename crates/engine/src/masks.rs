//! Constraints at work: each sampled token is committed and the next mask computed, for all sequences of a step at once.
//!
//! This happens between a step's tokens and the next step's plan, so that tokens that a constraint forces enter the plan
//! as well. The engine thread takes part in the work, and what it waits for is bounded by the constraints' own limits;
//! a panic or an error is one request's end.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, Sender, channel},
    },
    thread::available_parallelism,
    time::{Duration, Instant},
};

use millrace_types::{Constraint, ConstraintError, RequestId, TokenId};

/// Threads that share a step's jobs, the engine's own included. The model doesn't run meanwhile, so all cores are free; on
/// a CPU it would only have to share them. More threads than these would wait for each other's jobs.
const MAX_THREADS: usize = 16;

/// Waking a thread takes about as long as this many masks.
const JOBS_PER_THREAD: usize = 4;

/// A sequence's constraint and what it says about the next token.
#[derive(Debug)]
pub(crate) struct Constrained {
    constraint: Box<dyn Constraint>,
    /// Valid if `ready`; ⌈vocabulary / 32⌉ words.
    mask: Vec<u32>,
    ready: bool,
    /// Tokens that follow the last committed one without a choice; the mask stands behind them.
    forced: Vec<TokenId>,
}

impl Constrained {
    pub(crate) fn new(constraint: Box<dyn Constraint>, vocab_size: usize) -> Self {
        let mask = vec![0; vocab_size.div_ceil(32)];
        Self { constraint, mask, ready: false, forced: Vec::new() }
    }

    /// Whether the mask of the next token is known.
    pub(crate) fn is_ready(&self) -> bool {
        self.ready
    }

    /// Which tokens may come next.
    pub(crate) fn mask(&self) -> &[u32] {
        &self.mask
    }

    /// Hands over the tokens that follow the last committed one.
    pub(crate) fn take_forced(&mut self, out: &mut Vec<TokenId>) {
        out.append(&mut self.forced);
    }

    fn advance(&mut self, step: Step) -> Result<(), ConstraintError> {
        self.ready = false;
        if let Step::After { token, most_forced } = step {
            self.constraint.commit(token)?;
            if most_forced > 0 {
                self.constraint.fast_forward(most_forced, &mut self.forced)?;
            }
        }
        self.constraint.mask(&mut self.mask)?;
        self.ready = true;
        Ok(())
    }
}

/// Where a constraint is to go.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Step {
    /// Nowhere: only its mask is wanted.
    Start,
    /// Behind a sampled token, and behind those that it forces.
    After { token: TokenId, most_forced: usize },
}

/// A constraint on its way.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) id: RequestId,
    pub(crate) constrained: Box<Constrained>,
    pub(crate) step: Step,
}

/// A constraint that has arrived.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) id: RequestId,
    /// Back, or why it can't go on.
    pub(crate) outcome: Result<Box<Constrained>, String>,
    pub(crate) took: Duration,
}

impl Job {
    fn run(self) -> Done {
        let Self { id, mut constrained, step } = self;
        let start = Instant::now();
        let advanced = catch_unwind(AssertUnwindSafe(|| {
            let advanced = constrained.advance(step);
            (constrained, advanced)
        }));
        let outcome = match advanced {
            Ok((constrained, Ok(()))) => Ok(constrained),
            Ok((_, Err(error))) => Err(error.to_string()),
            Err(_) => {
                Err("The constraint on this request's output failed; that is a fault of the server."
                    .to_owned())
            }
        };
        Done { id, outcome, took: start.elapsed() }
    }
}

/// Threads that help with a step's jobs; parked between steps, and started with the first step that has many.
pub(crate) struct MaskPool {
    shared: Arc<Shared>,
    results: Receiver<Done>,
    sender: Sender<Done>,
    helpers: Option<usize>,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    closed: bool,
}

impl MaskPool {
    pub(crate) fn new() -> Self {
        let (sender, results) = channel();
        Self { shared: Arc::default(), results, sender, helpers: None }
    }

    /// Runs all jobs, in no particular order, and adds what became of them to `done`. `jobs` is empty afterwards.
    pub(crate) fn run(&mut self, jobs: &mut Vec<Job>, done: &mut Vec<Done>) {
        let wanted = done.len() + jobs.len();
        if jobs.len() > JOBS_PER_THREAD {
            let helpers = self.helpers().min(jobs.len() / JOBS_PER_THREAD);
            self.shared.lock().jobs.extend(jobs.drain(..));
            (0..helpers).for_each(|_| self.shared.wake.notify_one());
            while let Some(job) = self.shared.pop() {
                done.push(job.run());
            }
        }
        done.extend(jobs.drain(..).map(Job::run));
        while done.len() < wanted {
            // Every job taken by a thread is answered: it catches panics, and we hold a sender ourselves.
            done.extend(self.results.recv());
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
    fn pop(&self) -> Option<Job> {
        self.lock().jobs.pop_front()
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Jobs run outside of the lock, so nothing can leave the queue half changed.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A helper's life.
fn help(shared: &Shared, results: &Sender<Done>) {
    loop {
        let mut queue = shared.lock();
        let job = loop {
            if queue.closed {
                return;
            }
            match queue.jobs.pop_front() {
                Some(job) => break job,
                None => queue = shared.wake.wait(queue).unwrap_or_else(PoisonError::into_inner),
            }
        };
        drop(queue);
        if results.send(job.run()).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Allows one token after the other; the unlucky token panics.
    #[derive(Debug)]
    struct Chain(TokenId);

    impl Constraint for Chain {
        fn commit(&mut self, token: TokenId) -> Result<(), ConstraintError> {
            assert_ne!(token, 13);
            self.0 = token + 1;
            if token == 12 { Err(ConstraintError("twelve".into())) } else { Ok(()) }
        }
        fn fast_forward(&mut self, most: usize, out: &mut Vec<TokenId>) -> Result<(), ConstraintError> {
            out.extend((0..most as u32).map(|i| self.0 + i));
            self.0 += most as u32;
            Ok(())
        }
        fn mask(&mut self, mask: &mut [u32]) -> Result<(), ConstraintError> {
            mask.fill(0);
            mask[self.0 as usize / 32] = 1 << (self.0 % 32);
            Ok(())
        }
        fn fork(&self) -> Box<dyn Constraint> {
            Box::new(Self(self.0))
        }
    }

    #[test]
    fn every_job_comes_back_and_failures_stay_alone() {
        let mut pool = MaskPool::new();
        for count in [1, 3, 40] {
            let job = |token| Job {
                id: RequestId(u64::from(token)),
                constrained: Box::new(Constrained::new(Box::new(Chain(0)), 64)),
                step: Step::After { token, most_forced: 2 },
            };
            let mut jobs: Vec<Job> = (0..count).map(job).collect();
            let mut done = Vec::new();
            pool.run(&mut jobs, &mut done);
            done.sort_by_key(|done| done.id);
            assert!(jobs.is_empty() && done.len() == count as usize);
            for (token, done) in (0..count).zip(done) {
                match (token, done.outcome) {
                    (12, outcome) => assert_eq!(outcome.unwrap_err(), "twelve"),
                    (13, outcome) => assert!(outcome.unwrap_err().contains("fault of the server")),
                    (_, outcome) => {
                        let mut constrained = outcome.unwrap();
                        let mut forced = Vec::new();
                        constrained.take_forced(&mut forced);
                        assert_eq!(forced, [token + 1, token + 2]);
                        let next = token as usize + 3;
                        assert_eq!(constrained.mask()[next / 32], 1 << (next % 32));
                        assert!(constrained.is_ready());
                    }
                }
            }
        }
    }
}
