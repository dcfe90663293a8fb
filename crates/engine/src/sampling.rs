//! A sequence's sampling state: turns its parameters and history into one [`SampleSpec`] per step.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
};

use millrace_backend::{Batch, Penalties, SampleKind, SampleSpec, Span, TokenCount};
use millrace_types::{SamplingParams, TokenId};

use crate::thinking::{Next, Thinking};

/// What sampling remembers about one sequence.
#[derive(Debug)]
pub(crate) struct SamplingState {
    params: SamplingParams,
    seed: u64,
    /// Tokens under a penalty; empty unless a penalty is on.
    seen: Vec<TokenCount>,
    /// Where each token stands in `seen`.
    seen_index: HashMap<TokenId, usize>,
    /// `allowed_token_ids` as a bit mask over the vocabulary; empty allows everything.
    mask: Vec<u32>,
    vocab_size: usize,
    thinking: Option<Thinking>,
}

impl SamplingState {
    /// `fallback_seed` is used if the request brings none.
    pub(crate) fn new(
        params: SamplingParams,
        prompt: &[TokenId],
        vocab_size: usize,
        fallback_seed: u64,
    ) -> Self {
        let mask = params.allowed_token_ids.as_deref().map(|allowed| bit_mask(allowed, vocab_size));
        let thinking = params.thinking.clone().map(Thinking::new);
        let seed = params.seed.unwrap_or(fallback_seed);
        let mut state = Self {
            params,
            seed,
            seen: Vec::new(),
            seen_index: HashMap::new(),
            mask: mask.unwrap_or_default(),
            vocab_size,
            thinking,
        };
        if state.params.repetition_penalty != 1.0 {
            for token in prompt {
                state.note(*token, 0);
            }
        }
        state
    }

    pub(crate) fn params(&self) -> &SamplingParams {
        &self.params
    }

    /// Counts a token that was appended to the output.
    pub(crate) fn append(&mut self, token: TokenId) {
        let p = &self.params;
        if p.repetition_penalty != 1.0 || p.frequency_penalty != 0.0 || p.presence_penalty != 0.0 {
            self.note(token, 1);
        }
        if let Some(thinking) = &mut self.thinking {
            thinking.append(token);
        }
    }

