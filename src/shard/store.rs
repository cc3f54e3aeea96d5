//! The store: shards behind their locks, one memory pool, one hasher.
#![forbid(unsafe_code)]

use super::buckets::BucketIndex;
use super::evict::{Eviction, Policy};
use super::evicting::Rest;
use super::execute::{Entry, GROUP_OPS, Scratch, shard_of};
use super::index::Index;
#[cfg(feature = "leapfrog")]
use super::leap::LeapIndex;
use super::memory::{CHUNK_BYTES, Pool};
use super::moving::Notes;
use super::ownership::{self, Current, Owned, Ownership};
use super::shard::Shard;
use super::slab::Handle;
use crate::budget::Budget;
use crate::hash::KeyHasher;
use crate::limits::SHARDS_MAX;
use crate::metrics::StoreStats;
use crate::op::{Batch, Outcome, Outcomes, Time};
use smallvec::SmallVec;
use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

/// Which index the shards use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IndexKind {
    /// Our own: extendible hashing over cache-line buckets.
    #[default]
    Buckets,
    /// The `leapfrog` crate, inside its safe subset; in builds with the cargo feature `leapfrog`.
    Leapfrog,
}

impl IndexKind {
    /// The indexes of this build.
    pub const BUILT: &[Self] = &[
        Self::Buckets,
        #[cfg(feature = "leapfrog")]
        Self::Leapfrog,
    ];
}

impl fmt::Display for IndexKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Buckets => "buckets",
            Self::Leapfrog => "leapfrog",
        })
    }
}

impl FromStr for IndexKind {
    type Err = UnknownIndex;

    fn from_str(name: &str) -> Result<Self, UnknownIndex> {
        let found = [Self::Buckets, Self::Leapfrog].into_iter().find(|index| index.to_string() == name);
        found.ok_or_else(|| UnknownIndex { got: name.to_owned() })
    }
}

/// Text that names no index.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no index '{got}': buckets or leapfrog")]
pub struct UnknownIndex {
    /// The text.
    pub got: String,
}

/// What a store is made of.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// Number of shards: a power of two, at most [`SHARDS_MAX`]. About 4 a core.
    pub shards: u32,
    /// Which index the shards use.
    pub index: IndexKind,
    /// Keys the index hash: random bytes that nobody outside knows.
    pub hash_secret: [u8; 32],
    /// What the store's memory is charged to.
    pub budget: Arc<Budget>,
    /// What becomes of records where the budget is used up.
    pub eviction: Eviction,
}

/// Why a store could not be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The number of shards is no power of two, or too large.
    #[error("{shards} shards: must be a power of two, at most {SHARDS_MAX}")]
    ShardCount {
        /// What was asked for.
        shards: u32,
    },
    /// The memory cap does not even hold the empty shards.
    #[error("{bytes_max} bytes of memory are too few for {shards} empty shards")]
    OutOfMemory {
        /// The budget's cap.
        bytes_max: u64,
        /// What was asked for.
        shards: u32,
    },
    /// The memory cap is too small for so many shards that evict.
    #[error("memory is too little to evict in {shards} shards: {shards_max} have 4 MiB each")]
    TooSmallToEvict {
        /// What was asked for.
        shards: u32,
        /// As many as it is enough for.
        shards_max: u32,
    },
    /// This build lacks the index.
    #[error("this build has no leapfrog index: build with the cargo feature `leapfrog`")]
    IndexNotBuilt,
}

/// A sharded store of records in memory. Share it between threads; each brings a [`Scratch`] of its own.
#[derive(Debug)]
pub struct Store {
    pub(super) hasher: KeyHasher,
    shards: Box<[Padded]>,
    pub(super) ownership: Current,
    pub(super) budget: Arc<Budget>,
    pub(super) evicts: bool,
    /// The shard that gives memory up next, where another one needs some.
    pub(super) next_to_give: AtomicUsize,
}

/// A shard and its lock on cache lines of their own (two: processors fetch them in pairs).
#[derive(Debug)]
#[repr(align(128))]
struct Padded(Mutex<Locked>);

/// What the lock of a shard guards.
#[derive(Debug)]
pub(super) struct Locked {
    pub(super) shard: AnyShard,
    /// What decides, while the lock is held, whether a slot is the node's.
    pub(super) owned: Owned,
    /// Keys that change while their slots are on the move.
    pub(super) notes: Option<Box<Notes>>,
}

