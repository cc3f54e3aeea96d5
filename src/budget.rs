//! One account of a node's memory, shared by shards and connections.
//!
//! Whoever maps or allocates memory that grows with use charges it here first and credits it when it is
//! returned. The account never exceeds its cap: a charge that would is refused, and the caller answers
//! `OutOfMemory` or waits.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicU64, Ordering};

/// A cap in bytes and what is used of it. Share it in an `Arc`; every method may be called from any thread.
///
/// ```text
///   0                                                    bytes_max
///   | records ................................ | reserve |      records never take the reserve,
///   |                 | share of connections ........... |      connections never more than it and an eighth
/// ```
///
/// So a node full of records can still be read, and one full of connections still be written to.
#[derive(Debug)]
pub struct Budget {
    bytes_max: u64,
    bytes_reserved: u64,
    connection_bytes_max: u64,
    bytes_used: AtomicU64,
    /// The part of `bytes_used` that is charged to connections.
    connection_bytes_used: AtomicU64,
}

impl Budget {
    /// An account with nothing used, and no reserve or bound for connections. `u64::MAX` means no cap.
    #[must_use]
    pub fn new(bytes_max: u64) -> Self {
        let (bytes_used, connection_bytes_used) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { bytes_max, bytes_reserved: 0, connection_bytes_max: bytes_max, bytes_used, connection_bytes_used }
    }

    /// As [`Budget::new`], with the last `bytes_reserved` bytes for connections alone, and no more than those and an
    /// eighth of the cap for them.
    #[must_use]
    pub fn with_reserve(bytes_max: u64, bytes_reserved: u64) -> Self {
        let connection_bytes_max = bytes_reserved.saturating_add(bytes_max / 8).min(bytes_max);
        Self { bytes_reserved, connection_bytes_max, ..Self::new(bytes_max) }
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

    /// Those of them that are charged for connections.
    #[must_use]
    pub fn connection_bytes_used(&self) -> u64 {
        self.connection_bytes_used.load(Ordering::Relaxed)
    }

    /// Takes `bytes` for records; false, and nothing taken, where the cap or the reserve forbids it.
    #[must_use]
    pub fn charge(&self, bytes: u64) -> bool {
        take(&self.bytes_used, bytes, self.bytes_max.saturating_sub(self.bytes_reserved), |left| left)
    }

    /// As [`Budget::charge`], if records could take `spare` bytes more behind it.
    #[must_use]
    pub fn charge_sparing(&self, bytes: u64, spare: u64) -> bool {
        let bytes_max = self.bytes_max.saturating_sub(self.bytes_reserved).saturating_sub(spare);
        take(&self.bytes_used, bytes, bytes_max, |left| left)
    }

    /// Whether records could take so many bytes now.
    #[must_use]
    pub fn has_room(&self, bytes: u64) -> bool {
        let bytes_max = self.bytes_max.saturating_sub(self.bytes_reserved);
        self.bytes_used().saturating_add(bytes) <= bytes_max
    }

    /// Takes `bytes` for a connection, from the reserve too; false, and nothing taken, where there is no room.
    ///
    /// No charge takes more than three quarters of what is left: where large frames find no room any more, small
    /// ones still do.
    #[must_use]
    pub fn charge_connection(&self, bytes: u64) -> bool {
        let most = |left: u64| left - left / 4;
        if !take(&self.connection_bytes_used, bytes, self.connection_bytes_max, most) {
            return false;
        }
        let charged = take(&self.bytes_used, bytes, self.bytes_max, most);
        if !charged {
            give_back(&self.connection_bytes_used, bytes);
        }
        charged
    }

    /// Gives back `bytes` that were charged for records.
    ///
    /// # Panics
    /// On more than was charged: a bug of the caller.
    pub fn credit(&self, bytes: u64) {
        give_back(&self.bytes_used, bytes);
    }

    /// Gives back `bytes` that were charged for a connection.
    ///
    /// # Panics
    /// On more than was charged: a bug of the caller.
    pub fn credit_connection(&self, bytes: u64) {
        give_back(&self.bytes_used, bytes);
        give_back(&self.connection_bytes_used, bytes);
    }
}

/// Takes `bytes` from an account, if they are no more than `most` of what is left of it.
fn take(used: &AtomicU64, bytes: u64, bytes_max: u64, most: impl Fn(u64) -> u64) -> bool {
    // Relaxed: the account orders nothing, it only counts.
    used.try_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
        let left = bytes_max.checked_sub(used)?;
        (bytes <= most(left)).then(|| used + bytes)
    })
    .is_ok()
}

fn give_back(used: &AtomicU64, bytes: u64) {
    let before = used.fetch_sub(bytes, Ordering::Relaxed);
    assert!(before >= bytes, "credited {bytes} bytes with {before} charged");
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
        assert!(budget.charge_connection(20));
        budget.credit_connection(20);
        assert_eq!(budget.bytes_used(), 70);
    }

    #[test]
    fn a_charge_that_spares_leaves_so_much() {
        let budget = Budget::with_reserve(100, 30);
        assert!(!budget.charge_sparing(61, 10) && budget.charge_sparing(60, 10));
        assert!(budget.has_room(10) && !budget.has_room(11));
        assert!(!budget.charge_sparing(1, 10) && budget.charge(10) && !budget.charge_sparing(0, 1));
    }

    #[test]
    fn connections_leave_room_for_records() {
        let budget = Budget::with_reserve(800, 100);
        let mut connections = 0;
        while budget.charge_connection(1) {
            connections += 1;
        }
        assert_eq!(connections, 200, "the reserve and an eighth");
        assert!(budget.charge(500) && !budget.charge(1), "the reserve is in use already");
    }

    #[test]
    fn large_charges_leave_room_for_small_ones() {
        let budget = Budget::new(1 << 20);
        for bytes in (4..20).rev().map(|bits| 1 << bits) {
            while budget.charge_connection(bytes) {}
            assert!(budget.bytes_used() < 1 << 20, "charges of {bytes} bytes took all");
        }
        assert!(budget.charge_connection(1));
    }
}
