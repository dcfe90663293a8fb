//! Pages that name a flag which doesn't exist (any more). docs/flags.md is compared with the program by a test of the
//! command itself, so it is the list here.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::Findings;

/// Pages that people read, besides those in docs/.
const PAGES: [&str; 4] = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"];

/// Flags that every command has, and that no list needs to name.
const EVERYWHERE: [&str; 2] = ["--help", "--version"];

/// Commands whose own flags a page may mention. Everything up to ` -- ` is theirs.
const OTHERS: [&str; 16] = [
    "cargo ",
    "curl ",
    "python",
    "pip ",
    "git ",
    "pytest",
    "docker ",
    "rustup ",
    "llama-",
    "bench/",
    "claude ",
    "codex ",
    "opencode ",
    "cline ",
    "cn ",
    "aider ",
];

pub(super) fn check(root: &Path, findings: &mut Findings) -> Result<()> {
    let list = std::fs::read_to_string(root.join("docs/flags.md")).context("docs/flags.md")?;
    let known: BTreeSet<&str> = flags_in(&list).chain(EVERYWHERE).collect();
    if known.len() == EVERYWHERE.len() {
        bail!("docs/flags.md names no flags");
    }
    for page in pages(root)? {
        let text = std::fs::read_to_string(root.join(&page)).with_context(|| page.clone())?;
        for (number, line) in text.lines().enumerate() {
            let unknown = flags_in(own_part(line)).filter(|flag| !known.contains(flag));
            let message = |flag| format!("{page}:{}: millrace has no flag `{flag}`", number + 1);
            findings.errors.extend(unknown.map(message));
        }
    }
    Ok(())
}

/// The pages to read, by their path from the root.
fn pages(root: &Path) -> Result<Vec<String>> {
    let mut pages: Vec<String> = PAGES.iter().map(|page| (*page).to_owned()).collect();
    for entry in std::fs::read_dir(root.join("docs")).context("docs")? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.ends_with(".md") && name != "flags.md" {
            pages.push(format!("docs/{name}"));
        }
    }
    pages.retain(|page| root.join(page).is_file());
    pages.sort();
    Ok(pages)
}

/// The part of a line that is about this program.
fn own_part(line: &str) -> &str {
    match line.split_once(" -- ") {
        Some((_, ours)) => ours,
        None if OTHERS.iter().any(|other| line.contains(other)) && !line.contains("millrace ") => "",
        None => line,
    }
}

/// Words like `--max-num-seqs`.
fn flags_in(text: &str) -> impl Iterator<Item = &str> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '-';
    text.split(move |c: char| !is_word(c)).filter(|word| {
        word.strip_prefix("--").is_some_and(|name| name.starts_with(|c: char| c.is_ascii_lowercase()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(line: &str) -> Vec<&str> {
        flags_in(own_part(line)).collect()
    }

    #[test]
    fn flags_are_found_in_prose_and_commands() {
        assert_eq!(flags("Use `--max-num-seqs 4`, or --seed=1."), ["--max-num-seqs", "--seed"]);
        assert_eq!(flags("cargo run --release -- serve --port 0"), ["--port"]);
        assert_eq!(flags("| --- | :--: | a -- b --"), [""; 0]);
    }

    #[test]
    fn flags_of_other_programs_are_theirs() {
        assert_eq!(flags("cargo test --workspace"), [""; 0]);
        assert_eq!(flags("curl --json '{}' http://localhost"), [""; 0]);
        assert_eq!(flags("git diff | millrace run --system x -"), ["--system"]);
    }
}
