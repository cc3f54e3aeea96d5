//! The log of slow batches: a line for each, but no more of them than somebody could read.
#![forbid(unsafe_code)]

use super::seldom::Seldom;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Tells of batches that take too long in the store.
#[derive(Debug)]
pub(super) struct SlowLog {
    /// From how many nanoseconds on; `u64::MAX` for never. Relaxed: it orders nothing.
    from_ns: AtomicU64,
    count: AtomicU64,
    lines: Seldom,
}

impl SlowLog {
    pub(super) fn new(from: Option<Duration>) -> Self {
        let log = Self { from_ns: AtomicU64::new(u64::MAX), count: AtomicU64::new(0), lines: Seldom::default() };
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
        let Some(others) = self.lines.line() else { return };
        tracing::warn!("slow batch: {time:?} in the store, {}{others}", what());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
