//! Finds tool calls and reasoning in what a model writes, while it writes.
//!
//! ```
//! # use std::sync::Arc;
//! use millrace_parse::{Event, Families, Start, Tools};
//!
//! let families = Families::named(Some("hermes"), Some("qwen3"))?;
//! let mut parser = families.parser(Arc::new(Tools::unknown()), Start::Content, 1);
//! let mut events = Vec::new();
//! parser.push("<think>Hm.</think>Let me look.\n<tool_call>{\"name\": \"f\", \"argu", &mut events);
//! assert_eq!(events, [Event::Reasoning("Hm.".into()), Event::Text("Let me look.".into())]);
//! parser.push("ments\": {\"a\": 1}}</tool_call>", &mut events);
//! parser.finish(&mut events);
//! assert_eq!(events[3], Event::ToolArguments { index: 0, delta: "{\"a\": 1}".into() });
//! # Ok::<(), millrace_parse::ParseError>(())
//! ```
//!
//! Each model family has a format; a format is data ([`Families`] picks it by name, [`detect`] by the chat template), and
//! one grammar reads them all. It is written as `async` functions over the characters, so it can't tell how the text
//! was cut: a streamed answer and a whole one are the same by construction. It reads each character a bounded number of
//! times and keeps none that is certain, whatever the model writes.
//!
//! To add a family: an entry in a file of `families/`, a line in its list, rows in `tests/matrix.rs` (or
//! `tests/reasoning.rs`), a rule in `detect.rs`.

mod call;
mod detect;
mod error;
mod event;
mod families;
mod grammar;
mod harmony;
mod history;
mod json;
mod literal;
mod output;
mod parser;
mod scalar;
mod scan;
mod shape;
mod text;
mod tools;
mod watch;
mod written;

pub use detect::{Detected, detect};
pub use error::ParseError;
pub use event::{Answer, Call, Event};
pub use families::{reasoning_parsers, tool_parsers};
pub use history::{ArgumentsForm, arguments_form};
pub use parser::{Families, Parser, Start};
pub use shape::{ArgumentsShape, CallId, CallShape, CallSigns, MemberShape, ValueShape};
pub use tools::Tools;
pub use watch::{Spot, Watch};
pub use written::{Parameter, Parameters, Written, parameters};
