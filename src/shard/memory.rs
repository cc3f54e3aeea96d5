//! The pool: memory in chunks from the kernel, handed out as spans.
//!
//! ```text
//!   chunk: 2 MiB, 2 MiB-aligned, huge pages where granted = 32 units of 64 KiB, one bit each
//!   +--+--+--+--+-----------+-----------------------------------------------+
//!   |u |u |u |u | 4 units   | 16 units                                      |      span: 1, 4 or 16 units
//!   +--+--+--+--+-----------+-----------------------------------------------+
//!   large span: a mapping of its own, whole pages
//! ```
//!
//! A [`Span`] owns its bytes until it is released; the tightest fitting chunks are used first, and a chunk that
//! falls empty returns to the kernel (one is kept against ping-pong). So memory freed by one size of record
//! serves any other. The node's [`Budget`] is charged for each chunk and each large span: what is charged is
//! what is mapped.
#![expect(unsafe_code, reason = "spans are slices of mapped memory")]

use crate::budget::Budget;
use crate::pages;
use std::collections::{BTreeMap, BTreeSet};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The smallest span, in bytes.
pub(super) const UNIT_BYTES: u32 = 64 << 10;

/// What is mapped at a time, in bytes.
pub(super) const CHUNK_BYTES: u32 = pages::HUGE_PAGE_BYTES;

pub(super) const CHUNK_UNITS: u32 = CHUNK_BYTES / UNIT_BYTES;
const _: () = assert!(CHUNK_UNITS == u32::BITS);

/// The units of the spans cut from chunks, smallest first.
const RUNS: [u32; 3] = [1, 4, 16];

/// The list of chunks that are all free, after those with a run of each size.
const EMPTY: usize = RUNS.len();

/// All memory of one store. Shared by its shards; locked once a span, so rarely.
#[derive(Debug)]
pub(super) struct Pool {
    budget: Arc<Budget>,
    /// Bytes of the account that it leaves to others.
    spare: u64,
    chunks: Mutex<Chunks>,
}

#[derive(Debug)]
struct Chunks {
    /// By address.
    all: BTreeMap<usize, Chunk>,
    /// Addresses of chunks by the largest run they have free: `RUNS[0]`, `RUNS[1]`, `RUNS[2]`, all of it.
    with_room: [BTreeSet<usize>; EMPTY + 1],
}

/// Stands in each list of chunks that are in use, so that none is ever empty: spans come and go, and allocate nothing.
const NO_CHUNK: usize = 0;

impl Default for Chunks {
    fn default() -> Self {
        let list = |room| if room == EMPTY { BTreeSet::new() } else { BTreeSet::from([NO_CHUNK]) };
        Self { all: BTreeMap::new(), with_room: std::array::from_fn(list) }
    }
}

#[derive(Debug)]
struct Chunk {
    base: NonNull<u8>,
    units_used: u32,
}

// SAFETY: a chunk is plain memory that no thread holds a claim on; who may touch it is decided by `Span`.
unsafe impl Send for Chunk {}

impl Pool {
    pub(super) fn new(budget: Arc<Budget>) -> Arc<Self> {
        Self::sparing(budget, 0)
    }

    /// As [`Pool::new`], of what is left beside `spare` bytes for indexes and tables.
    pub(super) fn sparing(budget: Arc<Budget>, spare: u64) -> Arc<Self> {
        Arc::new(Self { budget, spare, chunks: Mutex::default() })
    }

    /// Bytes that the account must have left where `bytes` are to be mapped.
    pub(super) fn bytes_asked(&self, bytes: u32) -> u64 {
        u64::from(bytes) + self.spare
    }

    /// Gives the chunk back that is kept though it is empty.
    pub(super) fn trim(&self) {
        let emptied = self.lock().take_empty();
        if let Some(chunk) = emptied {
            // SAFETY: a chunk without a used unit has no span, and the pool just forgot it.
            let unmapped = unsafe { pages::unmap(chunk.base, CHUNK_BYTES as usize) };
            self.returned(chunk, unmapped);
        }
    }

