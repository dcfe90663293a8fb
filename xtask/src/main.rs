//! Chores of this repository: `cargo xtask check` and `cargo xtask quantize-demo SOURCE TARGET`.
#![allow(clippy::print_stdout, reason = "a chore reports on standard output")]

mod check;
mod quantize;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask COMMAND

  check                          Dependency direction, file sizes, flags in the docs, required files
  quantize-demo SOURCE TARGET    Make models/demo: an 8-bit copy of a model folder that MLX reads too";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = match args.as_slice() {
        ["check"] => check::run(&root()),
        ["quantize-demo", source, target] => quantize::run(Path::new(source), Path::new(target)),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The repository's root, which holds this crate's folder.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}
