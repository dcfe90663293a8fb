//! Vendor APIs as adapters over one neutral request and one neutral event stream.
//!
//! A vendor's JSON never leaves its adapter: [`openai`], [`anthropic`] and [`ollama`] each turn a body into a
//! [`GenerationRequest`] and a stream of [`ChatEvent`]s back into that vendor's JSON. Every endpoint is split the same way: `types` (the wire shapes),
//! `validate` (what is refused, and with which words), `convert` (to and from the neutral types), `stream` (the
//! server-sent events). A further vendor is a further folder; the neutral types stay as they are.
//!
//! Streaming is the only path: a whole answer is the [`Collected`] stream.

mod collect;
mod documents;
mod encoder;
mod error;
mod event;
mod fields;
mod history;
mod introspect;
mod json;
mod limits;
mod options;
mod pooling;
mod request;
mod server_tools;
mod structure;

pub mod anthropic;
pub mod ollama;
pub mod openai;

pub use collect::{Choice, Collected, Collector, ToolCall};
pub use documents::{StoredFile, file_ids, put_files};
pub use encoder::{Call, Encoder, Frame, ReplyHead};
pub use error::{ApiError, ErrorKind};
pub use event::{ChatEvent, Delta, End, EndReason, Part, Scored, Start, StopCause, TokenText};
pub use json::{Int, StringOrList, parse_body, read};
pub use limits::Limits;
pub use options::{
    GenerationOptions, Ignored, MaxTokensDefault, ModelLimits, SamplingDefaults, eos_token_ids,
    prompt_too_long,
};
pub use pooling::{PoolingAnswer, PoolingCall, PoolingOptions, PoolingReply, PoolingRequest, PoolingWork};
pub use request::{ChatInput, GenerationRequest, Input, Prompt, ToolChoice};
pub use server_tools::{
    Approval, ApprovedCall, Ask, CallApproval, ListedTool, RemoteServer, ServerCall, ServerCallNews,
    ServerChoice, ServerRule, ServerTools,
};
pub use structure::Structure;