    /// The account that this pool charges.
    pub(super) fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    /// A span of `units` of 64 KiB (1, 4 or 16) in slots of `slot_bytes`. Its bytes are initialised but arbitrary.
    /// `None` where the budget or the kernel refuses.
    pub(super) fn span(&self, units: u32, slot_bytes: u32) -> Option<Span> {
        let run = RUNS.iter().position(|run| *run == units).expect("spans are 1, 4 or 16 units");
        let bytes = units * UNIT_BYTES;
        assert!(slot_bytes < bytes, "one slot alone is a large span");
        let mut chunks = self.lock();
        let base = chunks.take(run).or_else(|| {
            chunks.add(self.map(CHUNK_BYTES, CHUNK_BYTES)?);
            chunks.take(run)
        })?;
        Some(Span { base, bytes, slot_bytes })
    }

    /// A span of one slot of at least `bytes`, mapped by itself.
    pub(super) fn large_span(&self, bytes: u32) -> Option<Span> {
        let bytes = large_span_bytes(bytes);
        let base = self.map(bytes, pages::PAGE_BYTES)?;
        Some(Span { base, bytes, slot_bytes: bytes })
    }

    fn map(&self, bytes: u32, alignment: u32) -> Option<NonNull<u8>> {
        debug_assert!(bytes > 0 && bytes.is_multiple_of(pages::PAGE_BYTES), "whole pages: {bytes} bytes");
        if !self.budget.charge_sparing(u64::from(bytes), self.spare) {
            return None;
        }
        let mapped = pages::map(bytes as usize, alignment as usize);
        match mapped {
            None => self.budget.credit(u64::from(bytes)),
            Some(base) if bytes == CHUNK_BYTES => pages::advise_huge_pages(base, bytes as usize),
            Some(_) => {}
        }
        mapped
    }

    /// Takes a span back, which must be this pool's.
    pub(super) fn release(&self, span: Span) {
        assert!(!span.is_none(), "there is a span to release");
        let Span { base, bytes, slot_bytes } = span;
        if slot_bytes == bytes {
            // SAFETY: a large span is a whole mapping, and its owner just gave it up.
            let unmapped = unsafe { pages::unmap(base, bytes as usize) };
            return self.credit_if(unmapped, bytes);
        }
        let emptied = self.lock().give_back(base, bytes / UNIT_BYTES);
        if let Some(chunk) = emptied {
            // SAFETY: a chunk without a used unit has no span, and the pool just forgot it.
            let unmapped = unsafe { pages::unmap(chunk.base, CHUNK_BYTES as usize) };
            self.returned(chunk, unmapped);
        }
    }

    /// A chunk that the kernel refuses to take back serves on.
    fn returned(&self, chunk: Chunk, unmapped: bool) {
        if unmapped {
            self.budget.credit(CHUNK_BYTES.into());
        } else {
            self.lock().add(chunk.base);
        }
    }

