//! The part of a step that concerns constraints.

use millrace_types::{FinishReason, RequestId};

use crate::{
    core::EngineCore,
    masks::{Job, Step},
};

/// Tokens that a constraint may add to a step's sampled one. What is beyond follows behind the next sampled token.
const MAX_FORCED: usize = 64;

impl EngineCore {
    /// Sees to it that every sequence of the plan that samples has its mask. Later ones come with each token.
    pub(crate) fn first_masks(&mut self) {
        for seq in self.sched.planned().seqs.iter().filter(|seq| seq.samples) {
            let entry = self.ledger.get_mut(seq.id);
            let waiting = entry.and_then(|entry| entry.constrained.take_if(|c| !c.is_ready()));
            self.jobs.extend(waiting.map(|constrained| Job { id: seq.id, constrained, step: Step::Start }));
        }
        self.run_jobs();
    }

    /// Shows the step's tokens to the constraints of their sequences, unless the sequences end with them.
    pub(crate) fn advance_constraints(&mut self) {
        let max_model_len = self.sched.config().max_model_len;
        for (id, token) in self.runner.sampled() {
            let Some(entry) = self.ledger.get_mut(id) else { continue };
            let count = entry.output.len() + 1;
            if entry.constrained.is_none() || entry.finish_at(token, count, max_model_len).is_some() {
                continue;
            }
            let room = entry.most_tokens(max_model_len) - count;
            let most_forced = if entry.sampling.may_force() { room.min(MAX_FORCED) } else { 0 };
            let step = Step::After { token, most_forced };
            self.jobs.extend(entry.constrained.take().map(|constrained| Job { id, constrained, step }));
        }
        self.run_jobs();
    }

    /// Ends the sequences for which no token is left.
    pub(crate) fn close_stuck(&mut self) {
        let stuck: Vec<RequestId> = self.runner.stuck().to_vec();
        for id in stuck {
            let message = "No token is left to sample: what the request's format, `bad_words`, `allowed_token_ids` and \
                           `min_tokens` allow has nothing in common here. Loosen one of them.";
            self.close(id, FinishReason::Error, Some(message.to_owned()));
        }
    }

    fn run_jobs(&mut self) {
        self.masks.run(&mut self.jobs, &mut self.done);
        while let Some(done) = self.done.pop() {
            self.stats.note_mask(done.took);
            match (done.outcome, self.ledger.get_mut(done.id)) {
                (Ok(constrained), Some(entry)) => entry.constrained = Some(constrained),
                (Ok(_), None) => {}
                (Err(error), _) => self.close(done.id, FinishReason::Error, Some(error)),
            }
        }
    }
}
