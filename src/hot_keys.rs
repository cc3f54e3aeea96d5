//! Which keys are asked for most, lately, told from a sample.
//!
//! ```text
//!   thread: one operation in `every` --hash, key--> sketch of 128 slots (Space-Saving) --\
//!   thread: ...                                                                          +--merged--> HotKeysTold
//!   behind each EPOCH_SAMPLES samples of all threads together every count is halved ----/
//! ```
//!
//! Space-Saving (Metwally, Agrawal, El Abbadi: "Efficient Computation of Frequent and Top-k Elements in Data Streams",
//! 2005): a key without a slot takes the one with the lowest count, and inherits that count as what it may have had. So
//! a slot knows two bounds, and no stream of keys makes a sketch larger. Operations are counted, not time: by time a
//! client with a deep pipeline hides all but the first of its commands. The gap from one sample to the next is drawn
//! anew each time, so that no period of a workload is in step with it.
#![forbid(unsafe_code)]

use crate::budget::Budget;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Keys that a sketch knows. One that has more than 1 / SLOTS of the operations has a slot for sure.
const SLOTS: usize = 128;

/// Bytes of a key that are kept. Keys are told apart by their hashes.
const KEY_BYTES_KEPT: usize = 128;

/// Samples of all threads behind which every count is halved: what is told is of the last one to two times as many.
const EPOCH_SAMPLES: u64 = 8_192;

/// Samples that a key must have had for sure to be told.
const SURE_MIN: u32 = 5;

/// Keys that are told.
const TOLD_MAX: usize = 20;

/// The sketches of all threads of a node.
#[derive(Debug)]
pub struct HotKeys {
    every: u32,
    /// Samples ever taken. Relaxed: that a thread halves its counts a sample later harms nobody.
    samples: AtomicU64,
    threads: Box<[Thread]>,
    budget: Arc<Budget>,
}

/// One thread's sketch, locked by it for each sample and by whoever asks.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Thread(Mutex<Sketch>);

/// What is told of a node's hot keys.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HotKeysTold {
    /// One operation in so many is sampled, on average; 0 where none is.
    pub every: u32,
    /// Samples that this is told from, the latest ones.
    pub samples: u64,
    /// The hottest keys first. A key that was hardly seen twice is none of them.
    pub keys: Vec<HotKey>,
}

/// A key that many operations are on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HotKey {
    /// The key, of a long one its first 128 bytes: printable ASCII as it is, quotes and backslashes behind a backslash,
    /// any other byte as `\xNN`, `\n`, `\r` or `\t`.
    pub key: String,
    /// Its whole length.
    pub key_bytes: u32,
    /// Its part of all operations, 0 to 1.
    pub share: f64,
    /// Bounds of that: 19 times in 20 the truth is between them.
    pub share_min: f64,
    /// The upper one.
    pub share_max: f64,
    /// Samples of it that only read.
    pub reads: u64,
    /// Samples of it that may change something.
    pub writes: u64,
}

/// An operation that is sampled.
#[derive(Debug, Clone, Copy)]
pub struct Sampled<'a> {
    /// The hash of its key, the same on every thread, which nobody outside can choose keys by.
    pub hash: u64,
    /// Its key.
    pub key: &'a [u8],
    /// Whether it may change something.
    pub is_write: bool,
}

impl HotKeys {
    /// Sketches for so many threads, charged to `budget` until they are dropped. `None` where `every` is 0, or the
    /// budget has no room.
    #[must_use]
    pub fn new(every: u32, threads: usize, budget: &Arc<Budget>) -> Option<Arc<Self>> {
        if every == 0 || !budget.charge(Self::bytes(threads)) {
            return None;
        }
        let threads = (0..threads).map(|_| Thread::default()).collect();
        Some(Arc::new(Self { every, samples: AtomicU64::new(0), threads, budget: Arc::clone(budget) }))
    }

    /// Bytes of the sketches of so many threads, whatever keys come.
    #[must_use]
    pub fn bytes(threads: usize) -> u64 {
        (threads * (size_of::<Thread>() + SLOTS * size_of::<Slot>())) as u64
    }

    /// Bytes of these.
    #[must_use]
    pub fn bytes_used(&self) -> u64 {
        Self::bytes(self.threads.len())
    }

    /// Samples ever taken.
    #[must_use]
    pub fn samples(&self) -> u64 {
        self.samples.load(Ordering::Relaxed)
    }

