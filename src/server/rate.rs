//! Operations a second, of all connections of a client together: the generic cell rate algorithm (ITU-T I.371,
//! annex A), which is a token bucket kept as one instant.
//!
//! ```text
//!   spent up to ----------------v
//!        | burst: one second    | debt: how long the next one waits
//!   -----+----------------------+-------> time
//!       now                          a batch of n operations moves the mark on by n / rate
//! ```
//!
//! A batch is never split: one that is longer than what is left is let through and paid for by those behind it.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// What may be saved up: so much time's worth.
const BURST: Duration = Duration::from_secs(1);

/// The most that a batch may have, in time's worth: who waits behind it has a deadline.
const BATCH: Duration = Duration::from_secs(10);

/// The longest wait for those before: whose turn would come later is told so. So nobody can make others of the same
/// client wait for longer, nor keep a connection waiting whose client has long gone.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(20);

/// How fast somebody may go, and how far they have come. Times are nanoseconds since some instant.
#[derive(Debug)]
pub(super) struct Rate {
    /// Operations a second, 0 for any number.
    ops_per_second: AtomicU32,
    /// When all that was taken is paid for.
    paid_at: AtomicU64,
}

impl Rate {
    pub(super) fn new(ops_per_second: Option<u32>) -> Self {
        Self { ops_per_second: AtomicU32::new(ops_per_second.unwrap_or(0)), paid_at: AtomicU64::new(0) }
    }

    /// So many from now on; what was taken is not forgotten.
    pub(super) fn set(&self, ops_per_second: Option<u32>) {
        self.ops_per_second.store(ops_per_second.unwrap_or(0), Ordering::Relaxed);
    }

    /// Operations a second, where they are limited.
    #[inline]
    pub(super) fn ops_per_second(&self) -> Option<u32> {
        Some(self.ops_per_second.load(Ordering::Relaxed)).filter(|ops| *ops > 0)
    }

    /// The longest batch at such a rate, in operations.
    pub(super) fn batch_ops_max(ops_per_second: u32) -> u32 {
        u32::try_from(u64::from(ops_per_second) * BATCH.as_secs()).unwrap_or(u32::MAX)
    }

    /// Takes operations, and tells how long to wait before they may be executed. Where that is too long nothing is
    /// taken.
    pub(super) fn take(&self, ops: u32, now: u64) -> Option<Duration> {
        self.take_within(WAIT_MAX, ops, now)
    }

    /// Takes operations that have been executed.
    pub(super) fn charge(&self, ops: u32, now: u64) {
        let taken = self.take_within(Duration::MAX, ops, now);
        debug_assert!(taken.is_some(), "no wait is too long");
    }

    fn take_within(&self, wait_max: Duration, ops: u32, now: u64) -> Option<Duration> {
        let Some(rate) = self.ops_per_second() else { return Some(Duration::ZERO) };
        let cost = u64::from(ops) * NS / u64::from(rate);
        let wait = |paid_at: u64| Duration::from_nanos(paid_at.saturating_sub(now));
        // Relaxed: it counts, and orders nothing.
        let before = self.paid_at.try_update(Ordering::Relaxed, Ordering::Relaxed, |paid_at| {
            let from = paid_at.max(now.saturating_sub(BURST.as_nanos() as u64));
            (wait(paid_at) <= wait_max).then(|| from.saturating_add(cost))
        });
        before.ok().map(wait)
    }

    /// How long it takes until all that was taken is paid for.
    pub(super) fn debt(&self, now: u64) -> Duration {
        match self.ops_per_second() {
            Some(_) => Duration::from_nanos(self.paid_at.load(Ordering::Relaxed).saturating_sub(now)),
            None => Duration::ZERO,
        }
    }

    /// Whether forgetting what was taken makes no difference.
    pub(super) fn is_settled(&self, now: u64) -> bool {
        self.paid_at.load(Ordering::Relaxed).saturating_add(BURST.as_nanos() as u64) <= now
    }
}

/// Nanoseconds of a second.
const NS: u64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 5 * NS;

    #[test]
    fn a_second_s_worth_goes_at_once_and_then_each_waits_for_those_before_it() {
        let rate = Rate::new(Some(100));
        for _ in 0..10 {
            assert_eq!(rate.take(10, START), Some(Duration::ZERO));
        }
        assert_eq!(rate.debt(START), Duration::ZERO, "all of the burst is spent, and nothing is owed");
        assert_eq!(rate.take(50, START), Some(Duration::ZERO));
        assert_eq!(rate.take(1, START), Some(Duration::from_millis(500)));
        assert_eq!(rate.take(1, START), Some(Duration::from_millis(510)));
        assert_eq!(rate.take(1, START + NS), Some(Duration::ZERO));
    }

    #[test]
    fn over_any_time_no_more_is_let_through_than_the_rate_a_second_and_a_batch() {
        let rate = Rate::new(Some(1_000));
        // Whoever comes waits as long as it is told, and comes again.
        let (mut now, mut ops) = (START, 0);
        for batch in (1..200).cycle().take(2_000) {
            now += rate.take(batch, now).expect("it is alone").as_nanos() as u64;
            ops += u64::from(batch);
            let allowed = (now - START) / (NS / 1_000) + 1_000 + 200;
            assert!(ops <= allowed, "{ops} operations within {} ns, {allowed} are allowed", now - START);
        }
        assert!(ops > (now - START) / (NS / 1_000), "and no less");
    }

    #[test]
    fn what_is_not_used_is_saved_for_a_second_and_no_longer() {
        let rate = Rate::new(Some(10));
        assert_eq!(rate.take(10, START), Some(Duration::ZERO));
        let later = START + 3_600 * NS;
        assert_eq!(rate.take(10, later), Some(Duration::ZERO));
        assert_eq!(rate.take(1, later), Some(Duration::ZERO), "one on credit");
        assert_eq!(rate.take(1, later), Some(Duration::from_millis(100)));
    }

    #[test]
    fn without_a_rate_nobody_waits_and_a_new_one_holds_from_the_next_on() {
        let rate = Rate::new(None);
        assert_eq!((rate.take(u32::MAX, START), rate.debt(START)), (Some(Duration::ZERO), Duration::ZERO));
        assert!(rate.is_settled(START));
        rate.set(Some(1));
        assert_eq!(rate.take(3, START), Some(Duration::ZERO));
        assert_eq!(rate.take(1, START), Some(Duration::from_secs(2)));
        assert!(!rate.is_settled(START + 3 * NS) && rate.is_settled(START + 4 * NS));
        rate.set(None);
        assert_eq!(rate.debt(START), Duration::ZERO);
    }

    #[test]
    fn whoever_would_wait_too_long_takes_nothing_and_what_is_done_is_charged_in_any_case() {
        let rate = Rate::new(Some(10));
        let waits: Vec<_> = (0..10).map(|_| rate.take(50, START).map(|wait| wait.as_secs())).collect();
        assert_eq!(waits, [Some(0), Some(4), Some(9), Some(14), Some(19), None, None, None, None, None]);
        assert_eq!(rate.debt(START), Duration::from_secs(24));
        rate.charge(100, START);
        assert_eq!(rate.debt(START), Duration::from_secs(34));
        assert_eq!((rate.take(1, START + 13 * NS), rate.take(1, START + 14 * NS).is_some()), (None, true));
    }

    #[test]
    fn the_longest_batch_is_ten_seconds_worth() {
        assert_eq!((Rate::batch_ops_max(7), Rate::batch_ops_max(u32::MAX)), (70, u32::MAX));
    }
}
