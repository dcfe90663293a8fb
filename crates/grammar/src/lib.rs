//! Grammars for structured output: a [`Source`] is compiled once for a model's [`Vocabulary`], and then says, token by
//! token, how an answer may go on ([`Constraint`](millrace_types::Constraint)).
//!
//! Compiling and matching are llguidance's: an Earley parser over a lexer of regular-expression derivatives, with token
//! masks from a walk over the trie of the vocabulary. This crate says what goes in (schemas are checked and bounded,
//! other notations become its Lark dialect), how long it may take, and what is kept.
//!
//! ```
//! use millrace_grammar::{Grammars, Source, Vocabulary, Whitespace};
//! use millrace_types::Constraint;
//!
//! let grammars = Grammars::new(|| {
//!     let bytes = (0..=255).map(|byte| vec![byte]).chain([vec![]]).collect();
//!     let encode = |text: &str| text.bytes().map(u32::from).collect();
//!     Vocabulary::new(bytes, vec![(256, "<eos>".into())], vec![256], encode)
//! });
//! let schema = serde_json::json!({"type": "boolean"});
//! let found = grammars.get(&Source::Json { schema, whitespace: Whitespace::None })?;
//! let mut constraint = found.grammar.start();
//! let mut mask = [0; 9];
//! constraint.mask(&mut mask)?;
//! let allowed: Vec<u8> = (0..=255).filter(|b| mask[*b as usize / 32] >> (b % 32) & 1 == 1).collect();
//! assert_eq!(allowed, b"ft");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod cache;
mod compile;
mod ebnf;
mod error;
mod lark;
mod matching;
mod reasoning;
mod schema;
mod source;
mod vocabulary;
mod warm;

pub use cache::{Found, Grammars};
pub use compile::Grammar;
pub use error::GrammarError;
pub use lark::regex_escape;
pub use reasoning::{AfterReasoning, ReasoningTokens};
pub use schema::{format_pattern, is_deeper};
pub use source::{Expr, Source, Tag, TextRules, Whitespace};
pub use vocabulary::Vocabulary;
