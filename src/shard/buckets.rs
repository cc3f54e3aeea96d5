//! The default index: extendible hashing over segments of 64 cache-line buckets.
//!
//! ```text
//!   hash  63 .. 64-depth | ... | 21 .. 16 | 15 .. 0
//!            |                     |          `---- tag in the bucket
//!            |                     `--------------- bucket in the segment, 64 bytes
//!            `------------------------------------- directory entry -> segment, 4 KiB = 640 cells
//! ```
//!
//! 6.4 bytes a cell. A segment that is nine tenths full gives two fifths of its hashes to a new one, so one
//! operation moves at most [`SEGMENT_CELLS`] cells, and segments are about six tenths full at any time. A
//! segment that is nearly empty joins a neighbour. Hashes that coincide too much to be split fill up their
//! segment, and then there is no room: with a keyed hash nobody can bring that about.
#![forbid(unsafe_code)]

use super::directory::Directory;
use super::index::{Index, IndexStats, Keys};
use super::memory::{Pool, UNIT_BYTES};
use super::prefetch::prefetch;
use super::segment::{Place, SEGMENT_BYTES, SEGMENT_CELLS, Segment};
use super::slab::{Handle, Slab};
use super::table::Table;
use std::sync::Arc;
use zerocopy::{FromBytes, IntoBytes};

/// A segment with so many records is split before it takes another.
const SPLIT_RECORDS: usize = SEGMENT_CELLS * 9 / 10;

/// A segment with no more records than this looks for a neighbour to join.
const MERGE_RECORDS: usize = SEGMENT_CELLS / 10;

/// Two segments join if they are no fuller than this together: far from the next split.
const MERGED_RECORDS_MAX: usize = SEGMENT_CELLS / 2;

const SEGMENTS_A_SPAN: usize = (UNIT_BYTES / SEGMENT_BYTES) as usize;

/// Hash to handle, in segments.
#[derive(Debug)]
pub(super) struct BucketIndex {
    directory: Directory,
    segments: Slab,
    /// Records of each segment, by its handle's dense number.
    counts: Table<u16>,
    stats: IndexStats,
}

impl Index for BucketIndex {
    const CELLS_MOVED_MAX: u32 = SEGMENT_CELLS as u32;

    fn new(pool: &Arc<Pool>) -> Option<Self> {
        let mut segments = Slab::new(pool);
        let mut counts = Table::new(pool.budget());
        let first = new_segment(&mut segments, &mut counts)?;
        let directory = Directory::new(pool.budget(), first.0)?;
        Some(Self { directory, segments, counts, stats: IndexStats::default() })
    }

    #[inline(always)]
    fn prefetch(&self, hash: u64) {
        prefetch::<1>(self.segment_of(hash).home(hash).as_bytes());
    }

    #[inline]
    fn find(&self, hash: u64, is_wanted: impl FnMut(Handle) -> bool) -> Option<Handle> {
        self.segment_of(hash).find(hash, is_wanted).map(|(_, handle)| handle)
    }

    fn make_room(&mut self, hash: u64, keys: &impl Keys) -> bool {
        if self.count(self.segment_handle(hash)) >= SPLIT_RECORDS {
            self.split(hash, keys);
        }
        self.count(self.segment_handle(hash)) < SEGMENT_CELLS
    }

    fn insert(&mut self, hash: u64, handle: Handle) {
        let segment = self.segment_handle(hash);
        debug_assert!(self.count(segment) < SEGMENT_CELLS, "room was made");
        debug_assert!(handle != Handle::NONE, "a record has a handle");
        self.segment_mut(segment).insert(hash, handle);
        *self.count_mut(segment) += 1;
    }

    fn replace(&mut self, hash: u64, old: Handle, new: Handle) {
        let segment = self.segment_handle(hash);
        let place = self.place(hash, old);
        self.segment_mut(segment).set_handle(place, new);
    }

    fn remove(&mut self, hash: u64, handle: Handle, keys: &impl Keys) {
        let segment = self.segment_handle(hash);
        let place = self.place(hash, handle);
        self.segment_mut(segment).remove(hash, place);
        debug_assert!(self.count(segment) > 0, "a cell was in use");
        *self.count_mut(segment) -= 1;
        let count = self.count(segment);
        // At few counts on the way down, so that a segment whose neighbours are full doesn't ask them each time.
        if count <= MERGE_RECORDS && (count == 0 || count.is_power_of_two()) {
            self.merge(hash, keys);
        }
    }

    fn segment(&self, hash: u64, visit: &mut dyn FnMut(Handle)) -> Option<u64> {
        self.segment_of(hash).cells().for_each(|(_, handle)| visit(handle));
        self.directory.end(hash)
    }

    fn stats(&self) -> IndexStats {
        IndexStats { bytes: self.segments.bytes() + self.directory.bytes() + self.counts.bytes(), ..self.stats }
    }
}

