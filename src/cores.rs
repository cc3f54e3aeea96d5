//! Which processors this process may use, and where a thread runs.
#![forbid(unsafe_code)]

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::fmt;
use std::str::FromStr;

/// How connections are dealt to the cores of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Placement {
    /// The core where its bytes arrive: with the client on this machine, both ends share it.
    #[default]
    Paired,
    /// Another core than that.
    Split,
    /// Threads are bound to no core, and connections are dealt to them in turn.
    Free,
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Paired => "paired",
            Self::Split => "split",
            Self::Free => "free",
        })
    }
}

/// A list of processors, as in `0,2-3`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoreList(pub Vec<usize>);

impl FromStr for CoreList {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut cores = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            match (first.parse::<usize>(), last.parse::<usize>()) {
                (Ok(first), Ok(last)) if first <= last && last < CpuSet::MAX_CPU => cores.extend(first..=last),
                _ => return Err(format!("'{part}' is no processor; write for example 0,2-3")),
            }
        }
        Ok(Self(cores))
    }
}

/// The processors this process may run on: its affinity mask. At least one.
#[must_use]
pub fn available() -> Vec<usize> {
    let mask = sched_getaffinity(None);
    let cores: Vec<_> =
        mask.map_or_else(|_| vec![0], |mask| (0..CpuSet::MAX_CPU).filter(|cpu| mask.is_set(*cpu)).collect());
    if cores.is_empty() { vec![0] } else { cores }
}

/// Keeps the calling thread on one processor; false where the system forbids it.
pub fn pin_current_thread(core: usize) -> bool {
    let mut mask = CpuSet::new();
    mask.set(core);
    sched_setaffinity(None, &mask).is_ok()
}

/// The processor the calling thread runs on just now.
#[must_use]
pub fn current() -> usize {
    rustix::thread::sched_getcpu()
}

/// The calling thread's number, for [`cpu_ns`].
#[must_use]
pub fn current_thread() -> i32 {
    rustix::thread::gettid().as_raw_nonzero().get()
}

/// Time a thread of this process has spent on a processor, in nanoseconds; 0 for one that has ended.
#[must_use]
pub fn cpu_ns(thread: i32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/self/task/{thread}/schedstat")).unwrap_or_default();
    text.split_whitespace().next().and_then(|ns| ns.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn core_lists_have_ranges() {
        assert_eq!("0,2-4".parse(), Ok(CoreList(vec![0, 2, 3, 4])));
        for bad in ["", "a", "3-2", "0,", "99999999"] {
            assert!(bad.parse::<CoreList>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_busy_thread_has_a_clock() {
        let mut n = 0_u64;
        while cpu_ns(current_thread()) == 0 {
            n = std::hint::black_box(n + 1);
        }
        assert!(!available().is_empty());
    }
}
