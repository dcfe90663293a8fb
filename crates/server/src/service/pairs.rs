//! A query and a document as one text, for models whose template asks about them (Qwen3-Reranker and its like).

use millrace_api::ApiError;
use millrace_text::{ChatTemplate, TemplateInput, Tokenizer};
use millrace_types::TokenId;
use serde_json::{Value, json};

use super::prepare::text_error;

/// How often a document is shortened until the whole fits. Once does, unless a cut changes how its neighbours are
/// tokenized.
const TRIES: usize = 4;

/// What a model is asked about a document.
pub(super) struct Question<'a> {
    pub(super) template: &'a ChatTemplate,
    /// What the model is to look for; `None`: the template has words of its own.
    pub(super) instruction: Option<&'a str>,
    pub(super) query: &'a str,
}

impl Question<'_> {
    /// The tokens of the question about a document. If they are more than `most`, the document is shortened: what stands
    /// behind it is what the model answers.
    ///
    /// # Errors
    /// The template refuses the texts, or the rest alone is too long.
    pub(super) fn tokens(
        &self,
        tokenizer: &Tokenizer,
        document: &str,
        most: Option<usize>,
    ) -> Result<Vec<TokenId>, ApiError> {
        let encode = |text: &str| tokenizer.encode(text, false).map_err(|error| text_error(&error));
        let tokens = encode(&self.render(document)?)?;
        let Some(most) = most.filter(|most| tokens.len() > *most) else { return Ok(tokens) };
        let (mut excess, mut kept) = (tokens.len() - most, encode(document)?);
        for _ in 0..TRIES {
            let Some(left) = kept.len().checked_sub(excess) else { break };
            kept.truncate(left);
            let tokens = encode(&self.render(&tokenizer.decode(&kept, false))?)?;
            match tokens.len().checked_sub(most) {
                Some(more @ 1..) => excess = more,
                _ => return Ok(tokens),
            }
        }
        let message = format!(
            "truncate_prompt_tokens is {most}, and the query with what the model is told about it is longer."
        );
        Err(ApiError::invalid("truncate_prompt_tokens", message))
    }

    fn render(&self, document: &str) -> Result<String, ApiError> {
        let message = |role: &str, text: &str| json!({"role": role, "content": text});
        let messages: Vec<Value> = self
            .instruction
            .map(|instruction| message("system", instruction))
            .into_iter()
            .chain([message("query", self.query), message("document", document)])
            .collect();
        let input =
            TemplateInput { messages: &messages, add_generation_prompt: true, ..TemplateInput::default() };
        self.template.render(&input).map_err(|error| text_error(&error))
    }
}
