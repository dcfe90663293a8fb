//! From one row of logits to a token: the definition that every backend's `sample` follows.
//!
//! Order (vLLM's): raw log-probabilities; allowed mask; banned tokens; bias; repetition, frequency and presence
//! penalties; argmax if greedy, else temperature, min-p, top-k, top-p, typical-p, and a draw by inverse CDF from the
//! spec's uniform number. Ties go to the lowest token id. Nothing here sorts the whole vocabulary unless
//! typical-p asks for it.

use crate::{Batch, SampleKind, SampleSpec, SampledRow, Span, StepResult};

/// Positive temperatures below this are raised to it, so that logits don't overflow.
const MIN_TEMPERATURE: f32 = 0.01;

/// Reusable memory of one worker.
#[derive(Debug, Default)]
pub struct Scratch {
    /// Copy of the raw logits, if log-probabilities were asked for.
    raw: Vec<f32>,
    candidates: Vec<Candidate>,
}

#[derive(Debug, Clone, Copy)]
struct Candidate {
    token: u32,
    logit: f32,
    /// Unnormalised probability.
    weight: f32,
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

/// Samples or scores one row. `logits` `[vocab]` is used as scratch space; `top` receives as many of the most
/// likely tokens as it has room for. The returned row's `top` span is left to the caller.
pub fn sample_row(
    logits: &mut [f32],
    spec: &SampleSpec,
    batch: &Batch,
    top: &mut [(u32, f32)],
    scratch: &mut Scratch,
) -> SampledRow {
    if spec.logprobs.is_some() {
        scratch.raw.clear();
        scratch.raw.extend_from_slice(logits);
    }
    let token = match spec.kind {
        SampleKind::Score(token) => token,
        SampleKind::Sample => {
            apply_edits(logits, spec, batch);
            if spec.temperature < millrace_types::GREEDY_TEMPERATURE {
                argmax(logits)
            } else {
                draw(logits, spec, scratch)
            }
        }
    };
    let mut row = SampledRow { token, ..SampledRow::default() };
    if spec.logprobs.is_some() {
        (row.logprob, row.rank) = report(&scratch.raw, token, top, &mut scratch.candidates);
    }
    row
}

/// Index of the largest value, the lowest one on ties; NaN counts as −∞.
pub fn argmax(logits: &[f32]) -> u32 {
    // Two passes: the maximum vectorises, and finding it stops early.
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, |m, x| if x > m { x } else { m });
    logits.iter().position(|x| *x == max).unwrap_or(0) as u32
}

