//! `millrace perplexity`: how surprised a model is by a text, which shows what a number format costs.

mod windows;

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use millrace_engine::{EngineHandle, SubmitOptions};
use millrace_types::{FinishReason, SamplingParams, TokenId};
use serde_json::json;

use crate::args::{EngineArgs, PerplexityArgs};
use crate::load::{self, Model};
use crate::{input, output, pipeline};
use windows::Windows;

/// Longest text, in bytes.
const MAX_TEXT: u64 = 256 << 20;

/// `--window`, if nobody says and the model allows.
const DEFAULT_WINDOW: usize = 1024;

/// Runs the command.
pub(crate) fn run(args: &PerplexityArgs) -> Result<()> {
    let text = input::read(&args.file, MAX_TEXT)?;
    let model = load::find(args.model.as_deref(), &args.model_args)?;
    let window = window(args, &model)?;
    let tokenizer = pipeline::tokenizer(&model.files, &args.model_args)?;
    let windows = Windows::new(&tokenizer, &text, window, model.spec.vocab)?;
    ensure!(windows.scored() > 0, "{} holds too little text: there is no token to predict", args.file);

    let at_once = args.engine.max_num_batched_tokens.div_ceil(window).saturating_add(1);
    let engine = EngineArgs {
        max_model_len: args.engine.max_model_len.or(Some(window + 1)),
        max_num_seqs: at_once.min(args.engine.max_num_seqs),
        max_num_queued_reqs: at_once.max(args.engine.max_num_queued_reqs),
        // No window is read twice.
        enable_prefix_caching: false,
        no_enable_prefix_caching: true,
        ..args.engine.clone()
    };
    let running = load::start(&model, &args.model_args, &engine, None)?;
    let score = pipeline::runtime()?.block_on(score(&running.engine.handle, &windows, at_once))?;
    let device = running.engine.handle.info().device.clone();
    output::print(&(report(args, &model, &windows, &score, &device) + "\n"))?;
    running.engine.handle.shutdown();
    running.engine.join();
    Ok(())
}

/// Tokens per window: one less than the longest sequence, which must have room for an answer.
fn window(args: &PerplexityArgs, model: &Model) -> Result<usize> {
    let limit = args.engine.max_model_len.unwrap_or(usize::MAX).min(model.spec.max_positions) - 1;
    let window = args.window.unwrap_or(DEFAULT_WINDOW.min(limit));
    ensure!(window >= 2, "a window of {window} tokens has nothing to predict; give --window 2 or more");
    ensure!(
        window <= limit,
        "--window {window} is too long: this model with this --max-model-len reads up to {limit} tokens"
    );
    Ok(window)
}

/// What all windows came to.
struct Score {
    /// Sum of the negative log-probabilities, in nats.
    nats: f64,
    elapsed: Duration,
}

/// Scores all windows, `at_once` at a time.
async fn score(handle: &EngineHandle, windows: &Windows, at_once: usize) -> Result<Score> {
    let bar = load::progress_bar("scoring".into());
    bar.set_length(windows.computed() as u64);
    let start = Instant::now();
    let one = |tokens: Vec<TokenId>| {
        let bar = bar.clone();
        async move {
            let count = tokens.len();
            let nats = score_one(handle, tokens).await?;
            bar.inc(count as u64);
            anyhow::Ok(nats)
        }
    };
    // In order, so that the sum has the same bits each time.
    let scores = stream::iter(windows.iter().map(one)).buffered(at_once);
    let nats = scores.try_fold(0.0, async |sum, nats| Ok(sum + nats)).await;
    bar.finish_and_clear();
    Ok(Score { nats: nats?, elapsed: start.elapsed() })
}

/// The negative log-probabilities of a window's tokens after the first.
async fn score_one(handle: &EngineHandle, tokens: Vec<TokenId>) -> Result<f64> {
    let sampling = SamplingParams { max_tokens: 0, prompt_logprobs: Some(0), ..SamplingParams::default() };
    let mut outputs = handle.submit(tokens, sampling, SubmitOptions::default())?;
    let mut nats = 0.0;
    while let Some(output) = outputs.recv().await {
        for scored in output.prompt_logprobs.iter().flatten().flatten() {
            ensure!(
                scored.logprob.is_finite(),
                "the model gives token {} a log-probability of {}; its weights or its number format are broken",
                scored.token,
                scored.logprob
            );
            nats -= f64::from(scored.logprob);
        }
        match output.finish {
            None => {}
            Some(finish) if finish.reason == FinishReason::Length => return Ok(nats),
            Some(finish) => {
                bail!(output.error.unwrap_or_else(|| format!("a window ended by {:?}", finish.reason)))
            }
        }
    }
    bail!("the engine ended in the middle of the text")
}

fn report(args: &PerplexityArgs, model: &Model, windows: &Windows, score: &Score, device: &str) -> String {
    let mean = score.nats / windows.scored() as f64;
    let seconds = score.elapsed.as_secs_f64().max(f64::MIN_POSITIVE);
    let rate = windows.computed() as f64 / seconds;
    if args.json {
        let report = json!({
            "model": model.name,
            "device": device,
            "file": args.file,
            "window": windows.size(),
            "windows": windows.count(),
            "tokens": windows.scored(),
            "nats_per_token": mean,
            "perplexity": mean.exp(),
            "seconds": seconds,
            "tokens_per_second": rate,
        });
        return report.to_string();
    }
    let lines = [
        format!("model       {}", model.name),
        format!("device      {device}"),
        format!(
            "text        {} tokens scored, {} windows of {}",
            windows.scored(),
            windows.count(),
            windows.size()
        ),
        format!("perplexity  {:.4} ({mean:.5} nats per token)", mean.exp()),
        format!("speed       {rate:.1} tokens/s ({seconds:.1} s)"),
    ];
    lines.join("\n")
}
