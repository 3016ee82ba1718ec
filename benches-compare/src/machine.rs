//! The line without which no figure can be compared with another day's.

use std::fs;
use std::process::Command;

/// Processor, cores, compiler, load.
pub fn line() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("model name"))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    });
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let rustc = Command::new("rustc").arg("--version").output().ok();
    let rustc = rustc.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    let load = fs::read_to_string("/proc/loadavg").ok();
    let load = load.as_deref().and_then(|text| text.split(' ').next()).unwrap_or("?");
    format!(
        "{}, {cores} cores; {}; opt-level 3, thin LTO, no target flags; load {load} at the start",
        cpu.as_deref().unwrap_or("unknown processor"),
        rustc.as_deref().unwrap_or("unknown rustc"),
    )
}
