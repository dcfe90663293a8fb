//! Text at the edge of the engine: strings become tokens here, and tokens become strings again.
//!
//! - [`TextFiles`]: the tokenizer files of a model, from a folder or from memory.
//! - [`Tokenizer`]: text to token ids and back, and the bytes of a single token; prompts that ask for what is in a [`Gap`].
//! - [`Detokenizer`]: token ids to text, one at a time, never half a character.
//! - [`StopChecker`]: cuts a text stream at the first stop string.
//! - [`ChatTemplate`]: a conversation to a prompt, rendered as Hugging Face transformers renders it.
//!
//! Everything is plain computation: no I/O but [`TextFiles::from_folder`] and [`ChatTemplate::from_argument`].

mod detokenizer;
mod error;
mod files;
mod fill;
mod stop;
mod template;
mod tokenizer;
mod utf8;

pub use detokenizer::Detokenizer;
pub use error::TextError;
pub use files::TextFiles;
pub use fill::Gap;
pub use stop::StopChecker;
pub use template::{ChatTemplate, TemplateInput};
pub use tokenizer::{Tokenizer, WholeText};

/// Date and time of a place, as `strftime_now` of a chat template sees it.
pub use jiff::civil::DateTime;
