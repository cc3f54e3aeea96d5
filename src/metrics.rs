//! What a node counts, and how it tells.
#![forbid(unsafe_code)]

use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

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
    /// Connections taken.
    pub accepted: AtomicU64,
    /// Operations by what they were and what became of them.
    pub outcomes: OutcomeCounts,
    /// How long batches took in the store.
    pub batch_times: Durations,
}

impl Counters {
    /// Adds to a counter that only this thread writes.
    pub fn add(counter: &AtomicU64, count: u64) {
        // One writer, so load and store lose nothing and cost less than a locked add.
        counter.store(counter.load(Ordering::Relaxed) + count, Ordering::Relaxed);
    }
}

/// Operations by kind and result, each by its code on the wire. Only one thread writes.
#[derive(Debug)]
pub struct OutcomeCounts([AtomicU64; Self::KINDS * Self::RESULTS]);

impl Default for OutcomeCounts {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; Self::KINDS * Self::RESULTS])
    }
}

impl OutcomeCounts {
    /// Codes there is room for: powers of two, so that no code is out of range.
    const KINDS: usize = 8;
    const RESULTS: usize = 16;

    /// Counts operations of one kind with the same result.
    #[inline(always)]
    pub fn add(&self, kind: u8, result: u8, count: u64) {
        Counters::add(&self.0[Self::place(kind, result)], count);
    }

    /// How many there were.
    #[must_use]
    pub fn count(&self, kind: u8, result: u8) -> u64 {
        self.0[Self::place(kind, result)].load(Ordering::Relaxed)
    }

    #[inline(always)]
    fn place(kind: u8, result: u8) -> usize {
        usize::from(kind) % Self::KINDS * Self::RESULTS + usize::from(result) % Self::RESULTS
    }
}

/// Lengths of time, counted in steps of powers of two. Only one thread writes.
#[derive(Debug)]
pub struct Durations {
    steps: [AtomicU64; Self::STEPS],
    sum_ns: AtomicU64,
}

impl Default for Durations {
    fn default() -> Self {
        Self { steps: [const { AtomicU64::new(0) }; Self::STEPS], sum_ns: AtomicU64::new(0) }
    }
}

impl Durations {
    /// The first step holds what is shorter than a microsecond: 2^10 ns.
    const FIRST_BITS: u32 = 10;

    /// The last but one ends at 17 s, the last nowhere.
    pub const STEPS: usize = 26;

    /// Counts one.
    pub fn add(&self, time: Duration) {
        let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let bits = (u64::BITS - ns.leading_zeros()).max(Self::FIRST_BITS) - Self::FIRST_BITS;
        Counters::add(&self.steps[(bits as usize).min(Self::STEPS - 1)], 1);
        Counters::add(&self.sum_ns, ns);
    }

    /// How many each step holds, and the sum of all in nanoseconds.
    #[must_use]
    pub fn read(&self) -> ([u64; Self::STEPS], u64) {
        let sum_ns = self.sum_ns.load(Ordering::Relaxed);
        (std::array::from_fn(|step| self.steps[step].load(Ordering::Relaxed)), sum_ns)
    }

    /// Where a step ends, in nanoseconds; what takes so long is in the next. The last one has no end.
    #[must_use]
    pub fn end_ns(step: usize) -> Option<u64> {
        (step < Self::STEPS - 1).then(|| 1 << (Self::FIRST_BITS as usize + step))
    }
}

/// A node's statistics, as `freight stats` prints them and the benchmark reads them.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
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
    /// What becomes of records where the cap is reached: `none`, `s3-fifo` or `random`; empty where a node of another
    /// version does not tell.
    #[serde(default)]
    pub eviction: String,
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
    /// Records that were evicted.
    pub records_evicted: u64,
    /// Bytes of all keys and values.
    pub payload_bytes: u64,
    /// Bytes held by indexes.
    pub index_bytes: u64,
    /// Bytes held by slabs, payload included.
    pub slab_bytes: u64,
    /// Bytes held by what eviction knows of records, beside them.
    pub eviction_bytes: u64,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_of_time_is_counted_in_the_step_that_ends_behind_it() {
        let times = Durations::default();
        let all = [0, 1, 1_023, 1_024, 2_047, 2_048, (1 << 34) - 1, 1 << 34, 1 << 60];
        for ns in all {
            let (before, _) = times.read();
            times.add(Duration::from_nanos(ns));
            let (after, _) = times.read();
            let step = (0..Durations::STEPS).find(|step| before[*step] != after[*step]).expect("it is counted");
            assert!(Durations::end_ns(step).is_none_or(|end| ns < end), "{ns} in step {step}");
            assert!(step == 0 || Durations::end_ns(step - 1).is_some_and(|end| ns >= end), "{ns} in step {step}");
        }
        assert_eq!(times.read().0.iter().sum::<u64>(), all.len() as u64);
    }

    #[test]
    fn kinds_and_results_are_counted_apart() {
        let counts = OutcomeCounts::default();
        for (kind, result) in (0..8).flat_map(|kind| (0..16).map(move |result| (kind, result))) {
            counts.add(kind, result, u64::from(kind) * 16 + u64::from(result));
        }
        for (kind, result) in (0..8).flat_map(|kind| (0..16).map(move |result| (kind, result))) {
            assert_eq!(counts.count(kind, result), u64::from(kind) * 16 + u64::from(result));
        }
    }
}
