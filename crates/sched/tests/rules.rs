//! The scheduling rules one by one.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use millrace_sched::{
    Admitted, BACKGROUND, Plan, Policy, PrefixKeys, SchedError, Scheduler, SchedulerConfig, SeqInit,
};
use millrace_types::{RequestId, TokenId};

fn config() -> SchedulerConfig {
    SchedulerConfig { block_size: 4, max_model_len: 64, num_blocks: 65, ..SchedulerConfig::default() }
}

fn init(id: u64, prompt: impl IntoIterator<Item = TokenId>) -> SeqInit {
    SeqInit { id: RequestId(id), arrival: id, prompt: prompt.into_iter().collect(), ..SeqInit::default() }
}

/// A prompt that shares no block with another id's.
fn own(id: u64, len: u32) -> SeqInit {
    init(id, (0..len).map(|i| id as u32 * 1000 + i))
}

fn chunks(plan: &Plan) -> Vec<(u64, usize, usize, bool)> {
    plan.seqs.iter().map(|seq| (seq.id.0, seq.start, seq.end, seq.samples)).collect()
}

/// Plans and commits one step in which every sample is token 7.
fn step(sched: &mut Scheduler) -> Vec<(u64, usize, usize, bool)> {
    let chunks = chunks(sched.plan());
    for (id, _, _, samples) in &chunks {
        assert!(sched.commit(RequestId(*id), if *samples { &[7] } else { &[] }));
    }
    chunks
}

#[test]
fn running_first_then_waiting_within_the_budget() {
    let mut sched = Scheduler::new(SchedulerConfig { max_num_batched_tokens: 8, ..config() }).unwrap();
    sched.add(own(1, 5)).unwrap();
    sched.add(own(2, 10)).unwrap();
    sched.add(own(3, 2)).unwrap();
    assert_eq!(step(&mut sched), [(1, 0, 5, true), (2, 0, 3, false)]);
    assert_eq!(step(&mut sched), [(1, 5, 6, true), (2, 3, 10, true)]);
    assert_eq!(step(&mut sched), [(1, 6, 7, true), (2, 10, 11, true), (3, 0, 2, true)]);
    assert_eq!(sched.stats().running, 3);
}

#[test]
fn max_num_seqs_keeps_the_rest_waiting() {
    let mut sched = Scheduler::new(SchedulerConfig { max_num_seqs: 2, ..config() }).unwrap();
    (1..=3).for_each(|id| sched.add(own(id, 3)).unwrap());
    assert_eq!(step(&mut sched).len(), 2);
    assert_eq!((sched.stats().running, sched.stats().waiting), (2, 1));
    assert!(sched.finish(RequestId(1)));
    assert_eq!(step(&mut sched), [(2, 3, 4, true), (3, 0, 3, true)]);
}

/// Three sequences of one block each in a cache of four: the second one to need another block finds none.
fn crowded(policy: Policy) -> Scheduler {
    let config = SchedulerConfig { num_blocks: 5, policy, enable_prefix_caching: false, ..config() };
    let mut sched = Scheduler::new(config).unwrap();
    for (id, priority) in [(1, 5), (2, 0), (3, 1)] {
        sched.add(SeqInit { priority, max_tokens: 8, ..own(id, 4) }).unwrap();
    }
    sched
}

#[test]
fn fcfs_preempts_the_last_of_the_running() {
    let mut sched = crowded(Policy::Fcfs);
    step(&mut sched);
    assert_eq!(step(&mut sched), [(1, 4, 5, true), (2, 4, 5, true)]);
    assert_eq!(sched.planned().preempted, [RequestId(3)]);
    let info = sched.info(RequestId(3)).unwrap();
    assert_eq!((info.running, info.preemptions, info.computed), (false, 1, 0));
    assert_eq!(sched.tokens(RequestId(3)).unwrap().len(), 5, "the sampled token stays");
    sched.finish(RequestId(1));
    assert_eq!(step(&mut sched), [(2, 5, 6, true), (3, 0, 5, true)]);
    assert_eq!(sched.planned().admitted, [Admitted { id: RequestId(3), cached_tokens: 0, resumed: true }]);
}

