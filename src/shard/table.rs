//! A vector whose memory is charged to the node's budget, so that metadata counts against the cap too.
#![forbid(unsafe_code)]

use crate::budget::Budget;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

/// A `Vec` that asks the budget before it grows.
#[derive(Debug)]
pub(super) struct Table<T> {
    items: Vec<T>,
    bytes_charged: u64,
    budget: Arc<Budget>,
}

impl<T> Table<T> {
    pub(super) fn new(budget: &Arc<Budget>) -> Self {
        Self { items: Vec::new(), bytes_charged: 0, budget: Arc::clone(budget) }
    }

    /// Makes room for `additional` more items; false, and nothing changed, where the budget or the system refuses.
    #[must_use]
    pub(super) fn reserve(&mut self, additional: usize) -> bool {
        let needed = self.items.len() + additional;
        if needed <= self.items.capacity() {
            return true;
        }
        let capacity = needed.max(2 * self.items.capacity()).max(8);
        let bytes = (capacity * size_of::<T>()) as u64;
        // Old and new stand side by side while items move, so the new one is charged in full first.
        if !self.budget.charge(bytes) {
            return false;
        }
        if self.items.try_reserve_exact(capacity - self.items.len()).is_err() {
            self.budget.credit(bytes);
            return false;
        }
        self.budget.credit(self.bytes_charged);
        self.bytes_charged = bytes;
        debug_assert!(self.items.capacity() >= needed, "room for {needed} items");
        true
    }

    /// Appends an item; false, and nothing changed, where there is no room to be had.
    #[must_use]
    pub(super) fn push(&mut self, item: T) -> bool {
        let room = self.reserve(1);
        if room {
            self.items.push(item);
        }
        room
    }

    /// Appends so many equal items; false, and nothing changed, where there is no room to be had.
    #[must_use]
    pub(super) fn extend(&mut self, additional: usize, item: T) -> bool
    where
        T: Clone,
    {
        let room = self.reserve(additional);
        if room {
            self.items.resize(self.items.len() + additional, item);
        }
        room
    }

    /// Takes the last item; the room stays.
    #[cfg(feature = "leapfrog")]
    pub(super) fn pop(&mut self) -> Option<T> {
        self.items.pop()
    }

    /// Bytes charged for the items.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes_charged
    }
}

impl<T> Deref for Table<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        &self.items
    }
}

impl<T> DerefMut for Table<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.items
    }
}

impl<T> Drop for Table<T> {
    fn drop(&mut self) {
        self.budget.credit(self.bytes_charged);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_refuses_is_not_charged_and_changes_nothing() {
        let budget = Arc::new(Budget::new(u64::MAX));
        let mut table = Table::new(&budget);
        assert!(table.push(7_u64));
        let charged = budget.bytes_used();
        assert!(!table.reserve(isize::MAX as usize / size_of::<u64>()), "no machine has so much");
        assert_eq!((budget.bytes_used(), &table[..]), (charged, &[7][..]));
    }

    #[test]
    fn growth_is_charged_refused_at_the_cap_and_credited_at_the_end() {
        let budget = Arc::new(Budget::new(200));
        let mut table = Table::<u64>::new(&budget);
        assert!((0..8).all(|i| table.push(i)));
        assert_eq!(budget.bytes_used(), 64);
        assert!((8..16).all(|i| table.push(i)));
        assert_eq!(budget.bytes_used(), 128);
        assert!(!table.push(16));
        assert_eq!((table.len(), budget.bytes_used()), (16, 128));
        drop(table);
        assert_eq!(budget.bytes_used(), 0);
    }
}
