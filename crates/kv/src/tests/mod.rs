//! The real thing against naive twins, over random histories.

mod manager;
mod pool;
mod twin;
