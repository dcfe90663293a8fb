#![no_main]

#[macro_use]
#[path = "../fuzz.rs"]
mod fuzz;

fuzz!("classes");