#[test]
fn priority_preempts_the_least_important_even_if_already_scheduled() {
    let mut sched = crowded(Policy::Priority);
    assert_eq!(step(&mut sched), [(2, 0, 4, true), (3, 0, 4, true), (1, 0, 4, true)]);
    assert_eq!(step(&mut sched), [(2, 4, 5, true), (3, 4, 5, true)]);
    assert_eq!(sched.planned().preempted, [RequestId(1)]);

    // Now the unimportant one is first in the list, and has its token planned when its blocks are taken.
    let config = SchedulerConfig { num_blocks: 5, policy: Policy::Priority, ..config() };
    let mut sched = Scheduler::new(SchedulerConfig { max_num_batched_tokens: 9, ..config }).unwrap();
    sched.add(SeqInit { priority: 9, max_tokens: 9, ..own(1, 6) }).unwrap();
    step(&mut sched);
    sched.add(SeqInit { priority: 0, max_tokens: 8, ..own(2, 8) }).unwrap();
    assert_eq!(step(&mut sched), [(1, 6, 7, true), (2, 0, 8, true)]);
    assert_eq!(step(&mut sched), [(2, 8, 9, true)]);
    assert_eq!(sched.planned().preempted, [RequestId(1)]);
}

#[test]
fn a_victim_gives_its_tokens_back_to_the_budget() {
    let policy = Policy::Priority;
    let config = SchedulerConfig { num_blocks: 5, policy, max_num_batched_tokens: 4, ..config() };
    let mut sched = Scheduler::new(config).unwrap();
    let commit = |sched: &mut Scheduler, id, tokens: &[TokenId]| assert!(sched.commit(RequestId(id), tokens));
    sched.add(SeqInit { priority: 9, max_tokens: 9, ..own(1, 3) }).unwrap();
    step(&mut sched);
    sched.add(SeqInit { max_tokens: 8, ..own(2, 3) }).unwrap();
    sched.add(SeqInit { max_tokens: 8, ..own(3, 2) }).unwrap();
    assert_eq!(step(&mut sched), [(1, 3, 4, true), (2, 0, 3, true)]);
    assert_eq!(chunks(sched.plan()), [(1, 4, 5, true), (2, 3, 4, true), (3, 0, 2, true)]);
    commit(&mut sched, 1, &[7, 7, 7]);
    commit(&mut sched, 2, &[7]);
    commit(&mut sched, 3, &[7]);
    // Three tokens for the first and one for the second are all; then the second takes the first one's blocks.
    assert_eq!(chunks(sched.plan()), [(2, 4, 5, true), (3, 2, 3, true)]);
    assert_eq!(sched.planned().preempted, [RequestId(1)]);
}

#[test]
fn a_neighbour_is_not_waited_for_if_the_blocks_are_there() {
    let mut sched = Scheduler::new(config()).unwrap();
    sched.add(init(1, 0..20)).unwrap();
    step(&mut sched);
    sched.finish(RequestId(1));
    sched.add(SeqInit { skip_prefix_lookup: true, ..init(2, 0..20) }).unwrap();
    sched.add(init(3, 0..20)).unwrap();
    assert_eq!(step(&mut sched), [(2, 0, 20, true), (3, 16, 20, true)]);
}

#[test]
fn as_many_are_set_aside_as_may_run() {
    let mut sched = Scheduler::new(SchedulerConfig { max_num_seqs: 3, ..config() }).unwrap();
    for id in 1..=3 {
        sched.add(init(id, 0..20)).unwrap();
    }
    sched.add(own(4, 3)).unwrap();
    assert_eq!(step(&mut sched), [(1, 0, 20, true), (4, 0, 3, true)], "two wait for the first one's blocks");
    let mut sched = Scheduler::new(SchedulerConfig { max_num_seqs: 3, ..config() }).unwrap();
    for id in 1..=4 {
        sched.add(init(id, 0..20)).unwrap();
    }
    sched.add(own(5, 3)).unwrap();
    assert_eq!(step(&mut sched), [(1, 0, 20, true)]);
    assert_eq!(step(&mut sched), [(1, 20, 21, true), (2, 16, 20, true), (3, 16, 20, true)]);
}

