//! Constraints: masks hold at every step, forced tokens come in one step, and a constraint that fails ends one request.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::SeqCst},
};

use common::*;
use millrace_backend::{recording::Recorder, reference::ReferenceBackend};
use millrace_engine::{Engine, EngineConfig, ResponseStream, SubmitOptions};
use millrace_types::{Constraint, ConstraintError, FinishReason, RequestOutput, SamplingParams, TokenId};

/// Ends the answers of [`Pattern`].
const END: TokenId = 250;

/// At place i one of the tokens 4i to 4i + 3 may come, at every third place a choice and else only the first of them;
/// after `len` tokens the end and nothing else. Goes wrong at a place if told to.
#[derive(Debug, Clone, Default)]
struct Pattern {
    place: usize,
    len: usize,
    refuses_at: Option<usize>,
    panics_at: Option<usize>,
    allows_none_at: Option<usize>,
    /// Tells without a mask what may come.
    admits: bool,
}

impl Pattern {
    fn of(len: usize) -> Self {
        Self { len, ..Self::default() }
    }

    fn choices(&self) -> std::ops::Range<TokenId> {
        let first = 4 * self.place as TokenId;
        match self.place {
            place if place >= self.len => END..END + 1,
            place if self.allows_none_at == Some(place) => 0..0,
            place if place.is_multiple_of(3) => first..first + 4,
            _ => first..first + 1,
        }
    }
}

impl Constraint for Pattern {
    fn commit(&mut self, token: TokenId) -> Result<(), ConstraintError> {
        assert_ne!(self.panics_at, Some(self.place), "told to");
        if !self.choices().contains(&token) {
            return Err(ConstraintError(format!("{token} is not allowed at {}", self.place)));
        }
        self.place += 1;
        match self.refuses_at == Some(self.place) {
            true => Err(ConstraintError("No further.".into())),
            false => Ok(()),
        }
    }

    fn admit(&mut self, token: TokenId) -> Result<Option<bool>, ConstraintError> {
        match (self.admits, self.choices().contains(&token)) {
            (false, _) => Ok(None),
            (true, false) => Ok(Some(false)),
            (true, true) => self.commit(token).map(|()| Some(true)),
        }
    }

    fn fast_forward(&mut self, most: usize, out: &mut Vec<TokenId>) -> Result<(), ConstraintError> {
        let before = out.len();
        while self.choices().len() == 1 && self.place < self.len && out.len() - before < most {
            let token = self.choices().start;
            out.push(token);
            self.commit(token)?;
        }
        Ok(())
    }

    fn mask(&mut self, mask: &mut [u32]) -> Result<(), ConstraintError> {
        mask.fill(0);
        self.choices().for_each(|token| mask[token as usize / 32] |= 1 << (token % 32));
        Ok(())
    }

    fn fork(&self) -> Box<dyn Constraint> {
        Box::new(self.clone())
    }
}

fn submit_held(engine: &Engine, salt: u32, sampling: SamplingParams, pattern: &Pattern) -> ResponseStream {
    let options = SubmitOptions { constraint: Some(pattern.fork()), ..SubmitOptions::default() };
    let sampling = SamplingParams { eos_token_ids: vec![END], ..sampling };
    engine.handle.submit(prompt(20, salt), sampling, options).unwrap()
}

fn held(engine: &Engine, sampling: SamplingParams, pattern: &Pattern) -> RequestOutput {
    collect(submit_held(engine, 1, sampling, pattern))
}

/// Whether these are a whole answer of a pattern of `len` tokens.
fn fits(tokens: &[TokenId], len: usize) -> bool {
    let mut pattern = Pattern::of(len);
    tokens.len() == len + 1 && tokens.iter().all(|token| pattern.commit(*token).is_ok())
}

#[test]
fn every_token_is_allowed_and_the_end_is_forced() {
    let engine = engine(&config());
    let hot = SamplingParams { temperature: 1.5, seed: Some(3), ..greedy(100) };
    for sampling in [greedy(100), hot.clone(), SamplingParams { top_k: 2, top_p: 0.5, ..hot }] {
        let output = held(&engine, sampling, &Pattern::of(40));
        assert!(fits(&output.tokens, 40), "{:?}", output.tokens);
        let finish = output.finish.unwrap();
        assert_eq!((finish.reason, finish.stop_token), (FinishReason::Stop, None));
        assert_eq!(output.usage.completion_tokens, 41);
    }
    let stats = assert_idle(&engine, 3);
    assert_eq!(stats.generation_tokens, 3 * 41);
    // Of 40 tokens 14 are a choice.
    assert_eq!(stats.forced_tokens, 3 * 26);
    assert_eq!(stats.mask_time.iter().sum::<u64>(), 3 * 15);
}

