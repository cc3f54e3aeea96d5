//! A queue of handles whose memory is charged to the node's budget: the small queue of a size class.
#![forbid(unsafe_code)]

use super::slab::Handle;
use crate::budget::Budget;
use std::collections::VecDeque;
use std::sync::Arc;

/// First in, first out. It grows by a quarter, so that little of it is ever empty.
#[derive(Debug)]
pub(super) struct Ring {
    handles: VecDeque<u32>,
    bytes_charged: u64,
    budget: Arc<Budget>,
}

impl Ring {
    pub(super) fn new(budget: &Arc<Budget>) -> Self {
        Self { handles: VecDeque::new(), bytes_charged: 0, budget: Arc::clone(budget) }
    }

    /// Appends a handle; false, and nothing changed, where there is no memory for it.
    #[must_use]
    pub(super) fn push(&mut self, handle: Handle) -> bool {
        let room = self.handles.len() < self.handles.capacity() || self.resize(self.handles.len() * 5 / 4 + 8);
        if room {
            self.handles.push_back(handle.0);
        }
        room
    }

    /// Takes the oldest.
    pub(super) fn pop(&mut self) -> Option<Handle> {
        let handle = self.handles.pop_front().map(Handle);
        if self.handles.capacity() > 4 * self.handles.len() + 32 {
            let _is_smaller = self.resize(self.handles.len() * 5 / 4 + 8);
        }
        handle
    }

    pub(super) fn len(&self) -> usize {
        self.handles.len()
    }

    /// Bytes charged.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes_charged
    }

    /// Old and new stand side by side for a moment: the new one is charged in full first.
    fn resize(&mut self, capacity: usize) -> bool {
        let bytes = (capacity * size_of::<u32>()) as u64;
        if !self.budget.charge(bytes) {
            return false;
        }
        let mut handles = VecDeque::new();
        if handles.try_reserve_exact(capacity).is_err() {
            self.budget.credit(bytes);
            return false;
        }
        handles.extend(self.handles.iter());
        self.handles = handles;
        self.budget.credit(std::mem::replace(&mut self.bytes_charged, bytes));
        true
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        self.budget.credit(self.bytes_charged);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_in_is_first_out_and_what_it_holds_is_charged() {
        let budget = Arc::new(Budget::new(u64::MAX));
        let mut ring = Ring::new(&budget);
        assert!((0..10_000).all(|handle| ring.push(Handle(handle))));
        assert!(ring.bytes() == budget.bytes_used() && ring.bytes() <= 4 * 12_600, "{} bytes", ring.bytes());
        assert!((0..9_990).all(|handle| ring.pop() == Some(Handle(handle))));
        assert!(ring.bytes() < 1000 && ring.len() == 10, "it shrinks");
        assert_eq!(ring.pop(), Some(Handle(9_990)));
        drop(ring);
        assert_eq!(budget.bytes_used(), 0);
    }

    #[test]
    fn what_is_refused_changes_nothing() {
        let mut ring = Ring::new(&Arc::new(Budget::new(40)));
        assert!((0..8).all(|handle| ring.push(Handle(handle))));
        assert!(!ring.push(Handle(8)));
        assert!((0..8).all(|handle| ring.pop() == Some(Handle(handle))) && ring.pop().is_none());
    }
}
