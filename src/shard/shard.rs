//! One shard: an index, records and a version counter, behind one lock.
//!
//! All changes go through [`Shard::update`]: it finds the record of a key, shows it to a function, and makes the
//! change that the function answers with. The operation takes effect there, under the lock, at once.
//!
//! A record whose deadline is reached is absent for every operation; its memory comes back with the next change of its
//! key, or with the sweep. What is reached is said by the shard's own time, the latest that any batch brought: a batch
//! that comes late with an earlier one meets what the others met, so nothing comes back that was seen gone.
#![forbid(unsafe_code)]

use super::evict::{Evictor, Policy};
use super::index::{Index, IndexStats, Keys};
use super::memory::Pool;
use super::record::{Record, Records, Slot, Written};
use super::slab::Handle;
use crate::decimal::{self, DecimalText};
use crate::hash::{Key, KeyHasher};
use crate::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use crate::op::{Action, Op, Outcome, Outcomes, Time, VERSION_ABSENT, Version};
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct Shard<I> {
    index: I,
    pub(super) records: Records,
    /// Makes room where there is none; `None` in a store that refuses instead.
    pub(super) evictor: Option<Box<Evictor>>,
    /// The version of the latest change. 64 bits last for centuries.
    version: Version,
    /// Counts the changes that make a handle invalid.
    handles_freed: u64,
    /// The latest time that a batch brought.
    now: Time,
    /// Records that were removed for their deadline.
    pub(super) expired: u64,
}