#[test]
fn forced_tokens_change_nothing_but_the_number_of_steps() {
    let engine = engine(&config());
    let hot = || SamplingParams { temperature: 1.2, seed: Some(9), presence_penalty: 0.5, ..greedy(60) };
    let fast = held(&engine, hot(), &Pattern::of(30));
    let steps = wait_for(&engine, |s| s.finished.iter().sum::<u64>() == 1).steps;
    // Whoever wants probabilities gets each token sampled.
    let slow = held(&engine, SamplingParams { logprobs: Some(0), ..hot() }, &Pattern::of(30));
    let after = wait_for(&engine, |s| s.finished.iter().sum::<u64>() == 2).steps;
    assert_eq!(fast.tokens, slow.tokens);
    assert_eq!((slow.logprobs.len(), after - steps), (31, 31));
    assert!(steps < 15, "{steps}");
    let news: Vec<usize> = {
        let mut stream = submit_held(&engine, 1, hot(), &Pattern::of(9));
        std::iter::from_fn(|| stream.blocking_recv()).map(|output| output.tokens.len()).collect()
    };
    assert_eq!(news, [3, 3, 3, 1]);
}

#[test]
fn limits_cut_forced_tokens() {
    let engine = engine(&EngineConfig { max_model_len: Some(28), ..config() });
    for (max_tokens, len) in [(1, 1), (2, 2), (5, 5), (100, 8)] {
        let output = held(&engine, greedy(max_tokens), &Pattern::of(40));
        assert_eq!((output.tokens.len(), output.finish.unwrap().reason), (len, FinishReason::Length));
    }
    let stop = SamplingParams { stop_token_ids: vec![4], ..greedy(20) };
    let output = held(&engine, stop, &Pattern::of(40));
    assert_eq!((output.tokens.len(), output.finish.unwrap().stop_token), (2, Some(4)));
    assert_idle(&engine, 5);
}

#[test]
fn company_chunks_and_preemption_change_no_token() {
    let sampling = |i: u32| SamplingParams { temperature: 1.0, seed: Some(u64::from(i)), ..greedy(60) };
    let run = |engine: Engine| -> Vec<RequestOutput> {
        let streams: Vec<ResponseStream> = (0..8)
            .map(|i| match i % 3 {
                // Some without a constraint.
                0 => submit(&engine, prompt(20, i), SamplingParams { max_tokens: 30, ..sampling(i) }),
                _ => submit_held(&engine, i, sampling(i), &Pattern::of(24 + i as usize)),
            })
            .collect();
        let outputs = streams.into_iter().map(collect).collect();
        assert_idle(&engine, 8);
        outputs
    };
    let alone = run(engine(&EngineConfig { max_num_seqs: 1, ..config() }));
    for (i, output) in alone.iter().enumerate().filter(|(i, _)| i % 3 != 0) {
        assert!(fits(&output.tokens, 24 + i), "{:?}", output.tokens);
    }
    let together = run(engine(&config()));
    let cramped = EngineConfig { kv_cache_memory: kv_bytes(12), max_num_batched_tokens: 16, ..config() };
    let cramped = run(engine(&cramped));
    assert!(cramped.iter().map(|o| o.preemptions).sum::<u32>() > 0, "nobody was preempted");
    // Where the device is the engine's own processor, masks come before the model runs.
    let host = run(engine_on(ReferenceBackend::new(), &config()).unwrap());
    for others in [together, cramped, host] {
        for (one, other) in alone.iter().zip(&others) {
            assert_eq!(one.tokens, other.tokens);
        }
    }
}

#[test]
fn greedy_answers_are_the_same_where_masks_are_spared() {
    let sampling = |i: u32| match i % 5 {
        // Tokens that are never, always and sometimes what the model would say.
        0 => SamplingParams { logit_bias: vec![(END, 100.0)], ..greedy(60) },
        1 => SamplingParams {
            logit_bias: (0..200).map(|token| (token, 60.0 - token as f32)).collect(),
            ..greedy(60)
        },
        2 => SamplingParams { frequency_penalty: 1.5, repetition_penalty: 1.2, ..greedy(60) },
        3 => SamplingParams { stop_token_ids: vec![40], ..greedy(17) },
        _ => SamplingParams { min_tokens: 60, ..greedy(80) },
    };
    let run = |engine: Engine, admits: bool| -> Vec<RequestOutput> {
        let pattern = |i: u32| Pattern { admits, ..Pattern::of(20 + i as usize) };
        let streams: Vec<_> = (0..15).map(|i| submit_held(&engine, i, sampling(i), &pattern(i))).collect();
        let outputs = streams.into_iter().map(collect).collect();
        assert_idle(&engine, 15);
        outputs
    };
    let masked = run(engine(&config()), true);
    let host = || engine_on(ReferenceBackend::new(), &config()).unwrap();
    let cramped = EngineConfig { kv_cache_memory: kv_bytes(12), max_num_batched_tokens: 16, ..config() };
    let cramped = engine_on(ReferenceBackend::new(), &cramped).unwrap();
    for others in [run(host(), true), run(host(), false), run(cramped, true)] {
        for (i, (one, other)) in masked.iter().zip(&others).enumerate() {
            assert_eq!(
                (&one.tokens, one.finish, &one.error),
                (&other.tokens, other.finish, &other.error),
                "{i}"
            );
        }
    }
    for (i, output) in masked.iter().enumerate().filter(|(i, _)| i % 5 < 3) {
        assert!(fits(&output.tokens, 20 + i), "{i}: {:?}", output.tokens);
    }
    for output in masked.iter().skip(4).step_by(5) {
        assert!(output.error.as_ref().unwrap().contains("No token is left"));
    }
}

