//! `cargo xtask check`: rules of this repository that no compiler knows.

mod dependencies;
mod files;
mod flags;

use std::path::Path;

use anyhow::{Result, bail};

/// What a check found. Warnings are printed, errors fail the check.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) errors: Vec<String>,
    pub(crate) warnings: Vec<String>,
}

/// Runs all checks over the repository at `root`.
///
/// # Errors
/// A rule is broken, or a file that a check needs can't be read.
pub(crate) fn run(root: &Path) -> Result<()> {
    let mut findings = Findings::default();
    dependencies::check(root, &mut findings)?;
    files::check(root, &mut findings)?;
    flags::check(root, &mut findings)?;
    for warning in &findings.warnings {
        println!("warning: {warning}");
    }
    for error in &findings.errors {
        println!("error: {error}");
    }
    match findings.errors.len() {
        0 => {
            println!("all checks passed");
            Ok(())
        }
        count => bail!("{count} of the repository's rules are broken"),
    }
}
