//! Executes a batch: keys to shards, then shard by shard, each locked once.
//!
//! ```text
//!   pass 0   every key, in order --> (index hash, position, short key) into the bin of its shard
//!                                --> or, where shards are fought for, told with another one (`repeats.rs`)
//!   then for each shard with a bin, this thread's own first, busy ones last, under one lock:
//!     pass 1   prefetch index buckets            32 }
//!     pass 2   find cells, prefetch records      16 } operations ahead of pass 3, in one loop, so that memory is at
//!     pass 3   execute, in request order          0 } work while the processor is
//! ```
//!
//! Operations on one key, as far as they are executed, meet in one bin, in the order of the batch. Small bins make a
//! group, whose shards are locked together and which goes through each pass as a whole: a batch of 100 has twelve of
//! them a shard, too few for a pass to hide what it waits for.
#![forbid(unsafe_code)]

use super::changed::Changed;
use super::index::Index;
use super::ownership::Copied;
use super::repeats::{Repeats, Waits};
use super::shard::Shard;
use super::slab::Handle;
use crate::hash::{Key, KeyHasher, ShortKey, slot};
use crate::hot_keys::Sampler;
use crate::limits::FRAME_OPS_MAX;
use crate::op::{Batch, Outcomes, Position, Time, VisitKeys};
use crate::slots::SlotSet;
use std::slice;

/// Pass 1 is so many operations ahead of pass 2, and pass 2 of pass 3.
const AHEAD_OPS: usize = 16;

/// Operations of a group of small bins, whose records are all found before any is executed.
pub(super) const GROUP_OPS: usize = 32;

/// An operation on its way to its shard. One that is a plain get of a short key, as most are, is all here: its request,
/// which is out of reach by now, is not read again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    hash: u64,
    word: u64,
    offset: u32,
    index: u16,
    /// The length of the key in `word`, of which this is a plain get; else [`LONG_GET`] or [`NO_GET`].
    word_bytes: u16,
}

/// A plain get, whose key is not in its entry.
const LONG_GET: u16 = u16::MAX - 1;

/// The operation is not in its entry, and no plain get.
const NO_GET: u16 = u16::MAX;

const _: () = assert!(size_of::<Entry>() == 24 && FRAME_OPS_MAX - 1 <= u16::MAX as u32);

impl Entry {
    #[inline(always)]
    fn of_short(hasher: &KeyHasher, position: Position, key: ShortKey, is_plain_get: bool) -> Self {
        let Position { index, offset } = position;
        let word_bytes = if is_plain_get { key.bytes.into() } else { NO_GET };
        Self { hash: hasher.index_hash_of_short(key), word: key.word, offset, index: index as u16, word_bytes }
    }

    #[inline(always)]
    fn new(hasher: &KeyHasher, position: Position, key: Key<'_>, is_plain_get: bool) -> Self {
        if let Some(short) = key.short() {
            return Self::of_short(hasher, position, short, is_plain_get);
        }
        let Position { index, offset } = position;
        let word_bytes = if is_plain_get { LONG_GET } else { NO_GET };
        Self { hash: hasher.index_hash_of_long(&key), word: 0, offset, index: index as u16, word_bytes }
    }

    #[inline(always)]
    pub(super) fn is_plain_get(&self) -> bool {
        self.word_bytes != NO_GET
    }

    #[inline(always)]
    pub(super) fn short_get(&self) -> Option<ShortKey> {
        (self.word_bytes < LONG_GET).then_some(ShortKey { word: self.word, bytes: self.word_bytes as u8 })
    }

    #[inline(always)]
    pub(super) fn hash(&self) -> u64 {
        self.hash
    }

    #[inline(always)]
    pub(super) fn position(&self) -> Position {
        Position { index: self.index.into(), offset: self.offset }
    }
}

/// The shard of a record: bits of its index hash that neither tag, bucket nor directory takes. They are keyed, so that
/// nobody outside can choose keys that fill one shard, as the published bits that name slots would let him.
#[inline(always)]
pub(super) fn shard_of(hash: u64, shards: usize) -> usize {
    debug_assert!(shards.is_power_of_two(), "{shards} shards");
    (hash >> 24) as usize & (shards - 1)
}

