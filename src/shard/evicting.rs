//! Pass 3 where records are evicted: counts hits, and makes room for what is refused.
//!
//! ```text
//!   get      found? hand it over, count the hit
//!   change   execute it --> refused for want of memory, so nothing was changed --> evict --> execute it again ...
//!                       --> done: its record is queued, or keeps its place
//!   no room though nothing is left to evict here --> stop; the store takes memory from other shards, and goes on
//! ```
//!
//! An operation takes effect at once, under the lock, as everywhere; a record that is evicted for it was absent before.
#![forbid(unsafe_code)]

use super::execute::Entry;
use super::index::Index;
use super::ownership::{self, Owned};
use super::record::Written;
use super::shard::Shard;
use super::slab::Handle;
use super::store::{Locked, Store};
use crate::op::{Action, Batch, Carried, Op, Outcome, Outcomes, Time, VERSION_ABSENT, Version};
use std::borrow::Cow;
use std::sync::atomic::Ordering;

/// Times that one operation makes room: more than it takes to evict a value's worth of the smallest records that have
/// pages of their own.
const ROUNDS_MAX: usize = 64;

/// Times that other shards give something up for one operation of another one.
const HELPED_MAX: usize = 8;

/// What is left of a bin to be executed.
pub(super) struct Rest<'a> {
    pub(super) shard: u32,
    pub(super) entries: Cow<'a, [Entry]>,
    /// By what the batch was dealt.
    pub(super) owned: &'a Owned,
}

impl Store {
    /// Executes what is left of a bin, waiting for its shard and, where that has no room, taking memory from others.
    /// Gives the epoch of the map by which it was sifted, 0 for none.
    pub(super) fn execute_rest(
        &self,
        rest: Rest<'_>,
        batch: &impl Batch,
        now: Time,
        outcomes: &mut impl Outcomes,
    ) -> u64 {
        let Rest { shard, mut entries, owned } = rest;
        let (mut epoch, mut helped, mut may_refuse) = (0, 0, false);
        loop {
            let mut locked = self.lock(shard as usize);
            locked.make_room_for_notes();
            if !ownership::is_same(&locked.owned, owned) {
                entries = Cow::Owned(ownership::sift(&locked.owned, &entries, batch, outcomes));
                locked.note(&entries, batch, now);
                epoch = epoch.max(ownership::epoch(&locked.owned));
            }
            let done = locked.shard.execute_bin(&entries, batch, now, may_refuse, outcomes);
            locked.note_evicted();
            if done == entries.len() {
                return epoch;
            }
            let bytes = locked.shard.moving().bytes_refused();
            drop(locked);
            match &mut entries {
                Cow::Borrowed(entries) => *entries = &entries[done..],
                Cow::Owned(entries) => _ = entries.drain(..done),
            }
            helped = if done > 0 { 1 } else { helped + 1 };
            may_refuse = helped > HELPED_MAX || !self.make_others_give(bytes, shard as usize);
        }
    }

    /// [`Store::import`] of a record that is there, on a store that evicts.
    pub(super) fn import_evicting(&self, carried: Carried<'_>) -> bool {
        let Carried { key, version, value, deadline } = carried;
        debug_assert!(version != VERSION_ABSENT, "there is a record");
        let (hash, shard) = (self.hasher.index_hash(key), self.shard_of(key));
        for _ in 0..HELPED_MAX {
            let mut locked = self.lock(shard);
            let is_in = locked.shard.moving_mut().import(key, hash, version, Written { value, deadline });
            locked.note_evicted();
            if is_in {
                return true;
            }
            let bytes = locked.shard.moving().bytes_refused();
            drop(locked);
            if !self.make_others_give(bytes, shard) {
                break;
            }
        }
        false
    }

    /// Lets shards in turn evict until the account has room for so many bytes; false where that is not to be had.
    fn make_others_give(&self, bytes: u64, but: usize) -> bool {
        // Each has nothing left to give, or gives a chunk or a record with pages of its own.
        for _ in 0..ROUNDS_MAX + 2 * self.shards() {
            if self.budget.has_room(bytes) {
                return true;
            }
            // Relaxed: it deals turns, and orders nothing.
            let shard = self.next_to_give.fetch_add(1, Ordering::Relaxed) % self.shards();
            if shard != but {
                let mut locked = self.lock(shard);
                locked.shard.moving_mut().give_up_chunk();
                locked.note_evicted();
            }
        }
        self.budget.has_room(bytes)
    }
}

/// Bytes of the account that are free for the keys that a bin changes and evicts while its slots move.
const NOTES_ROOM_BYTES: u64 = 256 << 10;

impl Locked {
    /// Notes are of no use where the account has no room for them.
    fn make_room_for_notes(&mut self) {
        let is_full = self.notes.as_ref().is_some_and(|notes| !notes.budget().has_room(NOTES_ROOM_BYTES));
        if is_full && self.shard.moving_mut().evictor().is_some() {
            self.shard.moving_mut().give_up_chunk();
            self.note_evicted();
        }
    }

    /// Whether the evictor tells the keys that it evicts.
    pub(super) fn set_evicted_noted(&mut self, is_noted: bool) {
        if let Some(evictor) = self.shard.moving_mut().evictor() {
            evictor.noted = is_noted.then(Vec::new);
        }
    }

    /// Notes the keys that were evicted: what was seen gone does not come back on another node.
    pub(super) fn note_evicted(&mut self) {
        let Some(notes) = &mut self.notes else { return };
        if let Some(keys) = self.shard.moving_mut().evictor().and_then(|evictor| evictor.noted.as_mut()) {
            keys.drain(..).for_each(|key| notes.note(&key));
        }
    }
}

