//! Every record, part by part, in the order of hashes.
//!
//! ```text
//!   cursor   63 .. 52 | 51 .. 24               | 23 .. 0
//!            shard    | top 28 bits of a hash  | low 24 bits        of the first hash that is not looked at yet
//! ```
//!
//! A record's hash never changes, whatever is split, joined or moved meanwhile: one that is there throughout is met
//! in the part that its hash belongs to. A part is what one segment of the index holds from the cursor on.
#![forbid(unsafe_code)]

use super::ownership;
use super::slab::Handle;
use super::store::{Locked, Store};
use crate::hash;
use crate::limits::SHARDS_MAX;
use crate::op::Time;
use std::sync::MutexGuard;

/// Where the shard stands in a cursor.
const SHARD_SHIFT: u32 = 64 - SHARDS_MAX.trailing_zeros();

/// Bits of a position that are the lowest of a hash, below those that name its shard.
const LOW_BITS: u32 = 24;

/// Bytes of keys behind which a part ends.
const KEY_BYTES_MAX: usize = 1 << 20;

const _: () = assert!(SHARD_SHIFT == 52 && LOW_BITS + SHARDS_MAX.trailing_zeros() == 36);

/// Where a hash stands among those of its shard, in 52 bits. Where there are fewer shards than there may be, hashes
/// that differ in the other bits alone share a place.
fn position(hash: u64) -> u64 {
    hash >> 36 << LOW_BITS | hash & ((1 << LOW_BITS) - 1)
}

/// The first hash at a position.
fn hash_at(position: u64) -> u64 {
    position >> LOW_BITS << 36 | position & ((1 << LOW_BITS) - 1)
}

impl Store {
    /// Shows the keys of a part of the store and gives the cursor of the next, 0 behind the last. A key that is there
    /// from the call with cursor 0 until one gives 0 is shown at least once; others may be, and again. Any number is
    /// a cursor.
    ///
    /// Blocks for a bounded number of records. Keys of slots that are not the node's are not shown.
    pub fn scan(&self, cursor: u64, now: Time, mut visit: impl FnMut(&[u8])) -> u64 {
        let Some((shard, locked, part)) = self.part(cursor, now, Wanted::Lasting) else { return 0 };
        let records = locked.shard.moving().records();
        part.handles.iter().for_each(|handle| visit(&records.get(*handle).key));
        self.cursor_behind(shard, part.end)
    }

    /// Removes the records of a part of the store, likewise: those that are there from the first call on, and others
    /// that came meanwhile.
    #[must_use]
    pub fn flush(&self, cursor: u64, now: Time) -> u64 {
        let Some((shard, mut locked, part)) = self.part(cursor, now, Wanted::All) else { return 0 };
        let Locked { shard: any, notes, .. } = &mut *locked;
        let moving = any.moving_mut();
        if let Some(notes) = notes {
            part.handles.iter().for_each(|handle| notes.note(&moving.records().get(*handle).key));
        }
        moving.forget_all(&part.handles);
        self.cursor_behind(shard, part.end)
    }

    fn part(&self, cursor: u64, now: Time, wanted: Wanted) -> Option<(usize, MutexGuard<'_, Locked>, Part)> {
        let shard = (cursor >> SHARD_SHIFT) as usize;
        if shard >= self.shards() {
            return None;
        }
        let mut locked = self.lock(shard);
        locked.shard.moving_mut().advance(now);
        let part = part_of(&locked, self, cursor & ((1 << SHARD_SHIFT) - 1), wanted);
        Some((shard, locked, part))
    }

    fn cursor_behind(&self, shard: usize, end: Option<u64>) -> u64 {
        match end {
            Some(position) => (shard as u64) << SHARD_SHIFT | position,
            None if shard + 1 < self.shards() => (shard as u64 + 1) << SHARD_SHIFT,
            None => 0,
        }
    }
}

/// Which records a part has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    /// Those whose deadline is not reached.
    Lasting,
    All,
}

/// Some records, and the position behind them; `None` at the end of the shard.
struct Part {
    handles: Vec<Handle>,
    end: Option<u64>,
}

/// What the segment at a position holds from there on, as far as its keys are not too long together.
fn part_of(locked: &Locked, store: &Store, from: u64, wanted: Wanted) -> Part {
    let moving = locked.shard.moving();
    let records = moving.records();
    let (mut found, mut key_bytes) = (Vec::new(), 0);
    let behind = moving.segment(hash_at(from), &mut |handle| {
        let record = records.get(handle);
        let (key, is_there) = (record.key, wanted == Wanted::All || !record.is_expired(moving.now()));
        let position = position(store.hasher.index_hash(key));
        if is_there && position >= from && ownership::is_owned(&locked.owned, hash::slot(key)) {
            key_bytes += key.len();
            found.push((position, handle));
        }
    });
    let mut end = behind.map(position);
    if key_bytes > KEY_BYTES_MAX {
        found.sort_unstable_by_key(|(position, _)| *position);
        let mut left = KEY_BYTES_MAX;
        let mut fits = |(_, handle): &(u64, Handle)| {
            let has_room = left > 0;
            left = left.saturating_sub(records.get(*handle).key.len());
            has_room
        };
        let kept = found.iter().take_while(|found| fits(found)).count();
        // All of one position stay together.
        if let Some((next, _)) = found.get(kept).copied() {
            let last = found[kept - 1].0;
            let kept = if next == last { found.partition_point(|(position, _)| *position <= last) } else { kept };
            end = found.get(kept).map_or(end, |(position, _)| Some(*position));
            found.truncate(kept);
        }
    }
    Part { handles: found.into_iter().map(|(_, handle)| handle).collect(), end }
}
