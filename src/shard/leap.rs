//! The second index: the `leapfrog` crate's map, inside its safe subset.
//!
//! The same directory as the default index, with a small `LeapMap` as each segment. The crate loses keys, hangs or
//! frees too early when it migrates or removes (docs/DEPENDENCIES.md), so this module sees to it that
//!
//! - one thread at a time touches a map: the shard's lock;
//! - nothing is removed or updated: a dead handle is inserted over a live one;
//! - a map never migrates: it is copied to fresh ones before half of its cells were ever used;
//! - cell keys are never 0 and below 2^63, handles below 2^33.
//!
//! ```text
//!   cell key = 62 bits of the index hash + step, bit 62 set      value = handle, or DEAD
//!   hash h:  step 0 --> live? other key --> step 1 --> DEAD --> step 2 --> not in the map: the search ends
//! ```
//!
//! Different keys with one hash take the next step that is free; a dead cell keeps the chain together.
#![forbid(unsafe_code)]

use super::directory::Directory;
use super::index::{Index, IndexStats, Keys};
use super::memory::Pool;
use super::slab::Handle;
use super::table::Table;
use crate::budget::Budget;
use leapfrog::LeapMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

/// Cells of one map. It takes 26 bytes for each.
const CELLS: usize = 1024;

/// Cells that may ever be used: the map never gets half full.
const USED_MAX: usize = CELLS / 2 - 1;

/// A map with so many used cells is copied before it takes another record.
const USED_WANTED: usize = CELLS / 16 * 7;

/// A map with more live records than this is split rather than copied.
const SPLIT_RECORDS: usize = USED_WANTED / 2;

/// A map with no more records than this looks for a neighbour to join.
const MERGE_RECORDS: usize = CELLS / 32;

/// Two maps join if they have no more records than this together.
const MERGED_RECORDS_MAX: usize = CELLS / 16 * 3;

/// What a map takes on the heap: cells, and the crate's own bookkeeping, rounded up.
const SEGMENT_BYTES: u64 = 26 * CELLS as u64 + 512;

/// Stands in a cell whose record is gone.
const DEAD: u64 = 1 << 32;

/// Marks cell keys, so that none is 0.
const KEY_MARK: u64 = 1 << 62;

/// Hash to handle, in `LeapMap`s.
#[derive(Debug)]
pub(super) struct LeapIndex {
    directory: Directory,
    segments: Table<Option<Segment>>,
    /// Numbers in `segments` that are `None`. It always has room for all of them.
    vacant: Table<u32>,
    stats: IndexStats,
    budget: Arc<Budget>,
}

impl Index for LeapIndex {
    const CELLS_MOVED_MAX: u32 = USED_MAX as u32;

    fn new(pool: &Arc<Pool>) -> Option<Self> {
        let budget = pool.budget();
        let (mut segments, mut vacant) = (Table::new(budget), Table::new(budget));
        let ready = vacant.reserve(1) && segments.push(Some(Segment::new(budget)?));
        let directory = Directory::new(budget, 0).filter(|_| ready)?;
        Some(Self { directory, segments, vacant, stats: IndexStats::default(), budget: Arc::clone(budget) })
    }

    /// Does nothing: the crate doesn't say where its cells are.
    #[inline]
    fn prefetch(&self, _: u64) {}

    #[inline]
    fn find(&self, hash: u64, is_wanted: impl FnMut(Handle) -> bool) -> Option<Handle> {
        self.segment(self.directory.segment(hash)).find(hash, is_wanted).map(|(_, handle)| handle)
    }

    fn make_room(&mut self, hash: u64, keys: &impl Keys) -> bool {
        let segment = self.segment(self.directory.segment(hash));
        if segment.used < USED_WANTED {
            return true;
        }
        let (live, dead) = (segment.live, segment.used - segment.live);
        // A copy is worth its while only if it drops a good share of dead cells.
        if (live <= SPLIT_RECORDS || !self.split(hash, keys)) && dead >= USED_MAX / 8 {
            self.copy(hash, keys);
        }
        self.segment(self.directory.segment(hash)).used < USED_MAX
    }

    fn insert(&mut self, hash: u64, handle: Handle) {
        self.segment_mut(hash).insert(hash, handle);
    }