/// A thread's working memory for batches: made once, reused for each.
#[derive(Debug, Default)]
pub struct Scratch {
    first_shard: u32,
    /// The operations of each shard.
    bins: Vec<Vec<Entry>>,
    /// Which bins are not empty, one bit each.
    filled: Vec<u64>,
    /// Shards to visit, then shards that were busy.
    pub(super) visits: Vec<u32>,
    /// Which slots are the node's, as far as this thread knows.
    pub(super) ownership: Copied,
    /// Operations on other slots, by their index.
    pub(super) foreign: Vec<u32>,
    pub(super) changed: Changed,
    /// Gets that are told what others are told.
    pub(super) repeats: Repeats,
    pub(super) waits: Waits,
    /// Whether each batch is looked through for repeats.
    finds_repeats: bool,
    /// Looks for hot keys, where anybody wants to know.
    pub(super) sampler: Option<Sampler>,
}

impl Scratch {
    /// Working memory whose batches start at `first_shard` (modulo their number). Give each thread another one:
    /// threads that start at the same shard queue up behind each other.
    #[must_use]
    pub fn new(first_shard: u32) -> Self {
        Self { first_shard, ..Self::default() }
    }

    /// The same, which looks in each batch for gets that repeat another one, and not only where threads had to wait for
    /// shards: those are told, and not executed, where [`Outcomes::TELLS_AGAIN`] allows it.
    #[must_use]
    pub fn finding_repeats(self) -> Self {
        Self { finds_repeats: true, ..self }
    }

    /// Pass 0: deals the operations of a batch to the bins of `shards` shards, but for those on foreign slots and,
    /// where it `may_repeat` and threads wait for each other, repeats.
    pub(super) fn deal(&mut self, batch: &impl Batch, hasher: &KeyHasher, shards: usize, may_repeat: bool) {
        self.clear(shards);
        self.repeats.clear();
        if may_repeat && (self.finds_repeats || self.waits.are_frequent(batch.op_count())) {
            self.repeats.begin(batch.op_count());
            self.deal_by::<true>(batch, hasher, shards);
        } else {
            self.deal_by::<false>(batch, hasher, shards);
        }
        self.plan_visits(shards);
    }

    #[inline(always)]
    fn deal_by<const REPEATS: bool>(&mut self, batch: &impl Batch, hasher: &KeyHasher, shards: usize) {
        let mut dealer = Dealer::<_, REPEATS> {
            batch,
            repeats: &mut self.repeats,
            hasher,
            bins: &mut self.bins[..shards],
            filled: &mut self.filled[..shards.div_ceil(64)],
            foreign: &mut self.foreign,
            owned: self.ownership.owned.as_deref().map(|owned| &owned.slots),
        };
        batch.visit_keys(&mut dealer);
    }

    /// Empties the bins: here and not after use, so that it happens after a panic too.
    fn clear(&mut self, shards: usize) {
        self.foreign.clear();
        // A batch of nothing but one shard's keys makes a large bin; four times the fair share is kept.
        let kept_ops = (4 * FRAME_OPS_MAX as usize / shards).max(64);
        for (word, bits) in self.filled.iter_mut().enumerate() {
            while *bits != 0 {
                let bin = &mut self.bins[64 * word + bits.trailing_zeros() as usize];
                bin.clear();
                bin.shrink_to(kept_ops);
                *bits &= *bits - 1;
            }
        }
        if self.bins.len() < shards {
            self.bins.resize_with(shards, Vec::new);
            self.filled.resize(shards.div_ceil(64), 0);
        }
    }

    /// Lists the shards with operations, from `first_shard` on and around.
    fn plan_visits(&mut self, shards: usize) {
        self.visits.clear();
        for (word, bits) in self.filled.iter().enumerate() {
            let mut bits = *bits;
            while bits != 0 {
                self.visits.push(64 * word as u32 + bits.trailing_zeros());
                bits &= bits - 1;
            }
        }
        let first = self.first_shard & (shards as u32 - 1);
        let before = self.visits.partition_point(|shard| *shard < first);
        self.visits.rotate_left(before);
    }

