//! Which operations of a batch tell what it changed, and what it saw of that before: found in the bins, which hold the
//! hashes of all keys.
#![forbid(unsafe_code)]

use super::execute::Entry;
use crate::op::Position;

/// Places in the table for each change, at least.
const PLACES_PER_CHANGE: usize = 4;

/// In a place: what the key held is told, by a get or by a change.
const IS_TOLD: u64 = 1;

/// The keys that one bin changes: hash tables of one bin after another, in the same memory.
#[derive(Debug, Default)]
pub(super) struct Changed {
    /// A hash with [`IS_TOLD`] in place of its lowest bit, or 0 for a free place. A key whose hash is another's too is
    /// taken for it: that takes two equal hashes of 63 keyed bits in one batch.
    places: Vec<u64>,
}

impl Changed {
    /// Visits the operations of `bins` that are not plain gets, and of the gets on their keys those before it is told
    /// what the key holds: `visit` says whether an operation tells. Equal keys lie in one bin, in order.
    pub(super) fn visit(&mut self, bins: &[Vec<Entry>], mut visit: impl FnMut(Position) -> bool) {
        for bin in bins {
            let changes = bin.iter().filter(|entry| !entry.is_plain_get()).count();
            if changes == 0 {
                continue;
            }
            self.places.clear();
            self.places.resize((changes * PLACES_PER_CHANGE).next_power_of_two(), 0);
            for entry in bin.iter().filter(|entry| !entry.is_plain_get()) {
                let place = self.place(entry);
                self.places[place] = key_of(entry);
            }
            for entry in bin {
                let place = self.place(entry);
                let is_changed = self.places[place] != 0;
                if is_changed && !(entry.is_plain_get() && self.places[place] & IS_TOLD != 0) && visit(entry.position())
                {
                    self.places[place] |= IS_TOLD;
                }
            }
        }
    }

    /// Where the key of an operation is, or would be.
    #[inline(always)]
    fn place(&self, entry: &Entry) -> usize {
        let (key, mask) = (key_of(entry), self.places.len() - 1);
        let mut place = (key >> 8) as usize & mask;
        // Three places in four are free, at least.
        while self.places[place] != 0 && self.places[place] & !IS_TOLD != key {
            place = (place + 1) & mask;
        }
        place
    }
}

/// A hash without its lowest bit, and never 0.
#[inline(always)]
fn key_of(entry: &Entry) -> u64 {
    (entry.hash() & !IS_TOLD).max(2)
}
