//! One bucket of the index: a cache line of ten cells.
//!
//! ```text
//!   byte 0                    20          22         24                                   64
//!        +--------------------+-----------+----------+------------------------------------+
//!        | 10 tags of 16 bits | passed by | reserved | 10 handles of 32 bits              |
//!        +--------------------+-----------+----------+------------------------------------+
//! ```
//!
//! A tag is 16 bits of the hash, 0 for an empty cell. `passed by` counts the records that belong here or before
//! but found this bucket full and went on: a search that comes to a bucket nobody passed by may stop (after
//! Folly's F14, so deletes leave no tombstones).
#![forbid(unsafe_code)]

use super::slab::Handle;
use super::tags;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Cells of a bucket.
pub(super) const CELLS: usize = 10;

/// The tag of an empty cell.
pub(super) const EMPTY: u16 = 0;

#[derive(Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C, align(64))]
pub(super) struct Bucket {
    pub(super) tags: [u16; CELLS],
    pub(super) passed_by: u16,
    reserved: u16,
    handles: [u32; CELLS],
}

const _: () = {
    assert!(size_of::<Bucket>() == 64 && align_of::<Bucket>() == 64);
    assert!(std::mem::offset_of!(Bucket, tags) == 0);
    assert!(std::mem::offset_of!(Bucket, passed_by) == 20);
    assert!(std::mem::offset_of!(Bucket, handles) == 24);
};

impl Bucket {
    /// The cells with this tag.
    #[inline]
    pub(super) fn matches(&self, tag: u16) -> Cells {
        Cells(tags::matches(self, tag))
    }

    #[inline]
    pub(super) fn handle(&self, cell: usize) -> Handle {
        Handle(self.handles[cell])
    }

    pub(super) fn set_handle(&mut self, cell: usize, handle: Handle) {
        self.handles[cell] = handle.0;
    }

    pub(super) fn fill(&mut self, cell: usize, tag: u16, handle: Handle) {
        debug_assert!(self.tags[cell] == EMPTY && tag != EMPTY);
        self.tags[cell] = tag;
        self.handles[cell] = handle.0;
    }
}

/// A set of cells of one bucket; iterates over their numbers, lowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cells(u32);

impl Iterator for Cells {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        if self.0 == 0 {
            return None;
        }
        let cell = self.0.trailing_zeros() as usize;
        self.0 &= self.0 - 1;
        Some(cell)
    }
}
