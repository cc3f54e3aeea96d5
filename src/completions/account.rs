//! What all sessions of a node take: bounded by themselves, and charged to the node's budget as connections are.
#![forbid(unsafe_code)]

use crate::budget::Budget;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of what is recorded.
#[derive(Debug)]
pub(super) struct Account {
    budget: Arc<Budget>,
    bytes_max: u64,
    bytes_used: AtomicU64,
}

impl Account {
    pub(super) fn new(budget: Arc<Budget>, bytes_max: u64) -> Self {
        Self { budget, bytes_max, bytes_used: AtomicU64::new(0) }
    }

    /// Takes bytes; false, and nothing taken, where there are none left.
    pub(super) fn take(&self, bytes: u64) -> bool {
        // Relaxed: the account orders nothing, it only counts.
        let taken = self.bytes_used.try_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            used.checked_add(bytes).filter(|used| *used <= self.bytes_max)
        });
        let charged = taken.is_ok() && self.budget.charge_connection(bytes);
        if taken.is_ok() && !charged {
            self.bytes_used.fetch_sub(bytes, Ordering::Relaxed);
        }
        charged
    }

    /// Gives back what was taken.
    pub(super) fn give_back(&self, bytes: u64) {
        let before = self.bytes_used.fetch_sub(bytes, Ordering::Relaxed);
        assert!(before >= bytes, "gave {bytes} bytes back of {before}");
        self.budget.credit_connection(bytes);
    }

    pub(super) fn bytes_used(&self) -> u64 {
        self.bytes_used.load(Ordering::Relaxed)
    }

    /// Whether records have to go, so that the next ones find room.
    pub(super) fn is_high(&self) -> bool {
        self.bytes_used() > self.bytes_max - self.bytes_max / 4
    }

    /// Whether enough of them went.
    pub(super) fn is_low(&self) -> bool {
        self.bytes_used() <= self.bytes_max / 2
    }

    /// The most that one frame's record may take: no few frames that are executed at the same time fill the account.
    pub(super) fn record_bytes_max(&self) -> usize {
        usize::try_from(self.bytes_max / 16).unwrap_or(usize::MAX)
    }
}
