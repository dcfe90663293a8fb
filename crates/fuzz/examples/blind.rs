//! Fuzzing without a fuzzer: changes seeds at random, with no look at coverage, where libFuzzer can't be built.
//!
//!     cargo run -p millrace-fuzz --example blind -- TARGET SECONDS
//!
//! The input at hand lies in `blind.input` when something doesn't hold.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a tool for developers")]

use std::{
    fs,
    time::{Duration, Instant},
};

use millrace_fuzz::{mutate, run};

const SEEDS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/seeds");

/// Bytes of an input at most.
const LONGEST: usize = 8192;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let [_, target, seconds] = args.as_slice() else { panic!("usage: blind TARGET SECONDS") };
    let seeds = fs::read_dir(format!("{SEEDS}/{target}")).unwrap();
    let seeds: Vec<Vec<u8>> = seeds.map(|file| fs::read(file.unwrap().path()).unwrap()).collect();
    let time = Duration::from_secs(seconds.parse().unwrap());
    let (begun, mut count, mut slowest) = (Instant::now(), 0_u32, Duration::ZERO);
    while begun.elapsed() < time {
        count += 1;
        let mut input = seeds[count as usize % seeds.len()].clone();
        for round in 0..1 + count % 4 {
            let seed = count.wrapping_mul(2_654_435_761).wrapping_add(round);
            input = mutate(&input, LONGEST, seed).unwrap_or_else(|| scramble(input, seed));
        }
        fs::write("blind.input", &input).unwrap();
        let start = Instant::now();
        run(target, &input);
        slowest = slowest.max(start.elapsed());
    }
    fs::remove_file("blind.input").unwrap();
    println!("{target}: {count} inputs in {:?}, the slowest in {slowest:?}", begun.elapsed());
}

/// Some bytes are others, doubled or gone.
fn scramble(mut input: Vec<u8>, seed: u32) -> Vec<u8> {
    let mut state = u64::from(seed) | 1;
    let mut below = |bound: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % bound.max(1)
    };
    for _ in 0..1 + below(6) {
        let at = below(input.len());
        match below(4) {
            0 if at < input.len() => input[at] = below(256) as u8,
            1 if at < input.len() => drop(input.remove(at)),
            2 if at < input.len() => input[at] ^= 1 << below(8),
            _ => {
                let end = (at + below(32)).min(input.len());
                let piece = input[at..end].to_vec();
                let to = below(input.len());
                input.splice(to..to, piece);
            }
        }
    }
    input.truncate(LONGEST);
    input
}