fn apply_edits(logits: &mut [f32], spec: &SampleSpec, batch: &Batch) {
    for (word, bits) in spec.mask.of(&batch.masks).iter().enumerate() {
        if *bits != u32::MAX {
            let start = (word * 32).min(logits.len());
            let end = (start + 32).min(logits.len());
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
fn draw(logits: &mut [f32], spec: &SampleSpec, scratch: &mut Scratch) -> u32 {
    let best = argmax(logits);
    let max = logits[best as usize];
    if !max.is_finite() {
        // Everything is banned, or the model produced infinities: the least bad answer is deterministic.
        return best;
    }
    let inverse = 1.0 / spec.temperature.max(MIN_TEMPERATURE);
    let vocab = logits.len();
    let top_k = if spec.top_k == 0 { vocab } else { (spec.top_k as usize).min(vocab) };
    if top_k == vocab && spec.top_p >= 1.0 && spec.typical_p >= 1.0 {
        return draw_untruncated(logits, max, inverse, spec);
    }
    let candidates = &mut scratch.candidates;
    let floor = min_p_floor(max, inverse, spec.min_p);
    candidates.clear();
    candidates.extend(
        logits.iter().enumerate().filter(|(_, l)| **l >= floor && **l > f32::NEG_INFINITY).map(
            |(token, logit)| Candidate {
                token: token as u32,
                logit: *logit,
                weight: exp((logit - max) * inverse),
            },
        ),
    );
    if top_k < candidates.len() {
        candidates.select_nth_unstable_by(top_k - 1, by_logit);
        candidates.truncate(top_k);
    }
    if spec.top_p < 1.0 {
        keep_top_p(candidates, spec.top_p);
    } else {
        candidates.sort_unstable_by(by_logit);
    }
    if spec.typical_p < 1.0 {
        keep_typical(candidates, spec.typical_p);
    }
    let total: f64 = candidates.iter().map(|c| f64::from(c.weight)).sum();
    let target = f64::from(spec.uniform) * total;
    let mut sum = 0.0;
    for candidate in candidates.iter() {
        sum += f64::from(candidate.weight);
        if sum > target {
            return candidate.token;
        }
    }
    candidates.last().map_or(best, |c| c.token)
}

/// The common case: nothing to select, so one pass for weights and one to find the token, in order of id.
fn draw_untruncated(logits: &mut [f32], max: f32, inverse: f32, spec: &SampleSpec) -> u32 {
    let floor = min_p_floor(max, inverse, spec.min_p);
    let mut total = 0.0f64;
    for chunk in logits.chunks_mut(256) {
        for logit in chunk.iter_mut() {
            *logit = if *logit >= floor { exp((*logit - max) * inverse) } else { 0.0 };
        }
        total += chunk.iter().map(|w| f64::from(*w)).sum::<f64>();
    }
    let target = f64::from(spec.uniform) * total;
    let (mut sum, mut last) = (0.0f64, 0);
    for (token, weight) in logits.iter().enumerate().filter(|(_, w)| **w > 0.0) {
        sum += f64::from(*weight);
        last = token;
        if sum > target {
            break;
        }
    }
    last as u32
}

fn min_p_floor(max: f32, inverse: f32, min_p: f32) -> f32 {
    if min_p > 0.0 { max + min_p.ln() / inverse } else { f32::MIN }
}

fn by_logit(a: &Candidate, b: &Candidate) -> std::cmp::Ordering {
    b.logit.total_cmp(&a.logit).then(a.token.cmp(&b.token))
}

/// Keeps the smallest set of most likely candidates with mass ≥ top_p (at least one), sorted by likelihood.
fn keep_top_p(candidates: &mut Vec<Candidate>, top_p: f32) {
    let total: f64 = candidates.iter().map(|c| f64::from(c.weight)).sum();
    let target = f64::from(top_p) * total;
    let mut sorted = 64;
    loop {
        let n = sorted.min(candidates.len());
        if n < candidates.len() {
            candidates.select_nth_unstable_by(n, by_logit);
        }
        candidates[..n].sort_unstable_by(by_logit);
        let mut sum = 0.0;
        for i in 0..n {
            sum += f64::from(candidates[i].weight);
            if sum >= target {
                candidates.truncate(i + 1);
                return;
            }
        }
        if n == candidates.len() {
            return;
        }
        sorted *= 8;
    }
}

/// Keeps the candidates whose surprise is closest to the entropy, with mass ≥ typical_p (at least one).
fn keep_typical(candidates: &mut Vec<Candidate>, typical_p: f32) {
    let total: f64 = candidates.iter().map(|c| f64::from(c.weight)).sum();
    let surprise = |c: &Candidate| -(f64::from(c.weight) / total).max(f64::MIN_POSITIVE).ln();
    let entropy: f64 = candidates.iter().map(|c| f64::from(c.weight) / total * surprise(c)).sum();
    candidates.sort_by(|a, b| {
        let (x, y) = ((surprise(a) - entropy).abs(), (surprise(b) - entropy).abs());
        x.total_cmp(&y).then(by_logit(a, b))
    });
    let target = f64::from(typical_p) * total;
    let mut sum = 0.0;
    let keep = candidates.iter().position(|c| {
        sum += f64::from(c.weight);
        sum >= target
    });
    if let Some(last) = keep {
        candidates.truncate(last + 1);
    }
}

/// Log-probability and rank of `token` under the raw logits, and the most likely tokens into `top`.
fn report(raw: &[f32], token: u32, top: &mut [(u32, f32)], candidates: &mut Vec<Candidate>) -> (f32, u32) {
    let lse = log_sum_exp(raw);
    let own = raw[token as usize];
    let rank = 1 + raw.iter().filter(|l| **l > own).count() as u32;
    if !top.is_empty() {
        candidates.clear();
        candidates.extend(raw.iter().enumerate().map(|(token, logit)| Candidate {
            token: token as u32,
            logit: *logit,
            weight: 0.0,
        }));
        if top.len() < candidates.len() {
            candidates.select_nth_unstable_by(top.len() - 1, by_logit);
            candidates.truncate(top.len());
        }
        candidates.sort_unstable_by(by_logit);
        for (slot, c) in top.iter_mut().zip(candidates.iter()) {
            *slot = (c.token, c.logit - lse);
        }
    }
    (own - lse, rank)
}

/// ln Σ exp(x), accumulated in f64 by chunks of 256.
pub fn log_sum_exp(logits: &[f32]) -> f32 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, |m, x| if x > m { x } else { m });
    if !max.is_finite() {
        return max;
    }
    let mut total = 0.0f64;
    for chunk in logits.chunks(256) {
        total += f64::from(chunk.iter().map(|l| exp(l - max)).sum::<f32>());
    }
    max + total.ln() as f32
}

/// e^x for x ≤ 0, relative error below 2e-7: Cody–Waite reduction and a polynomial of degree 7; plain arithmetic, so
/// that it vectorises everywhere and gives the same bits on every machine.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    let x = x.clamp(-87.3, 88.0);
    let n = (x * std::f32::consts::LOG2_E + 12_582_912.0) - 12_582_912.0;
    let r = (x - n * 0.693_359_4) - n * -2.121_944_4e-4;
    let p = 1.0
        + r * (1.0
            + r * (0.5
                + r * (1.666_666_5e-1
                    + r * (4.166_579_6e-2
                        + r * (8.333_452e-3 + r * (1.398_199_9e-3 + r * 1.987_569_1e-4))))));
    f32::from_bits(p.to_bits().wrapping_add(((n as i32) << 23) as u32))
}

#[cfg(test)]
#[path = "sampling_tests.rs"]
mod tests;