    /// What one thread samples with; `seed` should be random, so that nobody outside knows what is sampled.
    ///
    /// # Panics
    /// Where there is no such thread.
    #[must_use]
    pub fn sampler(self: &Arc<Self>, thread: usize, seed: u64) -> Sampler {
        assert!(thread < self.threads.len(), "a sampler for each thread");
        let mut sampler = Sampler { hot: Arc::clone(self), thread, skip: 0, random: seed | 1 };
        sampler.skip = sampler.gap() - 1;
        sampler
    }

    fn sketch(&self, thread: usize) -> MutexGuard<'_, Sketch> {
        // Counts that a panic left half changed are counts all the same.
        self.threads[thread].0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The hottest keys of all threads. Locks one sketch after another for a moment.
    #[must_use]
    pub fn told(&self) -> HotKeysTold {
        let epoch = self.samples() / EPOCH_SAMPLES;
        let each = (0..self.threads.len()).map(|thread| {
            let mut sketch = self.sketch(thread);
            sketch.age(epoch);
            sketch.clone()
        });
        merged(self.every, &each.collect::<Vec<_>>())
    }
}

impl Drop for HotKeys {
    fn drop(&mut self) {
        self.budget.credit(self.bytes_used());
    }
}

impl HotKey {
    /// Bytes of a key that are told.
    pub const KEY_BYTES_KEPT: usize = KEY_BYTES_KEPT;
}

impl HotKeysTold {
    /// Of a node that samples nothing.
    pub const NONE: Self = Self { every: 0, samples: 0, keys: Vec::new() };
}

/// Says which operations of a thread's batches are sampled, and takes them.
#[derive(Debug)]
pub struct Sampler {
    hot: Arc<HotKeys>,
    thread: usize,
    /// Operations before the one that is sampled next.
    skip: u64,
    random: u64,
}

impl Sampler {
    /// Counts a batch of so many operations, if none of them is to be sampled; all that most batches cost.
    #[inline(always)]
    pub fn passes(&mut self, ops: u32) -> bool {
        match self.skip.checked_sub(ops.into()) {
            Some(left) => {
                self.skip = left;
                true
            }
            None => false,
        }
    }

    /// Samples a batch of so many operations, in whatever order `op` has them; it may have fewer.
    #[cold]
    pub fn sample<'a>(&mut self, ops: u32, op: impl Fn(u64) -> Option<Sampled<'a>>) {
        let hot = Arc::clone(&self.hot);
        let mut sketch = hot.sketch(self.thread);
        let mut at = self.skip;
        while at < ops.into() {
            if let Some(sampled) = op(at) {
                sketch.age(hot.samples.fetch_add(1, Ordering::Relaxed) / EPOCH_SAMPLES);
                sketch.count(&sampled);
            }
            at += self.gap();
        }
        self.skip = at - u64::from(ops);
    }

    /// From one sample to the next: any of 1 to 2 n - 1 operations, n on average.
    fn gap(&mut self) -> u64 {
        // Marsaglia, "Xorshift RNGs", 2003, its star variant by Vigna.
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        let drawn = self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        1 + drawn % (2 * u64::from(self.hot.every) - 1)
    }
}

/// A thread's counts. Hashes and counts lie together, for each sample goes through them.
#[derive(Debug, Clone)]
struct Sketch {
    hashes: [u64; SLOTS],
    /// Samples that each key had at most.
    counts: [u32; SLOTS],
    slots: Box<[Slot]>,
    /// Slots in use.
    used: usize,
    samples: u32,
    epoch: u64,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    /// Samples that the key had at least.
    sure: u32,
    /// Those of them that may change something.
    writes: u32,
    key_bytes: u32,
    key: [u8; KEY_BYTES_KEPT],
}

impl Default for Sketch {
    fn default() -> Self {
        let empty = Slot { sure: 0, writes: 0, key_bytes: 0, key: [0; KEY_BYTES_KEPT] };
        let slots = vec![empty; SLOTS].into_boxed_slice();
        Self { hashes: [0; SLOTS], counts: [0; SLOTS], slots, used: 0, samples: 0, epoch: 0 }
    }
}

impl Sketch {
    fn count(&mut self, sampled: &Sampled<'_>) {
        let known = self.hashes[..self.used].iter().position(|hash| *hash == sampled.hash);
        let at = known.unwrap_or_else(|| self.make_room(sampled));
        let slot = &mut self.slots[at];
        slot.sure += 1;
        slot.writes += u32::from(sampled.is_write);
        self.counts[at] += 1;
        self.samples += 1;
        debug_assert!(slot.sure <= self.counts[at], "what is sure is possible");
    }