/// Matched once a shard and batch, never once an operation.
#[derive(Debug)]
pub(super) enum AnyShard {
    Buckets(Shard<BucketIndex>),
    #[cfg(feature = "leapfrog")]
    Leapfrog(Shard<LeapIndex>),
}

/// Bytes of the account for each shard that evicts, at least.
const SHARD_BYTES_MIN: u64 = 2 * CHUNK_BYTES as u64;

/// Shards locked at a time, at most: others must find something to do meanwhile.
const GROUP_SHARDS_MAX: usize = 8;

impl Store {
    /// An empty store.
    ///
    /// # Errors
    /// [`StoreError`] says what is wrong with the configuration.
    pub fn new(config: StoreConfig) -> Result<Self, StoreError> {
        let StoreConfig { shards, index, hash_secret, budget, eviction } = config;
        if !shards.is_power_of_two() || shards > SHARDS_MAX {
            return Err(StoreError::ShardCount { shards });
        }
        if eviction != Eviction::None && shards > Self::evicting_shards_max(&budget) {
            return Err(StoreError::TooSmallToEvict { shards, shards_max: Self::evicting_shards_max(&budget) });
        }
        let hasher = KeyHasher::new(hash_secret);
        let pool = Pool::new(Arc::clone(&budget));
        let shards = (0..shards)
            .map(|number| {
                let shard = match eviction.policy(hasher.index_hash(&number.to_le_bytes()[..])) {
                    None => AnyShard::new(index, [&pool, &pool], hasher, None)?,
                    // A shard that evicts empties chunks, so it has some that are its own.
                    policy => {
                        let own = Pool::sparing(Arc::clone(&budget), spare_bytes(&budget));
                        AnyShard::new(index, [&pool, &own], hasher, policy)?
                    }
                };
                let shard = shard.ok_or(StoreError::OutOfMemory { bytes_max: budget.bytes_max(), shards })?;
                Ok(Padded(Mutex::new(Locked { shard, owned: None, notes: None })))
            })
            .collect::<Result<_, _>>()?;
        let (evicts, next_to_give) = (eviction != Eviction::None, AtomicUsize::new(0));
        Ok(Self { hasher, shards, ownership: Current::default(), budget, evicts, next_to_give })
    }

    /// The most shards that a store has with this budget, if it evicts: each empties chunks of its own.
    #[must_use]
    pub fn evicting_shards_max(budget: &Budget) -> u32 {
        let shards = record_bytes(budget) / SHARD_BYTES_MIN;
        u32::try_from(shards).unwrap_or(u32::MAX).clamp(1, SHARDS_MAX)
    }

    /// Whether records are evicted where memory is full: one may go between two operations of a batch on its key.
    #[must_use]
    pub fn evicts(&self) -> bool {
        self.evicts
    }

    /// Executes every operation of a batch and hands each outcome over, exactly once, in any order. Operations on
    /// one key take effect in the order of the batch; each takes effect at once, while its shard is locked. Gives the
    /// epoch of the map by which slots that are not the node's were told apart, 0 for none.
    ///
    /// `now` is the time of the batch. A shard's time is the latest that any batch brought: it never goes back, though
    /// that of the caller may.
    ///
    /// Called from many threads at a time. Blocks while other threads hold the shards that are left to visit.
    ///
    /// # Panics
    /// Only if `batch` or `outcomes` do: the store stays whole and in use.
    pub fn execute<O: Outcomes>(&self, batch: &impl Batch, now: Time, outcomes: &mut O, scratch: &mut Scratch) -> u64 {
        self.ownership.refresh(&mut scratch.ownership);
        // Where records are evicted each get counts.
        scratch.deal(batch, &self.hasher, self.shards.len(), O::TELLS_AGAIN && !self.evicts);
        scratch.sample(batch, &self.hasher);
        for index in &scratch.foreign {
            outcomes.set(*index, Outcome::WrongNode);
        }
        let mut visits = std::mem::take(&mut scratch.visits);
        let owned = &scratch.ownership.owned;
        let mut epoch = ownership::epoch(owned);
        let (mut next, mut busy) = (0, 0);
        let mut stopped = SmallVec::new();
        while next < visits.len() {
            let together = scratch.group(&visits[next..], GROUP_SHARDS_MAX);
            let mut group = [const { None }; GROUP_SHARDS_MAX];
            for (place, at) in group.iter_mut().zip(next..next + together) {
                let shard = visits[at];
                match self.try_lock(shard) {
                    Some(locked) if ownership::is_same(&locked.owned, owned) => {
                        *place = Some(Visit { shard, locked, bin: scratch.bin(shard) });
                    }
                    // Busy, or its slots were changed since the batch was dealt: by itself, later.
                    _ => {
                        visits[busy] = shard;
                        busy += 1;
                    }
                }
            }
            execute_group(&mut group[..together], batch, now, outcomes, &mut stopped);
            next += together;
        }
        // Nothing else is left to do: wait.
        let mut has_waited = false;
        let busy = visits[..busy].iter().map(|shard| (*shard, 0));
        for (shard, done) in busy.chain(stopped) {
            has_waited |= self.try_lock(shard).is_none();
            let entries = Cow::Borrowed(&scratch.bin(shard)[done..]);
            epoch = epoch.max(self.execute_rest(Rest { shard, entries, owned }, batch, now, outcomes));
        }
        scratch.visits = visits;
        scratch.waits.note(has_waited, batch.op_count(), scratch.repeats.count());
        scratch.repeats.tell(outcomes);
        epoch
    }

