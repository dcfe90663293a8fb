//! Random prompts through the engine's front door, with a clock at the other end.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use millrace_engine::{EngineHandle, ResponseStream, SubmitOptions};
use millrace_types::{FinishReason, SamplingParams, TokenId};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

/// How much work.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    /// Tokens per prompt.
    pub(super) input_len: usize,
    /// Tokens per answer.
    pub(super) output_len: usize,
    /// Requests of one run.
    pub(super) num_prompts: usize,
    /// Requests that run at the same time.
    pub(super) batch_size: usize,
}

/// Where work is done.
pub(super) struct Workload {
    handle: EngineHandle,
    /// Counts up over all random tokens, so that no run finds its prompts in the prefix cache.
    counter: u64,
    runtime: Runtime,
}

/// What one run took.
#[derive(Debug, Default)]
pub(super) struct Run {
    /// From the first submission to the last token.
    pub(super) wall: Duration,
    /// Per request, from submission to the first token.
    pub(super) first_tokens: Vec<Duration>,
    /// Between one token of a request and the next.
    pub(super) gaps: Vec<Duration>,
    /// One step while every request was in its answer, on average; `None` if there was no such time.
    pub(super) step: Option<Duration>,
}

impl Workload {
    pub(super) fn new(handle: EngineHandle, seed: u64) -> Result<Self> {
        let runtime =
            tokio::runtime::Builder::new_current_thread().build().context("no threads to be had")?;
        Ok(Self { handle, counter: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15), runtime })
    }

    /// Submits all requests at once and waits for all answers.
    pub(super) fn run(&mut self, shape: Shape) -> Result<Run> {
        let prompts: Vec<Vec<TokenId>> =
            (0..shape.num_prompts).map(|_| self.prompt(shape.input_len)).collect();
        let sampling =
            SamplingParams { temperature: 0.0, max_tokens: shape.output_len, ..SamplingParams::default() };
        let start = Instant::now();
        let mut streams = Vec::with_capacity(prompts.len());
        for prompt in prompts {
            streams.push(self.handle.submit(prompt, sampling.clone(), SubmitOptions::default())?);
        }
        self.runtime.block_on(async {
            let mut tasks: JoinSet<Result<Times>> =
                streams.into_iter().map(|stream| follow(stream, start)).collect();
            let mut requests = Vec::with_capacity(shape.num_prompts);
            while let Some(times) = tasks.join_next().await {
                requests.push(times.context("a task of the benchmark failed")??);
            }
            Ok(Run::new(start.elapsed(), &requests))
        })
    }

    fn prompt(&mut self, len: usize) -> Vec<TokenId> {
        let vocab = self.handle.info().vocab_size as u64;
        (0..len).map(|_| (self.random() % vocab) as TokenId).collect()
    }

    /// SplitMix64 (Steele, Lea, Flood 2014).
    fn random(&mut self) -> u64 {
        self.counter = self.counter.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.counter;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }
}

impl Run {
    fn new(wall: Duration, requests: &[Times]) -> Self {
        let gaps = requests.iter().flat_map(|times| times.tokens.windows(2).map(|pair| pair[1] - pair[0]));
        Self {
            wall,
            first_tokens: requests.iter().filter_map(Times::first).collect(),
            gaps: gaps.collect(),
            step: step(requests),
        }
    }
}

/// When the engine sent each token of a request, since the start of the run.
struct Times {
    tokens: Vec<Duration>,
}

impl Times {
    fn first(&self) -> Option<Duration> {
        self.tokens.first().copied()
    }

    fn last(&self) -> Option<Duration> {
        self.tokens.last().copied()
    }
}

/// The time between two tokens from the moment when the last request began its answer until the first one ended.
///
/// The clock is that last request's own: the tokens of one step are sent one after another, so that a window that
/// starts by one request's clock and ends by another's could be a step longer than it seems.
fn step(requests: &[Times]) -> Option<Duration> {
    let slowest = requests.iter().max_by_key(|times| times.first())?;
    let until = requests.iter().filter_map(Times::last).min()?;
    let inside = slowest.tokens.iter().filter(|time| **time <= until).count();
    let steps = u32::try_from(inside.checked_sub(1)?).ok().filter(|steps| *steps > 0)?;
    Some((slowest.tokens[inside - 1] - slowest.tokens[0]) / steps)
}

