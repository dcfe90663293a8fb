//! Sampling against a naive twin in f64 that sorts everything.

use proptest::prelude::*;

use super::*;
use crate::{Penalties, TokenCount};

fn greedy() -> SampleSpec {
    SampleSpec::greedy(0)
}

fn sample(logits: &[f32], spec: &SampleSpec, batch: &Batch) -> u32 {
    sample_row(&mut logits.to_vec(), spec, batch, &mut [], &mut Scratch::default(), &OneThread).token
}

/// The distribution after truncation, as (token, probability), by sorting everything in f64.
fn naive_distribution(logits: &[f32], spec: &SampleSpec) -> Vec<(u32, f64)> {
    let t = f64::from(spec.temperature.max(MIN_TEMPERATURE));
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut all: Vec<(u32, f64)> =
        logits.iter().enumerate().map(|(i, l)| (i as u32, (f64::from(l - max) / t).exp())).collect();
    all.sort_by(|a, b| logits[b.0 as usize].total_cmp(&logits[a.0 as usize]).then(a.0.cmp(&b.0)));
    all.retain(|c| c.1 >= f64::from(spec.min_p));
    if spec.top_k > 0 {
        all.truncate(spec.top_k as usize);
    }
    let keep_mass = |all: &mut Vec<(u32, f64)>, p: f64| {
        let total: f64 = all.iter().map(|c| c.1).sum();
        let mut sum = 0.0;
        let n = all.iter().take_while(|c| {
            let before = sum;
            sum += c.1;
            before < p * total
        });
        let n = n.count().max(1);
        all.truncate(n);
    };
    if spec.top_p < 1.0 {
        keep_mass(&mut all, f64::from(spec.top_p));
    }
    if spec.typical_p < 1.0 {
        let total: f64 = all.iter().map(|c| c.1).sum();
        let h: f64 = all.iter().map(|c| -(c.1 / total) * (c.1 / total).ln()).sum();
        all.sort_by(|a, b| (-(a.1 / total).ln() - h).abs().total_cmp(&(-(b.1 / total).ln() - h).abs()));
        keep_mass(&mut all, f64::from(spec.typical_p));
    }
    let total: f64 = all.iter().map(|c| c.1).sum();
    all.iter().map(|c| (c.0, c.1 / total)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Sweeping the uniform number over a fine grid reproduces the twin's probabilities.
    #[test]
    fn draws_follow_the_truncated_distribution(
        logits in prop::collection::vec(-4.0f32..4.0, 2..300),
        temperature in 0.2f32..2.0,
        top_k in 0u32..40,
        top_p in prop::sample::select(vec![1.0f32, 0.9, 0.5, 0.05]),
        min_p in prop::sample::select(vec![0.0f32, 0.05, 0.3]),
        typical_p in prop::sample::select(vec![1.0f32, 0.8, 0.3]),
    ) {
        let spec = SampleSpec { temperature, top_k, top_p, min_p, typical_p, ..greedy() };
        let expected = naive_distribution(&logits, &spec);
        let draws = 2000;
        let mut counts = vec![0u32; logits.len()];
        for i in 0..draws {
            let spec = SampleSpec { uniform: (i as f32 + 0.5) / draws as f32, ..spec };
            counts[sample(&logits, &spec, &Batch::default()) as usize] += 1;
        }
        let mut gap = 0.0;
        for (token, count) in counts.iter().enumerate() {
            let p = expected.iter().find(|c| c.0 == token as u32).map_or(0.0, |c| c.1);
            gap += (f64::from(*count) / f64::from(draws) - p).abs();
        }
        // Grid error is one draw per kept token; a boundary token may flip by rounding.
        let slack = 1.5 * expected.len() as f64 / f64::from(draws) + 0.02;
        let boundary = expected.iter().map(|c| c.1).fold(1.0f64, f64::min);
        prop_assert!(gap <= slack + 2.0 * boundary, "total variation {gap}, allowed {slack}");
    }

    #[test]
    fn greedy_is_the_first_maximum(logits in prop::collection::vec(prop::sample::select(vec![-1.0f32, 0.0, 2.5, 3.0]), 1..100)) {
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let first = logits.iter().position(|l| *l == max).unwrap();
        prop_assert_eq!(sample(&logits, &greedy(), &Batch::default()), first as u32);
    }

    #[test]
    fn log_probabilities_match_f64(logits in prop::collection::vec(-30.0f32..30.0, 5..600), token in 0u32..5) {
        let spec = SampleSpec { kind: SampleKind::Score(token), logprobs: Some(3), ..greedy() };
        let mut top = [(0, 0.0); 3];
        let row = sample_row(&mut logits.clone(), &spec, &Batch::default(), &mut top, &mut Scratch::default(), &OneThread);
        let lse = logits.iter().map(|l| f64::from(*l).exp()).sum::<f64>().ln();
        prop_assert!((f64::from(row.logprob) - (f64::from(logits[token as usize]) - lse)).abs() < 2e-5);
        prop_assert_eq!(row.rank as usize, 1 + logits.iter().filter(|l| **l > logits[token as usize]).count());
        prop_assert!(top[0].1 >= top[1].1 && top[1].1 >= top[2].1);
        prop_assert_eq!(top[0].0, sample(&logits, &greedy(), &Batch::default()));
    }
}

#[test]
fn edits_apply_in_order() {
    let logits = [5.0, 4.0, 3.0, 2.0, -1.0];
    let mut batch = Batch { banned: vec![0], ..Batch::default() };
    let banned = SampleSpec { banned: Span { start: 0, len: 1 }, ..greedy() };
    assert_eq!(sample(&logits, &banned, &batch), 1);

    batch.masks = vec![0b01100];
    assert_eq!(sample(&logits, &SampleSpec { mask: Span { start: 0, len: 1 }, ..greedy() }, &batch), 2);

    batch.bias = vec![(3, 10.0)];
    assert_eq!(sample(&logits, &SampleSpec { bias: Span { start: 0, len: 1 }, ..greedy() }, &batch), 3);

    // Repetition divides 5 to 2.5; presence takes another 3 from token 1.
    batch.seen = vec![TokenCount { token: 0, generated: 0 }, TokenCount { token: 1, generated: 2 }];
    let penalties = Penalties { repetition: 2.0, frequency: 0.5, presence: 2.0 };
    let spec = SampleSpec { penalties, seen: Span { start: 0, len: 2 }, ..greedy() };
    assert_eq!(sample(&logits, &spec, &batch), 2);
}

#[test]
fn hopeless_rows_still_give_a_token() {
    let all_banned = [f32::NEG_INFINITY; 4];
    let hot = SampleSpec { temperature: 1.0, uniform: 0.7, ..greedy() };
    assert_eq!(sample(&all_banned, &hot, &Batch::default()), 0);
    assert_eq!(sample(&[f32::NAN; 4], &greedy(), &Batch::default()), 0);
    assert!(sample(&[f32::NAN, 1.0, 2.0], &hot, &Batch::default()) > 0);
}
