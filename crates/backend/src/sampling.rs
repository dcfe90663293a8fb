//! From one row of logits to a token: the definition that every backend's `sample` follows.
//!
//! Order (vLLM's): raw log-probabilities; allowed mask; banned tokens; bias; repetition, frequency and presence
//! penalties; argmax if greedy, else temperature, min-p, top-k, top-p, typical-p, and a draw by inverse CDF, in the
//! order of token ids, from the spec's uniform number. Ties go to the lowest token id.
//!
//! Probabilities are whole numbers ([`Scale::weight`]), so that sums are exact: however a backend cuts up a row and
//! in whatever order it adds, it draws the same token. Nothing here sorts the vocabulary.

mod candidates;
mod sweep;

use crate::{Batch, SampleKind, SampleSpec, SampledRow, Span, StepResult};
use candidates::{Candidates, part};
pub use sweep::{CHUNK, ONE, OneThread, Scale, Sweep, Term, maxima, sums};

/// Positive temperatures below this are raised to it, so that logits don't overflow.
const MIN_TEMPERATURE: f32 = 0.01;

/// How many of the most likely tokens are looked at first, and then, to find a nucleus. More mean all.
const NUCLEUS_TRIES: [usize; 2] = [64, 256];

/// Uniform numbers have this many random bits.
const UNIFORM_BITS: u32 = 24;

/// Reusable memory of one worker.
#[derive(Debug, Default)]
pub struct Scratch {
    /// Copy of the raw logits, if log-probabilities of an edited row were asked for.
    raw: Vec<f32>,
    chunks: Chunks,
    candidates: Candidates,
}

/// What sweeps found, per chunk of the row.
#[derive(Debug, Default)]
struct Chunks {
    maxima: Vec<f32>,
    sums: Vec<u64>,
}

/// Sizes `result` for the samples of `batch`: rows, and each row's span in `top`.
pub fn prepare(batch: &Batch, vocab: usize, result: &mut StepResult) {
    result.clear();
    for spec in &batch.samples {
        let len = spec.logprobs.unwrap_or(0).min(vocab as u32);
        let top = Span { start: result.top.len() as u32, len };
        result.rows.push(SampledRow { top, ..SampledRow::default() });
        result.top.resize(result.top.len() + len as usize, (0, 0.0));
    }
}

/// Samples or scores one row. `logits` `[vocab]` is edited in place; `top` receives as many of the most likely tokens
/// as it has room for; `sweep` is the caller's way over a row. The returned row's `top` span is left to the caller.
pub fn sample_row(
    logits: &mut [f32],
    spec: &SampleSpec,
    batch: &Batch,
    top: &mut [(u32, f32)],
    scratch: &mut Scratch,
    sweep: &dyn Sweep,
) -> SampledRow {
    let Scratch { raw, chunks, candidates } = scratch;
    let edited = spec.kind == SampleKind::Sample && has_edits(spec);
    if edited && spec.logprobs.is_some() {
        raw.clear();
        raw.extend_from_slice(logits);
    }
    if edited {
        apply_edits(logits, spec, batch);
    }
    let mut row = Row::new(logits, chunks, sweep);
    let token = match spec.kind {
        SampleKind::Score(token) => token,
        SampleKind::Sample if spec.temperature < millrace_types::GREEDY_TEMPERATURE => row.argmax(),
        SampleKind::Sample => draw(&mut row, spec, candidates),
    };
    let mut sampled = SampledRow { token, ..SampledRow::default() };
    if spec.logprobs.is_some() {
        if edited {
            row = Row::new(raw, chunks, sweep);
        }
        (sampled.logprob, sampled.rank) = report(&mut row, token, top, candidates);
    }
    sampled
}

/// A row that is not edited any more, and its chunks' maxima.
struct Row<'a> {
    logits: &'a [f32],
    chunks: &'a mut Chunks,
    sweep: &'a dyn Sweep,
}

impl<'a> Row<'a> {
    fn new(logits: &'a [f32], chunks: &'a mut Chunks, sweep: &'a dyn Sweep) -> Self {
        chunks.maxima.clear();
        chunks.maxima.resize(logits.len().div_ceil(CHUNK), 0.0);
        sweep.maxima(logits, &mut chunks.maxima);
        Self { logits, chunks, sweep }
    }

    /// −∞ if there is nothing else.
    fn max(&self) -> f32 {
        self.chunks.maxima.iter().copied().fold(f32::NEG_INFINITY, f32::max)
    }

    /// Index of the largest logit, the lowest one on ties; NaN counts as −∞, and 0 is the answer if all are.
    fn argmax(&self) -> u32 {
        let max = self.max();
        let chunk = self.chunks.maxima.iter().position(|other| *other == max).unwrap_or(0);
        let logits = &self.logits[chunk * CHUNK..];
        logits.iter().position(|logit| *logit == max).map_or(0, |at| (chunk * CHUNK + at) as u32)
    }

    fn sum(&mut self, term: Term) -> u64 {
        let sums = &mut self.chunks.sums;
        sums.clear();
        sums.resize(self.chunks.maxima.len(), 0);
        self.sweep.sums(self.logits, term, sums);
        sums.iter().sum()
    }

    /// The first token at which the weights up to and with it exceed `target`, which is below their sum; their last
    /// sum was that of these weights.
    fn locate(&self, scale: Scale, target: u64) -> Option<u32> {
        let mut before = 0;
        let chunk = self.chunks.sums.iter().position(|sum| {
            before += sum;
            before > target
        })?;
        before -= self.chunks.sums[chunk];
        let at = self.logits[chunk * CHUNK..].iter().position(|logit| {
            before += scale.weight(*logit);
            before > target
        })?;
        Some((chunk * CHUNK + at) as u32)
    }

