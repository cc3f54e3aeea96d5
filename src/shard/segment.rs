//! One segment of the index: 64 buckets, probed in turn from a record's home bucket.
#![forbid(unsafe_code)]

use super::bucket::{Bucket, CELLS, EMPTY};
use super::slab::Handle;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Buckets of a segment.
const BUCKETS: usize = 64;

/// Cells of a segment.
pub(super) const SEGMENT_CELLS: usize = BUCKETS * CELLS;

/// Bytes of a segment.
pub(super) const SEGMENT_BYTES: u32 = size_of::<Segment>() as u32;

#[derive(Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(super) struct Segment {
    buckets: [Bucket; BUCKETS],
}

const _: () = assert!(SEGMENT_BYTES == 4096);

/// Where a cell is in its segment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Place {
    bucket: u8,
    cell: u8,
}

impl Segment {
    /// The bucket where the search for a hash begins.
    #[inline]
    pub(super) fn home(&self, hash: u64) -> &Bucket {
        &self.buckets[home(hash)]
    }

    /// The first cell under this hash whose handle `is_wanted`.
    #[inline]
    pub(super) fn find(&self, hash: u64, mut is_wanted: impl FnMut(Handle) -> bool) -> Option<(Place, Handle)> {
        let tag = tag(hash);
        let mut index = home(hash);
        // Bounded: in a segment whose every bucket was passed by, the search ends where it began.
        for _ in 0..BUCKETS {
            let bucket = &self.buckets[index];
            for cell in bucket.matches(tag) {
                let handle = bucket.handle(cell);
                if is_wanted(handle) {
                    return Some((Place { bucket: index as u8, cell: cell as u8 }, handle));
                }
            }
            if bucket.passed_by == 0 {
                return None;
            }
            index = after(index);
        }
        None
    }

    /// Puts a handle into the first empty cell. The segment must have one.
    pub(super) fn insert(&mut self, hash: u64, handle: Handle) {
        let mut index = home(hash);
        for _ in 0..BUCKETS {
            let bucket = &mut self.buckets[index];
            if let Some(cell) = bucket.matches(EMPTY).next() {
                return bucket.fill(cell, tag(hash), handle);
            }
            bucket.passed_by += 1;
            index = after(index);
        }
        panic!("inserted into a full segment");
    }

    /// Empties a cell that holds a record of this hash.
    pub(super) fn remove(&mut self, hash: u64, place: Place) {
        let mut index = home(hash);
        while index != usize::from(place.bucket) {
            debug_assert!(self.buckets[index].passed_by > 0, "the record passed this bucket by");
            self.buckets[index].passed_by -= 1;
            index = after(index);
        }
        let bucket = &mut self.buckets[index];
        debug_assert_eq!(bucket.tags[usize::from(place.cell)], tag(hash));
        bucket.tags[usize::from(place.cell)] = EMPTY;
    }

    pub(super) fn set_handle(&mut self, place: Place, handle: Handle) {
        let bucket = &mut self.buckets[usize::from(place.bucket)];
        debug_assert_ne!(bucket.tags[usize::from(place.cell)], EMPTY, "the cell holds a record");
        bucket.set_handle(place.cell.into(), handle);
    }

    /// Every record's cell.
    pub(super) fn cells(&self) -> impl Iterator<Item = (Place, Handle)> {
        self.buckets.iter().enumerate().flat_map(|(index, bucket)| {
            let used = (0..CELLS).filter(|cell| bucket.tags[*cell] != EMPTY);
            used.map(move |cell| (Place { bucket: index as u8, cell: cell as u8 }, bucket.handle(cell)))
        })
    }
}

// The directory takes the top bits of a hash; tag and bucket take the low ones, which it never reaches.

#[inline]
fn home(hash: u64) -> usize {
    (hash >> 16) as usize % BUCKETS
}

#[inline]
fn tag(hash: u64) -> u16 {
    let tag = hash as u16;
    tag | u16::from(tag == EMPTY)
}

#[inline]
fn after(bucket: usize) -> usize {
    (bucket + 1) % BUCKETS
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::FromZeros;

    #[test]
    fn a_segment_filled_to_the_last_cell_and_emptied_is_as_new() {
        let mut segment = Segment::new_zeroed();
        // All start at few buckets, so that most pass others by.
        let hash = |i: u32| u64::from(i) | u64::from(i % 5) << 16;
        for round in 0..3 {
            for i in 0..SEGMENT_CELLS as u32 {
                segment.insert(hash(i), Handle(i));
            }
            assert_eq!(segment.cells().count(), SEGMENT_CELLS);
            for i in 0..SEGMENT_CELLS as u32 {
                let i = if round == 1 { SEGMENT_CELLS as u32 - 1 - i } else { i };
                let (place, _) = segment.find(hash(i), |handle| handle == Handle(i)).expect("inserted");
                segment.remove(hash(i), place);
                assert_eq!(segment.find(hash(i), |handle| handle == Handle(i)), None);
            }
            assert_eq!(segment.cells().count(), 0);
            assert!(segment.buckets.iter().all(|bucket| bucket.passed_by == 0));
        }
    }
}
