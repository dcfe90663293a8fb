//! A simulator: the scheduler with a device whose "KV cache" is one number per token slot.
//!
//! A token's number is a hash of the number of the token before it, *as read from the cache*, and of the token;
//! a sampled token is a function of the last number. So a wrong block, a block overwritten too early, a skipped or
//! a stale position changes the text, which is compared with the text of the sequence computed alone. And each token looks
//! at all numbers that it sees.

use std::collections::{BTreeMap, VecDeque};

use millrace_sched::{Plan, PrefixKeys, ScheduledSeq, Scheduler, SchedulerConfig, SeqInit};
use millrace_types::{RequestId, TokenId};

use crate::workload::{AbortPoint, Job};

const VOCAB: u64 = 50;

fn mix(state: u64, token: TokenId) -> u64 {
    let mut x = (state ^ u64::from(token)).wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// What comes before the first token; another salt is another world, so a hit across salts shows in the text.
fn root(salt: u8) -> u64 {
    mix(u64::from(salt), 1000)
}

fn sampled(state: u64) -> TokenId {
    (state % VOCAB) as TokenId
}

/// The text that a job must give, whatever else runs.
pub(crate) fn expected(job: &Job) -> Vec<TokenId> {
    let mut state = job.prompt.iter().fold(root(job.salt), |state, token| mix(state, *token));
    let mut output = Vec::new();
    while output.len() < job.max_tokens && !job.stops(output.last()) {
        output.push(sampled(state));
        state = output.last().map_or(state, |token| mix(state, *token));
    }
    output
}

/// Executes steps in the order in which they are given.
struct Device {
    cells: Vec<u64>,
    block_size: usize,
    window: usize,
}

impl Device {
    fn compute(&mut self, seq: &ScheduledSeq<'_>, salt: u8) -> Option<TokenId> {
        let slot = |position: usize| {
            seq.blocks[position / self.block_size].0 as usize * self.block_size + position % self.block_size
        };
        let mut states = vec![root(salt)];
        states.extend(seq.tokens.iter().scan(root(salt), |state, token| {
            *state = mix(*state, *token);
            Some(*state)
        }));
        let mut state = if seq.start == 0 { root(salt) } else { self.cells[slot(seq.start - 1)] };
        for position in seq.start..seq.end {
            state = mix(state, seq.tokens[position]);
            self.cells[slot(position)] = state;
            for seen in (position + 1).saturating_sub(self.window)..position {
                assert_eq!(self.cells[slot(seen)], states[seen + 1], "token {position} sees another {seen}");
            }
        }
        seq.samples.then(|| sampled(state))
    }
}

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    Complete,
    Aborted,
}

/// What happened in a run.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Outcome {
    pub(crate) plans: Vec<Plan>,
    pub(crate) endings: BTreeMap<u64, Ending>,
    pub(crate) computed_tokens: usize,
    /// Simulated duration of each step: a fixed cost and one unit per token.
    pub(crate) step_costs: Vec<usize>,
}

pub(crate) struct Sim<'a> {
    pub(crate) sched: Scheduler,
    pub(crate) jobs: &'a [Job],
    device: Device,
    /// Steps that are launched and not committed, with their results.
    launched: VecDeque<Vec<(u64, Option<TokenId>)>>,
    /// Steps that may be launched before the first of them is committed.
    pub(crate) depth: usize,
    /// Per live job: where its next chunk must start.
    pub(crate) next_start: BTreeMap<u64, usize>,
    pub(crate) live: BTreeMap<u64, Vec<TokenId>>,
    outcome: Outcome,
}

impl<'a> Sim<'a> {
    /// Jobs are numbered by their place; `depth` 1 commits each step before the next is planned.
    pub(crate) fn new(config: SchedulerConfig, jobs: &'a [Job], depth: usize) -> Self {
        let device = Device {
            cells: vec![0; config.num_blocks * config.block_size],
            block_size: config.block_size,
            window: config.window.unwrap_or(usize::MAX),
        };
        Self {
            sched: Scheduler::new(config).unwrap(),
            jobs,
            device,
            launched: VecDeque::new(),
            depth,
            next_start: BTreeMap::new(),
            live: BTreeMap::new(),
            outcome: Outcome::default(),
        }
    }

