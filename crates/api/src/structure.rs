//! What a whole answer must be.

use millrace_grammar::Source;

use crate::ApiError;

/// A format that the answer is held to, and who asked for it.
#[derive(Debug, Clone, PartialEq)]
pub struct Structure {
    /// The format.
    pub source: Source,
    /// The request field, for error messages.
    pub param: String,
}

impl Structure {
    /// Checks what can be checked without compiling.
    ///
    /// # Errors
    /// A 400 that names the field.
    pub fn validate(&self) -> Result<(), ApiError> {
        self.source.check().map_err(|error| ApiError::invalid(&self.param, error.to_string()))
    }
}