    /// From when this returns on, operations on other slots than these get [`Outcome::WrongNode`] and are not executed.
    /// Before the first call every slot is the node's. An export that was begun notes nothing any more: this gives its
    /// slots up, or it is over.
    ///
    /// Blocks until each shard was free for a moment.
    pub fn set_ownership(&self, ownership: Ownership) {
        self.ownership.change(Arc::new(ownership), |ownership| {
            for mut locked in self.each_locked() {
                locked.go_by(ownership);
            }
        });
    }

    /// Locks one shard after another.
    pub(super) fn each_locked(&self) -> impl Iterator<Item = MutexGuard<'_, Locked>> {
        (0..self.shards.len()).map(|shard| self.lock(shard))
    }

    /// Waits for a shard. A poisoned lock is whole, see `shard::Unfinished`.
    pub(super) fn lock(&self, shard: usize) -> MutexGuard<'_, Locked> {
        self.shards[shard].0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Number of shards.
    pub(super) fn shards(&self) -> usize {
        self.shards.len()
    }

    /// Locks a shard if it is free. Nobody waits for a lock while holding one: several may be held.
    fn try_lock(&self, shard: u32) -> Option<MutexGuard<'_, Locked>> {
        match self.shards[shard as usize].0.try_lock() {
            Ok(locked) => Some(locked),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Which shard the record of a key lies in, from 0. Another store deals keys in another way.
    #[must_use]
    pub fn shard_of(&self, key: &[u8]) -> usize {
        shard_of(self.hasher.index_hash(key), self.shards.len())
    }

    /// What the store holds, shard by shard: each is locked for a moment, so the sum is of no single instant.
    #[must_use]
    pub fn stats(&self) -> StoreStats {
        let mut stats = StoreStats::default();
        for locked in self.each_locked() {
            match &locked.shard {
                AnyShard::Buckets(shard) => count(&mut stats, shard),
                #[cfg(feature = "leapfrog")]
                AnyShard::Leapfrog(shard) => count(&mut stats, shard),
            }
        }
        stats
    }
}

/// A shard and what it shall do.
struct Visit<'a> {
    shard: u32,
    locked: MutexGuard<'a, Locked>,
    bin: &'a [Entry],
}

/// Shards that stopped for want of memory, and how many operations they had executed by then.
type Stopped = SmallVec<[(u32, usize); 4]>;

