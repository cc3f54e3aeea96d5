//! The machine a report was made on, as the kernel describes it.
#![forbid(unsafe_code)]

use serde::Serialize;
use std::fs;

/// What a reader needs to judge a number by.
#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    /// The host's name.
    pub host: String,
    /// The processor's model.
    pub processor: String,
    /// Cores this process may use.
    pub cores: u32,
    /// Memory, in bytes.
    pub memory_bytes: u64,
    /// Operating system and kernel release.
    pub kernel: String,
    /// Processes that wanted to run in the minute before, by the kernel's average: near 0 on an idle machine.
    pub load_average: f64,
}

impl Machine {
    /// Looks around.
    #[must_use]
    pub fn here() -> Self {
        let names = rustix::system::uname();
        let text = |name: &std::ffi::CStr| name.to_string_lossy().into_owned();
        Self {
            host: text(names.nodename()),
            processor: field("/proc/cpuinfo", "model name").unwrap_or_else(|| text(names.machine())),
            cores: std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32),
            memory_bytes: kilobytes("/proc/meminfo", "MemTotal"),
            kernel: format!("{} {}", text(names.sysname()), text(names.release())),
            load_average: load_average(),
        }
    }
}

/// Memory of this process that is resident, in bytes.
#[must_use]
pub fn resident_bytes() -> u64 {
    kilobytes("/proc/self/status", "VmRSS")
}

/// Memory that could be taken without swapping, in bytes.
#[must_use]
pub fn available_bytes() -> u64 {
    kilobytes("/proc/meminfo", "MemAvailable")
}

fn load_average() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or(0.0)
}

/// `name: 123 kB`, in bytes; 0 where the kernel has no such line.
fn kilobytes(file: &str, name: &str) -> u64 {
    let kilobytes =
        field(file, name).and_then(|text| text.split(' ').next().and_then(|first| first.parse::<u64>().ok()));
    kilobytes.unwrap_or(0) * 1024
}

fn field(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim().to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_has_cores_and_memory() {
        let machine = Machine::here();
        assert!(machine.cores >= 1);
        assert!(machine.memory_bytes > resident_bytes() && resident_bytes() > 0);
        assert!(available_bytes() > 0);
        assert!(!machine.processor.is_empty() && machine.kernel.starts_with("Linux"));
    }
}
