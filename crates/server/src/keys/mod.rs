//! Keys: who may ask, for what, and how much.

mod bucket;
mod caller;
mod file;
mod key;
mod ring;

pub(crate) use bucket::Standing;
pub(crate) use caller::Caller;
pub use file::KeysFile;
#[cfg(test)]
pub(crate) use key::KeySpec;
pub(crate) use key::{Key, KeyCounts};
pub(crate) use ring::KeyRing;
