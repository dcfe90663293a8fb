//! `millrace doctor`: what the machine offers, measured rather than believed.

mod gpu;

use std::fmt::Write;

use anyhow::Result;
use millrace_backend_cpu::{Level, LevelReport, Pool, bandwidth, default_threads, peak};
use serde_json::{Value, json};

use crate::args::{DoctorArgs, show_bytes};
use crate::{memory, output};
use gpu::Gpu;

/// Runs the command.
pub(crate) fn run(args: &DoctorArgs) -> Result<()> {
    let report = Report::new(args)?;
    output::print(&if args.json { report.to_json().to_string() + "\n" } else { report.to_text() })
}

/// Everything that was found out.
struct Report {
    cpu: String,
    logical_cpus: usize,
    threads: usize,
    level: Level,
    levels: [LevelReport; 5],
    memory_total: Option<u64>,
    memory_available: u64,
    /// Bytes per second.
    bandwidth: f64,
    peaks: [peak::Peak; 3],
    gpus: Vec<Gpu>,
}

impl Report {
    fn new(args: &DoctorArgs) -> Result<Self> {
        let level = Level::detect()?;
        let threads = args.threads.unwrap_or_else(default_threads);
        let pool = Pool::new(threads);
        Ok(Self {
            cpu: cpu_name(),
            logical_cpus: std::thread::available_parallelism().map_or(1, usize::from),
            threads,
            level,
            levels: millrace_backend_cpu::report(),
            memory_total: memory::total(),
            memory_available: memory::available(),
            bandwidth: bandwidth::read_bandwidth(level, &pool)?,
            peaks: peak::measure(level, &pool)?,
            gpus: gpu::find(),
        })
    }

    fn to_text(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: String| {
            // Writing to a string can't fail.
            let _ = writeln!(text, "{name:<12}{value}");
        };
        line("cpu", format!("{}, {} logical CPUs for this process", self.cpu, self.logical_cpus));
        for level in &self.levels {
            line("", format!("{:<12} {}", level.level.name(), verdict(level)));
        }
        let total = self.memory_total.map_or(String::new(), |total| format!(" of {}", show_bytes(total)));
        line("memory", format!("{} available{total}", show_bytes(self.memory_available)));
        line("bandwidth", format!("{:.1} GB/s read with {} threads", self.bandwidth / 1e9, self.threads));
        let peaks: Vec<String> = self.peaks.iter().map(show_peak).collect();
        line("matrix peak", peaks.join(", "));
        for gpu in &self.gpus {
            line("gpu", format!("{} (not used yet: Millrace computes on the CPU)", gpu.describe()));
        }
        if self.gpus.is_empty() {
            line("gpu", "none found".into());
        }
        line("will use", format!("cpu, level {}, {} threads", self.level.name(), self.threads));
        text
    }

    fn to_json(&self) -> Value {
        json!({
            "cpu": {
                "name": self.cpu,
                "logical_cpus": self.logical_cpus,
                "level": self.level.name(),
                "levels": self.levels.iter().map(|level| json!({
                    "name": level.level.name(),
                    "claimed_by_cpuid": level.claimed,
                    "works": level.executes,
                })).collect::<Vec<_>>(),
            },
            "threads": self.threads,
            "memory": {"total_bytes": self.memory_total, "available_bytes": self.memory_available},
            "bandwidth_bytes_per_second": self.bandwidth,
            "peak_ops_per_second": self.peaks.iter().map(|peak| (peak.name.to_owned(), json!(peak.ops_per_second)))
                .collect::<serde_json::Map<_, _>>(),
            "gpus": self.gpus.iter().map(Gpu::to_json).collect::<Vec<_>>(),
            "device": "cpu",
        })
    }
}

/// What CPUID claims and what the probe found, in words.
fn verdict(level: &LevelReport) -> &'static str {
    match (level.claimed, level.executes) {
        (true, true) => "works",
        (false, true) => "works, though CPUID doesn't claim it",
        (true, false) => "claimed by CPUID, but doesn't work here",
        (false, false) => "not there",
    }
}

fn show_peak(peak: &peak::Peak) -> String {
    format!("{} {:.2} TOP/s", peak.name, peak.ops_per_second / 1e12)
}

/// As the system calls it.
fn cpu_name() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    field.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_and_facts_have_their_words() {
        let level = |claimed, executes| LevelReport { level: Level::Amx, claimed, executes };
        assert_eq!(verdict(&level(true, true)), "works");
        assert!(verdict(&level(false, true)).contains("though"));
        assert!(verdict(&level(true, false)).contains("doesn't work"));
        assert_eq!(verdict(&level(false, false)), "not there");
    }
}
