//! One shard: an index, records and a version counter, behind one lock.
//!
//! All changes go through [`Shard::update`]: it finds the record of a key, shows it to a function, and makes the
//! change that the function answers with. The operation takes effect there, under the lock, at once.
#![forbid(unsafe_code)]

use super::counter::{self, CounterText};
use super::index::{Index, IndexStats, Keys};
use super::memory::Pool;
use super::record::{Record, Records};
use super::slab::Handle;
use crate::hash::{Key, KeyHasher, ShortKey};
use crate::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use crate::op::{Action, Op, Outcome, VERSION_ABSENT, Version};
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct Shard<I> {
    index: I,
    records: Records,
    /// The version of the latest change. 64 bits last for centuries.
    version: Version,
    /// Counts the changes that make a handle invalid.
    handles_freed: u64,
}

/// What to do with the record of a key.
enum Change<'a> {
    Keep,
    Write(&'a [u8]),
    Remove,
}

/// What became of the record of a key.
enum Changed {
    Kept,
    Written(Version),
    Removed,
    OutOfMemory,
}

impl<I: Index> Shard<I> {
    /// An empty shard; `None` where the budget refuses.
    pub(super) fn new(pool: &Arc<Pool>, hasher: KeyHasher) -> Option<Self> {
        let records = Records::new(pool, hasher);
        Some(Self { index: I::new(pool)?, records, version: VERSION_ABSENT, handles_freed: 0 })
    }

    /// Asks the processor for what [`Shard::prefetch_record`] will read.
    #[inline]
    pub(super) fn prefetch_index(&self, hash: u64) {
        self.index.prefetch(hash);
    }

