//! How long to spin before sleeping.
//!
//! Spinning pays when the wait is short and nobody else needs the core. So a waiter yields to the runtime between
//! polls, and for how long it spins follows how the last waits went, as KVM does for idle guests (`halt_poll_ns` in
//! Linux, "The KVM halt polling system"): it grows where sleeping was short, and shrinks where spinning was in vain.
#![forbid(unsafe_code)]

use std::time::Duration;

/// The longest spin: a few round trips on RoCE, and what an event's way through the kernel costs.
pub(super) const SPIN_MAX: Duration = Duration::from_micros(50);

/// Where growth starts from.
const SPIN_FIRST: Duration = Duration::from_micros(5);

/// The spin to try next.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spin {
    length: Duration,
}

impl Spin {
    pub(super) const fn new() -> Self {
        Self { length: SPIN_MAX }
    }

    pub(super) fn length(self) -> Duration {
        self.length
    }

    /// A wait ended after so long, `slept` where it had to sleep.
    pub(super) fn waited(&mut self, waited: Duration, slept: bool) {
        if !slept {
            return;
        }
        self.length = if waited <= SPIN_MAX {
            // A longer spin would have caught it.
            (self.length * 2).clamp(SPIN_FIRST, SPIN_MAX)
        } else if self.length < SPIN_FIRST {
            Duration::ZERO
        } else {
            self.length / 2
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spin_shrinks_to_nothing_in_vain_and_grows_where_it_would_have_paid() {
        let mut spin = Spin::new();
        for _ in 0..8 {
            spin.waited(Duration::from_millis(1), true);
        }
        assert_eq!(spin.length(), Duration::ZERO);
        spin.waited(Duration::from_micros(30), true);
        assert_eq!(spin.length(), SPIN_FIRST);
        for _ in 0..8 {
            spin.waited(Duration::from_micros(30), true);
        }
        assert_eq!(spin.length(), SPIN_MAX);
        spin.waited(Duration::from_micros(1), false);
        assert_eq!(spin.length(), SPIN_MAX);
    }
}