    /// How many of the shards to visit next have bins that make a group together: one at least.
    pub(super) fn group(&self, visits: &[u32], shards_max: usize) -> usize {
        let mut ops = 0;
        let fits = |shard: &&u32| {
            ops += self.bin(**shard).len();
            ops <= GROUP_OPS
        };
        visits.iter().take(shards_max).take_while(fits).count().max(1)
    }

    pub(super) fn bin(&self, shard: u32) -> &[Entry] {
        &self.bins[shard as usize]
    }

    /// Visits, of the batch that was executed last, the changes, the gets that want a version, and of the gets on their
    /// keys those before it is told what the key holds: `visit` says whether an operation tells, for all that come
    /// behind it. Operations on one key come in the order of the batch. Two keys of one [`KeyHasher::index_hash`] count
    /// as one. Gets that were told with one before them are not visited: what that one tells, it tells for them.
    pub fn visit_changed(&mut self, visit: impl FnMut(Position) -> bool) {
        self.changed.visit(&self.bins, visit);
    }
}

/// Deals operations to the bins of their shards.
struct Dealer<'a, B, const REPEATS: bool> {
    batch: &'a B,
    repeats: &'a mut Repeats,
    hasher: &'a KeyHasher,
    bins: &'a mut [Vec<Entry>],
    filled: &'a mut [u64],
    foreign: &'a mut Vec<u32>,
    /// The slots that are the node's, where not all are.
    owned: Option<&'a SlotSet>,
}

impl<B: Batch, const REPEATS: bool> VisitKeys<'_> for Dealer<'_, B, REPEATS> {
    #[inline(always)]
    fn short_get(&mut self, position: Position, key: ShortKey) {
        if self.owned.is_none_or(|owned| owned.contains(key.slot())) {
            let entry = Entry::of_short(self.hasher, position, key, true);
            if !(REPEATS && self.repeats.is_repeat(entry.hash, key, position)) {
                self.push(entry);
            }
        } else {
            self.foreign.push(position.index);
        }
    }

    #[inline(always)]
    fn other(&mut self, position: Position, key: Key<'_>, is_plain_get: bool) {
        if self.owned.is_none_or(|owned| owned.contains(slot(key))) {
            let entry = Entry::new(self.hasher, position, key, is_plain_get);
            if !(REPEATS && self.is_repeat(&entry, key)) {
                self.push(entry);
            }
        } else {
            self.foreign.push(position.index);
        }
    }
}

impl<B: Batch, const REPEATS: bool> Dealer<'_, B, REPEATS> {
    /// Whether an operation repeats another one, which only plain gets do.
    fn is_repeat(&mut self, entry: &Entry, key: Key<'_>) -> bool {
        if let Some(short) = entry.short_get() {
            return self.repeats.is_repeat(entry.hash, short, entry.position());
        }
        if entry.is_plain_get() {
            return self.repeats.is_long_repeat(entry.hash, key, entry.position(), self.batch);
        }
        self.repeats.forget(entry.hash);
        false
    }

    #[inline(always)]
    fn push(&mut self, entry: Entry) {
        let shard = shard_of(entry.hash, self.bins.len());
        let bin = &mut self.bins[shard];
        if bin.is_empty() {
            self.filled[shard / 64] |= 1 << (shard % 64);
        }
        bin.push(entry);
    }
}

impl<I: Index> Shard<I> {
    /// Passes 1 to 3: executes the operations of one bin, in order; gives the number of those that were executed. Where
    /// records are evicted that may be fewer than all, or the first refused, if it `may_refuse`.
    pub(super) fn execute_bin(
        &mut self,
        bin: &[Entry],
        batch: &impl Batch,
        now: Time,
        may_refuse: bool,
        outcomes: &mut impl Outcomes,
    ) -> usize {
        self.advance(now);
        if self.evicts() {
            self.execute_passes::<true>(bin, batch, may_refuse, outcomes)
        } else {
            self.execute_passes::<false>(bin, batch, may_refuse, outcomes)
        }
    }