/// Passes 1 to 3 over all bins of a group; each shard is unlocked as soon as its own is done.
fn execute_group(
    group: &mut [Option<Visit<'_>>],
    batch: &impl Batch,
    now: Time,
    outcomes: &mut impl Outcomes,
    stopped: &mut Stopped,
) {
    if let [only] = group {
        if let Some(Visit { shard, locked, bin }) = only {
            let done = locked.shard.execute_bin(bin, batch, now, false, outcomes);
            if done < bin.len() {
                stopped.push((*shard, done));
            }
        }
        return;
    }
    for Visit { locked, bin, .. } in group.iter().flatten() {
        locked.shard.prefetch_buckets(bin);
    }
    let mut hints = [Handle::NONE; GROUP_OPS];
    let mut rest = &mut hints[..];
    for Visit { locked, bin, .. } in group.iter().flatten() {
        let (own, others) = rest.split_at_mut(bin.len());
        locked.shard.prefetch_records(bin, own);
        rest = others;
    }
    let mut rest = &hints[..];
    for visit in group {
        let Some(Visit { shard, mut locked, bin }) = visit.take() else { continue };
        let (own, others) = rest.split_at(bin.len());
        let done = locked.shard.execute_group(bin, own, batch, now, outcomes);
        if done < bin.len() {
            stopped.push((shard, done));
        }
        rest = others;
    }
}

/// Adds one shard to a store's statistics.
fn count<I: Index>(stats: &mut StoreStats, shard: &Shard<I>) {
    let (records, index) = (shard.records(), shard.index_stats());
    debug_assert!(records.payload_bytes() <= records.bytes(), "keys and values lie in the slabs");
    stats.records += records.count();
    stats.payload_bytes += records.payload_bytes();
    stats.index_bytes += index.bytes;
    stats.slab_bytes += records.bytes();
    stats.index_cells_moved_max = stats.index_cells_moved_max.max(index.cells_moved_max);
    stats.index_growths += index.growths;
    stats.records_expiring += records.expiring();
    stats.records_expired += shard.expired();
    if let Some(evictor) = &shard.evictor {
        stats.records_evicted += evictor.evicted();
        stats.eviction_bytes += evictor.bytes();
    }
    stats.shard_records.push(records.count());
}

/// What the records of a store that evicts leave of an account, so that indexes and queues can grow.
fn spare_bytes(budget: &Budget) -> u64 {
    (record_bytes(budget) / 64).clamp(CHUNK_BYTES.into(), 32 * u64::from(CHUNK_BYTES))
}

/// Bytes of an account for records, indexes, and what eviction knows of them.
fn record_bytes(budget: &Budget) -> u64 {
    budget.bytes_max().saturating_sub(budget.bytes_reserved())
}

impl AnyShard {
    fn new(
        index: IndexKind,
        pools: [&Arc<Pool>; 2],
        hasher: KeyHasher,
        policy: Option<Policy>,
    ) -> Result<Option<Self>, StoreError> {
        match index {
            IndexKind::Buckets => Ok(Shard::new(pools, hasher, policy).map(Self::Buckets)),
            #[cfg(feature = "leapfrog")]
            IndexKind::Leapfrog => Ok(Shard::new(pools, hasher, policy).map(Self::Leapfrog)),
            #[cfg(not(feature = "leapfrog"))]
            IndexKind::Leapfrog => Err(StoreError::IndexNotBuilt),
        }
    }

    /// Gives the number of operations that were executed: all, where nothing is evicted.
    #[inline]
    pub(super) fn execute_bin(
        &mut self,
        bin: &[Entry],
        batch: &impl Batch,
        now: Time,
        may_refuse: bool,
        outcomes: &mut impl Outcomes,
    ) -> usize {
        match self {
            Self::Buckets(shard) => shard.execute_bin(bin, batch, now, may_refuse, outcomes),
            #[cfg(feature = "leapfrog")]
            Self::Leapfrog(shard) => shard.execute_bin(bin, batch, now, may_refuse, outcomes),
        }
    }

    #[inline]
    fn prefetch_buckets(&self, bin: &[Entry]) {
        match self {
            Self::Buckets(shard) => shard.prefetch_buckets(bin),
            #[cfg(feature = "leapfrog")]
            Self::Leapfrog(shard) => shard.prefetch_buckets(bin),
        }
    }

    #[inline]
    fn prefetch_records(&self, bin: &[Entry], hints: &mut [Handle]) {
        match self {
            Self::Buckets(shard) => shard.prefetch_records(bin, hints),
            #[cfg(feature = "leapfrog")]
            Self::Leapfrog(shard) => shard.prefetch_records(bin, hints),
        }
    }

    #[inline]
    fn execute_group(
        &mut self,
        bin: &[Entry],
        hints: &[Handle],
        batch: &impl Batch,
        now: Time,
        outcomes: &mut impl Outcomes,
    ) -> usize {
        match self {
            Self::Buckets(shard) => shard.execute_small_bin(bin, hints, batch, now, outcomes),
            #[cfg(feature = "leapfrog")]
            Self::Leapfrog(shard) => shard.execute_small_bin(bin, hints, batch, now, outcomes),
        }
    }
}