    /// What the kernel refuses to take back stays charged: the account tells what is mapped.
    fn credit_if(&self, unmapped: bool, bytes: u32) {
        if unmapped {
            self.budget.credit(u64::from(bytes));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Chunks> {
        // Poison tells nothing here: a panic under this lock happens inside a change and aborts (see `shard`).
        self.chunks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The bytes of a large span that holds `bytes`: whole pages.
pub(super) fn large_span_bytes(bytes: u32) -> u32 {
    bytes.next_multiple_of(pages::PAGE_BYTES)
}

impl Drop for Pool {
    fn drop(&mut self) {
        let chunks = std::mem::take(&mut self.chunks.get_mut().unwrap_or_else(PoisonError::into_inner).all);
        // A span that was never released keeps its chunk mapped: a leak, never a dangling slot.
        for chunk in chunks.into_values().filter(|chunk| chunk.units_used == 0) {
            // SAFETY: a chunk without a used unit has no span, and the pool is at its end.
            let unmapped = unsafe { pages::unmap(chunk.base, CHUNK_BYTES as usize) };
            self.credit_if(unmapped, CHUNK_BYTES);
        }
    }
}

impl Chunks {
    /// Takes a run from the tightest chunk that has one.
    fn take(&mut self, run: usize) -> Option<NonNull<u8>> {
        let address = self.with_room[run..].iter().find_map(Self::last)?;
        let chunk = self.all.get_mut(&address).expect("`with_room` names mapped chunks");
        let units = RUNS[run];
        let first = free_runs(chunk.units_used, units).trailing_zeros();
        assert!(first + units <= CHUNK_UNITS, "a chunk listed with room has room");
        let room_before = room(chunk.units_used);
        chunk.units_used |= mask(units) << first;
        // SAFETY: `first` is below 32, so the sum stays inside the chunk's 32 units.
        let base = unsafe { chunk.base.add((first * UNIT_BYTES) as usize) };
        let room_after = room(chunk.units_used);
        self.relist(address, room_before, room_after);
        Some(base)
    }

    /// Marks a run as free. Gives the chunk to unmap, if it fell empty and one empty chunk is kept already.
    fn give_back(&mut self, base: NonNull<u8>, units: u32) -> Option<Chunk> {
        let address = base.addr().get() & !(CHUNK_BYTES as usize - 1);
        let chunk = self.all.get_mut(&address).expect("spans lie in mapped chunks");
        let first = (base.addr().get() - address) as u32 / UNIT_BYTES;
        debug_assert!(
            base.addr().get().is_multiple_of(UNIT_BYTES as usize) && first + units <= CHUNK_UNITS,
            "a run of units"
        );
        let run = mask(units) << first;
        assert_eq!(chunk.units_used & run, run, "a span is returned once");
        let room_before = room(chunk.units_used);
        chunk.units_used &= !run;
        let room_after = room(chunk.units_used);
        self.relist(address, room_before, room_after);
        if room_after == Some(EMPTY) && self.with_room[EMPTY].len() > 1 {
            self.with_room[EMPTY].remove(&address);
            return self.all.remove(&address);
        }
        None
    }

    fn take_empty(&mut self) -> Option<Chunk> {
        let address = self.with_room[EMPTY].pop_last()?;
        self.all.remove(&address)
    }

    /// The last chunk of a list.
    fn last(chunks: &BTreeSet<usize>) -> Option<usize> {
        chunks.last().copied().filter(|address| *address != NO_CHUNK)
    }

    fn add(&mut self, base: NonNull<u8>) {
        let address = base.addr().get();
        assert_eq!(address % CHUNK_BYTES as usize, 0, "chunks are aligned to their size");
        let before = self.all.insert(address, Chunk { base, units_used: 0 });
        assert!(before.is_none(), "the kernel maps each address once");
        self.with_room[EMPTY].insert(address);
    }

    fn relist(&mut self, address: usize, before: Option<usize>, after: Option<usize>) {
        if before == after {
            return;
        }
        if let Some(room) = before {
            let removed = self.with_room[room].remove(&address);
            assert!(removed, "a chunk is listed by its room");
        }
        if let Some(room) = after {
            let inserted = self.with_room[room].insert(address);
            assert!(inserted, "a chunk is listed once");
        }
    }
}

/// Which list a chunk belongs in: the largest run free in it, `None` for a full chunk.
fn room(units_used: u32) -> Option<usize> {
    if units_used == 0 {
        return Some(EMPTY);
    }
    (0..RUNS.len()).rev().find(|run| free_runs(units_used, RUNS[*run]) != 0)
}

/// The first unit of each free, aligned run of `units`, as bits.
fn free_runs(units_used: u32, units: u32) -> u32 {
    let mut starts = !units_used;
    let mut width = 1;
    while width < units {
        starts &= starts >> width;
        width *= 2;
    }
    let aligned = match units {
        1 => u32::MAX,
        4 => 0x1111_1111,
        _ => 0x0001_0001,
    };
    starts & aligned
}

fn mask(units: u32) -> u32 {
    debug_assert!(units > 0 && units < CHUNK_UNITS, "{units} units");
    (1 << units) - 1
}

/// Bytes of a pool's, owned like a `Box<[u8]>`, as slots of one size. It has no destructor: give it back with
/// [`Pool::release`], or its bytes stay mapped for ever. 16 bytes, because every access reads one of many.
#[derive(Debug)]
pub(super) struct Span {
    base: NonNull<u8>,
    bytes: u32,
    slot_bytes: u32,
}

const _: () = assert!(size_of::<Span>() == 16);

// SAFETY: a span is the only owner of its plain bytes, as a `Box<[u8]>` is.
unsafe impl Send for Span {}
// SAFETY: a shared span only gives shared slices.
unsafe impl Sync for Span {}

impl Span {
    /// Stands where there is no span: its slots have no bytes.
    pub(super) const NONE: Self = Self { base: NonNull::dangling(), bytes: 0, slot_bytes: 0 };

    /// Whether this is [`Span::NONE`].
    pub(super) fn is_none(&self) -> bool {
        self.bytes == 0
    }

    /// One slot's bytes.
    ///
    /// # Panics
    /// On a slot beyond the span: our own bug.
    #[inline]
    pub(super) fn slot(&self, slot: usize) -> &[u8] {
        let begin = slot * self.slot_bytes as usize;
        &self.as_bytes()[begin..begin + self.slot_bytes as usize]
    }

    /// One slot's bytes, whose length is known when this is compiled.
    ///
    /// # Panics
    /// On a slot beyond the span: our own bug.
    #[inline]
    pub(super) fn slot_of<const BYTES: usize>(&self, slot: usize) -> &[u8; BYTES] {
        debug_assert_eq!(self.slot_bytes as usize, BYTES, "slots of another size");
        &self.as_bytes().as_chunks().0[slot]
    }

    /// One slot's bytes, to write.
    ///
    /// # Panics
    /// As [`Span::slot`].
    #[inline]
    pub(super) fn slot_mut(&mut self, slot: usize) -> &mut [u8] {
        let begin = slot * self.slot_bytes as usize;
        let end = begin + self.slot_bytes as usize;
        &mut self.as_bytes_mut()[begin..end]
    }

    /// Bytes of a slot.
    #[inline]
    pub(super) fn slot_bytes(&self) -> u32 {
        self.slot_bytes
    }

    /// Whether it lies, in part at least, in the same run of `units` units of a chunk as another one. Large spans lie
    /// in no chunk.
    pub(super) fn shares_run(&self, other: &Self, units: u32) -> bool {
        let place = |span: &Self| {
            let address = span.base.addr().get();
            let chunk = address / CHUNK_BYTES as usize;
            let first = (address % CHUNK_BYTES as usize) as u32 / UNIT_BYTES;
            let last = first + (span.bytes / UNIT_BYTES).saturating_sub(1);
            (chunk, first / units, last / units)
        };
        let is_cut = |span: &Self| !span.is_none() && span.slot_bytes != span.bytes;
        let ((chunk, first, last), (other_chunk, other_first, other_last)) = (place(self), place(other));
        is_cut(self) && is_cut(other) && chunk == other_chunk && first <= other_last && other_first <= last
    }

    /// Units of a chunk that it takes.
    pub(super) fn units(&self) -> u32 {
        self.bytes / UNIT_BYTES
    }

    /// Number of slots.
    pub(super) fn slots(&self) -> u32 {
        self.bytes / self.slot_bytes
    }

    /// Bytes of all slots, and of what is too short for another.
    pub(super) fn bytes(&self) -> u32 {
        self.bytes
    }

    #[inline]
    fn as_bytes(&self) -> &[u8] {
        // SAFETY: `base` and `bytes` name mapped, initialised memory that only this span owns; the borrow of
        // `self` keeps it from being released and forbids writes.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.bytes as usize) }
    }

    #[inline]
    fn as_bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `as_bytes`, and the exclusive borrow of `self` makes this slice the only one.
        unsafe { std::slice::from_raw_parts_mut(self.base.as_ptr(), self.bytes as usize) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(bytes_max: u64) -> Arc<Pool> {
        Pool::new(Arc::new(Budget::new(bytes_max)))
    }

    #[test]
    fn spans_of_one_chunk_are_disjoint_and_charge_it_once() {
        let pool = pool(u64::MAX);
        let units = [1, 4, 16, 1, 4, 1];
        let mut spans: Vec<Span> = units.iter().map(|units| pool.span(*units, 32 << 10).expect("room")).collect();
        for (i, span) in spans.iter_mut().enumerate() {
            span.as_bytes_mut().fill(i as u8);
        }
        for (i, span) in spans.iter().enumerate() {
            assert!(span.as_bytes().iter().all(|byte| *byte == i as u8), "span {i} was overwritten");
        }
        assert_eq!(pool.budget.bytes_used(), u64::from(CHUNK_BYTES));
        spans.into_iter().for_each(|span| pool.release(span));
    }

    #[test]
    fn a_budget_that_is_used_up_refuses_spans_until_one_is_released() {
        let pool = pool(u64::from(CHUNK_BYTES));
        let first = pool.span(16, 8).expect("room");
        let second = pool.span(16, 8).expect("room");
        assert!(pool.span(1, 8).is_none());
        assert!(pool.large_span(1).is_none());
        pool.release(first);
        pool.release(pool.span(1, 8).expect("room"));
        pool.release(second);
    }

    #[test]
    fn empty_chunks_return_to_the_kernel_but_one() {
        let pool = pool(u64::MAX);
        let spans: Vec<Span> = (0..8).map(|_| pool.span(16, 8).expect("room")).collect();
        assert_eq!(pool.budget.bytes_used(), 4 * u64::from(CHUNK_BYTES));
        spans.into_iter().for_each(|span| pool.release(span));
        assert_eq!(pool.budget.bytes_used(), u64::from(CHUNK_BYTES));
        let budget = Arc::clone(pool.budget());
        drop(pool);
        assert_eq!(budget.bytes_used(), 0);
    }

    #[test]
    fn a_chunk_that_the_kernel_refuses_to_take_back_serves_on() {
        let pool = pool(2 * u64::from(CHUNK_BYTES));
        let spans: Vec<Span> = (0..4).map(|_| pool.span(16, 8).expect("room")).collect();
        for (released, span) in (1..).zip(spans) {
            // The second chunk that falls empty is the one to unmap.
            let Some(chunk) = pool.lock().give_back(span.base, 16) else { continue };
            assert_eq!(released, 4);
            pool.returned(chunk, false);
        }
        assert_eq!(pool.budget.bytes_used(), 2 * u64::from(CHUNK_BYTES), "both are mapped");
        let again: Vec<Span> = (0..4).map(|_| pool.span(16, 8).expect("room")).collect();
        assert!(pool.span(1, 8).is_none(), "the budget allows no third");
        again.into_iter().for_each(|span| pool.release(span));
    }

    #[test]
    fn large_spans_charge_whole_pages_and_credit_them() {
        let pool = pool(u64::MAX);
        let mut span = pool.large_span(1_000_001).expect("room");
        assert_eq!((span.bytes(), span.slots()), (1_003_520, 1));
        span.slot_mut(0).fill(7);
        assert_eq!(pool.budget.bytes_used(), 1_003_520);
        pool.release(span);
        assert_eq!(pool.budget.bytes_used(), 0);
    }

    #[test]
    fn freed_units_of_any_size_serve_a_larger_run() {
        let pool = pool(u64::from(CHUNK_BYTES));
        let mut units: Vec<Span> = (0..32).map(|_| pool.span(1, 8).expect("room")).collect();
        assert!(pool.span(1, 8).is_none());
        units.sort_by_key(|span| span.base.addr());
        units.drain(4..8).for_each(|span| pool.release(span));
        assert!(pool.span(16, 8).is_none());
        units.push(pool.span(4, 8).expect("room"));
        units.into_iter().for_each(|span| pool.release(span));
    }

    #[test]
    fn a_span_that_is_never_released_outlives_its_pool() {
        let mut span = pool(u64::MAX).span(1, 8).expect("room");
        span.as_bytes_mut().fill(1);
        assert_eq!(span.slot(8191), [1; 8]);
    }
}