    fn replace(&mut self, hash: u64, old: Handle, new: Handle) {
        debug_assert!(old != new && new != Handle::NONE, "a record moved: {old:?}, {new:?}");
        let segment = self.segment_mut(hash);
        let cell_key = segment.cell_key(hash, old);
        segment.map.insert(cell_key, new.0.into());
    }

    fn remove(&mut self, hash: u64, handle: Handle, keys: &impl Keys) {
        let segment = self.segment_mut(hash);
        let cell_key = segment.cell_key(hash, handle);
        segment.map.insert(cell_key, DEAD);
        debug_assert!(segment.live > 0 && segment.live <= segment.used, "{segment:?}");
        segment.live -= 1;
        let live = segment.live;
        if live <= MERGE_RECORDS && (live == 0 || live.is_power_of_two()) {
            self.merge(hash, keys);
        }
    }

    fn segment(&self, hash: u64, visit: &mut dyn FnMut(Handle)) -> Option<u64> {
        self.segment(self.directory.segment(hash)).handles().for_each(visit);
        self.directory.end(hash)
    }

    fn stats(&self) -> IndexStats {
        let segments = self.segments.iter().flatten().count() as u64 * SEGMENT_BYTES;
        IndexStats {
            bytes: segments + self.segments.bytes() + self.directory.bytes() + self.vacant.bytes(),
            ..self.stats
        }
    }
}

impl LeapIndex {
    /// Copies a map's live records into two fresh ones; false, and nothing changed, where it can't.
    fn split(&mut self, hash: u64, keys: &impl Keys) -> bool {
        let Some(part) = self.directory.cut(hash) else {
            return false;
        };
        let old = self.directory.segment(hash);
        // The number last: a vacant one that is taken is used.
        let (Some(mut upper), Some(mut lower)) = (Segment::new(&self.budget), Segment::new(&self.budget)) else {
            return false;
        };
        let Some(number) = self.vacant_number() else {
            return false;
        };
        let moved = self.segment(old).copy(keys, |hash, handle| {
            let target = if part.contains(&self.directory.entry(hash)) { &mut upper } else { &mut lower };
            target.insert(hash, handle);
        });
        assert_eq!(upper.live + lower.live, moved as usize, "a split loses no record");
        self.segments[old as usize] = Some(lower);
        self.segments[number as usize] = Some(upper);
        self.directory.split(part, number);
        self.stats.grew(moved, Self::CELLS_MOVED_MAX);
        true
    }

    /// Copies a map's live records into a fresh one, where the budget allows.
    fn copy(&mut self, hash: u64, keys: &impl Keys) {
        let old = self.directory.segment(hash);
        let Some(mut fresh) = Segment::new(&self.budget) else {
            return;
        };
        let moved = self.segment(old).copy(keys, |hash, handle| fresh.insert(hash, handle));
        assert_eq!((fresh.live, fresh.used), (moved as usize, moved as usize), "a copy has no dead cell");
        self.segments[old as usize] = Some(fresh);
        self.stats.grew(moved, Self::CELLS_MOVED_MAX);
    }

    /// Copies a map's and a neighbour's live records into one fresh map, if they are few and the budget allows.
    fn merge(&mut self, hash: u64, keys: &impl Keys) {
        let old = self.directory.segment(hash);
        let neighbours = self.directory.neighbours(hash).into_iter().flatten();
        let Some(neighbour) = neighbours.min_by_key(|neighbour| self.segment(*neighbour).live) else {
            return;
        };
        if self.segment(old).live + self.segment(neighbour).live > MERGED_RECORDS_MAX {
            return;
        }
        let Some(mut fresh) = Segment::new(&self.budget) else {
            return;
        };
        let mut insert = |hash, handle| fresh.insert(hash, handle);
        assert_ne!(old, neighbour, "a map is no neighbour of its own");
        let moved = self.segment(old).copy(keys, &mut insert) + self.segment(neighbour).copy(keys, &mut insert);
        assert_eq!(fresh.live, moved as usize, "all records join");
        self.segments[neighbour as usize] = Some(fresh);
        self.segments[old as usize] = None;
        self.directory.merge(hash, neighbour);
        let listed = self.vacant.push(old);
        assert!(listed, "there is room for every number");
        self.stats.grew(moved, Self::CELLS_MOVED_MAX);
    }

