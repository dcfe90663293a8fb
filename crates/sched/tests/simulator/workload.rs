//! Random jobs.

use millrace_sched::{BACKGROUND, Policy, SchedulerConfig};
use millrace_types::TokenId;
use proptest::prelude::*;

/// When within a step a client goes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AbortPoint {
    BeforePlan,
    /// After the step was planned and launched, before its results are committed.
    BeforeCommit,
}

/// One request of a simulated client.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    /// Step at whose start it is added.
    pub(crate) arrives: usize,
    pub(crate) prompt: Vec<TokenId>,
    pub(crate) max_tokens: usize,
    /// Whether a token divisible by five ends it.
    pub(crate) stops_early: bool,
    pub(crate) priority: i32,
    /// 0 is none.
    pub(crate) salt: u8,
    pub(crate) skip_prefix_lookup: bool,
    pub(crate) abort: Option<(usize, AbortPoint)>,
}

impl Job {
    /// A job that arrives at once and runs to its end.
    pub(crate) fn new(prompt: impl IntoIterator<Item = TokenId>, max_tokens: usize) -> Self {
        Self {
            arrives: 0,
            prompt: prompt.into_iter().collect(),
            max_tokens,
            stops_early: false,
            priority: 0,
            salt: 0,
            skip_prefix_lookup: false,
            abort: None,
        }
    }

    pub(crate) fn stops(&self, last: Option<&TokenId>) -> bool {
        self.stops_early && last.is_some_and(|token| token % 5 == 0)
    }
}

const MAX_MODEL_LEN: usize = 48;

/// Configurations with a cache that is often just large enough for one sequence, and jobs that often start alike.
pub(crate) fn workloads() -> impl Strategy<Value = (SchedulerConfig, Vec<Job>, usize)> {
    (config(), prop::collection::vec(job(), 1..14), 1_usize..4)
}

fn config() -> impl Strategy<Value = SchedulerConfig> {
    let policy = prop_oneof![Just(Policy::Fcfs), Just(Policy::Priority)];
    (
        1_usize..8,
        1_usize..40,
        1_usize..6,
        0_usize..14,
        any::<bool>(),
        policy,
        prop_oneof![Just(0), 1_usize..9],
        // The simulated device goes on from the last token, so that one is always seen.
        prop::option::of(2_usize..20),
    )
        .prop_map(|(seqs, budget, block_size, spare, caching, policy, threshold, window)| {
            SchedulerConfig {
                max_num_seqs: seqs,
                max_num_batched_tokens: budget,
                max_model_len: MAX_MODEL_LEN,
                block_size,
                num_blocks: 1 + MAX_MODEL_LEN.div_ceil(block_size) + spare,
                enable_prefix_caching: caching,
                window,
                policy,
                long_prefill_token_threshold: threshold,
            }
        })
}

fn job() -> impl Strategy<Value = Job> {
    let family = (0_u32..2, 0_usize..36, prop::collection::vec(0_u32..50, 1..6));
    let prompt = family.prop_map(|(family, len, tail)| {
        (0..len as u32).map(|i| (i * 7 + family) % 50).chain(tail).collect::<Vec<TokenId>>()
    });
    let point = prop_oneof![Just(AbortPoint::BeforePlan), Just(AbortPoint::BeforeCommit)];
    let abort = prop::option::weighted(0.3, (0_usize..25, point));
    let priority = prop_oneof![4 => -2_i32..3, 2 => Just(BACKGROUND)];
    let flags = (any::<bool>(), prop::bool::weighted(0.1), 0_u8..2, priority);
    (0_usize..20, prompt, 0_usize..30, flags, abort).prop_map(
        |(arrives, prompt, max_tokens, (stops_early, skip_prefix_lookup, salt, priority), abort)| Job {
            arrives,
            // `max_model_len` may cut the output; the reference must agree.
            max_tokens: max_tokens.min(MAX_MODEL_LEN - prompt.len()),
            prompt,
            stops_early,
            priority,
            salt,
            skip_prefix_lookup,
            abort: abort.map(|(after, point)| (arrives + after, point)),
        },
    )
}