    #[inline]
    fn execute_passes<const EVICTS: bool>(
        &mut self,
        bin: &[Entry],
        batch: &impl Batch,
        may_refuse: bool,
        outcomes: &mut impl Outcomes,
    ) -> usize {
        let mut hints = [Handle::NONE; AHEAD_OPS];
        self.prefetch_buckets(&bin[..bin.len().min(2 * AHEAD_OPS)]);
        self.prefetch_records(bin, &mut hints);
        let mut handles_freed = self.handles_freed();
        for (i, entry) in bin.iter().enumerate() {
            if let Some(later) = bin.get(i + 2 * AHEAD_OPS) {
                self.prefetch_index(later.hash);
            }
            let hint = hints[i % AHEAD_OPS];
            if let Some(later) = bin.get(i + AHEAD_OPS) {
                hints[i % AHEAD_OPS] = self.prefetch_record(later.hash);
            }
            if EVICTS {
                let (entry, hint) = (slice::from_ref(entry), slice::from_ref(&hint));
                if self.execute_evicting(entry, hint, batch, may_refuse && i == 0, outcomes) == 0 {
                    return i;
                }
            } else {
                self.execute_entry(entry, hint, batch, outcomes);
            }
            if self.handles_freed() != handles_freed {
                // Any hint may name what was freed.
                hints = [Handle::NONE; AHEAD_OPS];
                handles_freed = self.handles_freed();
            }
        }
        bin.len()
    }

    /// Pass 1: asks the processor for index buckets.
    #[inline(always)]
    pub(super) fn prefetch_buckets(&self, entries: &[Entry]) {
        for entry in entries {
            self.prefetch_index(entry.hash);
        }
    }

    /// Pass 2: finds cells and asks the processor for records; gives each operation's record as a hint.
    #[inline(always)]
    pub(super) fn prefetch_records(&self, entries: &[Entry], hints: &mut [Handle]) {
        for (entry, hint) in entries.iter().zip(hints) {
            *hint = self.prefetch_record(entry.hash);
        }
    }

    /// Pass 3 of a bin whose passes 1 and 2 are over.
    #[inline]
    pub(super) fn execute_small_bin(
        &mut self,
        bin: &[Entry],
        hints: &[Handle],
        batch: &impl Batch,
        now: Time,
        outcomes: &mut impl Outcomes,
    ) -> usize {
        self.advance(now);
        if self.evicts() {
            return self.execute_evicting(bin, hints, batch, false, outcomes);
        }
        self.execute_group(bin, hints, batch, outcomes);
        bin.len()
    }

    /// Pass 3 of several operations, in order.
    fn execute_group(&mut self, entries: &[Entry], hints: &[Handle], batch: &impl Batch, outcomes: &mut impl Outcomes) {
        let handles_freed = self.handles_freed();
        for (entry, hint) in entries.iter().zip(hints) {
            // An operation before this one may have freed the handle that the hint names.
            let hint = if self.handles_freed() == handles_freed { *hint } else { Handle::NONE };
            self.execute_entry(entry, hint, batch, outcomes);
        }
    }

    /// Pass 3: executes one operation.
    #[inline(always)]
    fn execute_entry(&mut self, entry: &Entry, hint: Handle, batch: &impl Batch, outcomes: &mut impl Outcomes) {
        let index = entry.index.into();
        if let Some(short) = entry.short_get() {
            self.get(|key| key.is(short), entry.hash, hint, index, outcomes);
        } else if entry.is_plain_get() {
            let wanted = batch.plain_get(entry.position());
            self.get(|key| *key == *wanted, entry.hash, hint, index, outcomes);
        } else {
            self.execute_other(entry, hint, batch, outcomes);
        }
    }

    #[inline(never)]
    fn execute_other(&mut self, entry: &Entry, hint: Handle, batch: &impl Batch, outcomes: &mut impl Outcomes) {
        self.execute(&batch.op(entry.position()), entry.hash, hint, entry.index.into(), outcomes);
    }
}
