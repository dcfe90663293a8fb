//! Files that must be there, and files that are too long.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::Findings;

/// Lines of a Rust file beyond which it is looked at, and beyond which it must be split.
const LINES: (usize, usize) = (400, 800);

/// What people expect in a repository, and what the program is built from.
const REQUIRED: [&str; 17] = [
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "LICENSE-MIT",
    "LICENSE-APACHE",
    "Cargo.lock",
    "rust-toolchain.toml",
    ".ci/run",
    "docs/flags.md",
    "docs/metrics.md",
    "docs/config.example.yaml",
    "bench/shapes/qwen3-0.6b/config.json",
    "models/demo/README.md",
    "models/demo/model.safetensors",
    "models/demo-draft/README.md",
    "models/demo-draft/model.safetensors",
];

pub(super) fn check(root: &Path, findings: &mut Findings) -> Result<()> {
    let missing = REQUIRED.iter().filter(|file| !root.join(file).is_file());
    findings.errors.extend(missing.map(|file| format!("{file} is missing")));
    for file in rust_files(root)? {
        let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        let name = file.strip_prefix(root).unwrap_or(&file);
        judge(name, text.lines().count(), findings);
    }
    Ok(())
}

fn judge(file: &Path, lines: usize, findings: &mut Findings) {
    let (long, too_long) = LINES;
    let file = file.display();
    if lines > too_long {
        findings
            .errors
            .push(format!("{file} has {lines} lines, more than {too_long}; a file is one idea: split it"));
    } else if lines > long {
        findings
            .warnings
            .push(format!("{file} has {lines} lines; most files stay under 150, few need {long}"));
    }
}

/// All Rust files of the workspace's crates.
fn rust_files(root: &Path) -> Result<Vec<PathBuf>> {
    let mut folders = vec![root.join("crates"), root.join("xtask")];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let entry = entry?;
            let path = entry.path();
            if entry.file_type()?.is_dir() && entry.file_name() != "target" {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_files_are_warned_of_and_longer_ones_refused() {
        let mut findings = Findings::default();
        for lines in [400, 401, 800, 801] {
            judge(Path::new("a.rs"), lines, &mut findings);
        }
        assert_eq!((findings.warnings.len(), findings.errors.len()), (2, 1));
    }

    #[test]
    fn this_file_is_found() {
        let files = rust_files(&crate::root()).unwrap();
        assert!(files.iter().any(|file| file.ends_with("xtask/src/check/files.rs")));
    }
}
