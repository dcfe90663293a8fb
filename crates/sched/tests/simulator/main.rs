//! The scheduler in a simulator with a made-up device and a trivial cost model.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod check;
mod invariants;
mod scenarios;
mod sim;
mod workload;
