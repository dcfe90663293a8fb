//! Times how one row of logits becomes a token, for a vocabulary of 151,936.
//!
//! `cargo run --release -p millrace-backend-cpu --example sampling [-- THREADS]`

#![allow(clippy::print_stdout)]

use std::time::Instant;

use millrace_backend::{Backend, BackendError, Batch, SampleSpec, StepResult, Tensor};
use millrace_backend_cpu::{CpuBackend, default_threads};

const VOCAB: usize = 151_936;
const ROUNDS: usize = 400;

type Error = Box<dyn std::error::Error>;

fn main() -> Result<(), Error> {
    let threads = std::env::args().nth(1).map_or(Ok(default_threads()), |n| n.parse())?;
    let mut backend = CpuBackend::new(Some(threads))?;
    println!("{}: median µs per row of {VOCAB} logits", backend.describe());
    println!("{:24}{:>10}{:>10}", "", "peaked", "flat");
    let (peaked, flat) = (peaked(), noise(2.0));
    let logits = backend.alloc(1, VOCAB)?;
    for (name, spec) in specs() {
        let [peaked, flat] = [&peaked, &flat].map(|values| median(&mut backend, logits, values, spec));
        println!("{name:24}{:10.1}{:10.1}", peaked?, flat?);
    }
    Ok(())
}

fn specs() -> [(&'static str, SampleSpec); 8] {
    let greedy = SampleSpec::greedy(0);
    let drawn = SampleSpec { temperature: 1.0, ..greedy };
    [
        ("greedy", greedy),
        ("greedy, 5 logprobs", SampleSpec { logprobs: Some(5), ..greedy }),
        ("temperature 1", drawn),
        ("min_p 0.05", SampleSpec { min_p: 0.05, ..drawn }),
        ("top_p 0.9", SampleSpec { top_p: 0.9, ..drawn }),
        ("top_k 40", SampleSpec { top_k: 40, ..drawn }),
        ("top_k 20, top_p 0.95", SampleSpec { top_k: 20, top_p: 0.95, ..drawn }),
        ("typical_p 0.9", SampleSpec { typical_p: 0.9, ..drawn }),
    ]
}

/// Median time of `sample`, in µs, over different uniform numbers. The logits are written anew each time.
fn median(
    backend: &mut CpuBackend,
    logits: Tensor,
    values: &[f32],
    spec: SampleSpec,
) -> Result<f64, BackendError> {
    let mut times = Vec::with_capacity(ROUNDS);
    let mut result = StepResult::default();
    for round in 0..ROUNDS {
        let uniform = (round as f32 + 0.5) / ROUNDS as f32;
        let batch = Batch { samples: vec![SampleSpec { uniform, ..spec }], ..Batch::default() };
        backend.begin(&batch);
        backend.write(logits, values);
        let start = Instant::now();
        backend.sample(logits, 0);
        times.push(start.elapsed().as_secs_f64() * 1e6);
        let ticket = backend.submit();
        backend.wait(ticket, &mut result)?;
    }
    times.sort_by(f64::total_cmp);
    Ok(times[ROUNDS / 2])
}

/// Like a model that has a few dozen words in mind: noise, and tokens that stand out by 8 to 20.
fn peaked() -> Vec<f32> {
    let mut logits = noise(1.5);
    for rank in 0..60 {
        logits[(rank * 2531 + 977) % VOCAB] = 20.0 - 0.2 * rank as f32;
    }
    logits
}

/// Normally distributed logits: nearly all of the vocabulary matters.
fn noise(deviation: f32) -> Vec<f32> {
    let mut state = 7u64;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    // The sum of twelve uniform numbers is normal enough.
    (0..VOCAB).map(|_| deviation * ((0..12).map(|_| uniform()).sum::<f32>() - 6.0)).collect()
}
