//! One account of a node's memory, shared by shards and connections.
//!
//! Whoever maps or allocates memory that grows with use charges it here first and credits it when it is
//! returned. The account never exceeds its cap: a charge that would is refused, and the caller answers
//! `OutOfMemory` or waits.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicU64, Ordering};

/// A cap in bytes and what is used of it. Share it in an `Arc`; every method may be called from any thread.
///
/// The last part of the cap is kept for connections, so that a node full of records can still be read.
#[derive(Debug)]
pub struct Budget {
    bytes_max: u64,
    bytes_reserved: u64,
    bytes_used: AtomicU64,
}

impl Budget {
    /// An account with nothing used. `u64::MAX` means no cap.
    #[must_use]
    pub fn new(bytes_max: u64) -> Self {
        Self::with_reserve(bytes_max, 0)
    }

    /// As [`Budget::new`], with the last `bytes_reserved` bytes for [`Budget::charge_reserved`] alone.
    #[must_use]
    pub fn with_reserve(bytes_max: u64, bytes_reserved: u64) -> Self {
        Self { bytes_max, bytes_reserved, bytes_used: AtomicU64::new(0) }
    }

    /// The cap, in bytes.
    #[must_use]
    pub fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// The part of the cap that only connections may use, in bytes.
    #[must_use]
    pub fn bytes_reserved(&self) -> u64 {
        self.bytes_reserved
    }

    /// Bytes charged and not yet credited.
    #[must_use]
    pub fn bytes_used(&self) -> u64 {
        self.bytes_used.load(Ordering::Relaxed)
    }

    /// Takes `bytes` for records; false, and nothing taken, where the cap or the reserve forbids it.
    #[must_use]
    pub fn charge(&self, bytes: u64) -> bool {
        self.charge_up_to(self.bytes_max.saturating_sub(self.bytes_reserved), bytes)
    }

    /// Takes `bytes` for a connection, from the reserve too; false, and nothing taken, where the cap forbids it.
    #[must_use]
    pub fn charge_reserved(&self, bytes: u64) -> bool {
        self.charge_up_to(self.bytes_max, bytes)
    }

    fn charge_up_to(&self, bytes_max: u64, bytes: u64) -> bool {
        // Relaxed: the account orders nothing, it only counts.
        self.bytes_used
            .try_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(bytes).filter(|after| *after <= bytes_max)
            })
            .is_ok()
    }

    /// Gives `bytes` back.
    ///
    /// # Panics
    /// On more than was charged: a bug of the caller.
    pub fn credit(&self, bytes: u64) {
        let before = self.bytes_used.fetch_sub(bytes, Ordering::Relaxed);
        assert!(before >= bytes, "credited {bytes} bytes with {before} charged");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charge_past_the_cap_is_refused_and_takes_nothing() {
        let budget = Budget::new(100);
        assert!(budget.charge(60));
        assert!(!budget.charge(41));
        assert_eq!(budget.bytes_used(), 60);
        assert!(budget.charge(40));
        budget.credit(100);
        assert_eq!(budget.bytes_used(), 0);
    }

    #[test]
    fn the_reserve_is_for_connections_alone() {
        let budget = Budget::with_reserve(100, 30);
        assert!(budget.charge(70));
        assert!(!budget.charge(1));
        assert!(budget.charge_reserved(30));
        assert!(!budget.charge_reserved(1));
    }
}