#[test]
fn a_constraint_that_fails_ends_its_request_only() {
    for host in [false, true] {
        let engine = match host {
            true => engine_on(ReferenceBackend::new(), &config()).unwrap(),
            false => engine(&config()),
        };
        broken_constraints_end_alone(&engine);
    }
}

fn broken_constraints_end_alone(engine: &Engine) {
    let broken = [
        (Pattern { refuses_at: Some(7), ..Pattern::of(20) }, "No further."),
        (Pattern { panics_at: Some(6), ..Pattern::of(20) }, "fault of the server"),
        (Pattern { allows_none_at: Some(6), ..Pattern::of(20) }, "No token is left"),
        (Pattern { allows_none_at: Some(0), ..Pattern::of(20) }, "No token is left"),
    ];
    let healthy = submit_held(engine, 1, greedy(50), &Pattern::of(30));
    let free = submit(engine, prompt(9, 2), greedy(40));
    let streams: Vec<ResponseStream> =
        broken.iter().map(|(pattern, _)| submit_held(engine, 3, greedy(50), pattern)).collect();
    for (stream, (_, message)) in streams.into_iter().zip(&broken) {
        let output = collect(stream);
        assert_eq!(output.finish.unwrap().reason, FinishReason::Error);
        let error = output.error.unwrap();
        assert!(error.contains(message), "{error}");
    }
    assert!(fits(&collect(healthy).tokens, 30));
    assert_eq!(collect(free).tokens.len(), 40);
    assert_eq!(assert_idle(engine, 6).finished[FinishReason::Error as usize], 4);
}

#[test]
fn options_that_leave_nothing_are_an_error() {
    let engine = engine(&config());
    for sampling in [
        // The answer must end, and must not yet.
        SamplingParams { min_tokens: 12, ..greedy(50) },
        // Of a single token at place 4.
        SamplingParams { bad_words: vec![vec![12, 16]], logit_bias: vec![(12, 100.0)], ..greedy(50) },
        SamplingParams { allowed_token_ids: Some((0..16).collect()), ..greedy(50) },
    ] {
        let output = held(&engine, sampling, &Pattern::of(8));
        assert_eq!(output.finish.unwrap().reason, FinishReason::Error, "{:?}", output.tokens);
        assert!(output.error.unwrap().contains("No token is left"));
    }
    // Also without a constraint.
    let allowed =
        SamplingParams { allowed_token_ids: Some(vec![7]), bad_words: vec![vec![7, 7]], ..greedy(50) };
    let output = generate(&engine, prompt(9, 1), allowed);
    assert_eq!((output.tokens.as_slice(), output.finish.unwrap().reason), (&[7][..], FinishReason::Error));
    assert_idle(&engine, 4);
}

/// Notes how many operations the device had been given when it took a token, and wants more at the mask behind it.
#[derive(Debug, Clone)]
struct Late {
    given: Arc<AtomicU64>,
    before: u64,
}

impl Constraint for Late {
    fn commit(&mut self, _: TokenId) -> Result<(), ConstraintError> {
        self.before = self.given.load(SeqCst);
        Ok(())
    }
    fn fast_forward(&mut self, _: usize, _: &mut Vec<TokenId>) -> Result<(), ConstraintError> {
        Ok(())
    }
    fn mask(&mut self, mask: &mut [u32]) -> Result<(), ConstraintError> {
        mask.fill(u32::MAX);
        match self.given.load(SeqCst) > self.before {
            true => Ok(()),
            false => Err(ConstraintError("The device had nothing to do.".into())),
        }
    }
    fn fork(&self) -> Box<dyn Constraint> {
        Box::new(self.clone())
    }
}

#[test]
fn masks_are_computed_while_a_device_is_at_work() {
    let backend = Recorder::new(ReferenceBackend::new());
    let given = backend.counter();
    let engine = engine_on(backend, &config()).unwrap();
    let constraint = Late { before: given.load(SeqCst), given };
    let options = SubmitOptions { constraint: Some(constraint.fork()), ..SubmitOptions::default() };
    let held = collect(engine.handle.submit(prompt(20, 1), greedy(20), options).unwrap());
    assert_eq!(held.error, None);
    assert_eq!(held.tokens, generate(&engine, prompt(20, 1), greedy(20)).tokens);
}

#[test]
fn an_abort_frees_a_constrained_request() {
    let engine = engine(&config());
    let mut stream = submit_held(&engine, 1, greedy(200), &Pattern { len: 60, ..Pattern::default() });
    stream.blocking_recv().unwrap();
    drop(stream);
    assert_idle(&engine, 1);
    assert!(fits(&held(&engine, greedy(50), &Pattern::of(12)).tokens, 12));
}
