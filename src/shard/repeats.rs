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
    /// Forgets the repeats of the batch before.
    pub(super) fn clear(&mut self) {
        self.found.clear();
    }

    /// Begins a batch of `ops` operations that is looked through.
    pub(super) fn begin(&mut self, ops: u32) {
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

    /// Repeats of the batch.
    pub(super) fn count(&self) -> usize {
        self.found.len()
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

/// Whether a thread looks for repeats: where it had to wait for shards in more than half of [`Waits::WINDOW`] batches,
/// for the next [`Waits::LOOKED`], unless it hardly finds any.
#[derive(Debug, Default)]
pub(super) struct Waits {
    /// Batches of the window so far, and those of them that waited.
    batches: u32,
    waited: u32,
    /// Batches that are looked through yet.
    looking: u32,
    /// Batches until waits are counted again.
    resting: u32,
}

impl Waits {
    const WINDOW: u32 = 64;

    /// Where repeats are told nobody waits any more: for so long that is no reason to execute them.
    const LOOKED: u32 = 1024;

    /// So long it takes until a thread looks again that found one in sixteen operations at most.
    const RESTED: u32 = 4096;
    const OPS_PER_REPEAT: u32 = 16;

    /// Smaller batches neither count nor are looked through: they hold a shard for a moment.
    const OPS_MIN: u32 = 64;

    pub(super) fn are_frequent(&self, ops: u32) -> bool {
        self.looking > 0 && ops >= Self::OPS_MIN
    }

    /// A batch is over; `repeats` were found in it.
    pub(super) fn note(&mut self, has_waited: bool, ops: u32, repeats: usize) {
        if ops < Self::OPS_MIN {
            return;
        }
        if self.looking > 0 {
            self.looking -= 1;
            if repeats * Self::OPS_PER_REPEAT as usize <= ops as usize {
                (self.looking, self.resting) = (0, Self::RESTED);
            }
        } else if self.resting > 0 {
            self.resting -= 1;
        } else {
            self.batches += 1;
            self.waited += u32::from(has_waited);
            if self.batches == Self::WINDOW {
                self.looking = if 2 * self.waited > Self::WINDOW { Self::LOOKED } else { 0 };
                (self.batches, self.waited) = (0, 0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of so many batches those that are looked through, in each of which so many operations repeat another one.
    fn looked(batches: u32, repeats: usize, has_waited: impl Fn(u32) -> bool) -> u32 {
        let mut waits = Waits::default();
        let mut looked = 0;
        for batch in 0..batches {
            let is_looked = waits.are_frequent(1_000);
            looked += u32::from(is_looked);
            waits.note(has_waited(batch), 1_000, if is_looked { repeats } else { 0 });
            // Singles between are nothing.
            waits.note(false, 1, 0);
        }
        looked
    }

    #[test]
    fn a_thread_looks_where_more_than_half_of_its_batches_wait() {
        assert_eq!(looked(10_000, 300, |batch| batch % 2 == 0), 0);
        assert!(looked(10_000, 300, |batch| batch % 3 != 0) > 9_000);
        assert_eq!(looked(10_000, 300, |batch| batch < 30), 0, "a few are none");
    }

    #[test]
    fn waits_that_end_are_forgotten_and_one_in_a_while_holds_nothing_up() {
        assert_eq!(looked(10_000, 300, |batch| batch < 64 || batch % 100 == 0), Waits::LOOKED);
    }

    #[test]
    fn who_finds_next_to_nothing_looks_seldom() {
        let looked = looked(100_000, 50, |_| true);
        assert!((20..30).contains(&looked), "{looked}");
    }
}
