//! The server over real HTTP with a scripted engine behind it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::needless_pass_by_value,
    reason = "a test may fail, and reads better without borrows"
)]

mod answers;
mod anthropic;
mod batches;
mod calls;
mod connections;
mod failures;
mod keys;
mod ollama;
mod pooling;
mod refusals;
mod registry;
mod responses;
mod stored;
mod structured;
mod support;
mod surroundings;
