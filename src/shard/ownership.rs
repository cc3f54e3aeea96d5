//! Which slots are this node's, and how that stays true under the lock of each shard.
//!
//! ```text
//!   change   shard by shard, under its lock: "from now on you go by this one"; last, the store as a whole
//!   batch    pass 0 leaves out foreign slots, by what the store said; under the lock: does the shard go by the same?
//!            if not, its bin is sifted once more, by what the shard goes by
//! ```
//!
//! So an operation is executed only where its shard, locked, says that its slot is the node's; whoever changed the
//! shards may rely on it as soon as the change returns. All operations of a batch on one key that are executed meet in
//! one bin, and share the verdict; those on other keys of its slot lie in other shards, and may be executed after a
//! change they did not see, or answered `WrongNode` before it is over.
#![forbid(unsafe_code)]

use super::execute::Entry;
use crate::hash;
use crate::op::{Batch, Outcome, Outcomes};
use crate::slots::SlotSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The slots that a node owns, and since which map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ownership {
    /// The epoch of the map that says so, 0 for none.
    pub epoch: u64,
    /// The slots.
    pub slots: SlotSet,
}

/// What a store, a shard or a thread goes by; `None` where every slot is owned, and there is no map.
pub(super) type Owned = Option<Arc<Ownership>>;

/// Whether both are the very same, and nothing was changed in between.
#[inline(always)]
pub(super) fn is_same(one: &Owned, other: &Owned) -> bool {
    let address = |owned: &Owned| owned.as_ref().map(Arc::as_ptr);
    address(one) == address(other)
}

/// The epoch to answer with.
pub(super) fn epoch(owned: &Owned) -> u64 {
    owned.as_ref().map_or(0, |owned| owned.epoch)
}

/// What a store goes by. Threads keep a copy, and look here only after a change.
#[derive(Debug, Default)]
pub(super) struct Current {
    /// Names the change that `owned` is of, in this process; 0 before the first.
    change: AtomicU64,
    owned: Mutex<Owned>,
}

/// Names changes, so that a thread that serves two stores does not take one's for the other's.
static CHANGES: AtomicU64 = AtomicU64::new(0);

/// A thread's copy of what its store goes by.
#[derive(Debug, Default)]
pub(super) struct Copied {
    change: u64,
    pub(super) owned: Owned,
}

impl Current {
    /// Brings a copy up to date.
    #[inline(always)]
    pub(super) fn refresh(&self, copied: &mut Copied) {
        // What it guards is read under the mutex: the number need only be seen in the end.
        if self.change.load(Ordering::Relaxed) != copied.change {
            self.copy(copied);
        }
    }

    #[cold]
    fn copy(&self, copied: &mut Copied) {
        let owned = self.owned.lock().unwrap_or_else(PoisonError::into_inner);
        *copied = Copied { change: self.change.load(Ordering::Relaxed), owned: owned.clone() };
    }

    /// Keeps what is gone by from being changed meanwhile.
    pub(super) fn hold(&self, with: impl FnOnce(&Owned)) {
        with(&self.owned.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Tells every shard, and then every batch that is not dealt yet. One change at a time.
    pub(super) fn change(&self, to: Arc<Ownership>, tell_shards: impl FnOnce(&Arc<Ownership>)) {
        let mut owned = self.owned.lock().unwrap_or_else(PoisonError::into_inner);
        tell_shards(&to);
        *owned = Some(to);
        self.change.store(CHANGES.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
    }
}

/// Whether a slot is owned.
pub(super) fn is_owned(owned: &Owned, slot: u16) -> bool {
    owned.as_ref().is_none_or(|owned| owned.slots.contains(slot))
}

/// The operations of a bin whose slots are owned; the others get their outcome.
#[cold]
pub(super) fn sift(owned: &Owned, bin: &[Entry], batch: &impl Batch, outcomes: &mut impl Outcomes) -> Vec<Entry> {
    let is_owned = |entry: &&Entry| is_owned(owned, hash::slot(batch.op(entry.position()).key));
    let (owned, foreign): (Vec<&Entry>, Vec<&Entry>) = bin.iter().partition(is_owned);
    foreign.into_iter().for_each(|entry| outcomes.set(entry.position().index, Outcome::WrongNode));
    owned.into_iter().copied().collect()
}
