//! GPUs that the system's drivers tell of, found without loading any of their libraries.

use std::path::Path;

use serde_json::{Value, json};

/// A GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Gpu {
    pub(super) name: String,
    /// As the kernel driver says.
    pub(super) driver: Option<String>,
}

impl Gpu {
    pub(super) fn describe(&self) -> String {
        match &self.driver {
            Some(driver) => format!("{}, driver {driver}", self.name),
            None => self.name.clone(),
        }
    }

    pub(super) fn to_json(&self) -> Value {
        json!({"name": self.name, "driver": self.driver, "used": false})
    }
}

/// NVIDIA's GPUs, by their kernel driver.
pub(super) fn find() -> Vec<Gpu> {
    find_nvidia(Path::new("/proc/driver/nvidia"))
}

fn find_nvidia(root: &Path) -> Vec<Gpu> {
    let driver = std::fs::read_to_string(root.join("version")).ok().and_then(|text| driver_version(&text));
    let Ok(folders) = std::fs::read_dir(root.join("gpus")) else { return Vec::new() };
    let mut folders: Vec<_> = folders.filter_map(|entry| Some(entry.ok()?.path())).collect();
    folders.sort();
    let gpu = |folder: &std::path::PathBuf| {
        let text = std::fs::read_to_string(folder.join("information")).unwrap_or_default();
        let model = text.lines().find_map(|line| line.strip_prefix("Model:"));
        Gpu { name: model.map_or("NVIDIA GPU", str::trim).to_owned(), driver: driver.clone() }
    };
    folders.iter().map(gpu).collect()
}

/// The first word of the version file that is made of numbers and dots.
fn driver_version(text: &str) -> Option<String> {
    let version = |word: &&str| word.contains('.') && word.chars().all(|c| c.is_ascii_digit() || c == '.');
    text.lines().next()?.split_whitespace().find(version).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_drivers_files_are_read() {
        let root = tempfile::tempdir().unwrap();
        let gpu = root.path().join("gpus/0000:01:00.0");
        std::fs::create_dir_all(&gpu).unwrap();
        std::fs::write(gpu.join("information"), "Model: \t\t NVIDIA H200\nIRQ: 1\n").unwrap();
        let version =
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.86.15  Tue Jan 1\nGCC version: 12.3\n";
        std::fs::write(root.path().join("version"), version).unwrap();
        let found = find_nvidia(root.path());
        assert_eq!(found, [Gpu { name: "NVIDIA H200".into(), driver: Some("570.86.15".into()) }]);
        assert_eq!(found[0].describe(), "NVIDIA H200, driver 570.86.15");
        assert!(find_nvidia(Path::new("/no/such/folder")).is_empty());
    }
}
