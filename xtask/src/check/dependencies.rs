//! Crates may know only the crates below them. The table in ARCHITECTURE.md is the rule.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::Findings;

/// Start of the names of this workspace's crates, which the table leaves out.
const PREFIX: &str = "millrace-";

/// Who may know whom; `None` is everybody.
type Rules = BTreeMap<String, Option<Vec<String>>>;

pub(super) fn check(root: &Path, findings: &mut Findings) -> Result<()> {
    let page = std::fs::read_to_string(root.join("ARCHITECTURE.md")).context("ARCHITECTURE.md")?;
    let rules = parse_table(&page);
    if rules.is_empty() {
        bail!("ARCHITECTURE.md has no table with the columns `crate` and `may know`");
    }
    let packages = packages(root)?;
    for (name, dependencies) in &packages {
        findings.errors.extend(violations(&rules, name, dependencies));
    }
    let missing = rules.keys().filter(|name| !packages.contains_key(*name));
    findings
        .errors
        .extend(missing.map(|name| format!("ARCHITECTURE.md lists a crate `{name}` that isn't there")));
    Ok(())
}

/// Rows of the table whose head has the columns `crate` and `may know`. Names are in backticks; more than one may
/// share a row.
fn parse_table(page: &str) -> Rules {
    let mut rules = Rules::new();
    let mut columns = None;
    for line in page.lines() {
        let Some(row) = line.trim().strip_prefix('|') else {
            columns = None;
            continue;
        };
        let cells: Vec<&str> = row.trim_end_matches('|').split('|').map(str::trim).collect();
        let place = |name: &str| cells.iter().position(|cell| *cell == name);
        if let (Some(who), Some(whom)) = (place("crate"), place("may know")) {
            columns = Some((who, whom));
        } else if let Some((who, whom)) = columns
            && let (Some(who), Some(whom)) = (cells.get(who), cells.get(whom))
        {
            let allowed = (*whom != "all").then(|| code(whom));
            rules.extend(code(who).into_iter().map(|name| (name, allowed.clone())));
        }
    }
    rules
}

/// The texts in backticks.
fn code(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Every package of the workspace and the workspace packages that it is built with. Tests may know more.
fn packages(root: &Path) -> Result<BTreeMap<String, Vec<String>>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(root)
        .output()
        .context("cargo metadata cannot be run")?;
    if !output.status.success() {
        bail!("cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let metadata: Value = serde_json::from_slice(&output.stdout).context("cargo metadata")?;
    let list = |value: &Value, key: &str| value[key].as_array().cloned().unwrap_or_default();
    let short =
        |value: &Value| value["name"].as_str().unwrap_or_default().trim_start_matches(PREFIX).to_owned();
    let in_workspace = |dependency: &&Value| dependency["path"].is_string() && dependency["kind"] != "dev";
    let of = |package: &Value| {
        let dependencies = list(package, "dependencies");
        (short(package), dependencies.iter().filter(in_workspace).map(short).collect())
    };
    Ok(list(&metadata, "packages").iter().map(of).collect())
}

fn violations(rules: &Rules, name: &str, dependencies: &[String]) -> Vec<String> {
    match rules.get(name) {
        None => vec![format!("the table in ARCHITECTURE.md has no row for the crate `{name}`")],
        Some(None) => Vec::new(),
        Some(Some(allowed)) => dependencies
            .iter()
            .filter(|dependency| !allowed.contains(dependency))
            .map(|dependency| {
                format!("crate `{name}` depends on `{dependency}`, which ARCHITECTURE.md doesn't allow")
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "\
text | with | bars
| crate | what | may know |
|---|---|---|
| `cli` (binary `x`) | everything | all |
| `a` `b` | things | `types` |
| `types` | data | – |

| crate | other |
| `z` | no |
";

    #[test]
    fn the_table_is_found_and_read() {
        let rules = parse_table(PAGE);
        assert_eq!(rules["a"], Some(vec!["types".to_owned()]));
        assert_eq!(rules["b"], rules["a"]);
        assert_eq!(rules["types"], Some(Vec::new()));
        assert_eq!(rules["cli"], None);
        assert!(!rules.contains_key("z"));
    }

    #[test]
    fn edges_outside_of_the_table_are_named() {
        let rules = parse_table(PAGE);
        let on = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        assert!(violations(&rules, "a", &on(&["types"])).is_empty());
        assert!(violations(&rules, "cli", &on(&["a", "b"])).is_empty());
        assert_eq!(violations(&rules, "types", &on(&["a"])).len(), 1);
        assert!(violations(&rules, "new", &[])[0].contains("no row"));
    }

    #[test]
    fn this_workspace_is_seen() {
        let packages = packages(&crate::root()).unwrap();
        assert!(packages["engine"].contains(&"types".to_owned()));
        assert!(packages["types"].is_empty());
    }
}
