//! Times loading a model folder onto the CPU: `cargo run --release -p millrace-model --example load -- FOLDER
//! [native|q8|q4 [THREADS]]`.
//!
//! The first load may read from the disk, the others from the page cache. Prints the peak of resident memory too
//! (Linux), in which file pages count while they are mapped.

#![allow(clippy::print_stdout)]

use std::path::Path;
use std::time::Instant;

use millrace_backend::WeightFormat;
use millrace_backend_cpu::CpuBackend;
use millrace_model::{Decoder, LoadOptions, spec};
use millrace_weights::{Checkpoint, HfConfig};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let folder = Path::new(args.first().ok_or("usage: load FOLDER [native|q8|q4 [THREADS]]")?);
    let format = match args.get(1).map_or("native", String::as_str) {
        "native" => WeightFormat::Native,
        "q8" => WeightFormat::Quantize { bits: 8, group: 32 },
        "q4" => WeightFormat::Quantize { bits: 4, group: 32 },
        other => return Err(format!("format {other}; use native, q8 or q4").into()),
    };
    let threads = args.get(2).map(|n| n.parse()).transpose()?;
    let path = folder.join("config.json");
    let config = HfConfig::parse(&path.display().to_string(), &std::fs::read(&path)?)?;
    let spec = spec::from_config(&config)?;
    for _ in 0..5 {
        let checkpoint = Checkpoint::open(folder)?;
        let mut backend = CpuBackend::new(threads)?;
        let options = LoadOptions { format, max_tokens: 1, max_logit_rows: 1 };
        let start = Instant::now();
        let (_, report) = Decoder::load(&spec, &checkpoint, &mut backend, options, &mut |_| ())?;
        let (seconds, mib) = (start.elapsed().as_secs_f64(), report.weight_bytes >> 20);
        println!("{seconds:.3} s for {mib} MiB of weights{}", peak().unwrap_or_default());
    }
    Ok(())
}

/// The peak of resident memory since the process began, and what of it is not backed by files now.
fn peak() -> Option<String> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = |name: &str| status.lines().find_map(|l| l.strip_prefix(name)).map(|l| l.trim().to_owned());
    Some(format!(", peak {} resident, now {} of it anonymous", line("VmHWM:")?, line("RssAnon:")?))
}
