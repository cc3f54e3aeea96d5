//! Records that leave with their slots, or come with them, chunk by chunk, while the node serves.
//!
//! ```text
//!   export   note, under the lock of its shard, each key of the slots that may change from now on, or is seen gone
//!            walk over the slabs: what does not change stays where it is, and is met; what does is noted
//!            hand over the noted keys as they are by now, again and again; the last ones when the slots are given up
//!   import   take what comes under the versions that it has; nobody serves it until the slots are owned
//!   sweep    forget every record whose slot is not the node's
//! ```
//!
//! A record keeps its deadline, an instant of the wall clock. The clock of its new node may be behind: so a record that
//! anybody saw expired does not go over, and nothing comes back that was seen gone, however far the clocks are apart.
//!
//! A shard that notes goes by an [`Ownership`] of its own, equal to the store's: so its bins take the way of those
//! whose slots were changed since the batch was dealt, and a batch that meets no move looks at nothing for it.
//!
//! When the slots are given up, what is noted stays to be handed over, and nothing is noted any more. No operation
//! changes their records then, and one that is evicted may be there on the new owner: nobody saw that it was gone, for
//! nobody was served since. If it was not handed over yet, it is gone there too.
#![forbid(unsafe_code)]

use super::evict::Evictor;
use super::execute::Entry;
use super::index::Index;
use super::ownership::Ownership;
use super::record::{Record, Records, Written};
use super::shard::Shard;
use super::slab::Handle;
use super::store::{AnyShard, Locked, Store};
use crate::budget::Budget;
use crate::hash::{self, Key};
use crate::limits::MOVE_NOTED_BYTES_MAX;
use crate::op::{Action, Batch, Carried, Time, VERSION_ABSENT, Version};
use crate::slots::SlotSet;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Slots of a slab that are looked at while its shard is locked.
const LOOKS: usize = 1_024;

/// Times that shards are locked for one chunk: so many that a chunk is worth its frame where few slots move.
const HOLDS_MAX: usize = 64;

/// Bytes that a noted key takes beyond its own, roughly: its place in the set.
const NOTE_BYTES: u64 = 48;

/// Keys of one shard that may have changed. Ordered, so that a seed replays their order.
#[derive(Debug)]
pub(super) struct Notes {
    slots: Arc<SlotSet>,
    keys: BTreeSet<Box<[u8]>>,
    tally: Arc<Tally>,
}

/// What all shards have noted for one export.
#[derive(Debug)]
struct Tally {
    keys: AtomicU64,
    /// Charged to the node's account.
    bytes: AtomicU64,
    /// Whether a key was not noted for want of room: the export is void.
    overflowed: AtomicBool,
    budget: Arc<Budget>,
}

impl Tally {
    // Relaxed throughout: what is noted is read under the locks of the shards, this only counts.
    fn add(&self, key: &[u8]) -> bool {
        let bytes = key.len() as u64 + NOTE_BYTES;
        let has_room = self.bytes.load(Ordering::Relaxed) + bytes <= MOVE_NOTED_BYTES_MAX && self.budget.charge(bytes);
        if has_room {
            self.keys.fetch_add(1, Ordering::Relaxed);
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
        } else {
            self.overflowed.store(true, Ordering::Relaxed);
        }
        has_room
    }

    fn remove(&self, key: &[u8]) {
        let bytes = key.len() as u64 + NOTE_BYTES;
        self.keys.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.budget.credit(bytes);
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        self.budget.credit(*self.bytes.get_mut());
    }
}

impl Notes {
    /// The slots that are on the move.
    pub(super) fn slots(&self) -> &SlotSet {
        &self.slots
    }

    /// What they are charged to.
    pub(super) fn budget(&self) -> &Budget {
        &self.tally.budget
    }

    pub(super) fn note(&mut self, key: &[u8]) {
        if self.slots.contains(hash::slot(key)) && !self.keys.contains(key) && self.tally.add(key) {
            self.keys.insert(key.into());
        }
    }

    fn take(&mut self) -> Option<Box<[u8]>> {
        self.keys.pop_first().inspect(|key| self.tally.remove(key))
    }
}

