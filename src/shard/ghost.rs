//! Keys that were evicted lately, as fingerprints: a key that comes back soon is worth keeping.
//!
//! ```text
//!   63     48     32     16      0      one word: four fingerprints of 16 bits, the latest lowest, 0 for none
//!   +------+------+------+------+
//!   | 4th  | 3rd  | 2nd  | last |  <--  a new one shifts the oldest out
//!   +------+------+------+------+
//! ```
//!
//! A queue of keys of many short queues, each of the keys whose hashes lead there. Two keys in sixteen thousand are
//! taken for each other: one of them is then kept a little longer than it deserves.
#![forbid(unsafe_code)]

use super::table::Table;
use crate::budget::Budget;
use std::sync::Arc;

/// Fingerprints in a word.
const WORD_KEYS: u64 = 4;

/// Bits of a hash that choose the word: above those that name its shard.
const PLACE_BITS: u32 = 28;

/// The keys of one shard that were evicted last: about as many as it has records.
#[derive(Debug)]
pub(super) struct Ghost {
    words: Table<u64>,
    budget: Arc<Budget>,
}

impl Ghost {
    pub(super) fn new(budget: &Arc<Budget>) -> Self {
        Self { words: Table::new(budget), budget: Arc::clone(budget) }
    }

    /// Takes a key in by its hash.
    pub(super) fn insert(&mut self, hash: u64) {
        if let Some(place) = self.place(hash) {
            let word = &mut self.words[place];
            *word = *word << 16 | u64::from(fingerprint(hash));
        }
    }

    /// Whether a key is there, and forgets it.
    pub(super) fn take(&mut self, hash: u64) -> bool {
        let Some(place) = self.place(hash) else { return false };
        let word = self.words[place];
        for shift in (0..u64::BITS).step_by(16) {
            if (word >> shift) as u16 == fingerprint(hash) {
                self.words[place] = word & !(0xFFFF << shift);
                return true;
            }
        }
        false
    }

    /// Makes it fit so many records, empty, where it no longer does; false where there is no memory for that: then it
    /// stays as it is.
    pub(super) fn fit(&mut self, records: u64) -> bool {
        let (keys, wanted) = (self.words.len() as u64 * WORD_KEYS, records / WORD_KEYS);
        // An eighth more or a quarter less: one that is made anew has forgotten everything.
        if keys <= records + records / 8 + WORD_KEYS && records <= keys + keys / 3 + 4 * WORD_KEYS {
            return true;
        }
        let mut words = Table::new(&self.budget);
        let ready = words.extend(wanted as usize, 0);
        if ready {
            self.words = words;
        }
        ready
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> u64 {
        self.words.bytes()
    }

    fn place(&self, hash: u64) -> Option<usize> {
        let words = self.words.len() as u64;
        debug_assert!(words <= 1 << PLACE_BITS, "{words} words");
        (words > 0).then(|| (((hash >> (u64::BITS - PLACE_BITS)) * words) >> PLACE_BITS) as usize)
    }
}

/// 16 bits of a hash that the place does not tell; never 0.
fn fingerprint(hash: u64) -> u16 {
    (hash as u16).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(key: u64) -> u64 {
        (key + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29).wrapping_mul(0xBF58_476D_1CE4_E5B9)
    }

    fn ghost(records: u64) -> Ghost {
        let mut ghost = Ghost::new(&Arc::new(Budget::new(u64::MAX)));
        assert!(ghost.fit(records));
        ghost
    }

    #[test]
    fn a_key_is_found_once() {
        let mut ghost = ghost(1000);
        ghost.insert(hash(7));
        assert!(!ghost.take(hash(8)));
        assert!(ghost.take(hash(7)) && !ghost.take(hash(7)));
    }

    #[test]
    fn the_latest_are_there_and_the_oldest_are_not() {
        let mut ghost = ghost(10_000);
        (0..40_000).for_each(|key| ghost.insert(hash(key)));
        let found = |ghost: &mut Ghost, keys: std::ops::Range<u64>| keys.filter(|key| ghost.take(hash(*key))).count();
        assert!(found(&mut ghost, 39_000..40_000) > 950);
        assert!(found(&mut ghost, 0..10_000) < 300);
    }

    #[test]
    fn it_takes_two_bytes_a_record_and_an_eighth_at_most_and_follows_their_number() {
        let mut ghost = ghost(1_000_000);
        assert_eq!(ghost.bytes(), 2_000_000);
        ghost.insert(hash(1));
        assert!(ghost.fit(1_300_000) && ghost.take(hash(1)), "it serves a few more too");
        for records in [2_000_000, 500_000, 100, 0] {
            assert!(ghost.fit(records) && ghost.bytes() <= 2 * records + records / 4 + 8, "{records} records");
        }
    }

    #[test]
    fn without_memory_it_knows_nothing() {
        let mut ghost = Ghost::new(&Arc::new(Budget::new(100)));
        assert!(!ghost.fit(1000));
        ghost.insert(hash(1));
        assert!(!ghost.take(hash(1)));
    }
}
