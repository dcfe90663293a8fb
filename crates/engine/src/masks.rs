//! Constraints at work: each sampled token is shown to its constraint, and the mask of the next one computed, for all
//! sequences of a step at once and on other threads than the engine's.
//!
//! There are two stages. The engine waits for the first before it plans the next step: a constraint takes its token, and
//! says which ones it forces, so that they enter the plan as well. For the second it waits as late as it can, just before
//! it samples: meanwhile it plans, and the device computes the logits that the mask is for. The engine thread takes part
//! wherever it would have to wait, and what it waits for is bounded by the constraints' own limits; a panic or an error
//! is one request's end.
//!
//! A greedy sequence may do without a mask, where computing it would keep the model waiting: its most likely token is
//! shown to the constraint, which takes most tokens of a model that knows the format. Only if it doesn't, its mask is
//! computed and the row sampled once more. That gives the same token: where the most likely one of all is allowed, it is
//! the most likely one of those that are.

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

/// Threads that share a step's jobs, the engine's own included. More threads than these would wait for each other's jobs.
const MAX_THREADS: usize = 16;

/// Waking a thread takes about as long as this many masks.
const JOBS_PER_THREAD: usize = 4;

/// A sequence's constraint and what it says about the next token.
#[derive(Debug)]
pub(crate) struct Constrained {
    constraint: Box<dyn Constraint>,
    /// Valid if [`State::Masked`]; ⌈vocabulary / 32⌉ words.
    mask: Vec<u32>,
    state: State,
    trust: Trust,
    /// Time spent on the next token so far.
    took: Duration,
}

/// How the next token comes about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// With a mask, which isn't there yet.
    Unknown,
    /// With the mask that is there.
    Masked,
    /// Without one.
    Tried,
}

impl Constrained {
    pub(crate) fn new(constraint: Box<dyn Constraint>, vocab_size: usize) -> Self {
        let mask = vec![0; vocab_size.div_ceil(32)];
        Self { constraint, mask, state: State::Unknown, trust: Trust::new(), took: Duration::ZERO }
    }

    /// Whether it is known how the next token is sampled.
    pub(crate) fn is_ready(&self) -> bool {
        self.state != State::Unknown
    }

    /// Whether the next token is sampled without a mask.
    pub(crate) fn is_tried(&self) -> bool {
        self.state == State::Tried
    }

    /// Decides whether the next token is sampled without a mask, if that `may` be.
    pub(crate) fn choose(&mut self, may: bool) {
        self.state = if may && self.trust.next() { State::Tried } else { State::Unknown };
    }

    /// Which tokens may come next.
    pub(crate) fn mask(&self) -> &[u32] {
        &self.mask
    }

    /// How long it took to the mask, or to do without, since this was asked before.
    pub(crate) fn take_time(&mut self) -> Duration {
        std::mem::take(&mut self.took)
    }

    /// Takes a token and says which ones follow; `None` if it may not come, and then the mask is there.
    fn advance(&mut self, after: After) -> Result<Option<Vec<TokenId>>, ConstraintError> {
        if self.state == State::Tried {
            if !self.admit(after)? {
                return Ok(None);
            }
        } else {
            self.constraint.commit(after.token)?;
        }
        self.choose(after.may_try);
        let mut forced = Vec::new();
        if after.most_forced > 0 {
            self.constraint.fast_forward(after.most_forced, &mut forced)?;
        }
        Ok(Some(forced))
    }

    /// Takes a token that was sampled without a mask, if the mask would have allowed it.
    fn admit(&mut self, after: After) -> Result<bool, ConstraintError> {
        let token = after.token;
        let mut admitted = self.constraint.admit(token)?;
        if admitted != Some(true) {
            self.renew_mask()?;
        }
        if admitted.is_none()
            && self.mask.get(token as usize / 32).is_some_and(|word| word >> (token % 32) & 1 == 1)
        {
            if !after.ends {
                self.constraint.commit(token)?;
            }
            admitted = Some(true);
        }
        let admitted = admitted == Some(true);
        self.trust.note(admitted);
        Ok(admitted)
    }

    fn renew_mask(&mut self) -> Result<(), ConstraintError> {
        self.constraint.mask(&mut self.mask)?;
        self.state = State::Masked;
        Ok(())
    }
}

/// Whether it is worth a try to sample without a mask: a token that is refused costs more than its mask.
#[derive(Debug)]
struct Trust {
    /// Tokens that get a mask before the next try.
    pause: u8,
    /// The pause behind the next refusal.
    next_pause: u8,
}

impl Trust {
    /// One try in so many tokens at least.
    const MOST: u8 = 64;

    fn new() -> Self {
        Self { pause: 0, next_pause: 2 }
    }

