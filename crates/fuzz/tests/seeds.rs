//! Every input that is kept: what a fuzzer starts with, and what it once found.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a test may fail, and says at which input")]

use std::{fs, path::Path};

use millrace_fuzz::{TARGETS, run};

const SEEDS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/seeds");

/// Files that may be kept, and their bytes together.
const MOST: (usize, u64) = (200, 300_000);

#[test]
fn everything_holds_for_every_seed() {
    for target in TARGETS {
        let mut taught = 0;
        for file in fs::read_dir(Path::new(SEEDS).join(target.name)).unwrap() {
            let path = file.unwrap().path();
            // Shown if the test fails.
            println!("{}", path.display());
            taught += usize::from(run(target.name, &fs::read(path).unwrap()));
        }
        assert!(taught > 0, "{} has no seed that it can use", target.name);
    }
}

#[test]
fn every_folder_has_a_target_and_all_are_small() {
    let (mut count, mut bytes) = (0, 0);
    for folder in fs::read_dir(SEEDS).unwrap() {
        let folder = folder.unwrap();
        let name = folder.file_name().into_string().unwrap();
        assert!(TARGETS.iter().any(|target| target.name == name), "{name} is no target");
        for file in fs::read_dir(folder.path()).unwrap() {
            count += 1;
            bytes += file.unwrap().metadata().unwrap().len();
        }
    }
    assert!(count <= MOST.0 && bytes <= MOST.1, "{count} files, {bytes} bytes");
}

#[test]
fn every_target_has_a_program() {
    let manifest = fs::read_to_string(Path::new(SEEDS).join("../Cargo.toml")).unwrap();
    for target in TARGETS {
        let path = format!("fuzz_targets/{}.rs", target.name);
        assert!(manifest.contains(&format!("path = \"{path}\"")), "fuzz/Cargo.toml lacks {path}");
        let program = fs::read_to_string(Path::new(SEEDS).join("..").join(path)).unwrap();
        assert!(program.contains(&format!("fuzz!(\"{}\");", target.name)), "{program}");
    }
}
