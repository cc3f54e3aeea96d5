//! Memory of expired records comes back though nobody asks for them.
//!
//! ```text
//!   a shard knows that no deadline is sooner than `soonest`: every deadline that is written brings it forward
//!   is it reached?   walk over the slab, some slots at a time: forget what is expired, note the soonest of the rest
//!   end of the walk  soonest = what was noted, or was written meanwhile
//! ```
//!
//! So nothing is walked over before something may have expired, and nothing at all where no record has a deadline.
#![forbid(unsafe_code)]

use super::index::Index;
use super::record::Walk;
use super::shard::Shard;
use super::slab::Handle;
use super::store::Store;
use crate::hash::{self, Key};
use crate::op::Time;

/// Slots of a slab that are looked at while its shard is locked: those of a few microseconds.
const LOOKS: usize = 256;

impl Store {
    /// Takes a step of forgetting the expired records of a shard, by its number from 0, and tells whether there is more
    /// to do there now. Records of slots on the move stay: their new owner looks by itself, and nothing is noted for
    /// them.
    ///
    /// Blocks until the shard is free, and then for a bounded number of looks.
    ///
    /// # Panics
    /// Where there is no such shard.
    #[must_use]
    pub fn forget_expired(&self, shard: usize, now: Time) -> bool {
        let mut locked = self.lock(shard);
        let locked = &mut *locked;
        let moving = locked.notes.as_deref().map(|notes| notes.slots());
        let is_moving = |key: Key<'_>| moving.is_some_and(|slots| slots.contains(hash::slot(key)));
        let shard = locked.shard.moving_mut();
        shard.advance(now);
        shard.forget_expired(&is_moving, LOOKS)
    }

    /// Number of shards.
    #[must_use]
    pub fn shard_count(&self) -> usize {
        self.shards()
    }
}

impl<I: Index> Shard<I> {
    /// Goes on with the walk under way, or begins one where something may have expired; whether it is not over.
    pub(super) fn forget_expired(&mut self, is_moving: impl Fn(Key<'_>) -> bool, looks: usize) -> bool {
        let now = self.now();
        let records = self.records_mut();
        let mut walk = match records.walk.take() {
            Some(walk) => walk,
            None if records.soonest() > now => return false,
            None => {
                records.set_soonest(Time::MAX);
                Walk { from: Handle::FIRST, soonest: Time::MAX }
            }
        };
        let (mut handles, next) = records.used_from(walk.from, looks);
        handles.retain(|handle| {
            let record = records.get(*handle);
            let is_gone = record.is_expired(now) && !is_moving(record.key);
            if !is_gone {
                walk.soonest = walk.soonest.min(record.deadline.unwrap_or(Time::MAX));
            }
            is_gone
        });
        self.forget_all(&handles);
        self.expired += handles.len() as u64;
        let records = self.records_mut();
        match next {
            Some(from) => records.walk = Some(Walk { from, ..walk }),
            None => records.set_soonest(walk.soonest.min(records.soonest())),
        }
        next.is_some()
    }
}
