//! What a node counts, and how it tells.
#![forbid(unsafe_code)]

use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicU64, Ordering};

/// What one thread of a node counts. Only that thread writes; any may read.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Counters {
    /// Operations executed.
    pub operations: AtomicU64,
    /// Frames answered.
    pub frames: AtomicU64,
    /// Bytes of them.
    pub bytes_received: AtomicU64,
    /// Bytes of the answers.
    pub bytes_sent: AtomicU64,
    /// Connections refused or closed for what the peer sent.
    pub refusals: AtomicU64,
}

impl Counters {
    /// Adds to a counter that only this thread writes.
    pub fn add(counter: &AtomicU64, count: u64) {
        // One writer, so load and store lose nothing and cost less than a locked add.
        counter.store(counter.load(Ordering::Relaxed) + count, Ordering::Relaxed);
    }
}

/// A node's statistics, as `freight stats` prints them and the benchmark reads them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NodeStats {
    /// Version of the node's software.
    pub version: String,
    /// The node's incarnation, hexadecimal.
    pub incarnation: String,
    /// The cluster whose map it works with, hexadecimal; absent where it has none.
    #[serde(default)]
    pub cluster: Option<String>,
    /// The epoch of that map, 0 for none.
    #[serde(default)]
    pub map_epoch: u64,
    /// Slots that it owns.
    #[serde(default)]
    pub slots: u32,
    /// Moves of slots under way, a line each.
    #[serde(default)]
    pub moves: Vec<String>,
    /// Seconds since it started.
    pub uptime_seconds: f64,
    /// Its threads.
    pub threads: Vec<ThreadStats>,
    /// Time its threads spent on processors, in nanoseconds.
    pub cpu_ns: u64,
    /// Open connections.
    pub connections: u64,
    /// Operations executed; 0 where a node of another version does not tell.
    #[serde(default)]
    pub operations: u64,
    /// Frames answered.
    pub frames: u64,
    /// Bytes received.
    pub bytes_received: u64,
    /// Bytes sent.
    pub bytes_sent: u64,
    /// Connections refused or closed for what the peer sent.
    pub refusals: u64,
    /// Memory charged to the node's account, in bytes: records, index, buffers.
    pub memory_bytes_used: u64,
    /// The account's cap, in bytes; absent where there is none.
    pub memory_bytes_max: Option<u64>,
    /// Its store.
    pub store: StoreStats,
}

/// What a store holds, and did since it was made. What a node of another version does not tell is 0.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StoreStats {
    /// Number of records.
    pub records: u64,
    /// Those of them that have a deadline; it may be reached.
    pub records_expiring: u64,
    /// Records removed for their deadline.
    pub records_expired: u64,
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

/// One thread of a node.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ThreadStats {
    /// The processor it is bound to; absent where it is bound to none.
    pub core: Option<usize>,
    /// Time it spent on a processor, in nanoseconds.
    pub cpu_ns: u64,
}