impl Locked {
    /// Goes by these slots from now on, and notes nothing that is evicted from now on. Both under one lock: what
    /// anybody may have seen gone is noted.
    pub(super) fn go_by(&mut self, owned: &Arc<Ownership>) {
        // What a batch left behind that panicked.
        self.note_evicted();
        self.owned = Some(Arc::clone(owned));
        self.set_evicted_noted(false);
    }

    /// Notes the keys that a bin of this time may change, or find expired, before it does.
    pub(super) fn note(&mut self, bin: &[Entry], batch: &impl Batch, now: Time) {
        let Some(notes) = &mut self.notes else { return };
        let shard = self.shard.moving_mut();
        shard.advance(now);
        for (op, hash) in bin.iter().map(|entry| (batch.op(entry.position()), entry.hash())) {
            if op.action != Action::Get || shard.is_expired(op.key, hash) {
                notes.note(op.key);
            }
        }
    }
}

/// Slots on their way out of a store: how far they are.
#[derive(Debug)]
pub struct Export {
    slots: Arc<SlotSet>,
    tally: Arc<Tally>,
    /// Where the walk goes on, a shard and a handle; `None` where it is over.
    walk: Option<(usize, Handle)>,
    /// Where it was before the latest chunk.
    walk_before: Option<(usize, Handle)>,
    /// The noted keys of the latest chunk, by shard: they count until it has arrived.
    handed: Vec<(usize, Box<[u8]>)>,
}

impl Export {
    /// The slots.
    #[must_use]
    pub fn slots(&self) -> &SlotSet {
        &self.slots
    }

    /// Whether more keys changed than are noted: what was exported is void.
    #[must_use]
    pub fn overflowed(&self) -> bool {
        self.tally.overflowed.load(Ordering::Relaxed)
    }

    /// Keys that are noted and not handed over; `None` while the walk is not over.
    #[must_use]
    pub fn keys_left(&self) -> Option<u64> {
        self.walk.is_none().then(|| self.tally.keys.load(Ordering::Relaxed))
    }
}

/// Forgetting what is not the node's: how far it is.
#[derive(Debug)]
pub struct Sweep {
    keep: SlotSet,
    at: (usize, Handle),
}

impl Sweep {
    /// A sweep that leaves the records of these slots.
    #[must_use]
    pub fn new(keep: SlotSet) -> Self {
        Self { keep, at: (0, Handle::FIRST) }
    }
}

impl Store {
    /// Begins to note what changes in these slots. One export at a time: another one that was begun is over.
    ///
    /// Blocks until each shard was free for a moment.
    ///
    /// # Panics
    /// On a store whose ownership was never set.
    #[must_use]
    pub fn begin_export(&self, slots: SlotSet) -> Export {
        let slots = Arc::new(slots);
        let (keys, bytes) = (AtomicU64::new(0), AtomicU64::new(0));
        let overflowed = AtomicBool::new(false);
        let tally = Arc::new(Tally { keys, bytes, overflowed, budget: Arc::clone(&self.budget) });
        self.ownership.hold(|owned| {
            let owned = owned.as_ref().expect("slots leave a node that works with a map");
            let equal: Arc<Ownership> = Arc::new((**owned).clone());
            for mut locked in self.each_locked() {
                locked.owned = Some(Arc::clone(&equal));
                let (slots, tally) = (Arc::clone(&slots), Arc::clone(&tally));
                locked.notes = Some(Box::new(Notes { slots, keys: BTreeSet::new(), tally }));
                locked.set_evicted_noted(true);
            }
        });
        let walk = Some((0, Handle::FIRST));
        Export { slots, tally, walk, walk_before: walk, handed: Vec::new() }
    }

    /// Notes nothing any more: every export is over.
    pub fn end_export(&self) {
        self.ownership.hold(|owned| {
            for mut locked in self.each_locked() {
                locked.owned.clone_from(owned);
                locked.notes = None;
                locked.set_evicted_noted(false);
            }
        });
    }