/// Reads an answer to its end. Times are the engine's: on a busy machine the reader comes late, and may find all
/// answers of a run complete.
async fn follow(mut stream: ResponseStream, start: Instant) -> Result<Times> {
    let mut tokens = Vec::new();
    while let Some(output) = stream.recv().await {
        let sent = output.sent.unwrap_or_else(Instant::now).duration_since(start);
        tokens.extend(output.tokens.iter().map(|_| sent));
        match output.finish {
            None => {}
            Some(finish) if finish.reason == FinishReason::Length => return Ok(Times { tokens }),
            Some(finish) => {
                let reason = output.error.unwrap_or_else(|| format!("{:?}", finish.reason));
                bail!("a request of the benchmark did not run to its end: {reason}");
            }
        }
    }
    bail!("the engine ended in the middle of the benchmark")
}

#[cfg(test)]
mod tests {
    use std::thread::JoinHandle;

    use millrace_engine::{Command, EngineInfo, EnginePort, channel};
    use millrace_types::{Finish, RequestOutput};

    use super::*;

    fn info() -> EngineInfo {
        EngineInfo {
            max_model_len: 100,
            vocab_size: 50,
            kv_capacity_tokens: 1000,
            block_size: 16,
            max_queued: 100,
            prefix_caching: true,
            device: "test".into(),
            pooling: None,
        }
    }

    /// Answers requests once so many have come, token number `n` of each sent `n` times 10 ms later, as far as its
    /// outputs say. Returns the prompts.
    fn engine(mut port: EnginePort, requests: usize) -> JoinHandle<Vec<Vec<TokenId>>> {
        std::thread::spawn(move || {
            let (mut prompts, mut waiting) = (Vec::new(), Vec::new());
            while let Some(Command::Submit(request, outputs)) = port.commands.blocking_recv() {
                port.queued.fetch_sub(1, std::sync::atomic::Ordering::AcqRel);
                waiting.push((request, outputs));
                if waiting.len() < requests {
                    continue;
                }
                let begin = Instant::now();
                for (request, outputs) in waiting.drain(..) {
                    for left in (0..request.sampling.max_tokens).rev() {
                        let finish =
                            (left == 0).then_some(Finish { reason: FinishReason::Length, stop_token: None });
                        let step = (request.sampling.max_tokens - left) as u32;
                        let sent = Some(begin + step * Duration::from_millis(10));
                        outputs
                            .send(RequestOutput { tokens: vec![1], finish, sent, ..RequestOutput::default() })
                            .unwrap();
                    }
                    prompts.push(request.prompt);
                }
            }
            prompts
        })
    }

    #[test]
    fn a_run_counts_every_token_and_never_repeats_a_prompt() {
        let (handle, port) = channel(info());
        let shape = Shape { input_len: 20, output_len: 4, num_prompts: 3, batch_size: 3 };
        let engine = engine(port, 3);
        let mut workload = Workload::new(handle.clone(), 7).unwrap();
        for _ in 0..2 {
            let run = workload.run(shape).unwrap();
            assert_eq!((run.first_tokens.len(), run.gaps.len()), (3, 9));
            // All answers were complete before anybody read the second one.
            assert_eq!(run.step, Some(Duration::from_millis(10)));
        }
        drop(workload);
        handle.shutdown();
        let mut prompts = engine.join().unwrap();
        assert!(prompts.iter().flatten().all(|token| *token < 50));
        assert_eq!(prompts.len(), 6);
        prompts.sort();
        prompts.dedup();
        assert_eq!(prompts.len(), 6);
    }

    #[test]
    fn a_step_counts_only_while_all_requests_answer() {
        let times =
            |millis: &[u64]| Times { tokens: millis.iter().copied().map(Duration::from_millis).collect() };
        // The second prompt is read from 10 to 100 ms, while the first answer goes on slowly.
        let (early, late) = (times(&[10, 100, 120, 140, 160]), times(&[101, 121, 141, 161, 171, 181]));
        assert_eq!(step(&[early, late]), Some(Duration::from_millis(20)));
        assert_eq!(step(&[times(&[5, 8, 14])]), Some(Duration::from_micros(4500)));
        // One ends before the other starts; an answer of one token has no steps.
        assert_eq!(step(&[times(&[1, 2]), times(&[3, 4])]), None);
        assert_eq!(step(&[times(&[1])]), None);
        assert_eq!(step(&[]), None);
    }
}
