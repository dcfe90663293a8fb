//! A compiled grammar at work on one answer.

use std::{fmt, sync::Arc};

use llguidance::Matcher;
use millrace_types::{Constraint, ConstraintError, TokenId};

/// One answer's way through a grammar.
pub(crate) struct Matching {
    pub(crate) matcher: Matcher,
    /// Tokens that end an answer.
    pub(crate) ends: Arc<[TokenId]>,
}

impl fmt::Debug for Matching {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Matching").field("stopped", &self.matcher.is_stopped()).finish_non_exhaustive()
    }
}

impl Constraint for Matching {
    fn commit(&mut self, token: TokenId) -> Result<(), ConstraintError> {
        self.matcher.consume_token(token).map_err(|error| cannot_go_on(&error.to_string()))
    }

    fn admit(&mut self, token: TokenId) -> Result<Option<bool>, ConstraintError> {
        // Where text is forced, a mask wants it in the model's own tokens; other tokens may spell it too.
        if self.matcher.is_stopped() || !self.matcher.compute_ff_bytes().is_empty() {
            return Ok(None);
        }
        let taken = self.matcher.try_consume_tokens(&[token]);
        taken.map(|count| Some(count == 1)).map_err(|error| cannot_go_on(&error.to_string()))
    }

    fn fast_forward(&mut self, most: usize, out: &mut Vec<TokenId>) -> Result<(), ConstraintError> {
        if self.matcher.is_stopped() {
            return Ok(());
        }
        let mut forced = self.matcher.compute_ff_tokens();
        forced.truncate(most);
        // Ending is the sampler's business.
        if let Some(end) = forced.iter().position(|token| self.ends.contains(token)) {
            forced.truncate(end);
        }
        self.matcher.consume_tokens(&forced).map_err(|error| cannot_go_on(&error.to_string()))?;
        out.extend(forced);
        Ok(())
    }

    fn mask(&mut self, mask: &mut [u32]) -> Result<(), ConstraintError> {
        let allowed = self.matcher.compute_mask_or_eos().map_err(|error| cannot_go_on(&error.to_string()))?;
        let words = allowed.as_slice();
        let both = words.len().min(mask.len());
        mask[..both].copy_from_slice(&words[..both]);
        mask[both..].fill(0);
        Ok(())
    }

    fn fork(&self) -> Box<dyn Constraint> {
        // With caches of its own: what one answer costs and finds must not depend on others.
        Box::new(Self { matcher: self.matcher.deep_clone(), ends: self.ends.clone() })
    }
}

fn cannot_go_on(reason: &str) -> ConstraintError {
    ConstraintError(format!("The answer can't go on within its grammar: {}.", first_line(reason)))
}

/// The part of the compiler's message that is for people.
pub(crate) fn first_line(message: &str) -> String {
    const MOST: usize = 300;
    let line = message.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('<'));
    let line = line.unwrap_or("no reason was given").trim_end_matches(['.', ':']);
    // Where it is in the grammar that a schema was put into says nothing.
    let line = line.split_once("failed to compile JSON schema: ").map_or(line, |(_, reason)| reason);
    match line.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}