    /// What the limit on reasoning says about the next token.
    fn next(&self) -> Next<'_> {
        self.thinking.as_ref().map_or(Next::Free, Thinking::next)
    }

    /// The tokens that the request allows; empty allows everything.
    fn own_mask(&self) -> Cow<'_, [u32]> {
        match self.next() {
            Next::OneOf(tokens) => bit_mask(tokens, self.vocab_size).into(),
            Next::Free | Next::Only(_) => Cow::Borrowed(&self.mask),
        }
    }

    fn note(&mut self, token: TokenId, generated: u32) {
        let index = *self.seen_index.entry(token).or_insert_with(|| {
            self.seen.push(TokenCount { token, generated: 0 });
            self.seen.len() - 1
        });
        self.seen[index].generated += generated;
    }

    /// The spec that samples the next token from logits row `row`; `output` is what was generated so far. If the sequence
    /// is `constrained`, its mask is left empty, for [`constrain`](Self::constrain). `None` if no token is left.
    pub(crate) fn sample(
        &self,
        row: u32,
        output: &[TokenId],
        constrained: bool,
        batch: &mut Batch,
    ) -> Option<SampleSpec> {
        let p = &self.params;
        if let Next::Only(token) = self.next() {
            // Nothing else counts: no ban and no bias may stand in the way of the only token that is allowed.
            return Some(SampleSpec {
                mask: append(&mut batch.masks, &bit_mask(&[token], self.vocab_size)),
                logprobs: p.logprobs.map(|n| n as u32),
                ..SampleSpec::greedy(row)
            });
        }
        let banned = self.ban(output, &mut batch.banned);
        let mask = match constrained {
            true => self.room(batch),
            false => append(&mut batch.masks, &self.own_mask()),
        };
        if !constrained && !self.is_possible(mask.of(&batch.masks), banned.of(&batch.banned)) {
            return None;
        }
        Some(SampleSpec {
            temperature: p.temperature,
            top_k: p.top_k,
            top_p: p.top_p,
            min_p: p.min_p,
            typical_p: p.typical_p,
            uniform: uniform(self.seed, output.len() as u64),
            penalties: Penalties {
                repetition: p.repetition_penalty,
                frequency: p.frequency_penalty,
                presence: p.presence_penalty,
            },
            banned,
            seen: append(&mut batch.seen, &self.seen),
            bias: append(&mut batch.bias, &p.logit_bias),
            mask,
            logprobs: p.logprobs.map(|n| n as u32),
            ..SampleSpec::greedy(row)
        })
    }

    /// Room for the mask of a spec.
    pub(crate) fn room(&self, batch: &mut Batch) -> Span {
        let (start, words) = (batch.masks.len(), self.vocab_size.div_ceil(32));
        batch.masks.resize(start + words, 0);
        Span { start: start as u32, len: words as u32 }
    }

    /// Adds the tokens that must not come next.
    fn ban(&self, output: &[TokenId], banned: &mut Vec<TokenId>) -> Span {
        let p = &self.params;
        let start = banned.len();
        if self.next() != Next::Free {
            return Span { start: start as u32, len: 0 };
        }
        if output.len() < p.min_tokens {
            banned.extend(p.eos_token_ids.iter().chain(&p.stop_token_ids));
        }
        banned.extend(p.bad_words.iter().filter_map(|word| {
            let (last, prefix) = word.split_last()?;
            output.ends_with(prefix).then_some(*last)
        }));
        Span { start: start as u32, len: (banned.len() - start) as u32 }
    }

    /// Fills in the mask of a spec that [`sample`](Self::sample) left empty: what both the parameters and the constraint
    /// allow. False if no token is left.
    pub(crate) fn constrain(&self, spec: &SampleSpec, constraint: &[u32], batch: &mut Batch) -> bool {
        let next = self.next();
        if matches!(next, Next::Only(_)) {
            return true;
        }
        let mask = &mut batch.masks[spec.mask.start as usize..][..spec.mask.len as usize];
        mask.copy_from_slice(constraint);
        let own = self.own_mask();
        let both = || constraint.iter().zip(&*own).map(|(word, own)| word & own);
        // The format has the last word on how the answer goes on behind reasoning.
        if next == Next::Free || both().any(|word| word != 0) {
            mask.iter_mut().zip(both()).for_each(|(word, both)| *word = both);
        }
        self.is_possible(mask, spec.banned.of(&batch.banned))
    }

    /// Whether a token is left that `mask` allows (an empty one allows all) and that isn't among `banned`.
    fn is_possible(&self, mask: &[u32], banned: &[TokenId]) -> bool {
        let bit = |token: TokenId| 1u32 << (token % 32);
        let distinct = || banned.iter().collect::<HashSet<_>>();
        if mask.is_empty() {
            // A few bans can't cover a vocabulary.
            return banned.len() < self.vocab_size || distinct().len() < self.vocab_size;
        }
        let allowed: u32 = mask.iter().map(|word| word.count_ones()).sum();
        if allowed as usize > banned.len() {
            return true;
        }
        let lost = distinct();
        let lost = lost.iter().filter(|token| mask[***token as usize / 32] & bit(***token) != 0);
        lost.count() < allowed as usize
    }

    /// Whether tokens may be appended without sampling: nothing that the request asked for could forbid one, or
    /// wants to know its probability.
    pub(crate) fn may_force(&self) -> bool {
        let p = &self.params;
        p.logprobs.is_none() && p.bad_words.is_empty() && self.mask.is_empty()
    }

    /// Whether a token may be sampled before its constraint has had its say, because sampling again gives what sampling
    /// later would have given.
    pub(crate) fn may_try(&self) -> bool {
        self.params.is_greedy() && self.params.logprobs.is_none() && self.thinking.is_none()
    }
}

