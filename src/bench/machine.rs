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
    /// Cores there are.
    pub cores_in_all: u32,
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
            cores_in_all: cores_in_all(),
            memory_bytes: kilobytes("/proc/meminfo", "MemTotal"),
            kernel: format!("{} {}", text(names.sysname()), text(names.release())),
            load_average: load_average(),
        }
    }
}

/// Memory that could be taken without swapping, in bytes.
#[must_use]
pub fn available_bytes() -> u64 {
    kilobytes("/proc/meminfo", "MemAvailable")
}

/// Time that all cores together have had, by the kernel's own count.
#[derive(Debug, Clone, Copy, Default)]
pub struct CoreTime {
    /// Spent on anything, or taken away by the machine's host.
    pub busy_ticks: u64,
    /// All of it.
    pub all_ticks: u64,
}

impl CoreTime {
    /// Since the machine started.
    #[must_use]
    pub fn now() -> Self {
        let text = fs::read_to_string("/proc/stat").unwrap_or_default();
        let mut ticks = text.lines().next().unwrap_or_default().split_whitespace().skip(1);
        let mut next = || ticks.next().and_then(|ticks| ticks.parse::<u64>().ok()).unwrap_or(0);
        let [user, nice, system, idle, waiting, interrupts, soft_interrupts, stolen] = std::array::from_fn(|_| next());
        let busy_ticks = user + nice + system + interrupts + soft_interrupts + stolen;
        Self { busy_ticks, all_ticks: busy_ticks + idle + waiting }
    }

    /// The share of time since `earlier` that was busy.
    #[must_use]
    pub fn busy_since(self, earlier: Self) -> f64 {
        let (busy, all) = (self.busy_ticks - earlier.busy_ticks, self.all_ticks - earlier.all_ticks);
        if all == 0 { 0.0 } else { busy as f64 / all as f64 }
    }
}

/// Lines `cpu0`, `cpu1` ... of the kernel's statistics.
fn cores_in_all() -> u32 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let cores = text.lines().filter(|line| line.starts_with("cpu") && !line.starts_with("cpu "));
    cores.count().max(1) as u32
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
        let resident_bytes = crate::process::resident_bytes().expect("there is /proc");
        assert!(machine.memory_bytes > resident_bytes && resident_bytes > 0);
        assert!(available_bytes() > 0);
        let earlier = CoreTime::now();
        assert!(earlier.busy_ticks > 0 && earlier.all_ticks > earlier.busy_ticks);
        assert!((0.0..=1.0).contains(&CoreTime::now().busy_since(earlier)));
        assert!(!machine.processor.is_empty() && machine.kernel.starts_with("Linux"));
    }
}