impl BucketIndex {
    /// Gives a part of the segment's records to a new segment, if its hashes differ and the budget allows.
    fn split(&mut self, hash: u64, keys: &impl Keys) {
        let old = self.segment_handle(hash);
        let Some(part) = self.directory.cut(hash) else {
            return;
        };
        let Some(new) = new_segment(&mut self.segments, &mut self.counts) else {
            return;
        };
        let count = self.count(old);
        let moved = self.move_records(old, new, keys, |directory, hash| part.contains(&directory.entry(hash)));
        assert_eq!(self.count(old) + self.count(new), count, "a split loses no record");
        self.directory.split(part.clone(), new.0);
        self.stats.grew(moved, Self::CELLS_MOVED_MAX);
    }

    /// Lets the segment's records join a neighbour's, if there is one with room.
    fn merge(&mut self, hash: u64, keys: &impl Keys) {
        let old = self.segment_handle(hash);
        let count = self.count(old);
        let neighbours = self.directory.neighbours(hash).into_iter().flatten().map(Handle);
        let Some(neighbour) = neighbours.min_by_key(|neighbour| self.count(*neighbour)) else {
            return;
        };
        if self.count(neighbour) + count > MERGED_RECORDS_MAX {
            return;
        }
        assert_ne!(old, neighbour, "a segment is no neighbour of its own");
        let moved = self.move_records(old, neighbour, keys, |_, _| true);
        assert_eq!((moved as usize, self.count(old)), (count, 0), "all records join the neighbour's");
        self.directory.merge(hash, neighbour.0);
        self.segments.free(old);
        self.stats.grew(moved, Self::CELLS_MOVED_MAX);
    }

    /// Moves the records whose hashes are `chosen`; gives their number. Never inlined: its array would stand on the
    /// stack of every batch.
    #[inline(never)]
    fn move_records(
        &mut self,
        from: Handle,
        to: Handle,
        keys: &impl Keys,
        chosen: impl Fn(&Directory, u64) -> bool,
    ) -> u32 {
        for (_, handle) in self.segment(from).cells() {
            keys.prefetch(handle);
        }
        let mut moving = [(0, Place::default(), Handle::NONE); SEGMENT_CELLS];
        let mut moved = 0;
        for (place, handle) in self.segment(from).cells() {
            let hash = keys.hash(handle);
            if chosen(&self.directory, hash) {
                moving[moved] = (hash, place, handle);
                moved += 1;
            }
        }
        for (hash, place, handle) in &moving[..moved] {
            self.segment_mut(from).remove(*hash, *place);
            self.segment_mut(to).insert(*hash, *handle);
        }
        assert!(moved <= self.count(from) && self.count(to) + moved <= SEGMENT_CELLS, "{moved} records moved");
        *self.count_mut(from) -= moved as u16;
        *self.count_mut(to) += moved as u16;
        moved as u32
    }

    fn place(&self, hash: u64, handle: Handle) -> Place {
        let found = self.segment_of(hash).find(hash, |other| other == handle);
        found.expect("the caller found this handle under this hash").0
    }

    #[inline(always)]
    fn segment_handle(&self, hash: u64) -> Handle {
        Handle(self.directory.segment(hash))
    }

    #[inline(always)]
    fn segment_of(&self, hash: u64) -> &Segment {
        self.segment(self.segment_handle(hash))
    }

    #[inline(always)]
    fn segment(&self, segment: Handle) -> &Segment {
        let bytes = self.segments.slot_of::<{ SEGMENT_BYTES as usize }>(segment);
        Segment::ref_from_bytes(bytes).expect("slots of 4 KiB are aligned to 4 KiB")
    }

    fn segment_mut(&mut self, segment: Handle) -> &mut Segment {
        Segment::mut_from_bytes(self.segments.slot_mut(segment)).expect("slots of 4 KiB are aligned to 4 KiB")
    }

    fn count(&self, segment: Handle) -> usize {
        self.counts[segment.dense(SEGMENTS_A_SPAN)].into()
    }

    fn count_mut(&mut self, segment: Handle) -> &mut u16 {
        &mut self.counts[segment.dense(SEGMENTS_A_SPAN)]
    }
}

/// An empty segment and its count; `None` where the budget refuses.
fn new_segment(segments: &mut Slab, counts: &mut Table<u16>) -> Option<Handle> {
    let segment = segments.allocate(SEGMENT_BYTES)?;
    while counts.len() < segments.span_numbers() * SEGMENTS_A_SPAN {
        if !counts.push(0) {
            segments.free(segment);
            return None;
        }
    }
    segments.slot_mut(segment).fill(0);
    counts[segment.dense(SEGMENTS_A_SPAN)] = 0;
    Some(segment)
}
