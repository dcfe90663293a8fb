//! Chosen workloads through the simulator: what scheduling must be worth.

use crate::{sim::Sim, workload::Job};
use millrace_sched::SchedulerConfig;

fn config() -> SchedulerConfig {
    SchedulerConfig {
        max_num_batched_tokens: 64,
        max_model_len: 512,
        block_size: 4,
        ..SchedulerConfig::default()
    }
}

/// A cache that holds about two of eight sequences: all still give the text they give alone (the simulator checks).
#[test]
fn preempted_sequences_resume_with_identical_text() {
    for enable_prefix_caching in [true, false] {
        let config =
            SchedulerConfig { num_blocks: 31, max_model_len: 120, enable_prefix_caching, ..config() };
        let jobs: Vec<Job> = (0..8).map(|i| Job::new((0..10).map(|t| t * 3 + i), 60)).collect();
        let outcome = Sim::new(config, &jobs, 1).run();
        let preemptions: usize = outcome.plans.iter().map(|plan| plan.preempted.len()).sum();
        assert!(preemptions > 3, "the test must preempt, not only {preemptions} times");
    }
}

#[test]
fn samples_of_one_prompt_compute_it_once() {
    let prompt: Vec<u32> = (0..41).collect();
    let jobs = vec![Job::new(prompt, 1); 8];
    let outcome = Sim::new(config(), &jobs, 1).run();
    // Ten full blocks once, then the last token for everybody.
    assert_eq!(outcome.computed_tokens, 41 + 7);
    assert_eq!(outcome.plans.len(), 2);
    let alone = Sim::new(SchedulerConfig { enable_prefix_caching: false, ..config() }, &jobs, 1).run();
    assert_eq!(alone.computed_tokens, 8 * 41);
}

#[test]
fn a_short_common_start_delays_nobody() {
    let jobs: Vec<Job> = (0..3).map(|i| Job::new((0..4).chain(4 + i * 13..17 + i * 13), 1)).collect();
    let outcome = Sim::new(config(), &jobs, 1).run();
    assert_eq!(outcome.plans[0].admitted.len(), 3);
}

/// Steps cost one unit plus one per token: the time between two tokens of a short request, while a long prompt
/// comes in, is what the threshold says.
#[test]
fn the_threshold_bounds_the_gap_between_tokens() {
    let long = Job { arrives: 3, ..Job::new((0..400).map(|i| i % 50), 2) };
    let jobs = [Job::new([1, 2, 3], 100), long];
    let gap = |threshold| {
        let config = SchedulerConfig { long_prefill_token_threshold: threshold, ..config() };
        Sim::new(config, &jobs, 1).run().step_costs.into_iter().max()
    };
    assert_eq!(gap(0), Some(1 + 64));
    assert_eq!(gap(8), Some(1 + 1 + 8));
}

/// Blocks that have left the window serve others: eight sequences of 120 tokens in a cache for two.
#[test]
fn a_window_makes_room() {
    let config = SchedulerConfig { num_blocks: 61, max_model_len: 120, window: Some(16), ..config() };
    let jobs: Vec<Job> = (0..8).map(|i| Job::new((0..10).map(|t| t * 3 + i), 100)).collect();
    let preemptions = |config| {
        let outcome = Sim::new(config, &jobs, 1).run();
        outcome.plans.iter().map(|plan| plan.preempted.len()).sum::<usize>()
    };
    assert_eq!(preemptions(config.clone()), 0);
    assert!(preemptions(SchedulerConfig { window: None, ..config }) > 3);
}

/// Batching pays: 32 requests together take hardly more steps than one.
#[test]
fn decodes_share_steps() {
    let config = SchedulerConfig { max_num_batched_tokens: 256, ..config() };
    let jobs: Vec<Job> = (0..32).map(|i| Job::new([i, i + 1, i + 2], 50)).collect();
    let outcome = Sim::new(config, &jobs, 1).run();
    assert_eq!(outcome.plans.len(), 50);
}
