//! What a shard asks of an index: hash to handle, under the shard's lock.
//!
//! An index knows hashes and handles, never keys: where it must tell two records apart it asks the caller, and
//! where it moves cells it asks [`Keys`] for their hashes. Two implement it: [`super::buckets`], the default, and
//! [`super::leap`], the `leapfrog` crate.
#![forbid(unsafe_code)]

use super::memory::Pool;
use super::slab::Handle;
use std::sync::Arc;

/// An index of one shard.
pub(super) trait Index: Sized {
    /// Most cells that one operation moves.
    const CELLS_MOVED_MAX: u32;

    /// An empty index; `None` where the budget refuses.
    fn new(pool: &Arc<Pool>) -> Option<Self>;

    /// Asks the processor for what [`Index::find`] will read.
    fn prefetch(&self, hash: u64);

    /// The first handle under this hash that `is_wanted`.
    fn find(&self, hash: u64, is_wanted: impl FnMut(Handle) -> bool) -> Option<Handle>;

    /// Makes sure that one handle can be inserted under this hash; false where the budget refuses, or where too
    /// many hashes coincide. Whatever it moves, it loses nothing.
    #[must_use]
    fn make_room(&mut self, hash: u64, keys: &impl Keys) -> bool;

    /// Inserts a handle that is not there yet, after [`Index::make_room`] for the same hash.
    fn insert(&mut self, hash: u64, handle: Handle);

    /// Puts another handle in the place of one that is there.
    fn replace(&mut self, hash: u64, old: Handle, new: Handle);

    /// Removes a handle that is there. `keys` still knows it.
    fn remove(&mut self, hash: u64, handle: Handle, keys: &impl Keys);

    /// Shows every handle of the part of the index that a hash belongs to, and gives the first hash of the next part,
    /// if there is one. A part is a range of hashes; what is inserted, removed or moved changes the ranges.
    fn segment(&self, hash: u64, visit: &mut dyn FnMut(Handle)) -> Option<u64>;

    /// What it holds and did.
    fn stats(&self) -> IndexStats;
}

/// The index's way to the records' keys.
pub(super) trait Keys {
    /// The hash of the key of a record.
    fn hash(&self, handle: Handle) -> u64;

    /// Asks the processor for what [`Keys::hash`] reads.
    fn prefetch(&self, handle: Handle);
}

/// What an index holds and did since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct IndexStats {
    /// Bytes held.
    pub(super) bytes: u64,
    /// Most cells that one operation moved.
    pub(super) cells_moved_max: u32,
    /// Times that a segment was split or copied, or the directory doubled.
    pub(super) growths: u64,
}

impl IndexStats {
    /// Counts one growth that moved `cells_moved`.
    pub(super) fn grew(&mut self, cells_moved: u32, cells_moved_max: u32) {
        assert!(cells_moved <= cells_moved_max, "one operation moved {cells_moved} cells");
        self.cells_moved_max = self.cells_moved_max.max(cells_moved);
        self.growths += 1;
    }
}