#[test]
fn a_large_head_is_not_overtaken_and_not_let_in_by_halves() {
    let config = SchedulerConfig { num_blocks: 9, max_num_batched_tokens: 8, ..config() };
    let mut sched = Scheduler::new(config).unwrap();
    sched.add(SeqInit { max_tokens: 4, ..own(1, 8) }).unwrap();
    sched.add(SeqInit { max_tokens: 1, ..own(2, 30) }).unwrap();
    sched.add(SeqInit { max_tokens: 1, ..own(3, 2) }).unwrap();
    assert_eq!(step(&mut sched), [(1, 0, 8, true)]);
    assert_eq!(step(&mut sched), [(1, 8, 9, true)], "eight blocks do not fit, though the first chunk would");
    sched.finish(RequestId(1));
    assert_eq!(step(&mut sched), [(2, 0, 8, false)]);
}

#[test]
fn blocks_promised_to_a_running_prompt_are_not_given_to_the_next() {
    let config = SchedulerConfig { num_blocks: 9, max_num_batched_tokens: 12, ..config() };
    let mut sched = Scheduler::new(SchedulerConfig { long_prefill_token_threshold: 4, ..config }).unwrap();
    sched.add(SeqInit { max_tokens: 1, ..own(1, 20) }).unwrap();
    sched.add(SeqInit { max_tokens: 1, ..own(2, 20) }).unwrap();
    for end in [4, 8, 12, 16, 20] {
        assert_eq!(step(&mut sched), [(1, end - 4, end, end == 20)]);
    }
    assert_eq!(sched.stats().preemptions, 0);
}

#[test]
fn what_can_never_run_is_refused_at_once() {
    let mut sched = Scheduler::new(SchedulerConfig { num_blocks: 5, ..config() }).unwrap();
    assert_eq!(sched.add(own(1, 0)), Err(SchedError::EmptyPrompt(RequestId(1))));
    assert_eq!(sched.add(own(1, 64)), Err(SchedError::PromptTooLong { len: 64, max: 63 }));
    let too_large = SeqInit { max_tokens: 8, ..own(1, 10) };
    assert_eq!(sched.add(too_large), Err(SchedError::NeverFits { needed: 17, capacity: 16 }));
    sched.add(SeqInit { max_tokens: 7, ..own(1, 10) }).unwrap();
    assert_eq!(sched.add(SeqInit { max_tokens: 1, ..own(1, 2) }), Err(SchedError::DuplicateId(RequestId(1))));
    assert_eq!(sched.stats().waiting, 1);

    for broken in [
        SchedulerConfig { max_num_seqs: 0, ..config() },
        SchedulerConfig { max_num_batched_tokens: 0, ..config() },
        SchedulerConfig { max_model_len: 1, ..config() },
        SchedulerConfig { block_size: 0, ..config() },
        SchedulerConfig { num_blocks: 1, ..config() },
    ] {
        assert!(Scheduler::new(broken).is_err());
    }
}

#[test]
fn a_sequence_that_just_fits_runs_to_its_end() {
    let mut sched = Scheduler::new(SchedulerConfig { num_blocks: 5, ..config() }).unwrap();
    sched.add(SeqInit { max_tokens: 7, ..own(1, 10) }).unwrap();
    for _ in 0..7 {
        step(&mut sched);
    }
    assert_eq!(sched.tokens(RequestId(1)).unwrap().len(), 17);
    assert_eq!(sched.stats().preemptions, 0);
}

#[test]
fn prefixes_are_found_within_a_salt_only_and_counted() {
    let salted = |id, salt: Option<&str>| {
        let keys = PrefixKeys { cache_salt: salt.map(Into::into), ..PrefixKeys::default() };
        SeqInit { keys, ..init(id, 0..12) }
    };
    let mut sched = Scheduler::new(config()).unwrap();
    let mut cached = |init: SeqInit| {
        let id = init.id;
        sched.add(init).unwrap();
        step(&mut sched);
        let cached = sched.info(id).unwrap().cached_tokens;
        sched.finish(id);
        (cached, sched.stats().prefix)
    };
    assert_eq!(cached(salted(1, Some("a"))).0, 0);
    assert_eq!(cached(salted(2, Some("a"))).0, 8, "the block with the last token is computed again");
    assert_eq!(cached(salted(3, Some("b"))).0, 0);
    assert_eq!(cached(salted(4, None)).0, 0);
    let (hit, stats) = cached(salted(5, None));
    assert_eq!((hit, stats.queries, stats.hits), (8, 60, 16));
    let (hit, stats) = cached(SeqInit { skip_prefix_lookup: true, ..salted(6, None) });
    assert_eq!((hit, stats.queries), (0, 60));
    assert!(sched.reset_prefix_cache());
}