    /// Asks the processor for the record that probably has this hash, and gives its handle as a hint, valid until
    /// [`Shard::handles_freed`] changes. [`Handle::NONE`] if there is none.
    #[inline]
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
    pub(super) fn execute(&mut self, op: &Op<'_>, hash: u64, hint: Handle, set: impl FnOnce(Outcome<'_>)) {
        if let Action::Get = op.action {
            return match self.find(op.key, hash, hint) {
                Some((_, Record { version, value, .. })) => {
                    set(Outcome::Value { value, version: op.version_wanted.then_some(version) });
                }
                None => set(Outcome::NotFound),
            };
        }
        set(self.execute_change(op, hash, hint));
    }

    /// Executes a get of a short key that wants no version.
    #[inline(always)]
    pub(super) fn get_short(&self, key: ShortKey, hash: u64, hint: Handle, set: impl FnOnce(Outcome<'_>)) {
        match self.find_where(hash, hint, |other| other.is(key)) {
            Some((_, record)) => set(Outcome::Value { value: record.value, version: None }),
            None => set(Outcome::NotFound),
        }
    }

    #[inline]
    fn execute_change(&mut self, op: &Op<'_>, hash: u64, hint: Handle) -> Outcome<'static> {
        let wanted = |version| op.version_wanted.then_some(version);
        match op.action {
            Action::Get => unreachable!("a get changes nothing"),
            Action::Put { value } => match self.update(op.key, hash, hint, |_| Change::Write(value)) {
                Changed::Written(version) => Outcome::Done { version: wanted(version) },
                _ => Outcome::OutOfMemory,
            },
            Action::Delete => match self.update(op.key, hash, hint, |_| Change::Remove) {
                Changed::Removed => Outcome::Done { version: None },
                _ => Outcome::NotFound,
            },
            Action::CompareAndSwap { expected, value } => {
                let mut current = VERSION_ABSENT;
                let changed = self.update(op.key, hash, hint, |record| {
                    current = record.map_or(VERSION_ABSENT, |record| record.version);
                    if current == expected { Change::Write(value) } else { Change::Keep }
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
        let mut text = CounterText::new(0);
        let changed = self.update(op.key, hash, hint, |record| {
            let Some(number) = record.map_or(Some(0), |record| counter::parse(record.value)) else {
                return Change::Keep;
            };
            let Some(after) = number.checked_add(delta) else {
                refused = Outcome::CounterOverflow;
                return Change::Keep;
            };
            sum = after;
            text = CounterText::new(after);
            Change::Write(text.as_bytes())
        });
        match changed {
            Changed::Written(version) => Outcome::Counter { value: sum, version: op.version_wanted.then_some(version) },
            Changed::OutOfMemory => Outcome::OutOfMemory,
            _ => refused,
        }
    }

    /// Changes the record of a key as the function says, in one step. Every change draws a new version.
    #[inline]
    fn update<'c>(
        &mut self,
        key: &[u8],
        hash: u64,
        hint: Handle,
        change: impl FnOnce(Option<Record<'_>>) -> Change<'c>,
    ) -> Changed {
        let found = self.find(key, hash, hint);
        let change = change(found.map(|(_, record)| record));
        let found = found.map(|(handle, _)| handle);
        if let Change::Write(value) = change {
            // Before the change begins: a protocol's mistake must not stop the node.
            let is_valid = key.len() <= KEY_BYTES_MAX as usize && value.len() <= VALUE_BYTES_MAX as usize;
            assert!(is_valid, "protocols check lengths: {} and {} bytes", key.len(), value.len());
        }
        let unfinished = Unfinished;
        let changed = match (change, found) {
            (Change::Write(value), Some(handle)) => self.overwrite(key, hash, handle, value),
            (Change::Write(value), None) => self.insert(key, hash, value),
            (Change::Remove, Some(handle)) => self.remove(hash, handle),
            (Change::Remove, None) | (Change::Keep, _) => Changed::Kept,
        };
        std::mem::forget(unfinished);
        changed
    }

    #[inline]
    fn overwrite(&mut self, key: &[u8], hash: u64, handle: Handle, value: &[u8]) -> Changed {
        let Some(target) = self.records.overwrite(handle, self.version + 1, key, value) else {
            return Changed::OutOfMemory;
        };
        if target != handle {
            self.index.replace(hash, handle, target);
            self.handles_freed += 1;
        }
        debug_assert!(
            self.find(key, hash, Handle::NONE).is_some_and(|(found, _)| found == target),
            "the index follows"
        );
        self.version += 1;
        Changed::Written(self.version)
    }

    fn insert(&mut self, key: &[u8], hash: u64, value: &[u8]) -> Changed {
        debug_assert!(self.find(key, hash, Handle::NONE).is_none(), "a key has one record");
        if !self.index.make_room(hash, &self.records) {
            return Changed::OutOfMemory;
        }
        let Some(handle) = self.records.insert(self.version + 1, key, value) else {
            return Changed::OutOfMemory;
        };
        self.index.insert(hash, handle);
        debug_assert!(self.find(key, hash, Handle::NONE).is_some(), "what is inserted is found");
        self.version += 1;
        Changed::Written(self.version)
    }

    /// Takes the record of another node, under the version that it has there: whatever is drawn here later is newer.
    /// One that is newer already stays. False where there is no memory for it.
    pub(super) fn import(&mut self, key: &[u8], hash: u64, version: Version, value: &[u8]) -> bool {
        let found = self.find(key, hash, Handle::NONE).map(|(handle, record)| (handle, record.version));
        if found.is_some_and(|(_, there)| there >= version) {
            return true;
        }
        let unfinished = Unfinished;
        let own = std::mem::replace(&mut self.version, version - 1);
        let changed = match found {
            Some((handle, _)) => self.overwrite(key, hash, handle, value),
            None => self.insert(key, hash, value),
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
    pub(super) fn forget_all(&mut self, gone: impl Iterator<Item = Handle>) {
        for handle in gone {
            let hash = self.records.hash(handle);
            let unfinished = Unfinished;
            self.remove(hash, handle);
            std::mem::forget(unfinished);
        }
    }

    /// The record of a key.
    pub(super) fn record(&self, key: &[u8], hash: u64) -> Option<Record<'_>> {
        self.find(key, hash, Handle::NONE).map(|(_, record)| record)
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

    /// The record of a key: the hint if it is right, else what the index finds.
    #[inline(always)]
    fn find(&self, key: &[u8], hash: u64, hint: Handle) -> Option<(Handle, Record<'_>)> {
        self.find_where(hash, hint, |other| *other == *key)
    }

    #[inline(always)]
    fn find_where(&self, hash: u64, hint: Handle, is_wanted: impl Fn(Key<'_>) -> bool) -> Option<(Handle, Record<'_>)> {
        if hint != Handle::NONE {
            let record = self.records.get(hint);
            if is_wanted(record.key) {
                return Some((hint, record));
            }
        }
        let handle = self.index.find(hash, |handle| is_wanted(self.records.get(handle).key))?;
        Some((handle, self.records.get(handle)))
    }

    pub(super) fn records(&self) -> &Records {
        &self.records
    }

    pub(super) fn index_stats(&self) -> IndexStats {
        self.index.stats()
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
