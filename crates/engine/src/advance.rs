//! The part of a step that concerns constraints.

use millrace_types::{FinishReason, RequestId};

use crate::{
    generation::Generation,
    masks::{After, Job, News, What},
    work::{Desk, Work},
};

/// Tokens that a constraint may add to a step's sampled one. What is beyond follows behind the next sampled token.
const MAX_FORCED: usize = 64;

impl Generation {
    /// Has the masks computed of those sequences of the plan that sample for the first time. Later ones come with each
    /// token.
    pub(crate) fn start_first_masks(&mut self, desk: &mut Desk) {
        for seq in self.sched.planned().seqs.iter().filter(|seq| seq.samples) {
            let entry = desk.ledger.get_mut(seq.id);
            let waiting = entry.and_then(|entry| entry.constrained.take_if(|c| !c.is_ready()));
            self.jobs.extend(waiting.map(|constrained| Job { id: seq.id, constrained, after: None }));
        }
        self.masks.start(&mut self.jobs);
    }

    /// Shows the step's tokens to the constraints of their sequences, unless the sequences end with them. Afterwards the
    /// ledger knows what they force, and the masks of the next step are being computed.
    pub(crate) fn advance_constraints(&mut self, desk: &mut Desk) {
        let max_model_len = self.sched.config().max_model_len;
        for (id, token) in self.runner.sampled() {
            let Some(entry) = desk.ledger.get_mut(id) else { continue };
            let count = entry.output.len() + 1;
            if entry.constrained.is_none() || entry.finish_at(token, count, max_model_len).is_some() {
                continue;
            }
            let room = entry.most_tokens(max_model_len) - count;
            let most_forced = if entry.sampling.may_force() { room.min(MAX_FORCED) } else { 0 };
            let after = Some(After { token, most_forced });
            self.jobs.extend(entry.constrained.take().map(|constrained| Job { id, constrained, after }));
        }
        self.masks.start(&mut self.jobs);
        self.masks.advance(&mut self.news);
        self.heed_news(desk);
    }

    /// Waits for the masks that are being computed.
    pub(crate) fn finish_masks(&mut self, desk: &mut Desk) {
        self.masks.finish(&mut self.news);
        self.heed_news(desk);
    }

    /// Ends the sequences for which no token is left.
    pub(crate) fn close_stuck(&mut self, desk: &mut Desk) {
        let stuck: Vec<RequestId> = self.runner.stuck().to_vec();
        for id in stuck {
            let message = "No token is left to sample: what the request's format, `bad_words`, `allowed_token_ids` and \
                           `min_tokens` allow has nothing in common here. Loosen one of them.";
            self.close(desk, id, FinishReason::Error, Some(message.to_owned()));
        }
    }

    fn heed_news(&mut self, desk: &mut Desk) {
        while let Some(News { id, what }) = self.news.pop() {
            // Whoever has ended meanwhile is unknown.
            let entry = desk.ledger.get_mut(id);
            match what {
                What::Advanced(Ok(forced)) => {
                    if let Some(entry) = entry {
                        entry.forced = forced;
                    }
                }
                What::Masked(Ok(mut constrained)) => {
                    desk.stats.note_mask(constrained.take_time());
                    if let Some(entry) = entry {
                        entry.constrained = Some(constrained);
                    }
                }
                What::Advanced(Err(error)) | What::Masked(Err(error)) => {
                    self.close(desk, id, FinishReason::Error, Some(error));
                }
            }
        }
    }
}
