//! What can go wrong between text and tokens.

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
pub enum TextError {
    /// A tokenizer file is not what it should be.
    #[error("{file} cannot be used: {reason}")]
    Tokenizer {
        /// Which file.
        file: String,
        /// Why.
        reason: String,
    },
    /// A text could not be encoded.
    #[error("the text could not be tokenized: {0}")]
    Encode(String),
    /// A chat template that does not parse.
    #[error("the chat template {name} is not valid: {reason}")]
    TemplateSyntax {
        /// Which one.
        name: String,
        /// Where and why.
        reason: String,
    },
    /// The template itself refused the conversation (`raise_exception`): the client's fault, with the template's words.
    #[error("{0}")]
    TemplateRefused(String),
    /// The template could not render this conversation.
    #[error("the chat template could not render this conversation: {0}")]
    TemplateRender(String),
    /// There is no chat template.
    #[error("this model has no chat template; give one with --chat-template or use /v1/completions")]
    NoTemplate,
}