impl<I: Index> Shard<I> {
    /// Whether records are evicted where memory is full.
    #[inline(always)]
    pub(super) fn evicts(&self) -> bool {
        self.evictor.is_some()
    }

    /// Executes operations, in order, up to one for which there is no room here; gives the number of those that were
    /// executed. The first may be refused, if it `may_refuse`.
    pub(super) fn execute_evicting(
        &mut self,
        entries: &[Entry],
        hints: &[Handle],
        batch: &impl Batch,
        may_refuse: bool,
        outcomes: &mut impl Outcomes,
    ) -> usize {
        let handles_freed = self.handles_freed();
        for (done, (entry, hint)) in entries.iter().zip(hints).enumerate() {
            let hint = if self.handles_freed() == handles_freed { *hint } else { Handle::NONE };
            let (index, hash) = (entry.position().index, entry.hash());
            if entry.is_plain_get() {
                let found = match entry.short_get() {
                    Some(key) => self.find_handle(|other| other.is(key), hash, hint),
                    None => {
                        let wanted = batch.plain_get(entry.position());
                        self.find_handle(|other| *other == *wanted, hash, hint)
                    }
                };
                self.get_at(found, false, index, outcomes);
                continue;
            }
            let op = batch.op(entry.position());
            if op.action == Action::Get {
                let found = self.find_handle(|other| *other == *op.key, hash, hint);
                self.get_at(found, op.version_wanted, index, outcomes);
                continue;
            }
            // Where others could not help the record itself goes, before its change.
            let is_last_try = may_refuse && done == 0;
            if !self.change_evicting(&op, hash, hint, !is_last_try, index, outcomes) {
                if !is_last_try {
                    return done;
                }
                outcomes.set(index, Outcome::OutOfMemory);
            }
        }
        entries.len()
    }

    /// Hands a record over, and counts the hit.
    #[inline]
    fn get_at(&mut self, found: Option<Handle>, version_wanted: bool, index: u32, outcomes: &mut impl Outcomes) {
        let now = self.now();
        let record = found.map(|handle| (handle, self.records.get_marked(handle)));
        let Some((handle, record)) = record.filter(|(_, record)| !record.is_expired(now)) else {
            return outcomes.set(index, Outcome::NotFound);
        };
        let version = version_wanted.then_some(record.version);
        outcomes.set(index, Outcome::Value { value: record.value, version });
        if self.evictor.as_ref().is_some_and(|evictor| evictor.counts_hits()) {
            self.records.hit(handle);
        }
    }

    /// Executes a change, and evicts for it; false, and nothing changed, where there is no room for it all the same.
    fn change_evicting(
        &mut self,
        op: &Op<'_>,
        hash: u64,
        hint: Handle,
        keeps: bool,
        index: u32,
        outcomes: &mut impl Outcomes,
    ) -> bool {
        let before = self.find_handle(|other| *other == *op.key, hash, hint);
        self.with_room(op.key, hash, before, keeps, |shard, hint| {
            let mut outcomes = Refusable { outcomes: &mut *outcomes, is_refused: false };
            shard.execute(op, hash, hint, index, &mut outcomes);
            !outcomes.is_refused
        })
    }

    /// As [`Shard::import`], and evicts for it.
    pub(super) fn import_evicting(&mut self, key: &[u8], hash: u64, version: Version, content: Written<'_>) -> bool {
        let before = self.find_handle(|other| *other == *key, hash, Handle::NONE);
        self.with_room(key, hash, before, true, |shard, _| shard.import(key, hash, version, content))
    }

    /// Makes a change of the record of a key, evicting while it is refused, and queues what was written. The record
    /// that is there is not evicted for its own change, if it `keeps` it.
    fn with_room(
        &mut self,
        key: &[u8],
        hash: u64,
        before: Option<Handle>,
        keeps: bool,
        mut change: impl FnMut(&mut Self, Handle) -> bool,
    ) -> bool {
        let before = before.map(|handle| (handle, self.records.marks(handle)));
        self.pin(before.filter(|_| keeps).map_or(Handle::NONE, |(handle, _)| handle));
        let handles_freed = self.handles_freed();
        let mut rounds = 0;
        let is_done = loop {
            self.records.slab.forget_refusal();
            let hint = before.filter(|_| self.handles_freed() == handles_freed);
            if change(self, hint.map_or(Handle::NONE, |(handle, _)| handle)) {
                break true;
            }
            rounds += 1;
            if rounds > ROUNDS_MAX || !self.make_way() {
                break false;
            }
        };
        self.pin(Handle::NONE);
        // Where no handle was freed the record is where it was.
        let stays = before.filter(|_| self.handles_freed() == handles_freed).map(|(handle, _)| handle);
        let after = stays.or_else(|| self.find_handle(|other| *other == *key, hash, Handle::NONE));
        let now = self.now();
        if let (Some(handle), Some(evictor)) = (after, &mut self.evictor) {
            evictor.written(&mut self.records, handle, hash, before, now);
        }
        is_done
    }

    fn pin(&mut self, handle: Handle) {
        if let Some(evictor) = &mut self.evictor {
            evictor.pinned = handle;
        }
    }
}

/// Outcomes that keep it to themselves where memory was refused.
struct Refusable<'o, O> {
    outcomes: &'o mut O,
    is_refused: bool,
}

impl<O: Outcomes> Outcomes for Refusable<'_, O> {
    #[inline]
    fn set(&mut self, index: u32, outcome: Outcome<'_>) {
        if outcome == Outcome::OutOfMemory {
            self.is_refused = true;
        } else {
            self.outcomes.set(index, outcome);
        }
    }

    fn has_room(&mut self, value_bytes: usize) -> bool {
        self.outcomes.has_room(value_bytes)
    }
}