    /// A slot for a key that has none: a free one, or that of the lowest count, which stays.
    fn make_room(&mut self, sampled: &Sampled<'_>) -> usize {
        let at = if self.used < SLOTS { self.used } else { self.lowest() };
        self.used = self.used.max(at + 1);
        let mut slot = Slot { sure: 0, writes: 0, key_bytes: sampled.key.len() as u32, key: [0; KEY_BYTES_KEPT] };
        let kept = sampled.key.len().min(KEY_BYTES_KEPT);
        slot.key[..kept].copy_from_slice(&sampled.key[..kept]);
        self.hashes[at] = sampled.hash;
        self.slots[at] = slot;
        at
    }

    fn lowest(&self) -> usize {
        let min = self.counts.iter().copied().min().unwrap_or(0);
        self.counts.iter().position(|count| *count == min).unwrap_or(0)
    }

    /// Samples that a key without a slot had at most.
    fn missed_max(&self) -> u32 {
        if self.used < SLOTS { 0 } else { self.counts[self.lowest()] }
    }

    /// Halves every count once for each epoch that has passed: the upper ones round up, the lower ones down.
    fn age(&mut self, epoch: u64) {
        let passed = epoch.saturating_sub(self.epoch);
        if passed == 0 {
            return;
        }
        let halvings = passed.min(31) as u32;
        self.counts[..self.used].iter_mut().for_each(|count| *count = count.div_ceil(1 << halvings));
        for slot in &mut self.slots[..self.used] {
            slot.sure >>= halvings;
            slot.writes >>= halvings;
        }
        self.samples >>= halvings;
        self.epoch = epoch;
    }
}

/// What several threads know of a key.
struct Merged<'a> {
    slot: &'a Slot,
    sure: u32,
    writes: u32,
    /// Beyond what the threads without a slot for it may have missed.
    count: u32,
}

fn merged(every: u32, sketches: &[Sketch]) -> HotKeysTold {
    let missed: u32 = sketches.iter().map(Sketch::missed_max).sum();
    let mut keys = HashMap::<u64, Merged<'_>>::new();
    for sketch in sketches {
        let slots = sketch.hashes.iter().zip(&sketch.counts).zip(&sketch.slots).take(sketch.used);
        for ((hash, count), slot) in slots {
            let key = keys.entry(*hash).or_insert(Merged { slot, sure: 0, writes: 0, count: 0 });
            key.sure += slot.sure;
            key.writes += slot.writes;
            key.count += count.saturating_sub(sketch.missed_max());
        }
    }
    let samples = sketches.iter().map(|sketch| u64::from(sketch.samples)).sum();
    let mut keys: Vec<_> = keys.into_values().filter(|key| key.sure >= SURE_MIN).collect();
    keys.sort_unstable_by(|one, other| (other.sure, &other.slot.key).cmp(&(one.sure, &one.slot.key)));
    keys.truncate(TOLD_MAX);
    HotKeysTold { every, samples, keys: keys.iter().map(|key| key.told(samples, missed)).collect() }
}

impl Merged<'_> {
    fn told(&self, samples: u64, missed: u32) -> HotKey {
        let kept = (self.slot.key_bytes as usize).min(KEY_BYTES_KEPT);
        HotKey {
            key: self.slot.key[..kept].escape_ascii().to_string(),
            key_bytes: self.slot.key_bytes,
            share: f64::from(self.sure) / samples.max(1) as f64,
            share_min: interval(self.sure, samples).0,
            share_max: interval(self.count + missed, samples).1,
            reads: u64::from(self.sure - self.writes),
            writes: u64::from(self.writes),
        }
    }
}

/// Bounds of a share of which `count` of `samples` were seen, at 95 % (Wilson, 1927).
fn interval(count: u32, samples: u64) -> (f64, f64) {
    const Z: f64 = 1.96;
    let samples = samples.max(1) as f64;
    let share = (f64::from(count) / samples).min(1.0);
    let middle = share + Z * Z / (2.0 * samples);
    let half = Z * (share * (1.0 - share) / samples + Z * Z / (4.0 * samples * samples)).sqrt();
    let whole = 1.0 + Z * Z / samples;
    (((middle - half) / whole).max(0.0), ((middle + half) / whole).min(1.0))
}

#[cfg(test)]
mod tests;