#[test]
fn an_abort_between_plan_and_commit_frees_and_publishes_nothing() {
    let mut sched = Scheduler::new(config()).unwrap();
    sched.add(init(1, 0..9)).unwrap();
    sched.add(own(2, 3)).unwrap();
    assert_eq!(sched.plan().seqs.len(), 2);
    assert!(sched.finish(RequestId(1)));
    assert_eq!(sched.batch().map(|seq| seq.id.0).collect::<Vec<_>>(), [2]);
    assert_eq!(sched.stats().blocks_in_use, 1);
    // The place of the aborted one may be taken before its result arrives.
    sched.add(init(3, 0..9)).unwrap();
    assert_eq!(sched.batch().count(), 1);
    assert!(!sched.commit(RequestId(1), &[7]));
    assert!(sched.commit(RequestId(2), &[7]));
    assert!(!sched.commit(RequestId(2), &[7]), "one commit per planned chunk");
    assert_eq!(
        step(&mut sched),
        [(2, 3, 4, true), (3, 0, 9, true)],
        "blocks that were never computed are not found"
    );
}

#[test]
fn planning_ahead_leaves_out_unknown_tokens_and_goes_on_with_prompts() {
    let mut sched = Scheduler::new(SchedulerConfig { max_num_batched_tokens: 6, ..config() }).unwrap();
    sched.add(own(1, 2)).unwrap();
    sched.add(own(2, 10)).unwrap();
    assert_eq!(chunks(sched.plan()), [(1, 0, 2, true), (2, 0, 4, false)]);
    assert_eq!(chunks(sched.plan()), [(2, 4, 10, true)]);
    assert_eq!(chunks(sched.plan()), []);
    assert!(sched.commit(RequestId(1), &[7]));
    assert!(sched.commit(RequestId(2), &[]));
    assert_eq!(sched.info(RequestId(2)).unwrap().computed, 4);
    assert_eq!(chunks(sched.plan()), [(1, 2, 3, true)]);
    assert!(sched.commit(RequestId(2), &[7]));
    assert_eq!(sched.info(RequestId(2)).unwrap().computed, 10);
}

#[test]
fn a_token_in_flight_survives_a_preemption_and_comes_once() {
    let config = SchedulerConfig { num_blocks: 4, enable_prefix_caching: false, ..config() };
    let mut sched = Scheduler::new(config).unwrap();
    sched.add(SeqInit { max_tokens: 8, ..own(1, 4) }).unwrap();
    sched.add(SeqInit { max_tokens: 2, ..own(2, 8) }).unwrap();
    assert_eq!(chunks(sched.plan()), [(1, 0, 4, true), (2, 0, 8, true)]);
    assert!(sched.commit(RequestId(1), &[7]));
    assert_eq!(chunks(sched.plan()), [(1, 4, 5, true)]);
    assert_eq!(sched.planned().preempted, [RequestId(2)]);
    sched.finish(RequestId(1));
    assert_eq!(chunks(sched.plan()), [], "room again, but its next token is still on the way");
    assert!(sched.commit(RequestId(2), &[9]));
    assert_eq!(chunks(sched.plan()), [(2, 0, 9, true)]);
}

#[test]
fn several_tokens_at_once_are_caught_up_with_and_cut_at_the_limit() {
    let mut sched = Scheduler::new(config()).unwrap();
    sched.add(SeqInit { max_tokens: 6, ..own(1, 5) }).unwrap();
    sched.plan();
    assert!(sched.commit(RequestId(1), &[1, 2, 3]));
    assert_eq!(chunks(sched.plan()), [(1, 5, 8, true)]);
    assert!(sched.commit(RequestId(1), &[]), "nothing was sampled: the last token is computed again");
    assert_eq!(chunks(sched.plan()), [(1, 7, 8, true)]);
    assert!(sched.commit(RequestId(1), &[4, 5, 6, 7, 8]));
    assert_eq!(sched.tokens(RequestId(1)).unwrap()[5..], [1, 2, 3, 4, 5, 6]);
}

