//! What happens around every handler.

mod access;
mod admin;
mod auth;
mod cors;
mod deadline;
mod panics;
mod rate;
mod request_id;
mod vendor;

pub(super) use access::access;
pub(super) use admin::admin;
pub(super) use auth::auth;
pub(super) use cors::cors;
pub(super) use panics::panics;
pub(super) use request_id::{RequestName, request_id};
pub(super) use vendor::{speaks_anthropic, vendor};
