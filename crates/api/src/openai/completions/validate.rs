//! Rules of text completions that concern no sampling.

use crate::{ApiError, Limits, Prompt};

/// Checks number and size of the prompts.
pub(super) fn validate_prompts(prompts: &[Prompt], n: i64, limits: &Limits) -> Result<(), ApiError> {
    if prompts.is_empty() {
        return Err(ApiError::invalid("prompt", "`prompt` must be provided and non-empty."));
    }
    let n = usize::try_from(n).unwrap_or(0);
    let sequences = prompts.len().saturating_mul(n);
    if sequences > limits.max_sequences {
        let message = format!(
            "{} prompts with n={n} make {sequences} sequences; one request may have at most {}.",
            prompts.len(),
            limits.max_sequences
        );
        return Err(ApiError::invalid("prompt", message));
    }
    for prompt in prompts {
        validate_prompt(prompt, limits)?;
    }
    Ok(())
}

fn validate_prompt(prompt: &Prompt, limits: &Limits) -> Result<(), ApiError> {
    let most = limits.max_prompt_chars;
    match prompt {
        Prompt::Tokens(ids) if ids.is_empty() => {
            Err(ApiError::invalid("prompt", "The decoder prompt cannot be empty."))
        }
        Prompt::Text(text) if text.chars().nth(most).is_some() => {
            let message = format!("A prompt may hold at most {most} characters.");
            Err(ApiError::invalid("prompt", message))
        }
        Prompt::Gap { before, after } if before.chars().chain(after.chars()).nth(most).is_some() => {
            let message = format!("Prompt and suffix may hold at most {most} characters together.");
            Err(ApiError::invalid("suffix", message))
        }
        _ => Ok(()),
    }
}