#[test]
fn the_plan_reuses_its_memory() {
    let mut sched = Scheduler::new(config()).unwrap();
    (1..=5).for_each(|id| sched.add(own(id, 4)).unwrap());
    step(&mut sched);
    let before = sched.planned().seqs.as_ptr();
    for _ in 0..10 {
        assert_eq!(step(&mut sched).len(), 5);
    }
    assert_eq!(sched.planned().seqs.as_ptr(), before);
}

/// In the background, whatever the policy.
fn background(init: SeqInit) -> SeqInit {
    SeqInit { priority: BACKGROUND, ..init }
}

#[test]
fn background_comes_last_under_every_policy() {
    for policy in [Policy::Fcfs, Policy::Priority] {
        let mut sched = Scheduler::new(SchedulerConfig { max_num_seqs: 1, policy, ..config() }).unwrap();
        sched.add(background(own(1, 4))).unwrap();
        sched.add(SeqInit { priority: BACKGROUND - 1, ..own(2, 4) }).unwrap();
        assert_eq!(step(&mut sched), [(2, 0, 4, true)], "{policy:?}");
    }
}

#[test]
fn background_leaves_when_all_places_are_taken() {
    let mut sched = Scheduler::new(SchedulerConfig { max_num_seqs: 2, ..config() }).unwrap();
    sched.add(background(own(1, 4))).unwrap();
    sched.add(background(own(2, 4))).unwrap();
    assert_eq!(step(&mut sched), [(1, 0, 4, true), (2, 0, 4, true)]);
    sched.add(own(3, 4)).unwrap();
    assert_eq!(step(&mut sched), [(1, 4, 5, true), (3, 0, 4, true)]);
    assert_eq!(sched.planned().preempted, [RequestId(2)]);
    sched.add(background(own(4, 4))).unwrap();
    assert_eq!(
        step(&mut sched),
        [(1, 5, 6, true), (3, 4, 5, true)],
        "the background doesn't displace its like"
    );
    assert!(sched.finish(RequestId(3)));
    assert_eq!(step(&mut sched), [(1, 6, 7, true), (2, 4, 5, true)], "its prefix is still there");
    assert_eq!(sched.planned().admitted, [Admitted { id: RequestId(2), cached_tokens: 4, resumed: true }]);
}

#[test]
fn background_leaves_when_the_cache_is_full() {
    let config = SchedulerConfig { num_blocks: 5, enable_prefix_caching: false, ..config() };
    let mut sched = Scheduler::new(config).unwrap();
    sched.add(SeqInit { max_tokens: 3, ..own(1, 5) }).unwrap();
    sched.add(background(SeqInit { max_tokens: 3, ..own(2, 5) })).unwrap();
    assert_eq!(step(&mut sched), [(1, 0, 5, true), (2, 0, 5, true)]);
    // Each has two of the four blocks, and needs no more yet.
    sched.add(SeqInit { max_tokens: 3, ..own(3, 5) }).unwrap();
    assert_eq!(step(&mut sched), [(1, 5, 6, true), (3, 0, 5, true)]);
    assert_eq!(sched.planned().preempted, [RequestId(2)]);
    assert!(sched.finish(RequestId(1)) && sched.finish(RequestId(3)));
    assert_eq!(step(&mut sched), [(2, 0, 6, true)], "the sampled token stays");
}

#[test]
fn a_long_prompt_in_the_background_gives_its_budget_back() {
    let mut sched = Scheduler::new(SchedulerConfig { max_num_batched_tokens: 8, ..config() }).unwrap();
    sched.add(background(own(1, 30))).unwrap();
    assert_eq!(step(&mut sched), [(1, 0, 8, false)]);
    sched.add(own(2, 6)).unwrap();
    assert_eq!(step(&mut sched)[0], (2, 0, 6, true));
}