    /// Hands the next records over until `take` wants no more, and keys that are gone, with [`VERSION_ABSENT`]. What is
    /// handed over counts as arrived only where the next call says so; else it is handed over again. `take` must
    /// want the first one, or nothing ever moves on.
    ///
    /// Blocks for a bounded number of records.
    pub fn export_next(&self, export: &mut Export, has_arrived: bool, mut take: impl FnMut(Carried<'_>) -> bool) {
        if has_arrived {
            export.handed.clear();
            export.walk_before = export.walk;
        } else {
            export.walk = export.walk_before;
            for (shard, key) in export.handed.drain(..) {
                if let Some(notes) = &mut self.lock(shard).notes {
                    notes.note(&key);
                }
            }
        }
        let crowded = export.tally.bytes.load(Ordering::Relaxed) > MOVE_NOTED_BYTES_MAX / 2;
        if export.walk.is_some() && !crowded {
            self.export_walked(export, &mut take);
        } else {
            self.export_noted(export, &mut take);
        }
    }

    fn export_walked(&self, export: &mut Export, take: &mut impl FnMut(Carried<'_>) -> bool) {
        for _ in 0..HOLDS_MAX {
            let Some((shard, from)) = export.walk else { return };
            let locked = self.lock(shard);
            let (records, now) = (locked.shard.moving().records(), locked.shard.moving().now());
            let (handles, next) = records.used_from(from, LOOKS);
            for handle in handles {
                let record = records.get(handle);
                if !export.slots.contains(hash::slot(record.key)) || record.is_expired(now) {
                    continue;
                }
                let Record { version, key, value, deadline } = record;
                if !take(Carried { key: key.as_bytes(), version, value, deadline }) {
                    export.walk = Some((shard, handle));
                    return;
                }
            }
            let next_shard = || (shard + 1 < self.shards()).then_some((shard + 1, Handle::FIRST));
            export.walk = next.map(|handle| (shard, handle)).or_else(next_shard);
        }
    }

    fn export_noted(&self, export: &mut Export, take: &mut impl FnMut(Carried<'_>) -> bool) {
        for shard in 0..self.shards() {
            let mut locked = self.lock(shard);
            let Locked { shard: any, notes: Some(notes), .. } = &mut *locked else { return };
            while let Some(key) = notes.take() {
                let (shard_of_key, gone) = (any.moving(), Carried { key: &key, ..Carried::GONE });
                let record = shard_of_key.record(&key, self.hasher.index_hash(&key[..]));
                let record = record.filter(|record| !record.is_expired(shard_of_key.now()));
                let carried = record.map_or(gone, |Record { version, value, deadline, .. }| Carried {
                    key: &key,
                    version,
                    value,
                    deadline,
                });
                if !take(carried) {
                    return notes.note(&key);
                }
                export.handed.push((shard, key));
            }
        }
    }

    /// Takes a record of another node, or that it is gone there. False where there is no memory for it.
    ///
    /// The caller knows that its slot is not owned meanwhile.
    #[must_use]
    pub fn import(&self, carried: Carried<'_>) -> bool {
        let Carried { key, version, value, deadline } = carried;
        if self.evicts && version != VERSION_ABSENT {
            return self.import_evicting(carried);
        }
        let hash = self.hasher.index_hash(key);
        let mut locked = self.lock(self.shard_of(key));
        let shard = locked.shard.moving_mut();
        if version == VERSION_ABSENT {
            shard.forget(key, hash);
            return true;
        }
        shard.import(key, hash, version, Written { value, deadline })
    }

    /// The highest version of any change so far.
    #[must_use]
    pub fn version_max(&self) -> Version {
        self.each_locked().map(|locked| locked.shard.moving().version()).max().unwrap_or(VERSION_ABSENT)
    }

    /// Draws no version up to this one any more, in any shard.
    pub fn raise_versions(&self, version: Version) {
        self.each_locked().for_each(|mut locked| locked.shard.moving_mut().raise_version(version));
    }

    /// Forgets what a bounded number of looks finds; true where there is more to look at.
    #[must_use]
    pub fn sweep(&self, sweep: &mut Sweep) -> bool {
        let (shard, from) = sweep.at;
        let mut locked = self.lock(shard);
        let moving = locked.shard.moving_mut();
        let (mut handles, next) = moving.records().used_from(from, LOOKS);
        handles.retain(|handle| !sweep.keep.contains(hash::slot(moving.records().get(*handle).key)));
        moving.forget_all(&handles);
        sweep.at = next.map_or((shard + 1, Handle::FIRST), |handle| (shard, handle));
        sweep.at.0 < self.shards()
    }
}

/// What moving asks of a shard, whichever its index.
pub(super) trait Moving {
    fn records(&self) -> &Records;
    fn record(&self, key: &[u8], hash: u64) -> Option<Record<'_>>;
    /// Shows every record of the segment of a hash, and gives the first hash behind it, if there is one.
    fn segment(&self, hash: u64, visit: &mut dyn FnMut(Handle)) -> Option<u64>;
    fn version(&self) -> Version;
    fn raise_version(&mut self, version: Version);
    fn now(&self) -> Time;
    fn advance(&mut self, now: Time);
    fn is_expired(&self, key: &[u8], hash: u64) -> bool;
    fn import(&mut self, key: &[u8], hash: u64, version: Version, content: Written<'_>) -> bool;
    fn forget(&mut self, key: &[u8], hash: u64);
    fn forget_all(&mut self, gone: &[Handle]);
    fn forget_expired(&mut self, is_moving: &dyn Fn(Key<'_>) -> bool, looks: usize) -> bool;
    fn evictor(&mut self) -> Option<&mut Evictor>;
    fn bytes_refused(&self) -> u64;
    /// Gives memory back to the account, if there is any to give.
    fn give_up_chunk(&mut self);
}

impl<I: Index> Moving for Shard<I> {
    fn records(&self) -> &Records {
        self.records()
    }

    fn record(&self, key: &[u8], hash: u64) -> Option<Record<'_>> {
        self.record(key, hash)
    }

    fn segment(&self, hash: u64, visit: &mut dyn FnMut(Handle)) -> Option<u64> {
        self.index().segment(hash, visit)
    }

    fn version(&self) -> Version {
        self.version()
    }

    fn raise_version(&mut self, version: Version) {
        self.raise_version(version);
    }

    fn now(&self) -> Time {
        self.now()
    }

    fn advance(&mut self, now: Time) {
        self.advance(now);
    }

    fn is_expired(&self, key: &[u8], hash: u64) -> bool {
        self.record(key, hash).is_some_and(|record| record.is_expired(self.now()))
    }

    fn import(&mut self, key: &[u8], hash: u64, version: Version, content: Written<'_>) -> bool {
        if self.evicts() {
            return self.import_evicting(key, hash, version, content);
        }
        self.import(key, hash, version, content)
    }

    fn forget(&mut self, key: &[u8], hash: u64) {
        self.forget(key, hash);
    }

    fn forget_all(&mut self, gone: &[Handle]) {
        self.forget_all(gone);
    }

    fn forget_expired(&mut self, is_moving: &dyn Fn(Key<'_>) -> bool, looks: usize) -> bool {
        self.forget_expired(is_moving, looks)
    }

    fn evictor(&mut self) -> Option<&mut Evictor> {
        self.evictor.as_deref_mut()
    }

    fn bytes_refused(&self) -> u64 {
        self.bytes_refused()
    }

    fn give_up_chunk(&mut self) {
        let _gave_some = self.give_up_chunk();
    }
}

impl AnyShard {
    pub(super) fn moving(&self) -> &dyn Moving {
        match self {
            Self::Buckets(shard) => shard,
            #[cfg(feature = "leapfrog")]
            Self::Leapfrog(shard) => shard,
        }
    }

    pub(super) fn moving_mut(&mut self) -> &mut dyn Moving {
        match self {
            Self::Buckets(shard) => shard,
            #[cfg(feature = "leapfrog")]
            Self::Leapfrog(shard) => shard,
        }
    }
}
