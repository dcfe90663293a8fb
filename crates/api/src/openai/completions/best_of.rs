//! `best_of`: more texts are written than are shown.

use crate::{ApiError, Collected, Limits, collect::Choice, openai::body::CommonBody};

/// How many texts each prompt gets, and how many of them are shown: those with the highest mean log-probability of
/// their tokens, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BestOf {
    /// Written.
    pub(super) samples: i64,
    /// Shown; fewer.
    shown: i64,
}

impl BestOf {
    /// `None` if all that is written is shown.
    ///
    /// # Errors
    /// A 400 if more are to be shown than written, or if there is nothing to choose between, or no time for it.
    pub(super) fn read(common: &CommonBody, limits: &Limits) -> Result<Option<Self>, ApiError> {
        let shown = common.choices();
        let Some(samples) = common.best_of.map(|best_of| best_of.0).filter(|samples| *samples != shown)
        else {
            return Ok(None);
        };
        let refuse = |message: String| Err(ApiError::invalid("best_of", message));
        if shown < 1 {
            return Err(ApiError::invalid("n", format!("n must be at least 1, got {shown}.")));
        }
        if samples < shown {
            return refuse(format!("best_of must be at least n={shown}, got {samples}."));
        }
        if usize::try_from(samples).is_ok_and(|samples| samples > limits.max_sequences) {
            return refuse(format!("best_of must be at most {}, got {samples}.", limits.max_sequences));
        }
        if common.streams() {
            return refuse(
                "Which texts are best is known at their end: best_of above n can't be streamed.".into(),
            );
        }
        if common.is_greedy() {
            return refuse(format!("best_of must be n={shown} when using greedy sampling, got {samples}."));
        }
        Ok(Some(Self { samples, shown }))
    }

    /// The best texts of each prompt.
    pub(super) fn choose(self, mut answer: Collected) -> Collected {
        let [samples, shown] =
            [self.samples, self.shown].map(|count| usize::try_from(count).unwrap_or(1).max(1));
        let mut rest = answer.choices.into_iter();
        answer.choices = Vec::new();
        while rest.len() > 0 {
            let mut texts: Vec<Choice> = rest.by_ref().take(samples).collect();
            texts.sort_by(|a, b| score(b).total_cmp(&score(a)));
            answer.choices.extend(texts.into_iter().take(shown));
        }
        answer.start.samples = shown;
        answer
    }
}

/// The mean log-probability of a text's own tokens, without those of an echoed prompt.
fn score(choice: &Choice) -> f64 {
    let echoed = choice.logprobs.len().saturating_sub(choice.token_ids.len());
    let own = || choice.logprobs.iter().skip(echoed).filter_map(|scored| scored.logprob).map(f64::from);
    own().sum::<f64>() / own().count().max(1) as f64
}
