//! Quantizes a model folder: `cargo run --release -p millrace-weights --example quantize -- SOURCE TARGET BITS GROUP`.
//!
//! This is how `models/demo` and `models/demo-draft` were made.

use std::path::Path;
use std::process::ExitCode;

use millrace_weights::quantize::quantize_checkpoint;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [source, target, bits, group] = args.as_slice() else {
        eprintln!(
            "usage: quantize SOURCE TARGET BITS GROUP, for example: quantize models/dense models/q8 8 64"
        );
        return ExitCode::FAILURE;
    };
    let (Ok(bits), Ok(group)) = (bits.parse(), group.parse()) else {
        eprintln!("BITS and GROUP are whole numbers, for example 8 and 64");
        return ExitCode::FAILURE;
    };
    match quantize_checkpoint(Path::new(source), Path::new(target), bits, group) {
        Ok(done) => {
            eprintln!("{source} → {target}: {done:?}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
