//! The part of a step that concerns constraints.

use millrace_backend::BackendError;
use millrace_types::{FinishReason, RequestId};

use crate::{
    constrained::{After, Constrained},
    generation::Generation,
    masks::{Job, News, What},
    work::{Desk, Work},
};

/// Tokens that a constraint may add to a step's sampled one. What is beyond follows behind the next sampled token.
const MAX_FORCED: usize = 64;

impl Generation {
    /// Has the masks computed of those sequences of the plan that sample for the first time. Later ones come with each
    /// token.
    pub(crate) fn start_first_masks(&mut self, desk: &mut Desk) {
        let is_host = self.runner.is_host();
        for seq in self.sched.planned().seqs.iter().filter(|seq| seq.samples) {
            let Some(entry) = desk.ledger.get_mut(seq.id) else { continue };
            let may_try = is_host && entry.sampling.may_try();
            let missing = |constrained: &mut Box<Constrained>| {
                if !constrained.is_ready() {
                    constrained.choose(may_try);
                }
                !constrained.is_ready()
            };
            let waiting = entry.constrained.take_if(missing);
            self.jobs.extend(waiting.map(|constrained| Job { id: seq.id, constrained, after: None }));
        }
        self.masks.start(&mut self.jobs);
    }

    /// Shows the step's tokens to the constraints of their sequences, and samples those anew that are refused. Afterwards
    /// the ledger knows what they force, and the masks of the next step are being computed.
    ///
    /// # Errors
    /// The device failed.
    pub(crate) fn advance_constraints(&mut self, desk: &mut Desk) -> Result<(), BackendError> {
        self.advance(desk, &|_| true);
        let refused = std::mem::take(&mut self.refused);
        if !refused.is_empty() {
            self.runner.retry(&refused, &desk.ledger)?;
            self.close_stuck(desk);
            self.advance(desk, &|id| refused.contains(&id));
        }
        Ok(())
    }

    /// The same for some of the sequences, without a second try.
    fn advance(&mut self, desk: &mut Desk, chosen: &dyn Fn(RequestId) -> bool) {
        let max_model_len = self.sched.config().max_model_len;
        let is_host = self.runner.is_host();
        for (id, token) in self.runner.sampled().filter(|(id, _)| chosen(*id)) {
            let Some(entry) = desk.ledger.get_mut(id) else { continue };
            let count = entry.output.len() + 1;
            let ends = entry.finish_at(token, count, max_model_len).is_some();
            let room = entry.most_tokens(max_model_len).saturating_sub(count);
            let most_forced = if entry.sampling.may_force() && !ends { room.min(MAX_FORCED) } else { 0 };
            let may_try = is_host && entry.sampling.may_try();
            // The last token of a sequence concerns its constraint only if it was sampled without its mask.
            let concerned = entry.constrained.take_if(|constrained| !ends || constrained.is_tried());
            let after = Some(After { token, most_forced, may_try, ends });
            self.jobs.extend(concerned.map(|constrained| Job { id, constrained, after }));
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
                What::Advanced(forced, back) => {
                    if let Some(entry) = entry {
                        entry.forced = forced;
                    }
                    back.into_iter().for_each(|back| self.put_back(desk, id, back));
                }
                What::Refused(back) => {
                    self.put_back(desk, id, back);
                    self.refused.push(id);
                }
                What::Masked(back) => self.put_back(desk, id, back),
                What::Failed(error) | What::MaskFailed(error) => {
                    self.close(desk, id, FinishReason::Error, Some(error));
                }
            }
        }
    }

    fn put_back(&mut self, desk: &mut Desk, id: RequestId, mut constrained: Box<Constrained>) {
        desk.stats.note_mask(constrained.take_time());
        if let Some(entry) = desk.ledger.get_mut(id) {
            entry.constrained = Some(constrained);
        }
    }
}
