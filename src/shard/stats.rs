//! What a store tells about itself.
#![forbid(unsafe_code)]

use super::index::IndexStats;
use super::record::Records;

/// What a store holds and did since it was made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// Number of records.
    pub records: u64,
    /// Bytes of all keys and values.
    pub payload_bytes: u64,
    /// Bytes held by indexes.
    pub index_bytes: u64,
    /// Bytes held by slabs, payload included.
    pub slab_bytes: u64,
    /// Most index cells that one operation moved.
    pub index_cells_moved_max: u32,
    /// Times that a part of an index was split, joined or copied.
    pub index_growths: u64,
    /// Records of each shard.
    pub shard_records: Vec<u64>,
}

impl StoreStats {
    pub(super) fn count(&mut self, records: &Records, index: IndexStats) {
        self.records += records.count();
        self.payload_bytes += records.payload_bytes();
        self.index_bytes += index.bytes;
        self.slab_bytes += records.bytes();
        self.index_cells_moved_max = self.index_cells_moved_max.max(index.cells_moved_max);
        self.index_growths += index.growths;
        self.shard_records.push(records.count());
    }
}