    fn gather(&self, candidates: &mut Candidates, floor: f32, count: usize) {
        candidates.gather(self.logits, &self.chunks.maxima, floor, count);
    }
}

fn has_edits(spec: &SampleSpec) -> bool {
    [spec.mask, spec.banned, spec.bias, spec.seen].iter().any(|span| span.len > 0)
}

fn apply_edits(logits: &mut [f32], spec: &SampleSpec, batch: &Batch) {
    for (word, bits) in spec.mask.of(&batch.masks).iter().enumerate() {
        if *bits != u32::MAX {
            let start = (word * 32).min(logits.len());
            let end = (start + 32).min(logits.len());
            if *bits == 0 {
                logits[start..end].fill(f32::NEG_INFINITY);
                continue;
            }
            for (bit, logit) in logits[start..end].iter_mut().enumerate() {
                if bits >> bit & 1 == 0 {
                    *logit = f32::NEG_INFINITY;
                }
            }
        }
    }
    for token in spec.banned.of(&batch.banned) {
        logits[*token as usize] = f32::NEG_INFINITY;
    }
    for (token, bias) in spec.bias.of(&batch.bias) {
        logits[*token as usize] += bias;
    }
    let penalties = spec.penalties;
    for seen in spec.seen.of(&batch.seen) {
        let logit = &mut logits[seen.token as usize];
        *logit = if *logit > 0.0 { *logit / penalties.repetition } else { *logit * penalties.repetition };
        if seen.generated > 0 {
            *logit -= penalties.frequency * seen.generated as f32 + penalties.presence;
        }
    }
}

/// Draws from softmax(logits / temperature) after truncation.
fn draw(row: &mut Row<'_>, spec: &SampleSpec, candidates: &mut Candidates) -> u32 {
    let (best, max) = (row.argmax(), row.max());
    if !max.is_finite() {
        // Everything is banned, or the model produced infinities: the least bad answer is deterministic.
        return best;
    }
    let inverse = 1.0 / spec.temperature.max(MIN_TEMPERATURE);
    let floor = if spec.min_p > 0.0 { max + spec.min_p.ln() / inverse } else { f32::MIN };
    let scale = Scale { max, inverse, floor };
    let top_k = (1..row.logits.len()).contains(&(spec.top_k as usize)).then_some(spec.top_k as usize);
    let token = if top_k.is_none() && spec.top_p >= 1.0 && spec.typical_p >= 1.0 {
        let total = row.sum(Term::Weight(scale));
        row.locate(scale, target(total, spec.uniform))
    } else {
        match top_k {
            Some(top_k) => keep_top_k(row, scale, top_k, spec.top_p, candidates),
            None => keep_nucleus(row, scale, spec.top_p, candidates),
        }
        if spec.typical_p < 1.0 {
            candidates.keep_typical(spec.typical_p, scale);
        }
        candidates.locate(target(candidates.mass(), spec.uniform))
    };
    token.unwrap_or(best)
}

/// Where in a mass a uniform number in [0, 1) points.
fn target(total: u64, uniform: f32) -> u64 {
    let uniform = (uniform * (1u32 << UNIFORM_BITS) as f32) as u128;
    ((u128::from(total) * uniform) >> UNIFORM_BITS) as u64
}

/// The k most likely tokens, and of these the nucleus.
fn keep_top_k(row: &Row<'_>, scale: Scale, top_k: usize, top_p: f32, candidates: &mut Candidates) {
    row.gather(candidates, scale.floor, top_k);
    candidates.keep_count(top_k);
    candidates.weigh(scale);
    if top_p < 1.0 {
        candidates.keep_mass(part(candidates.mass(), top_p));
    }
}

/// The smallest set of most likely tokens with mass ≥ top_p (at least one).
fn keep_nucleus(row: &mut Row<'_>, scale: Scale, top_p: f32, candidates: &mut Candidates) {
    let target = match top_p < 1.0 {
        true => part(row.sum(Term::Weight(scale)), top_p),
        // Never reached by a part of the tokens.
        false => u64::MAX,
    };
    let enough = NUCLEUS_TRIES.iter().any(|count| {
        row.gather(candidates, scale.floor, *count);
        candidates.weigh(scale);
        candidates.mass() >= target
    });
    if !enough {
        row.gather(candidates, scale.floor, usize::MAX);
        candidates.weigh(scale);
    }
    candidates.keep_mass(target);
}

/// Log-probability and rank of `token` under raw logits, and the most likely tokens into `top`.
fn report(row: &mut Row<'_>, token: u32, top: &mut [(u32, f32)], candidates: &mut Candidates) -> (f32, u32) {
    let lse = log_sum_exp(row);
    let own = row.logits[token as usize];
    if !top.is_empty() {
        row.gather(candidates, f32::NEG_INFINITY, top.len());
        candidates.keep_count(top.len());
        for (slot, candidate) in top.iter_mut().zip(candidates.sorted()) {
            *slot = (candidate.token, candidate.logit - lse);
        }
    }
    (own - lse, 1 + row.sum(Term::Above(own)) as u32)
}

/// ln Σ exp(x).
fn log_sum_exp(row: &mut Row<'_>) -> f32 {
    let max = row.max();
    if !max.is_finite() {
        return max;
    }
    let total = row.sum(Term::Weight(Scale { max, inverse: 1.0, floor: f32::MIN }));
    max + (total as f64 / ONE as f64).ln() as f32
}

#[cfg(test)]
#[path = "sampling_tests.rs"]
mod tests;
