//! Gets of a batch that repeat one before them, with no other kind of operation on their key between: they are told
//! what the first was told, once no shard is locked any more, and not executed.
//!
//! ```text
//!   get a   put b   get a   get b   put a   get a   get a
//!     1               =1                      2       =2
//! ```
//!
//! So a shard is locked for one of the many gets on a popular key, and for no copy of the others. To look for them
//! costs more than it saves where nobody waits: who had to wait for shards lately looks.
#![forbid(unsafe_code)]

use crate::hash::{Key, ShortKey};
use crate::op::{Batch, Outcomes, Position};

/// Places of the table, at most: 256 KiB, which a core's own cache holds.
const PLACES_MAX: usize = 1 << 14;

/// The gets of a batch so far, by their keys, and those that repeat another one.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    /// A place has the last get that came to it. Where two keys share one, repeats are executed like any other get.
    places: Vec<Place>,
    mask: usize,
    /// Of which batch the places are that count; 0 is of none.
    batch: u8,
    found: Vec<Repeat>,
}

/// A get: where it stands, and its key or, where that is long, its hash.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    word: u64,
    offset: u32,
    index: u16,
    /// The length of a short key, else [`LONG`].
    key_bytes: u8,
    batch: u8,
}

const LONG: u8 = u8::MAX;

const _: () = assert!(size_of::<Place>() == 16);

/// A get that is told what another one is told.
#[derive(Debug, Clone, Copy)]
struct Repeat {
    index: u16,
    first: u16,
    offset: u32,
}

impl Repeats {
    /// Begins a batch of `ops` operations.
    pub(super) fn begin(&mut self, ops: u32) {
        self.found.clear();
        let places = (2 * ops as usize).next_power_of_two().min(PLACES_MAX);
        if self.places.len() < places {
            self.places.resize(places, Place::default());
        }
        self.mask = places - 1;
        self.batch = self.batch.checked_add(1).unwrap_or_else(|| {
            self.places.fill(Place::default());
            1
        });
    }

    /// Whether a plain get of a short key repeats one before it; if not, others may repeat this one.
    #[inline(always)]
    pub(super) fn is_repeat(&mut self, hash: u64, key: ShortKey, at: Position) -> bool {
        let get = Place { word: key.word, key_bytes: key.bytes, ..self.get(at) };
        let place = self.place(hash);
        let is_same = (place.word, place.key_bytes, place.batch) == (get.word, get.key_bytes, get.batch);
        let first = place.index;
        *place = if is_same { *place } else { get };
        if is_same {
            self.found.push(Repeat { index: get.index, first, offset: get.offset });
        }
        is_same
    }

    /// The same of a long key of `batch`.
    #[inline]
    pub(super) fn is_long_repeat(&mut self, hash: u64, key: Key<'_>, at: Position, batch: &impl Batch) -> bool {
        let get = Place { word: hash, key_bytes: LONG, ..self.get(at) };
        let place = self.place(hash);
        let first = Position { index: place.index.into(), offset: place.offset };
        let is_same = (place.word, place.key_bytes, place.batch) == (get.word, get.key_bytes, get.batch)
            && batch.plain_get(first) == &*key;
        if is_same {
            self.found.push(Repeat { index: get.index, first: first.index as u16, offset: get.offset });
        } else {
            *place = get;
        }
        is_same
    }

    /// An operation of another kind: a get behind it repeats none before it.
    #[inline(always)]
    pub(super) fn forget(&mut self, hash: u64) {
        self.place(hash).batch = 0;
    }

    /// Tells each repeat what its first was told.
    #[inline]
    pub(super) fn tell(&self, outcomes: &mut impl Outcomes) {
        for Repeat { index, first, .. } in &self.found {
            outcomes.set_again((*index).into(), (*first).into());
        }
    }

    /// Where the repeat stands that was found as the `at`th.
    pub(super) fn position(&self, at: usize) -> Option<Position> {
        self.found.get(at).map(|repeat| Position { index: repeat.index.into(), offset: repeat.offset })
    }

    /// A get of the batch, without its key.
    #[inline(always)]
    fn get(&self, at: Position) -> Place {
        Place { word: 0, offset: at.offset, index: at.index as u16, key_bytes: 0, batch: self.batch }
    }

    #[inline(always)]
    fn place(&mut self, hash: u64) -> &mut Place {
        // Bits that neither tag nor shard takes.
        &mut self.places[(hash >> 40) as usize & self.mask]
    }
}

/// Whether a thread had to wait for shards lately, in more than half of its batches.
#[derive(Debug, Default)]
pub(super) struct Waits {
    /// Up with a batch that waited, down with one that did not.
    score: u32,
}

impl Waits {
    /// What makes waits frequent.
    const FREQUENT: u32 = 32;

    /// Where repeats are told nobody waits any more: for so many batches that is no reason to execute them.
    const MAX: u32 = 1024;

    pub(super) fn are_frequent(&self) -> bool {
        self.score >= Self::FREQUENT
    }

    /// A batch is over.
    pub(super) fn note(&mut self, has_waited: bool) {
        self.score = match has_waited {
            // So long it lasts until waiting is tried again.
            true if self.are_frequent() => Self::MAX,
            true => self.score + 1,
            false => self.score.saturating_sub(1),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of so many batches those at whose beginning waits were frequent.
    fn frequent(batches: usize, has_waited: impl Fn(usize) -> bool) -> usize {
        let mut waits = Waits::default();
        let mut frequent = 0;
        for batch in 0..batches {
            frequent += usize::from(waits.are_frequent());
            waits.note(has_waited(batch));
        }
        frequent
    }

    #[test]
    fn waits_are_frequent_where_more_than_half_of_the_batches_wait() {
        assert_eq!(frequent(10_000, |batch| batch % 2 == 0), 0);
        assert!(frequent(10_000, |batch| batch % 3 != 0) > 9_000);
        assert_eq!(frequent(10_000, |batch| batch < 10), 0, "a few are none");
    }

    #[test]
    fn waits_that_end_are_forgotten() {
        assert!((1_000..1_100).contains(&frequent(10_000, |batch| batch < 40)));
    }
}