    /// Whether the next token is tried.
    fn next(&mut self) -> bool {
        let tried = self.pause == 0;
        self.pause = self.pause.saturating_sub(1);
        tried
    }

    /// What became of a try.
    fn note(&mut self, admitted: bool) {
        if admitted {
            self.next_pause = (self.next_pause - 1).max(1);
        } else {
            self.pause = self.next_pause;
            self.next_pause = (2 * self.next_pause).min(Self::MOST);
        }
    }
}

/// A sampled token, and what is to be known behind it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct After {
    pub(crate) token: TokenId,
    /// How many tokens may follow it without being sampled.
    pub(crate) most_forced: usize,
    /// Whether the next one may be sampled without a mask.
    pub(crate) may_try: bool,
    /// It ends the sequence: nothing comes next.
    pub(crate) ends: bool,
}

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
mod tests {
    use std::collections::HashMap;

    use super::*;

    /// Allows one token after the other. Some tokens make it fail, some when they come and some at the mask behind them.
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
            assert_ne!(self.0, 15 + 3);
            mask.fill(0);
            mask[self.0 as usize / 32] = 1 << (self.0 % 32);
            if self.0 == 14 + 3 { Err(ConstraintError("fourteen".into())) } else { Ok(()) }
        }
        fn fork(&self) -> Box<dyn Constraint> {
            Box::new(Self(self.0))
        }
    }

    fn job(token: TokenId, after: bool) -> Job {
        let constrained = Box::new(Constrained::new(Box::new(Chain(token)), 64));
        let after = after.then_some(After { token, most_forced: 2, may_try: false, ends: false });
        Job { id: RequestId(u64::from(token)), constrained, after }
    }

    /// What is told of each job: the tokens that follow or an error, and then the mask or an error.
    #[derive(Default)]
    struct Told {
        forced: Option<Result<Vec<TokenId>, String>>,
        masked: Option<Result<Box<Constrained>, String>>,
    }

    fn tell(news: Vec<News>, told: &mut HashMap<u64, Told>) {
        for News { id, what } in news {
            let told = told.entry(id.0).or_default();
            match what {
                What::Advanced(forced, None) => {
                    assert!(told.masked.is_none() && told.forced.replace(Ok(forced)).is_none());
                }
                What::Failed(error) => {
                    assert!(told.masked.is_none() && told.forced.replace(Err(error)).is_none());
                }
                What::Masked(back) => assert!(told.masked.replace(Ok(back)).is_none()),
                What::MaskFailed(error) => assert!(told.masked.replace(Err(error)).is_none()),
                What::Advanced(_, Some(_)) | What::Refused(_) => panic!("nothing was tried"),
            }
        }
    }

    fn allowed(constrained: &Constrained) -> TokenId {
        assert!(constrained.is_ready());
        (0..64).find(|token| constrained.mask()[*token as usize / 32] >> (token % 32) & 1 == 1).unwrap()
    }

    #[test]
    fn every_job_comes_back_and_failures_stay_alone() {
        let mut pool = MaskPool::new();
        for count in [1, 4, 5, 40] {
            let (mut told, mut news) = (HashMap::new(), Vec::new());
            let mut jobs: Vec<Job> = (0..count).map(|token| job(token, true)).collect();
            pool.start(&mut jobs);
            pool.advance(&mut news);
            tell(std::mem::take(&mut news), &mut told);
            assert!(jobs.is_empty() && told.len() == count as usize);
            assert!(told.values().all(|told| told.forced.is_some()));
            // Others join those that are on their way.
            jobs.push(job(50, false));
            pool.start(&mut jobs);
            pool.finish(&mut news);
            tell(news, &mut told);
            let first = told.remove(&50).unwrap();
            assert!(first.forced.is_none() && allowed(&first.masked.unwrap().unwrap()) == 50);
            for (token, told) in told {
                let forced = told.forced.unwrap();
                match (token as TokenId, told.masked) {
                    (12, masked) => assert!(forced.unwrap_err() == "twelve" && masked.is_none()),
                    (13, masked) => assert!(forced.unwrap_err().contains("fault") && masked.is_none()),
                    (14, masked) => assert_eq!(masked.unwrap().unwrap_err(), "fourteen"),
                    (15, masked) => assert!(masked.unwrap().unwrap_err().contains("fault")),
                    (token, masked) => {
                        assert_eq!(forced.unwrap(), [token + 1, token + 2]);
                        let mut constrained = masked.unwrap().unwrap();
                        assert_eq!(allowed(&constrained), token + 3);
                        assert!(constrained.take_time() > Duration::ZERO);
                        assert_eq!(constrained.take_time(), Duration::ZERO);
                    }
                }
            }
        }
    }

    /// Allows the even tokens; what it can't tell without a mask are those above 40.
    #[derive(Debug, Clone)]
    struct Even(Vec<TokenId>);

    impl Constraint for Even {
        fn commit(&mut self, token: TokenId) -> Result<(), ConstraintError> {
            assert!(token.is_multiple_of(2));
            self.0.push(token);
            Ok(())
        }
        fn admit(&mut self, token: TokenId) -> Result<Option<bool>, ConstraintError> {
            match token {
                40.. => Ok(None),
                token if token.is_multiple_of(2) => self.commit(token).map(|()| Some(true)),
                _ => Ok(Some(false)),
            }
        }
        fn fast_forward(&mut self, _: usize, out: &mut Vec<TokenId>) -> Result<(), ConstraintError> {
            out.extend(self.0.last());
            Ok(())
        }
        fn mask(&mut self, mask: &mut [u32]) -> Result<(), ConstraintError> {
            mask.fill(0x5555_5555);
            Ok(())
        }
        fn fork(&self) -> Box<dyn Constraint> {
            Box::new(self.clone())
        }
    }

    #[test]
    fn tried_tokens_are_taken_or_refused_with_a_mask() {
        let mut pool = MaskPool::new();
        for (token, ends, taken) in [
            (2, false, true),
            (3, false, false),
            (44, false, true),
            (45, false, false),
            (8, true, true),
            (9, true, false),
        ] {
            let mut constrained = Box::new(Constrained::new(Box::new(Even(Vec::new())), 64));
            constrained.choose(true);
            assert!(constrained.is_tried());
            let most_forced = usize::from(!ends);
            let after = Some(After { token, most_forced, may_try: true, ends });
            let mut news = Vec::new();
            pool.start(&mut vec![Job { id: RequestId(1), constrained, after }]);
            pool.advance(&mut news);
            match news.pop().unwrap().what {
                What::Advanced(forced, Some(back)) => {
                    assert!(taken && back.is_tried());
                    assert_eq!(forced.len(), most_forced);
                }
                What::Refused(back) => {
                    assert!(!taken && back.is_ready() && !back.is_tried());
                    assert_eq!(back.mask(), [0x5555_5555; 2]);
                }
                other => panic!("{other:?}"),
            }
            pool.finish(&mut news);
            assert!(news.is_empty());
        }
    }

    /// Must end with token 5, and knows no token any more.
    #[derive(Debug)]
    struct Over;

    impl Constraint for Over {
        fn commit(&mut self, _: TokenId) -> Result<(), ConstraintError> {
            Err(ConstraintError("It is over.".into()))
        }
        fn fast_forward(&mut self, _: usize, _: &mut Vec<TokenId>) -> Result<(), ConstraintError> {
            Ok(())
        }
        fn mask(&mut self, mask: &mut [u32]) -> Result<(), ConstraintError> {
            mask.fill(0);
            mask[0] = 1 << 5;
            Ok(())
        }
        fn fork(&self) -> Box<dyn Constraint> {
            Box::new(Self)
        }
    }

    #[test]
    fn an_end_is_not_committed() {
        let mut pool = MaskPool::new();
        for (token, allowed) in [(5, true), (6, false)] {
            let mut constrained = Box::new(Constrained::new(Box::new(Over), 64));
            constrained.choose(true);
            let after = Some(After { token, most_forced: 0, may_try: true, ends: true });
            let mut news = Vec::new();
            pool.start(&mut vec![Job { id: RequestId(1), constrained, after }]);
            pool.advance(&mut news);
            let what = news.pop().unwrap().what;
            assert_eq!(matches!(what, What::Advanced(_, Some(_))), allowed, "{what:?}");
            assert_eq!(matches!(what, What::Refused(_)), !allowed);
        }
    }

    #[test]
    fn refusals_make_tries_rare_and_successes_frequent() {
        let mut trust = Trust::new();
        let mut tries = |admitted: bool, tokens: usize| {
            let tried = |_: &usize| {
                let tried = trust.next();
                if tried {
                    trust.note(admitted);
                }
                tried
            };
            (0..tokens).filter(tried).count()
        };
        assert!(tries(false, 640) <= 16);
        assert!(tries(true, 640) >= 640 - 64);
        assert_eq!(tries(true, 100), 100);
        assert_eq!(tries(false, 4), 2);
    }

    #[test]
    fn nothing_to_do_is_done_at_once() {
        let (mut pool, mut news) = (MaskPool::new(), Vec::new());
        pool.start(&mut Vec::new());
        pool.advance(&mut news);
        pool.finish(&mut news);
        assert!(news.is_empty());
    }
}
