//! The log of slow batches: a line for each, but no more of them than somebody could read.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lines a second, at most.
const LINES_MAX: u32 = 10;

/// Tells of batches that take too long in the store.
#[derive(Debug)]
pub(super) struct SlowLog {
    /// From how many nanoseconds on; `u64::MAX` for never. Relaxed: it orders nothing.
    from_ns: AtomicU64,
    count: AtomicU64,
    told: Mutex<Told>,
}

#[derive(Debug)]
struct Told {
    since: Instant,
    lines: u32,
    untold: u64,
}

impl SlowLog {
    pub(super) fn new(from: Option<Duration>) -> Self {
        let told = Told { since: Instant::now(), lines: 0, untold: 0 };
        let log = Self { from_ns: AtomicU64::new(u64::MAX), count: AtomicU64::new(0), told: Mutex::new(told) };
        log.set(from);
        log
    }

    /// Tells of batches that take at least so long, from now on.
    pub(super) fn set(&self, from: Option<Duration>) {
        let ns = from.map_or(u64::MAX, |from| u64::try_from(from.as_nanos()).unwrap_or(u64::MAX));
        self.from_ns.store(ns, Ordering::Relaxed);
    }

    /// How many there were.
    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Tells of a batch if it was slow; `what` says what it was and whose.
    #[inline]
    pub(super) fn note(&self, time: Duration, what: impl FnOnce() -> String) {
        if time.as_nanos() >= u128::from(self.from_ns.load(Ordering::Relaxed)) {
            self.tell(time, what);
        }
    }

    #[cold]
    fn tell(&self, time: Duration, what: impl FnOnce() -> String) {
        self.count.fetch_add(1, Ordering::Relaxed);
        let untold = self.told.lock().unwrap_or_else(PoisonError::into_inner).line(Instant::now());
        let Some(untold) = untold else { return };
        let others = if untold > 0 { format!("; {untold} more were not told") } else { String::new() };
        tracing::warn!("slow batch: {time:?} in the store, {}{others}", what());
    }
}

impl Told {
    /// Whether a line may be written now, and how many were not since the last.
    fn line(&mut self, now: Instant) -> Option<u64> {
        if now.saturating_duration_since(self.since) >= Duration::from_secs(1) {
            (self.since, self.lines) = (now, 0);
        }
        if self.lines == LINES_MAX {
            self.untold += 1;
            return None;
        }
        self.lines += 1;
        Some(std::mem::take(&mut self.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_lines_a_second_are_told_and_how_many_were_not() {
        let now = Instant::now();
        let mut told = Told { since: now, lines: 0, untold: 0 };
        let lines: Vec<_> = (0..25).map(|_| told.line(now)).collect();
        assert_eq!(lines.iter().flatten().collect::<Vec<_>>(), [&0; 10]);
        let later = now + Duration::from_secs(1);
        assert_eq!((told.line(later), told.line(later)), (Some(15), Some(0)));
    }

    #[test]
    fn only_what_takes_so_long_is_slow() {
        let log = SlowLog::new(Some(Duration::from_millis(10)));
        let note = |time| log.note(time, || "a batch".to_owned());
        note(Duration::from_nanos(9_999_999));
        note(Duration::from_millis(10));
        assert_eq!(log.count(), 1);
        log.set(None);
        note(Duration::from_secs(10));
        assert_eq!(log.count(), 1);
    }
}