    /// Runs everything to its end, with all checks after every call.
    pub(crate) fn run(mut self) -> Outcome {
        let bound = self.step_bound();
        for step in 0.. {
            assert!(step < bound, "starved: {:?} unfinished after {step} steps", self.live.keys());
            self.arrivals(step);
            self.aborts(step, AbortPoint::BeforePlan);
            if !self.sched.has_unfinished() && self.launched.is_empty() && self.all_arrived(step) {
                break;
            }
            self.plan();
            self.aborts(step, AbortPoint::BeforeCommit);
            self.check_blocks();
            while self.launched.len() >= self.depth || (self.idle() && !self.launched.is_empty()) {
                self.commit_oldest();
            }
        }
        let stats = self.sched.stats();
        assert_eq!((stats.running, stats.waiting, stats.blocks_in_use), (0, 0, 0), "leak");
        assert_eq!(self.outcome.endings.len(), self.jobs.len());
        assert!(self.sched.reset_prefix_cache());
        self.outcome
    }

    /// Generous: everybody starts over once for every token of everybody else.
    fn step_bound(&self) -> usize {
        let tokens: usize = self.jobs.iter().map(|job| job.prompt.len() + job.max_tokens).sum();
        let last = self.jobs.iter().map(|job| job.arrives).max().unwrap_or(0);
        last + 10 + self.depth * tokens * (self.jobs.len() + 1)
    }

    fn all_arrived(&self, step: usize) -> bool {
        self.jobs.iter().all(|job| job.arrives <= step)
    }

    fn arrivals(&mut self, step: usize) {
        for (id, job) in (0..).zip(self.jobs).filter(|(_, job)| job.arrives == step) {
            let cache_salt = (job.salt > 0).then(|| format!("salt {}", job.salt));
            let init = SeqInit {
                id: RequestId(id),
                prompt: job.prompt.clone(),
                max_tokens: job.max_tokens,
                priority: job.priority,
                arrival: step as u64,
                keys: PrefixKeys { cache_salt, ..PrefixKeys::default() },
                skip_prefix_lookup: job.skip_prefix_lookup,
            };
            self.sched.add(init).unwrap();
            self.live.insert(id, job.prompt.clone());
        }
    }

    fn aborts(&mut self, step: usize, point: AbortPoint) {
        for (id, job) in (0..).zip(self.jobs) {
            if job.abort == Some((step, point)) && self.live.contains_key(&id) {
                self.end(id, Ending::Aborted);
            }
        }
    }

    fn plan(&mut self) {
        self.sched.plan();
        self.check_plan();
        let plan = self.sched.planned().clone();
        let mut results = Vec::new();
        for seq in self.sched.batch() {
            results.push((seq.id.0, self.device.compute(&seq, self.jobs[seq.id.0 as usize].salt)));
        }
        self.outcome.computed_tokens += plan.num_tokens();
        self.outcome.step_costs.push(1 + plan.num_tokens());
        self.outcome.plans.push(plan);
        self.launched.push_back(results);
    }

    fn commit_oldest(&mut self) {
        for (id, token) in self.launched.pop_front().unwrap() {
            let alive = self.live.contains_key(&id);
            let new_tokens: Vec<TokenId> =
                token.into_iter().filter(|_| self.jobs[id as usize].max_tokens > 0).collect();
            assert_eq!(self.sched.commit(RequestId(id), &new_tokens), alive);
            if alive {
                self.landed(id, token.is_some(), &new_tokens);
            }
        }
        self.check_blocks();
    }

    /// The ledger's part: keeps the text and ends the job.
    fn landed(&mut self, id: u64, sampled: bool, new_tokens: &[TokenId]) {
        let job = &self.jobs[id as usize];
        let text = self.live.get_mut(&id).unwrap();
        text.extend_from_slice(new_tokens);
        assert_eq!(self.sched.tokens(RequestId(id)), Some(text.as_slice()));
        let output = &text[job.prompt.len()..];
        let reference = expected(job);
        assert_eq!(output, &reference[..output.len()], "job {id} went astray");
        if sampled && output.len() == reference.len() {
            self.end(id, Ending::Complete);
        }
    }

    fn end(&mut self, id: u64, ending: Ending) {
        assert!(self.sched.finish(RequestId(id)));
        assert!(!self.sched.finish(RequestId(id)), "ended twice");
        self.live.remove(&id);
        self.next_start.remove(&id);
        assert_eq!(self.outcome.endings.insert(id, ending), None, "job {id} ended twice");
    }

    /// Whether the newest plan had nothing to do, so that only a commit can bring news.
    fn idle(&self) -> bool {
        self.outcome.plans.last().is_some_and(|plan| plan.seqs.is_empty())
    }
}
