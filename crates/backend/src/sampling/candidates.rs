//! The few tokens that truncation leaves, and selections among them by count or by mass. Nothing here sorts: each
//! selection takes time in proportion to its candidates.

use std::cmp::Ordering;

use super::sweep::{CHUNK, Scale};

#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate {
    pub(super) token: u32,
    pub(super) logit: f32,
    /// [`Scale::weight`].
    pub(super) weight: u64,
    /// How far its surprise is from the entropy; 0 unless typical-p asks.
    distance: f32,
}

/// A list whose memory is kept.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    list: Vec<Candidate>,
    bounds: Vec<f32>,
}

impl Candidates {
    /// Takes the tokens whose logits are at least `floor`; or of these, if that is easy to know, only the first ones
    /// by likelihood, but `count` of them or more. `maxima` are those of the row's chunks. Weights stay 0.
    pub(super) fn gather(&mut self, logits: &[f32], maxima: &[f32], floor: f32, count: usize) {
        let bound = self.bound(maxima, count).max(floor);
        self.list.clear();
        for (index, (chunk, max)) in logits.chunks(CHUNK).zip(maxima).enumerate() {
            if *max < bound {
                continue;
            }
            for (at, logit) in chunk.iter().enumerate().filter(|(_, logit)| **logit >= bound) {
                let token = (index * CHUNK + at) as u32;
                self.list.push(Candidate { token, logit: *logit, weight: 0, distance: 0.0 });
            }
        }
    }

    /// A bound that at least `count` logits reach: that many chunks have one.
    fn bound(&mut self, maxima: &[f32], count: usize) -> f32 {
        if count == 0 || count > maxima.len() {
            return f32::NEG_INFINITY;
        }
        self.bounds.clear();
        self.bounds.extend_from_slice(maxima);
        *self.bounds.select_nth_unstable_by(count - 1, |a, b| b.total_cmp(a)).1
    }

    pub(super) fn weigh(&mut self, scale: Scale) {
        for candidate in &mut self.list {
            candidate.weight = scale.weight(candidate.logit);
        }
    }

    pub(super) fn mass(&self) -> u64 {
        mass(&self.list)
    }

    /// Keeps the `count` most likely.
    pub(super) fn keep_count(&mut self, count: usize) {
        if 0 < count && count < self.list.len() {
            self.list.select_nth_unstable_by(count - 1, by_logit);
        }
        self.list.truncate(count);
    }

    /// Keeps as few of the most likely as have this mass together.
    pub(super) fn keep_mass(&mut self, target: u64) {
        let count = select_mass(&mut self.list, target, by_logit);
        self.list.truncate(count);
    }

    /// Keeps as few of the most typical, those whose surprise is closest to the entropy, as have mass `share`.
    pub(super) fn keep_typical(&mut self, share: f32, scale: Scale) {
        // Sums of floats need an order.
        self.list.sort_unstable_by(by_token);
        let total = self.mass();
        let log_total = (total as f64 / super::sweep::ONE as f64).ln();
        let surprise = |c: &Candidate| log_total - f64::from((c.logit - scale.max) * scale.inverse);
        let entropy: f64 = self.list.iter().map(|c| c.weight as f64 / total as f64 * surprise(c)).sum();
        for candidate in &mut self.list {
            candidate.distance = (surprise(candidate) - entropy).abs() as f32;
        }
        let by_distance =
            |a: &Candidate, b: &Candidate| a.distance.total_cmp(&b.distance).then(by_token(a, b));
        let count = select_mass(&mut self.list, part(total, share), by_distance);
        self.list.truncate(count);
    }

    /// The first token, by id, at which the mass up to and with it exceeds `target`, which is below the whole mass.
    pub(super) fn locate(&mut self, target: u64) -> Option<u32> {
        let count = select_mass(&mut self.list, target + 1, by_token);
        Some(self.list.get(count.checked_sub(1)?)?.token)
    }

    /// The most likely ones first.
    pub(super) fn sorted(&mut self) -> &[Candidate] {
        self.list.sort_unstable_by(by_logit);
        &self.list
    }
}

/// A share of a mass, rounded up.
pub(super) fn part(total: u64, share: f32) -> u64 {
    ((total as f64 * f64::from(share)).ceil() as u64).min(total)
}

fn by_logit(a: &Candidate, b: &Candidate) -> Ordering {
    b.logit.total_cmp(&a.logit).then(by_token(a, b))
}

fn by_token(a: &Candidate, b: &Candidate) -> Ordering {
    a.token.cmp(&b.token)
}

fn mass(candidates: &[Candidate]) -> u64 {
    candidates.iter().map(|c| c.weight).sum()
}

/// How many candidates, in this order and at least one, have the mass `target` together; all if they don't have it.
/// Those stand first afterwards, the last of them at the end, the others anyhow.
fn select_mass(
    candidates: &mut [Candidate],
    target: u64,
    order: impl Fn(&Candidate, &Candidate) -> Ordering,
) -> usize {
    // What is before `low` belongs to the answer; what is from `high` on does not.
    let (mut low, mut high, mut sum) = (0, candidates.len(), 0);
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        candidates[low..high].select_nth_unstable_by(middle - low, &order);
        let left = mass(&candidates[low..middle]);
        if sum + left >= target {
            high = middle;
        } else {
            sum += left;
            low = middle;
        }
    }
    high
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn mass_is_selected_as_by_sorting(
            weights in prop::collection::vec(0u64..50, 1..80),
            share in 0.0f32..1.2,
        ) {
            let mut list: Vec<Candidate> = weights
                .iter()
                .enumerate()
                .map(|(token, weight)| Candidate { token: token as u32, logit: (weight % 7) as f32, weight: *weight, distance: 0.0 })
                .collect();
            let target = (mass(&list) as f32 * share) as u64;
            let mut sorted = list.clone();
            sorted.sort_by(by_logit);
            let mut sum = 0;
            let last = sorted.iter().position(|c| { sum += c.weight; sum >= target });
            let expected = last.map_or(sorted.len(), |last| last + 1);
            let count = select_mass(&mut list, target, by_logit);
            prop_assert_eq!(count, expected);
            prop_assert_eq!(list[count - 1].token, sorted[count - 1].token);
            let mut kept: Vec<u32> = list[..count].iter().map(|c| c.token).collect();
            let mut wanted: Vec<u32> = sorted[..count].iter().map(|c| c.token).collect();
            kept.sort_unstable();
            wanted.sort_unstable();
            prop_assert_eq!(kept, wanted);
        }

        #[test]
        fn what_is_gathered_is_a_prefix_of_the_most_likely(
            logits in prop::collection::vec(prop::sample::select(vec![-1.0f32, 0.0, 1.0, 2.0, f32::NEG_INFINITY]), 1..2000),
            count in 1usize..12,
        ) {
            let maxima: Vec<f32> =
                logits.chunks(CHUNK).map(|c| c.iter().copied().fold(f32::NEG_INFINITY, f32::max)).collect();
            let mut candidates = Candidates::default();
            candidates.gather(&logits, &maxima, f32::MIN, count);
            let finite = logits.iter().filter(|l| l.is_finite()).count();
            prop_assert!(candidates.list.len() >= count.min(finite));
            let least = candidates.list.iter().map(|c| c.logit).fold(f32::INFINITY, f32::min);
            let expected = logits.iter().filter(|l| l.is_finite() && **l >= least).count();
            prop_assert_eq!(candidates.list.len(), expected);
        }
    }
}