/// What to do with the record of a key.
#[derive(Clone, Copy)]
pub(super) enum Change<'a> {
    Keep,
    Write(Written<'a>),
    /// The bytes follow the value that is there.
    Extend(Written<'a>),
    Remove,
}

/// What became of the record of a key.
pub(super) enum Changed {
    Kept,
    Written(Version),
    Removed,
    OutOfMemory,
}

impl<I: Index> Shard<I> {
    /// An empty shard, whose index and records come from these pools; `None` where the budget refuses.
    pub(super) fn new(pools: [&Arc<Pool>; 2], hasher: KeyHasher, policy: Option<Policy>) -> Option<Self> {
        let [index_pool, pool] = pools;
        let evictor = match policy {
            Some(policy) => Some(Evictor::new(policy, pool.budget())?),
            None => None,
        };
        let (index, records) = (I::new(index_pool)?, Records::new(pool, hasher));
        Some(Self { index, records, evictor, version: VERSION_ABSENT, handles_freed: 0, now: 0, expired: 0 })
    }

    /// Moves the shard's time on to that of a batch; it never goes back.
    #[inline(always)]
    pub(super) fn advance(&mut self, now: Time) {
        self.now = self.now.max(now);
    }

    pub(super) fn now(&self) -> Time {
        self.now
    }

    /// Asks the processor for what [`Shard::prefetch_record`] will read.
    #[inline(always)]
    pub(super) fn prefetch_index(&self, hash: u64) {
        self.index.prefetch(hash);
    }

    /// Asks the processor for the record that probably has this hash, and gives its handle as a hint, valid until
    /// [`Shard::handles_freed`] changes. [`Handle::NONE`] if there is none.
    #[inline(always)]
    pub(super) fn prefetch_record(&self, hash: u64) -> Handle {
        let candidate = self.index.find(hash, |_| true);
        candidate.inspect(|handle| self.records.prefetch(*handle)).unwrap_or(Handle::NONE)
    }

    /// How many handles were freed so far: a hint from before the latest is void.
    #[inline]
    pub(super) fn handles_freed(&self) -> u64 {
        self.handles_freed
    }

    /// Executes one operation and hands its outcome over.
    #[inline(always)]
    pub(super) fn execute(&mut self, op: &Op<'_>, hash: u64, hint: Handle, index: u32, outcomes: &mut impl Outcomes) {
        match op.action {
            Action::Get => outcomes.set(index, self.get_versioned(op, hash, hint)),
            Action::Edit(edit) => self.edit(op, edit, hash, hint, index, outcomes),
            _ => outcomes.set(index, self.execute_change(op, hash, hint)),
        }
    }

    /// Executes a get that wants no version, of the key that `is_wanted`.
    #[inline(always)]
    pub(super) fn get(
        &self,
        is_wanted: impl Fn(Key<'_>) -> bool,
        hash: u64,
        hint: Handle,
        index: u32,
        outcomes: &mut impl Outcomes,
    ) {
        match self.find(is_wanted, hash, hint).and_then(|(_, slot)| slot.value(self.now)) {
            Some(value) => outcomes.set_plain_value(index, value),
            None => outcomes.set(index, Outcome::NotFound),
        }
    }

    fn get_versioned(&self, op: &Op<'_>, hash: u64, hint: Handle) -> Outcome<'_> {
        match self.find(|key| *key == *op.key, hash, hint).map(|(_, slot)| slot.record()) {
            Some(record) if !record.is_expired(self.now) => {
                Outcome::Value { value: record.value, version: op.version_wanted.then_some(record.version) }
            }
            _ => Outcome::NotFound,
        }
    }

    #[inline]
    fn execute_change(&mut self, op: &Op<'_>, hash: u64, hint: Handle) -> Outcome<'static> {
        let wanted = |version| op.version_wanted.then_some(version);
        match op.action {
            Action::Get | Action::Edit(_) => unreachable!("they have ways of their own"),
            Action::Put { value } => match self.update(op.key, hash, hint, |_| Change::lasting(value)) {
                Changed::Written(version) => Outcome::Done { version: wanted(version) },
                _ => Outcome::OutOfMemory,
            },
            Action::Delete => match self.update(op.key, hash, hint, |_| Change::Remove) {
                Changed::Removed => Outcome::Done { version: None },
                _ => Outcome::NotFound,
            },
            Action::CompareAndSwap { expected, value } => {
                let mut current = VERSION_ABSENT;
                let changed = self.update(op.key, hash, hint, |found| {
                    current = found.map_or(VERSION_ABSENT, |slot| slot.record().version);
                    if current == expected { Change::lasting(value) } else { Change::Keep }
                });
                match changed {
                    Changed::Written(version) => Outcome::Done { version: wanted(version) },
                    Changed::OutOfMemory => Outcome::OutOfMemory,
                    _ => Outcome::VersionMismatch { current },
                }
            }
            Action::Add { delta } => self.add(op, hash, hint, delta),
        }
    }

    fn add(&mut self, op: &Op<'_>, hash: u64, hint: Handle, delta: i64) -> Outcome<'static> {
        let mut refused = Outcome::NotANumber;
        let mut sum = 0;
        let mut text = DecimalText::new(0);
        let changed = self.update(op.key, hash, hint, |found| {
            let record = found.map(Slot::record);
            let Some(number) = record.map_or(Some(0), |record| decimal::parse(record.value)) else {
                return Change::Keep;
            };
            let Some(after) = number.checked_add(delta) else {
                refused = Outcome::CounterOverflow;
                return Change::Keep;
            };
            sum = after;
            text = DecimalText::new(after);
            let deadline = record.and_then(|record| record.deadline);
            Change::Write(Written { value: text.as_bytes(), deadline })
        });
        match changed {
            Changed::Written(version) => Outcome::Counter { value: sum, version: op.version_wanted.then_some(version) },
            Changed::OutOfMemory => Outcome::OutOfMemory,
            _ => refused,
        }
    }

    /// Changes the record of a key as the function says, in one step. Every change draws a new version.
    #[inline]
    pub(super) fn update<'c>(
        &mut self,
        key: &[u8],
        hash: u64,
        hint: Handle,
        change: impl FnOnce(Option<Slot<'_>>) -> Change<'c>,
    ) -> Changed {
        let found = self.find(|other| *other == *key, hash, hint);
        if let Some((handle, slot)) = found
            && slot.is_expired(self.now)
        {
            return self.update_expired(key, hash, handle, change(None));
        }
        let change = change(found.map(|(_, slot)| slot));
        change.check(key);
        let unfinished = Unfinished;
        let changed = match (change, found.map(|(handle, _)| handle)) {
            (Change::Write(content), Some(handle)) => self.overwrite(key, hash, handle, content),
            (Change::Write(content), None) => self.insert(key, hash, content),
            (Change::Extend(content), Some(handle)) => self.extend(key, hash, handle, content),
            (Change::Remove, Some(handle)) => self.remove(hash, handle),
            (Change::Remove | Change::Extend(_), None) | (Change::Keep, _) => Changed::Kept,
        };
        std::mem::forget(unfinished);
        changed
    }

    /// A change of a key whose record is there, and is absent for everybody.
    #[cold]
    fn update_expired(&mut self, key: &[u8], hash: u64, handle: Handle, change: Change<'_>) -> Changed {
        change.check(key);
        let unfinished = Unfinished;
        let changed = if let Change::Write(content) = change {
            self.overwrite(key, hash, handle, content)
        } else {
            self.remove(hash, handle);
            Changed::Kept
        };
        self.expired += u64::from(!matches!(changed, Changed::OutOfMemory));
        std::mem::forget(unfinished);
        changed
    }

    #[inline]
    fn overwrite(&mut self, key: &[u8], hash: u64, handle: Handle, content: Written<'_>) -> Changed {
        let target = self.records.overwrite(handle, self.version + 1, key, content);
        self.replaced(key, hash, handle, target)
    }

    fn extend(&mut self, key: &[u8], hash: u64, handle: Handle, content: Written<'_>) -> Changed {
        let target = self.records.extend(handle, self.version + 1, content);
        self.replaced(key, hash, handle, target)
    }

    /// Lets the index follow a record.
    #[inline(always)]
    fn replaced(&mut self, key: &[u8], hash: u64, handle: Handle, target: Option<Handle>) -> Changed {
        let Some(target) = target else { return Changed::OutOfMemory };
        if target != handle {
            self.index.replace(hash, handle, target);
            self.handles_freed += 1;
        }
        debug_assert!(
            self.find(|other| *other == *key, hash, Handle::NONE).is_some_and(|(found, _)| found == target),
            "the index follows"
        );
        self.version += 1;
        Changed::Written(self.version)
    }

    fn insert(&mut self, key: &[u8], hash: u64, content: Written<'_>) -> Changed {
        debug_assert!(self.record(key, hash).is_none(), "a key has one record");
        if !self.index.make_room(hash, &self.records) {
            return Changed::OutOfMemory;
        }
        let Some(handle) = self.records.insert(self.version + 1, key, content) else {
            return Changed::OutOfMemory;
        };
        self.index.insert(hash, handle);
        debug_assert!(self.record(key, hash).is_some(), "what is inserted is found");
        self.version += 1;
        Changed::Written(self.version)
    }

    /// Takes the record of another node, under the version that it has there: whatever is drawn here later is newer.
    /// One that is newer already stays. False where there is no memory for it.
    pub(super) fn import(&mut self, key: &[u8], hash: u64, version: Version, content: Written<'_>) -> bool {
        let found = match self.find(|other| *other == *key, hash, Handle::NONE) {
            Some((_, slot)) if slot.record().version >= version => return true,
            found => found.map(|(handle, _)| handle),
        };
        let unfinished = Unfinished;
        let own = std::mem::replace(&mut self.version, version - 1);
        let changed = match found {
            Some(handle) => self.overwrite(key, hash, handle, content),
            None => self.insert(key, hash, content),
        };
        self.version = own.max(self.version);
        std::mem::forget(unfinished);
        matches!(changed, Changed::Written(_))
    }

    /// Forgets the record of a key, if there is one.
    pub(super) fn forget(&mut self, key: &[u8], hash: u64) {
        self.update(key, hash, Handle::NONE, |_| Change::Remove);
    }

    /// Forgets records that have moved, of which only the handles are known.
    pub(super) fn forget_all(&mut self, gone: &[Handle]) {
        for handle in gone {
            self.forget_at(self.records.hash(*handle), *handle);
        }
    }

    /// Forgets a record.
    pub(super) fn forget_at(&mut self, hash: u64, handle: Handle) {
        let unfinished = Unfinished;
        self.remove(hash, handle);
        std::mem::forget(unfinished);
    }

    /// The record of a key; its deadline may be reached.
    pub(super) fn record(&self, key: &[u8], hash: u64) -> Option<Record<'_>> {
        self.find(|other| *other == *key, hash, Handle::NONE).map(|(_, slot)| slot.record())
    }

    /// The version of the latest change.
    pub(super) fn version(&self) -> Version {
        self.version
    }

    /// Draws no version up to this one any more.
    pub(super) fn raise_version(&mut self, version: Version) {
        self.version = self.version.max(version);
    }

    fn remove(&mut self, hash: u64, handle: Handle) -> Changed {
        self.index.remove(hash, handle, &self.records);
        self.records.remove(handle);
        self.handles_freed += 1;
        self.version += 1;
        Changed::Removed
    }

    /// The record of a key: the hint if it is right, else what the index finds. Its deadline may be reached.
    #[inline(always)]
    fn find(&self, is_wanted: impl Fn(Key<'_>) -> bool, hash: u64, hint: Handle) -> Option<(Handle, Slot<'_>)> {
        if hint != Handle::NONE {
            let slot = self.records.slot(hint);
            if is_wanted(slot.key()) {
                return Some((hint, slot));
            }
        }
        let handle = self.index.find(hash, |handle| is_wanted(self.records.slot(handle).key()))?;
        Some((handle, self.records.slot(handle)))
    }

    /// Where the record of a key is, by the hint if it is right.
    #[inline(always)]
    pub(super) fn find_handle(&self, is_wanted: impl Fn(Key<'_>) -> bool, hash: u64, hint: Handle) -> Option<Handle> {
        self.find(is_wanted, hash, hint).map(|(handle, _)| handle)
    }

    pub(super) fn records(&self) -> &Records {
        &self.records
    }

    pub(super) fn records_mut(&mut self) -> &mut Records {
        &mut self.records
    }

    pub(super) fn index(&self) -> &I {
        &self.index
    }

    pub(super) fn index_stats(&self) -> IndexStats {
        self.index.stats()
    }

    /// Records that were removed for their deadline so far.
    pub(super) fn expired(&self) -> u64 {
        self.expired
    }
}

impl<'a> Change<'a> {
    /// Writes a value for good.
    #[inline(always)]
    fn lasting(value: &'a [u8]) -> Self {
        Self::Write(Written { value, deadline: None })
    }

    /// Before the change begins: a protocol's mistake must not stop the node.
    #[inline(always)]
    fn check(&self, key: &[u8]) {
        if let Self::Write(Written { value, .. }) = self {
            let is_valid = key.len() <= KEY_BYTES_MAX as usize && value.len() <= VALUE_BYTES_MAX as usize;
            assert!(is_valid, "protocols check lengths: {} and {} bytes", key.len(), value.len());
        }
    }
}

/// Stands while a change is being made. A panic in there (our own bug, nothing from outside runs inside) leaves
/// the shard half changed: its data can't be trusted and can't be told apart from good data, so the node stops.
/// Its clients see lost connections, and a new incarnation afterwards. A panic anywhere else leaves the shard
/// whole, which is why a poisoned lock may be taken.
struct Unfinished;

impl Drop for Unfinished {
    fn drop(&mut self) {
        std::process::abort();
    }
}
