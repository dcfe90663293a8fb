/// What can be wrong with what a parser is made from. Parsing itself never fails.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// No family has this name.
    #[error("there is no {kind} parser `{name}`; take one of {known}, or `none`")]
    UnknownParser {
        /// `tool-call` or `reasoning`.
        kind: &'static str,
        /// The name asked for.
        name: String,
        /// The names that exist.
        known: String,
    },
    /// The request's tools aren't a list of function definitions.
    #[error("tool {index} is not a function definition: {reason}")]
    BadTool {
        /// Place in the list, from 0.
        index: usize,
        /// What is missing.
        reason: &'static str,
    },
    /// A tool's parameters can't be written one by one so that they surely fit the schema.
    #[error("its parameters can't be held to their schema in this model's format: {0}")]
    Unwritable(String),
}
