//! Stands in for the engine: says what the input wants to be said, as far as the request's format admits it.

use std::sync::{Arc, Mutex, atomic::Ordering};

use millrace_engine::{Command, EngineInfo, EnginePort, Inspection};
use millrace_types::{
    Constraint, Finish, FinishReason, Request, RequestOutput, TokenId, TokenLogprobs, Usage,
};
use tokio::sync::mpsc::UnboundedSender;

use crate::asked;

/// Tokens of an answer that has nothing of its own to say any more, until it wants to end.
const SOON: usize = 32;

/// Tokens after which an answer ends in any case.
const MOST: usize = 256;

/// Answers requests until the server is gone.
///
/// # Panics
/// If a request asks for what no server may let through.
pub(crate) async fn run(mut port: EnginePort, info: EngineInfo, script: Arc<Mutex<Vec<TokenId>>>) {
    while let Some(command) = port.commands.recv().await {
        match command {
            Command::Submit(request, outputs) => {
                port.queued.fetch_sub(1, Ordering::AcqRel);
                asked::check(&request, &info);
                match &info.pooling {
                    Some(pooling) => pool(&request, pooling.dim, &outputs),
                    None => Answer::new(*request, script.lock().unwrap().clone(), &info).run(&outputs),
                }
            }
            Command::Abort(_) => {}
            Command::Inspect(reply) => drop(reply.send(Inspection::default())),
            Command::DropCache(reply) => drop(reply.send(0)),
            Command::Drain | Command::Shutdown => return,
        }
    }
}

/// Elements between -1 and 1 that depend on the text.
fn pool(request: &Request, dim: usize, outputs: &UnboundedSender<RequestOutput>) {
    let element = |i: usize| (request.prompt[i % request.prompt.len()] as f32 + i as f32).sin();
    let usage = Usage { prompt_tokens: request.prompt.len(), ..Usage::default() };
    let finish = Some(Finish { reason: FinishReason::Stop, stop_token: None });
    let pooled = (0..dim).map(element).collect();
    let _ = outputs.send(RequestOutput { pooled, finish, usage, ..RequestOutput::default() });
}

/// One answer in the making.
struct Answer {
    request: Request,
    script: Vec<TokenId>,
    vocab_size: usize,
    made: usize,
}

impl Answer {
    fn new(request: Request, script: Vec<TokenId>, info: &EngineInfo) -> Self {
        Self { request, script, vocab_size: info.vocab_size, made: 0 }
    }

    fn run(mut self, outputs: &UnboundedSender<RequestOutput>) {
        let prompt_logprobs = self.request.sampling.prompt_logprobs.map(|count| self.prompt_scores(count));
        let mut output = RequestOutput { prompt_logprobs, ..RequestOutput::default() };
        if self.request.sampling.max_tokens == 0 {
            output.finish = Some(Finish { reason: FinishReason::Length, stop_token: None });
            output.usage = self.usage();
            let _ = outputs.send(output);
            return;
        }
        loop {
            match self.next() {
                Ok(token) => self.add(token, &mut output),
                Err(error) => {
                    output.error = Some(error);
                    output.finish = Some(Finish { reason: FinishReason::Error, stop_token: None });
                }
            }
            let ended = output.finish.is_some();
            // A client that is gone is no error.
            if outputs.send(std::mem::take(&mut output)).is_err() || ended {
                return;
            }
        }
    }

    fn add(&mut self, token: TokenId, output: &mut RequestOutput) {
        self.made += 1;
        output.tokens.push(token);
        output.logprobs.extend(self.request.sampling.logprobs.map(|count| score(token, count)));
        output.finish = self.finish(token);
        output.usage = self.usage();
    }

    fn usage(&self) -> Usage {
        Usage { prompt_tokens: self.request.prompt.len(), cached_tokens: 0, completion_tokens: self.made }
    }

    fn finish(&self, token: TokenId) -> Option<Finish> {
        let sampling = &self.request.sampling;
        let finish = |reason, stop_token| Some(Finish { reason, stop_token });
        if sampling.eos_token_ids.contains(&token) {
            finish(FinishReason::Stop, None)
        } else if sampling.stop_token_ids.contains(&token) {
            finish(FinishReason::Stop, Some(token))
        } else if self.made >= sampling.max_tokens.min(MOST) {
            finish(FinishReason::Length, None)
        } else {
            None
        }
    }

    /// What the script wants, and the end when it is over.
    fn wanted(&self) -> TokenId {
        let end = self.request.sampling.eos_token_ids.first();
        self.script.get(self.made).or(end).copied().unwrap_or(0)
    }

    fn next(&mut self) -> Result<TokenId, String> {
        let wanted = self.wanted();
        let (made, ends) = (self.made, self.request.sampling.eos_token_ids.clone());
        let Some(constraint) = self.request.constraint.as_mut() else { return Ok(wanted) };
        let mut mask = vec![0u32; self.vocab_size.div_ceil(32)];
        constraint.mask(&mut mask).map_err(|error| error.to_string())?;
        let token = choose(&mask, wanted, made, &ends);
        check_admission(constraint.as_ref(), &mask, wanted);
        if !ends.contains(&token) {
            constraint.commit(token).expect("a token of the mask can be committed");
        }
        Ok(token)
    }

    fn prompt_scores(&self, count: usize) -> Vec<Option<TokenLogprobs>> {
        let scored = self.request.prompt.iter().skip(1).map(|token| Some(score(*token, count)));
        std::iter::once(None).chain(scored).collect()
    }
}

fn is_set(mask: &[u32], token: TokenId) -> bool {
    mask[token as usize / 32] >> (token % 32) & 1 == 1
}

/// A token that the mask has: the wanted one if possible, the end if it has gone on for long, any other one else.
fn choose(mask: &[u32], wanted: TokenId, made: usize, ends: &[TokenId]) -> TokenId {
    let end = ends.iter().copied().find(|end| is_set(mask, *end));
    let size = mask.len() * 32;
    // Different places lead to different answers.
    let from = wanted as usize * 31 + made * 7919;
    let mut others = (0..size).map(|step| ((from + step) % size) as TokenId);
    if is_set(mask, wanted) {
        wanted
    } else if let Some(end) = end.filter(|_| made >= SOON) {
        end
    } else {
        others.find(|token| is_set(mask, *token)).expect("a mask has a token")
    }
}

/// What is admitted without a mask is what the mask has.
fn check_admission(constraint: &dyn Constraint, mask: &[u32], token: TokenId) {
    if let Ok(Some(admitted)) = constraint.fork().admit(token) {
        assert_eq!(admitted, is_set(mask, token), "token {token} is admitted against the mask");
    }
}

/// The token is the second best.
fn score(token: TokenId, count: usize) -> TokenLogprobs {
    let others =
        (0..count as TokenId).filter(|other| *other != token).map(|other| (other, -2.0 - other as f32));
    let top = [(token, -0.5)].into_iter().chain(others).take(count).collect();
    TokenLogprobs { token, logprob: -0.5, rank: 1, top }
}