/// The spec that reports the log-probability of a prompt token from the row before it.
pub(crate) fn score(row: u32, token: TokenId, logprobs: usize) -> SampleSpec {
    SampleSpec { kind: SampleKind::Score(token), logprobs: Some(logprobs as u32), ..SampleSpec::greedy(row) }
}

/// A bit for each of these tokens, which are below `vocab_size`.
fn bit_mask(tokens: &[TokenId], vocab_size: usize) -> Vec<u32> {
    let mut mask = vec![0u32; vocab_size.div_ceil(32)];
    for token in tokens {
        mask[*token as usize / 32] |= 1 << (token % 32);
    }
    mask
}

fn append<T: Clone>(array: &mut Vec<T>, part: &[T]) -> Span {
    let start = array.len() as u32;
    array.extend_from_slice(part);
    Span { start, len: part.len() as u32 }
}

/// A number in [0, 1) with 24 random bits, a pure function of the seed and the output index.
fn uniform(seed: u64, index: u64) -> f32 {
    (mix(mix(seed).wrapping_add(index)) >> 40) as f32 / (1u64 << 24) as f32
}

/// SplitMix64's finaliser over one increment (Steele, Lea and Flood 2014).
pub(crate) fn mix(x: u64) -> u64 {
    let mut z = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use millrace_types::ThinkingLimit;

    use super::*;
    use crate::thinking::tests::Between;

    fn state(params: SamplingParams, prompt: &[TokenId]) -> SamplingState {
        SamplingState::new(params, prompt, 40, 0)
    }

    #[test]
    fn the_same_seed_and_index_give_the_same_number() {
        assert_eq!(uniform(7, 3).to_bits(), uniform(7, 3).to_bits());
        assert_ne!(uniform(7, 3).to_bits(), uniform(7, 4).to_bits());
        let mean: f32 = (0..4000).map(|i| uniform(1, i)).sum::<f32>() / 4000.0;
        assert!((mean - 0.5).abs() < 0.02, "{mean}");
    }

    #[test]
    fn multi_token_bad_words_ban_only_their_last_token_after_the_prefix() {
        let params = SamplingParams { bad_words: vec![vec![9], vec![4, 5, 6]], ..SamplingParams::default() };
        let state = state(params, &[1]);
        let mut batch = Batch::default();
        state.sample(0, &[4], false, &mut batch);
        assert_eq!(batch.banned, [9]);
        batch.clear();
        state.sample(0, &[1, 4, 5], false, &mut batch);
        assert_eq!(batch.banned, [9, 6]);
    }

    #[test]
    fn stop_tokens_are_banned_until_min_tokens() {
        let params = SamplingParams {
            min_tokens: 2,
            eos_token_ids: vec![3],
            stop_token_ids: vec![8],
            ..SamplingParams::default()
        };
        let state = state(params, &[1]);
        let mut batch = Batch::default();
        assert_eq!(state.sample(0, &[5], false, &mut batch).unwrap().banned.of(&batch.banned), [3, 8]);
        batch.clear();
        assert_eq!(state.sample(0, &[5, 5], false, &mut batch).unwrap().banned.len, 0);
    }

    #[test]
    fn repetition_counts_prompt_and_output_the_others_output_only() {
        let params =
            SamplingParams { repetition_penalty: 1.2, presence_penalty: 1.0, ..SamplingParams::default() };
        let mut both = state(params, &[1, 2, 1]);
        both.append(2);
        both.append(2);
        let seen = [TokenCount { token: 1, generated: 0 }, TokenCount { token: 2, generated: 2 }];
        assert_eq!(both.seen, seen);
        let mut output = state(SamplingParams { frequency_penalty: 1.0, ..SamplingParams::default() }, &[1]);
        output.append(2);
        assert_eq!(output.seen, [TokenCount { token: 2, generated: 1 }]);
    }

    /// A limit that is used up, with bans of all that it asks for.
    fn closing() -> SamplingState {
        let follow = Box::new(Between { open: &[30], close: &[33], inside: true, seen: vec![] });
        let limit = ThinkingLimit { budget: 0, follow, close: vec![33], then: vec![5, 34] };
        let bad_words = vec![vec![33], vec![5]];
        let allowed_token_ids = Some(vec![1]);
        state(
            SamplingParams {
                thinking: Some(limit),
                bad_words,
                allowed_token_ids,
                ..SamplingParams::default()
            },
            &[1],
        )
    }

    #[test]
    fn no_ban_stands_in_the_way_out_of_reasoning() {
        let mut state = closing();
        for (token, masks) in [(33, [0, 1 << 1]), (5, [1 << 5, 1 << 2]), (1, [1 << 1, 0])] {
            let mut batch = Batch::default();
            let spec = state.sample(0, &[], false, &mut batch).unwrap();
            assert_eq!(batch.masks, masks);
            assert_eq!(spec.banned.len, if token == 1 { 2 } else { 0 });
            state.append(token);
        }
    }

    #[test]
    fn behind_reasoning_a_format_counts() {
        let masks = |state: &SamplingState, constraint: [u32; 2]| {
            let mut batch = Batch::default();
            let spec = state.sample(0, &[], true, &mut batch).unwrap();
            assert!(state.constrain(&spec, &constraint, &mut batch));
            [batch.masks[0], batch.masks[1]]
        };
        let mut state = closing();
        assert_eq!(masks(&state, [1 << 5, 0]), [0, 1 << 1]);
        state.append(33);
        assert_eq!(masks(&state, [1 << 5 | 1 << 6, 0]), [1 << 5, 0]);
        assert_eq!(masks(&state, [1 << 7, 0]), [1 << 7, 0]);
    }

    #[test]
    fn allowed_tokens_become_a_bit_mask() {
        let params = SamplingParams { allowed_token_ids: Some(vec![0, 33]), ..SamplingParams::default() };
        assert_eq!(state(params, &[1]).mask, [1, 2]);
    }

    #[test]
    fn masks_are_joined() {
        let allowed = SamplingParams { allowed_token_ids: Some(vec![1, 2, 33]), ..SamplingParams::default() };
        let mut batch = Batch { masks: vec![7], ..Batch::default() };
        let state = state(allowed, &[1]);
        let spec = state.sample(0, &[], true, &mut batch).unwrap();
        assert!(state.constrain(&spec, &[0b101, 0b11], &mut batch));
        assert_eq!(batch.masks, [7, 0b100, 0b10]);
    }

    #[test]
    fn nothing_left_to_sample_is_noticed() {
        let left = |params: SamplingParams, output: &[TokenId], constraint: Option<&[u32]>| {
            let (state, mut batch) = (state(params, &[1]), Batch::default());
            let spec = state.sample(0, output, constraint.is_some(), &mut batch);
            spec.is_some_and(|spec| constraint.is_none_or(|mask| state.constrain(&spec, mask, &mut batch)))
        };
        let words =
            || SamplingParams { bad_words: vec![vec![4, 5], vec![6], vec![6]], ..SamplingParams::default() };
        let (five, five_six, six) = (&[1 << 5, 0][..], &[3 << 5, 0][..], &[1 << 6, 0][..]);
        assert!(left(words(), &[1], Some(five)) && !left(words(), &[4], Some(five)));
        assert!(left(words(), &[1], Some(five_six)) && !left(words(), &[4], Some(five_six)));
        assert!(
            !left(words(), &[], Some(six)) && !left(words(), &[], Some(&[0, 0])) && left(words(), &[], None)
        );
        let only = SamplingParams { allowed_token_ids: Some(vec![5]), ..words() };
        assert!(left(only.clone(), &[1], None) && !left(only, &[4], None));
        let early = SamplingParams { min_tokens: 2, eos_token_ids: vec![6], ..SamplingParams::default() };
        assert!(!left(early.clone(), &[1], Some(six)) && left(early, &[1, 1], Some(six)));
        let all =
            SamplingParams { bad_words: (0..40).map(|t| vec![t]).collect(), ..SamplingParams::default() };
        assert!(!left(all, &[], None));
    }
}