    /// Takes a vacant number, a new one if there is none.
    fn vacant_number(&mut self) -> Option<u32> {
        if let Some(number) = self.vacant.pop() {
            return Some(number);
        }
        let number = self.segments.len();
        let ready = self.vacant.reserve(number + 1) && self.segments.push(None);
        ready.then_some(number as u32)
    }

    #[inline]
    fn segment(&self, number: u32) -> &Segment {
        self.segments[number as usize].as_ref().expect("the directory names segments in use")
    }

    fn segment_mut(&mut self, hash: u64) -> &mut Segment {
        let number = self.directory.segment(hash);
        self.segments[number as usize].as_mut().expect("the directory names segments in use")
    }
}

/// One map and its charge.
pub(super) struct Segment {
    map: LeapMap<u64, u64, BuildHasherDefault<Identity>>,
    /// Cells ever used, dead ones too.
    used: usize,
    /// Cells with a record.
    live: usize,
    budget: Arc<Budget>,
}

impl Segment {
    fn new(budget: &Arc<Budget>) -> Option<Self> {
        let map = || LeapMap::with_capacity_and_hasher(CELLS, BuildHasherDefault::default());
        budget.charge(SEGMENT_BYTES).then(|| Self { map: map(), used: 0, live: 0, budget: Arc::clone(budget) })
    }

    /// The first live cell in the hash's chain whose handle `is_wanted`: its key and handle.
    #[inline]
    fn find(&self, hash: u64, mut is_wanted: impl FnMut(Handle) -> bool) -> Option<(u64, Handle)> {
        // Ends: a chain is no longer than the cells in use.
        for step in 0.. {
            let cell_key = cell_key(hash, step);
            let value = self.map.get(&cell_key)?.value()?;
            if value != DEAD && is_wanted(Handle(value as u32)) {
                return Some((cell_key, Handle(value as u32)));
            }
        }
        None
    }

    fn cell_key(&self, hash: u64, handle: Handle) -> u64 {
        self.find(hash, |other| other == handle).expect("the caller found this handle under this hash").0
    }

    fn insert(&mut self, hash: u64, handle: Handle) {
        for step in 0.. {
            let cell_key = cell_key(hash, step);
            let value = self.map.get(&cell_key).and_then(|mut cell| cell.value());
            if value.is_some_and(|value| value != DEAD) {
                continue;
            }
            debug_assert!(handle != Handle::NONE && self.live <= self.used, "{self:?}");
            self.used += usize::from(value.is_none());
            self.live += 1;
            assert!(self.used <= USED_MAX, "a map is copied before half of its cells are used");
            self.map.insert(cell_key, handle.0.into());
            break;
        }
        if self.map.capacity() != CELLS {
            // It migrated after all: 128 cells in a row were used, which no keyed hash brings about. Alone, as
            // here, the crate nearly always survives that; copy it at the next chance, and count.
            self.used = USED_MAX;
        }
    }

    /// The live records.
    fn handles(&self) -> impl Iterator<Item = Handle> {
        let values = self.map.iter().filter_map(|mut cell| cell.value());
        values.filter(|value| *value != DEAD).map(|value| Handle(value as u32))
    }

    /// Shows each live record to `insert`, which puts it into another map; gives their number.
    fn copy(&self, keys: &impl Keys, mut insert: impl FnMut(u64, Handle)) -> u32 {
        self.handles().for_each(|handle| keys.prefetch(handle));
        let mut copied = 0;
        for handle in self.handles() {
            insert(keys.hash(handle), handle);
            copied += 1;
        }
        assert_eq!(copied, self.live, "the map lost a record");
        copied as u32
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        self.budget.credit(SEGMENT_BYTES);
    }
}

impl std::fmt::Debug for Segment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Segment {{ used: {}, live: {} }}", self.used, self.live)
    }
}

#[inline]
fn cell_key(hash: u64, step: u64) -> u64 {
    ((hash & (KEY_MARK - 1)) + step) & (KEY_MARK - 1) | KEY_MARK
}

/// Cell keys are hashes already.
#[derive(Default)]
struct Identity(u64);

impl Hasher for Identity {
    #[inline]
    fn write_u64(&mut self, cell_key: u64) {
        self.0 = cell_key;
    }

    fn write(&mut self, _bytes: &[u8]) {
        unreachable!("cell keys are u64");
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }
}
