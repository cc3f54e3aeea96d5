//! The directory of extendible hashing: from the top bits of a hash to a segment.
//!
//! ```text
//!   top bits of hash   0   1   2   3   4   5   6   7   8   9  ...
//!                    +---+---+---+---+---+---+---+---+---+---+
//!                    | a   a   a   a   a | b   b   b | c   c | ...      a segment owns a run of entries
//!                    +---+---+---+---+---+---+---+---+---+---+
//! ```
//!
//! A segment that fills up gives a part of its run to a new one; the directory doubles when runs get short. After
//! Fagin, Nievergelt, Pippenger, Strong, "Extendible Hashing" (1979), with one change: a run is any run, cut
//! unevenly (3 : 2), so that segments fill up at different times and growth is spread out, where halves would
//! all fill up, and split, at once.
#![forbid(unsafe_code)]

use super::table::Table;
use crate::budget::Budget;
use std::ops::Range;
use std::sync::Arc;

const DEPTH_START: u32 = 4;

/// Entries that a run should have before it is cut, so that the parts are uneven.
const RUN_ENTRIES_WANTED: usize = 8;

/// Most entries a segment on average: past it, hashes coincide so much that doubling is no help.
const ENTRIES_A_SEGMENT_MAX: usize = 64;

/// Which segment a hash belongs to. A segment is a number of the index's own.
#[derive(Debug)]
pub(super) struct Directory {
    entries: Table<u32>,
    /// How many of a hash's 64 bits lie below those that the directory takes.
    shift: u32,
    segments: usize,
}

impl Directory {
    /// Everything belongs to one segment; `None` where the budget refuses.
    pub(super) fn new(budget: &Arc<Budget>, segment: u32) -> Option<Self> {
        let mut entries = Table::new(budget);
        let done = (0..1 << DEPTH_START).all(|_| entries.push(segment));
        done.then_some(Self { entries, shift: 64 - DEPTH_START, segments: 1 })
    }

    /// The segment of a hash.
    #[inline]
    pub(super) fn segment(&self, hash: u64) -> u32 {
        self.entries[self.entry(hash)]
    }

    /// The entry of a hash.
    #[inline]
    pub(super) fn entry(&self, hash: u64) -> usize {
        (hash >> self.shift) as usize
    }

    /// The part of a segment's run to give to a new segment, the directory doubled before if it can and should
    /// be; `None` if the run is a single entry.
    pub(super) fn cut(&mut self, hash: u64) -> Option<Range<usize>> {
        let mut run = self.run(self.entry(hash));
        if run.len() < RUN_ENTRIES_WANTED && self.double() {
            run = 2 * run.start..2 * run.end;
        }
        let kept = (run.len() * 3).div_ceil(5).min(run.len() - 1);
        (kept > 0).then(|| run.start + kept..run.end)
    }

    /// Gives a part of one segment's run to a new one.
    pub(super) fn split(&mut self, part: Range<usize>, segment: u32) {
        assert!(!part.is_empty() && part.end <= self.entries.len(), "a part of a run: {part:?}");
        debug_assert!(self.entries[part.start.saturating_sub(1)] == self.entries[part.start], "some of it is kept");
        self.entries[part].fill(segment);
        self.segments += 1;
    }

    /// Gives the whole run of a hash's segment to a neighbour.
    pub(super) fn merge(&mut self, hash: u64, neighbour: u32) {
        debug_assert!(self.neighbours(hash).contains(&Some(neighbour)), "{neighbour} is no neighbour");
        assert!(self.segments > 1, "the last segment owns everything");
        let run = self.run(self.entry(hash));
        self.entries[run].fill(neighbour);
        self.segments -= 1;
    }

    /// The segments before and after the one of a hash.
    pub(super) fn neighbours(&self, hash: u64) -> [Option<u32>; 2] {
        let run = self.run(self.entry(hash));
        let before = run.start.checked_sub(1).map(|entry| self.entries[entry]);
        [before, self.entries.get(run.end).copied()]
    }

    /// The first hash behind the run of a hash's segment, if there is one.
    pub(super) fn end(&self, hash: u64) -> Option<u64> {
        let end = self.run(self.entry(hash)).end;
        (end < self.entries.len()).then(|| (end as u64) << self.shift)
    }

    /// The entries of the segment of one of them. A segment's run is one, so both its ends are found by leaps that
    /// double, then by halving: a directory never shrinks, and its last segment may own all of it.
    fn run(&self, entry: usize) -> Range<usize> {
        let segment = self.entries[entry];
        let (before, after) = self.entries.split_at(entry);
        let before = run_length(before.len(), |i| before[before.len() - 1 - i] == segment);
        let run = entry - before..entry + run_length(after.len(), |i| after[i] == segment);
        debug_assert!(run.contains(&entry), "{entry} is in its own run, {run:?}");
        run
    }

    /// Doubles every entry: copies 4 bytes an entry, about 15 entries a segment. No index cell moves, and the whole
    /// directory of a shard with a million records is 100 KiB.
    fn double(&mut self) -> bool {
        let length = self.entries.len();
        if 2 * length > ENTRIES_A_SEGMENT_MAX * self.segments || !self.entries.reserve(length) {
            return false;
        }
        for _ in 0..length {
            let pushed = self.entries.push(0);
            assert!(pushed, "room was reserved");
        }
        for entry in (0..2 * length).rev() {
            self.entries[entry] = self.entries[entry / 2];
        }
        self.shift -= 1;
        assert_eq!(self.entries.len(), 1 << (64 - self.shift), "an entry for each pattern of the top bits");
        true
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> u64 {
        self.entries.bytes()
    }
}

/// How many indices from 0 on belong to a run, of those below `end`.
fn run_length(end: usize, belongs: impl Fn(usize) -> bool) -> usize {
    let mut beyond = 1;
    while beyond <= end && belongs(beyond - 1) {
        beyond *= 2;
    }
    // The last leap that landed inside, and the first that did not.
    let (mut inside, mut outside) = (beyond / 2, beyond.min(end + 1));
    while outside - inside > 1 {
        let middle = inside.midpoint(outside);
        if belongs(middle - 1) { inside = middle } else { outside = middle }
    }
    inside
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn a_run_of_any_length_is_measured_in_few_looks() {
        for end in (0..70).chain([1000, 131_072]) {
            for length in (0..=end.min(70)).chain([end / 3, end]) {
                let looks = Cell::new(0);
                let measured = run_length(end, |i| {
                    assert!(i < end);
                    looks.set(looks.get() + 1);
                    i < length
                });
                assert_eq!(measured, length, "of {end}");
                assert!(looks.get() <= 2 * (usize::BITS - length.leading_zeros()) + 2, "{} looks", looks.get());
            }
        }
    }
}
