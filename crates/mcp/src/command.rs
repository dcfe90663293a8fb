//! Which programs may be started, and with which environment.

use std::{
    collections::BTreeSet,
    env,
    ffi::OsString,
    path::{Path, PathBuf},
};

/// Launchers of MCP servers that a configuration may name without a path.
const KNOWN: [&str; 14] = [
    "bun", "bunx", "deno", "docker", "node", "npm", "npx", "pipx", "podman", "python", "python3", "uv",
    "uvx", "dotnet",
];

/// Variables that a server inherits: what programs need to find their files, and nothing that could be a secret.
const INHERITED: [&str; 17] = [
    "HOME",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "LOGNAME",
    "PATH",
    "SHELL",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "TERM",
    "TMPDIR",
    "TZ",
    "USER",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_RUNTIME_DIR",
];

/// Which commands a configuration may name. Full paths always do: whoever wrote them meant that very file.
#[derive(Debug, Clone, Default)]
pub struct CommandRules {
    further: BTreeSet<String>,
}

impl CommandRules {
    /// The well-known launchers (`npx`, `uvx`, `python3`, `docker`, …) and `further` names; `*` allows all.
    pub fn new(further: impl IntoIterator<Item = String>) -> Self {
        Self { further: further.into_iter().collect() }
    }

    /// Checks a command as it stands in a configuration.
    ///
    /// # Errors
    /// What is wrong with it and what to write instead.
    pub(crate) fn check(&self, command: &str) -> Result<(), String> {
        if command.is_empty() || command.contains('\0') {
            return Err("the command is empty or no text; write a program's name or its full path".into());
        }
        if Path::new(command).is_absolute() {
            return Ok(());
        }
        if command.contains(['/', '\\']) {
            return Err(format!("`{command}` is a relative path; write the full one"));
        }
        if command.contains(char::is_whitespace) {
            return Err(format!(
                "`{command}` is more than a name; no shell splits it, so put the rest into `args`"
            ));
        }
        if KNOWN.contains(&command) || self.further.contains(command) || self.further.contains("*") {
            return Ok(());
        }
        let known = KNOWN.join(", ");
        Err(format!(
            "`{command}` is none of the commands that are allowed by name ({known}); write its full path, or allow it \
             with --mcp-allow-command {command}"
        ))
    }
}

/// The file that a checked command stands for. Names are looked for in the absolute folders of `PATH` only, so that
/// the working directory has no say in it.
pub(crate) fn find(command: &str) -> Result<PathBuf, String> {
    let path = Path::new(command);
    if path.is_absolute() {
        return Ok(path.to_owned());
    }
    let folders = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&folders)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(command))
        .find(|file| is_program(file))
        .ok_or_else(|| {
            format!("the program `{command}` is in no folder of PATH; install it, or write its full path")
        })
}

/// The part of our own environment that servers get.
pub(crate) fn inherited() -> impl Iterator<Item = (&'static str, OsString)> {
    INHERITED.into_iter().filter_map(|name| Some((name, env::var_os(name)?)))
}

#[cfg(unix)]
fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    file.metadata().is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn is_program(file: &Path) -> bool {
    file.is_file()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_names_and_full_paths_pass() {
        let rules = CommandRules::new(["my-server".to_owned()]);
        for command in ["npx", "python3", "my-server", "/opt/x/run"] {
            rules.check(command).unwrap();
        }
        for (command, word) in [
            ("", "empty"),
            ("sh", "--mcp-allow-command sh"),
            ("./run", "relative"),
            ("../npx", "relative"),
            ("bin/npx", "relative"),
            ("npx -y thing", "args"),
            ("npx\0", "no text"),
        ] {
            let problem = rules.check(command).unwrap_err();
            assert!(problem.contains(word), "{command}: {problem}");
        }
        CommandRules::new(["*".to_owned()]).check("sh").unwrap();
    }

    #[test]
    #[cfg(unix)]
    fn names_are_found_in_path() {
        assert!(find("sh").unwrap().is_absolute());
        assert!(find("no-such-program-anywhere").unwrap_err().contains("PATH"));
        assert_eq!(find("/no/such/file").unwrap(), Path::new("/no/such/file"));
    }
}
