//! Slots of many sizes in spans, named by 32-bit handles.
//!
//! ```text
//!   handle  31           12 11          0          span of one size class, 64 KiB to 1 MiB
//!          +---------------+-------------+        +------+------+------+------+------ - -+
//!          | span          | slot        | -----> | used | free | used | free | untouched|
//!          +---------------+-------------+        +------+--+---+------+------+------ - -+
//!                                            free_first --^  `--> next free slot (2 bytes)
//! ```
//!
//! Each class keeps a list of its spans with room, and takes slots from the first. Free slots are linked through
//! their own bytes; slots never used yet are counted, not touched. A span whose last slot is freed goes back to
//! the pool at once, whatever its class: memory never stays with a size that nobody uses any more.
#![forbid(unsafe_code)]

use super::memory::{CHUNK_UNITS, Pool, Span, large_span_bytes};
use super::size_class::{CLASS_COUNT, SPAN_SLOTS_MAX, SizeClass};
use super::table::Table;
use smallvec::SmallVec;
use std::ops::Range;
use std::sync::Arc;

const SLOT_BITS: u32 = 12;
const _: () = assert!(SPAN_SLOTS_MAX <= 1 << SLOT_BITS);
const SPANS_MAX: usize = (1 << (32 - SLOT_BITS)) - 1;

/// Ends a list of spans.
const NO_SPAN: u32 = u32::MAX;
/// Ends a list of slots.
const NO_SLOT: u16 = u16::MAX;
/// The class of a span that holds one large slot.
pub(super) const LARGE: u16 = CLASS_COUNT as u16;
/// Number of classes, that of large slots included.
pub(super) const CLASSES: usize = CLASS_COUNT + 1;
/// Where a free slot names the next one, in four bytes, and the bit there that tells it from a record (`record.rs`).
pub(super) const LINK_AT: usize = 8;
pub(super) const FREE_MARK: u32 = 1 << 28;

const _: () = assert!(LINK_AT + 4 <= super::size_class::SLOT_BYTES_MIN as usize && FREE_MARK > NO_SLOT as u32);

/// Names one slot of one slab.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Handle(pub(super) u32);

impl Handle {
    /// Where a walk over a slab begins.
    pub(super) const FIRST: Self = Self(0);

    /// Names no slot: the last span is never used.
    pub(super) const NONE: Self = Self(u32::MAX);

    #[inline]
    pub(super) fn new(span: u32, slot: u32) -> Self {
        Self(span << SLOT_BITS | slot)
    }

    /// A dense number, for slabs whose spans have `slots` slots each.
    #[inline]
    pub(super) fn dense(self, slots: usize) -> usize {
        self.span() * slots + self.slot()
    }

    /// The handle behind this one: it may name no slot.
    pub(super) fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }

    #[inline]
    pub(super) fn span(self) -> usize {
        (self.0 >> SLOT_BITS) as usize
    }

    #[inline]
    fn slot(self) -> usize {
        (self.0 & ((1 << SLOT_BITS) - 1)) as usize
    }
}

/// An allocator of slots. Owned by one shard, so it needs no lock of its own.
#[derive(Debug)]
pub(super) struct Slab {
    /// What every access reads, kept apart from `states` so that it stays in cache. `Span::NONE` for vacant numbers.
    spans: Table<Span>,
    states: Table<SpanState>,
    /// First of the span numbers that are free, linked through `SpanState::next`.
    vacant_first: u32,
    /// First span with room, for each class.
    roomy_first: Box<[u32; CLASS_COUNT]>,
    span_bytes: u64,
    /// Slots of each class, in use or not.
    class_slots: Box<[u64; CLASSES]>,
    /// Bytes of the slot that was refused last, 0 for none.
    refused_bytes: u32,
    pool: Arc<Pool>,
}

#[derive(Debug, Clone, Copy)]
struct SpanState {
    class: u16,
    /// Slots in use.
    used: u16,
    /// Slots ever used since the span was taken: those above are untouched.
    touched: u16,
    /// First free slot below `touched`.
    free_first: u16,
    /// Neighbours in the class's list of spans with room, or in the list of vacant numbers.
    next: u32,
    previous: u32,
}

impl Slab {
    pub(super) fn new(pool: &Arc<Pool>) -> Self {
        Self {
            spans: Table::new(pool.budget()),
            states: Table::new(pool.budget()),
            vacant_first: NO_SPAN,
            roomy_first: Box::new([NO_SPAN; CLASS_COUNT]),
            span_bytes: 0,
            class_slots: Box::new([0; CLASSES]),
            refused_bytes: 0,
            pool: Arc::clone(pool),
        }
    }

    /// The slot's bytes, all of them: as many as its class has. None at all, if the whole span was freed since the
    /// handle was given.
    #[inline]
    pub(super) fn slot(&self, handle: Handle) -> &[u8] {
        self.spans[handle.span()].slot(handle.slot())
    }

    /// The slot's bytes, where all slots have so many.
    #[inline]
    pub(super) fn slot_of<const BYTES: usize>(&self, handle: Handle) -> &[u8; BYTES] {
        self.spans[handle.span()].slot_of(handle.slot())
    }

    /// The slot's bytes, to write.
    #[inline]
    pub(super) fn slot_mut(&mut self, handle: Handle) -> &mut [u8] {
        self.spans[handle.span()].slot_mut(handle.slot())
    }

    /// Copies the first `bytes` of a slot to another one, through a piece of the stack: both may lie in one span.
    pub(super) fn copy(&mut self, from: Handle, to: Handle, bytes: usize) {
        debug_assert!(from != to, "a slot is copied to another");
        let mut piece = [0; 1024];
        for begin in (0..bytes).step_by(piece.len()) {
            let end = bytes.min(begin + piece.len());
            let piece = &mut piece[..end - begin];
            piece.copy_from_slice(&self.slot(from)[begin..end]);
            self.slot_mut(to)[begin..end].copy_from_slice(piece);
        }
    }

    /// Whether a slot for `bytes` would be as large as this one, so that its content may be replaced in place.
    #[inline]
    pub(super) fn fits_exactly(&self, handle: Handle, bytes: u32) -> bool {
        let slot_bytes = SizeClass::of(bytes).map_or_else(|| large_span_bytes(bytes), |class| class.slot_bytes);
        self.spans[handle.span()].slot_bytes() == slot_bytes
    }

    /// A slot of at least `bytes`, its content arbitrary; `None` where the budget refuses.
    pub(super) fn allocate(&mut self, bytes: u32) -> Option<Handle> {
        let Some(class) = SizeClass::of(bytes) else {
            let added = self.add_span(LARGE, |pool| pool.large_span(bytes));
            return added.or_else(|| self.refuse(bytes));
        };
        let number = self.roomy_first[usize::from(class.index)];
        if number == NO_SPAN {
            let added = self.add_span(class.index, |pool| pool.span(class.span_units.into(), class.slot_bytes));
            let first = added.or_else(|| self.refuse(bytes))?;
            self.link_roomy(first.span() as u32);
            return Some(first);
        }
        Some(self.take_slot(number, class))
    }

    #[cold]
    fn refuse(&mut self, bytes: u32) -> Option<Handle> {
        self.refused_bytes = bytes;
        None
    }

    fn take_slot(&mut self, number: u32, class: SizeClass) -> Handle {
        let state = &mut self.states[number as usize];
        debug_assert_eq!(state.class, class.index);
        state.used += 1;
        debug_assert!(u32::from(state.used) <= class.slots(), "the span had room");
        let is_full = u32::from(state.used) == class.slots();
        let handle = if state.free_first == NO_SLOT {
            state.touched += 1;
            Handle::new(number, u32::from(state.touched) - 1)
        } else {
            let handle = Handle::new(number, state.free_first.into());
            self.states[number as usize].free_first = self.next_free(handle);
            handle
        };
        if is_full {
            self.unlink_roomy(number);
        }
        handle
    }

    /// Takes a span under a vacant number and uses its first slot.
    fn add_span(&mut self, class: u16, take: impl FnOnce(&Pool) -> Option<Span>) -> Option<Handle> {
        let number = self.vacant_number()?;
        let span = take(&self.pool)?;
        self.span_bytes += u64::from(span.bytes());
        self.class_slots[usize::from(class)] += u64::from(span.slots());
        self.vacant_first = self.states[number as usize].next;
        self.spans[number as usize] = span;
        self.states[number as usize] =
            SpanState { class, used: 1, touched: 1, free_first: NO_SLOT, next: NO_SPAN, previous: NO_SPAN };
        Some(Handle::new(number, 0))
    }

    /// The first vacant number, a new one if there is none; it stays vacant.
    fn vacant_number(&mut self) -> Option<u32> {
        if self.vacant_first == NO_SPAN {
            let number = self.spans.len();
            if number == SPANS_MAX || !self.states.reserve(1) || !self.spans.reserve(1) {
                return None;
            }
            let vacant =
                SpanState { class: LARGE, used: 0, touched: 0, free_first: NO_SLOT, next: NO_SPAN, previous: NO_SPAN };
            let pushed = self.states.push(vacant) && self.spans.push(Span::NONE);
            assert!(pushed, "room was reserved");
            self.vacant_first = number as u32;
        }
        Some(self.vacant_first)
    }

    /// Frees a slot: its handle is invalid from here on.
    ///
    /// # Panics
    /// On a handle that is not in use: our own bug.
    pub(super) fn free(&mut self, handle: Handle) {
        let number = handle.span() as u32;
        let slots = self.spans[handle.span()].slots();
        let state = &mut self.states[number as usize];
        assert!(state.used > 0, "a slot is freed once");
        debug_assert!(handle.slot() < usize::from(state.touched), "a slot was taken before it is freed");
        let was_full = u32::from(state.used) == slots;
        state.used -= 1;
        if state.used == 0 {
            // A span of one slot was full, so it is in no list.
            if !was_full {
                self.unlink_roomy(number);
            }
            return self.release_span(number);
        }
        let next = std::mem::replace(&mut state.free_first, handle.slot() as u16);
        let slot: &mut [u8; LINK_AT + 4] =
            self.slot_mut(handle).first_chunk_mut().expect("a slot is at least 16 bytes");
        slot[LINK_AT..].copy_from_slice(&(u32::from(next) | FREE_MARK).to_le_bytes());
        if was_full {
            self.link_roomy(number);
        }
    }

    fn release_span(&mut self, number: u32) {
        let span = std::mem::replace(&mut self.spans[number as usize], Span::NONE);
        assert!(!span.is_none(), "a span is released once");
        self.span_bytes -= u64::from(span.bytes());
        self.class_slots[usize::from(self.states[number as usize].class)] -= u64::from(span.slots());
        self.pool.release(span);
        self.states[number as usize].next = self.vacant_first;
        self.vacant_first = number;
    }

    fn link_roomy(&mut self, number: u32) {
        let class = self.states[number as usize].class;
        let first = std::mem::replace(&mut self.roomy_first[usize::from(class)], number);
        let state = &mut self.states[number as usize];
        (state.next, state.previous) = (first, NO_SPAN);
        if first != NO_SPAN {
            self.states[first as usize].previous = number;
        }
    }

    fn unlink_roomy(&mut self, number: u32) {
        let SpanState { class, next, previous, .. } = self.states[number as usize];
        debug_assert!(next != number && previous != number, "a list is no ring");
        if previous == NO_SPAN {
            self.roomy_first[usize::from(class)] = next;
        } else {
            self.states[previous as usize].next = next;
        }
        if next != NO_SPAN {
            self.states[next as usize].previous = previous;
        }
    }

    /// The slots in use from a handle on, among the next `looks` that there are, and where to go on. Whatever is
    /// neither allocated nor freed during a walk is met once in it.
    pub(super) fn used_from(&self, from: Handle, looks: usize) -> (Vec<Handle>, Option<Handle>) {
        let (mut used, mut left) = (Vec::new(), looks);
        let (mut span, mut slot) = (from.span(), from.slot());
        while span < self.spans.len() {
            if left == 0 {
                return (used, Some(Handle::new(span as u32, slot as u32)));
            }
            let touched = if self.spans[span].is_none() { 0 } else { self.states[span].touched.into() };
            // A span that was released and taken again meanwhile may be shorter.
            let end = touched.min(slot + left);
            used.extend(self.used_in(span, slot..end));
            left -= end.saturating_sub(slot).clamp(1, left);
            (span, slot) = if end == touched { (span + 1, 0) } else { (span, end) };
        }
        (used, None)
    }

    /// Those in use, as things are now, of touched slots of a span.
    fn used_in(&self, span: usize, slots: Range<usize>) -> impl Iterator<Item = Handle> + use<> {
        let free = self.free_slots(span);
        let used = slots.filter(move |slot| free[slot / 64] >> (slot % 64) & 1 == 0);
        used.map(move |slot| Handle::new(span as u32, slot as u32))
    }

    /// The free ones among the touched slots of a span, as bits.
    fn free_slots(&self, span: usize) -> [u64; (1 << SLOT_BITS) / 64] {
        let mut free = [0; (1 << SLOT_BITS) / 64];
        let mut next = if self.spans[span].is_none() { NO_SLOT } else { self.states[span].free_first };
        while next != NO_SLOT {
            free[usize::from(next) / 64] |= 1 << (next % 64);
            next = self.next_free(Handle::new(span as u32, next.into()));
        }
        free
    }

    /// The free slot behind a free one.
    #[inline]
    fn next_free(&self, handle: Handle) -> u16 {
        let slot: &[u8; LINK_AT + 2] = self.slot(handle).first_chunk().expect("a slot is at least 16 bytes");
        u16::from_le_bytes([slot[LINK_AT], slot[LINK_AT + 1]])
    }

    /// The class of a slot that may be in use; `None` where there is none. One that is free has a [`FREE_MARK`].
    pub(super) fn class_at(&self, handle: Handle) -> Option<usize> {
        let span = self.spans.get(handle.span()).filter(|span| !span.is_none())?;
        let SpanState { class, touched, .. } = self.states[handle.span()];
        debug_assert!(u32::from(touched) <= span.slots(), "no slot beyond the span");
        (handle.slot() < usize::from(touched)).then_some(class.into())
    }

    /// The first slot of a class from a handle on and around, in use or free; `None` where the class has no span.
    pub(super) fn next_in_class(&self, class: usize, from: Handle) -> Option<Handle> {
        if self.class_slots[class] == 0 {
            return None;
        }
        let (mut span, mut slot) = (from.span(), from.slot());
        loop {
            if span >= self.spans.len() {
                (span, slot) = (0, 0);
            }
            let handle = Handle::new(span as u32, slot as u32);
            if self.class_at(handle) == Some(class) {
                return Some(handle);
            }
            (span, slot) = (span + 1, 0);
        }
    }

    /// The spans in the same run of `units` units of a chunk as that of a handle; itself alone, if it is a large one.
    /// Looks at every span.
    pub(super) fn spans_beside(&self, handle: Handle, units: u32) -> SmallVec<[Handle; CHUNK_UNITS as usize]> {
        let span = &self.spans[handle.span()];
        let others = (0..self.spans.len()).filter(|other| {
            *other == handle.span() || span.units() < units && self.spans[*other].shares_run(span, units)
        });
        others.map(|span| Handle::new(span as u32, 0)).collect()
    }

    /// The slots of the span of a handle that are in use now.
    pub(super) fn used_beside(&self, handle: Handle) -> impl Iterator<Item = Handle> + use<> {
        self.used_in(handle.span(), 0..self.states[handle.span()].touched.into())
    }

    /// Whether a class has a slot that is not in use.
    pub(super) fn has_slot(&self, class: usize) -> bool {
        self.roomy_first.get(class).is_some_and(|span| *span != NO_SPAN)
    }

    /// Slots of a class, in use or not.
    pub(super) fn class_slots(&self, class: usize) -> u64 {
        self.class_slots[class]
    }

    /// Slots of the span of a handle, in use or not.
    pub(super) fn slots_beside(&self, handle: Handle) -> u64 {
        self.spans[handle.span()].slots().into()
    }

    /// Bytes of the slot that was refused last since [`Slab::forget_refusal`].
    pub(super) fn refusal(&self) -> Option<u32> {
        Some(self.refused_bytes).filter(|bytes| *bytes > 0)
    }

    pub(super) fn forget_refusal(&mut self) {
        self.refused_bytes = 0;
    }

    /// Where its spans come from.
    pub(super) fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Bytes held: spans and the tables that describe them.
    pub(super) fn bytes(&self) -> u64 {
        self.span_bytes + self.spans.bytes() + self.states.bytes()
    }

    /// How many span numbers were ever in use at once.
    pub(super) fn span_numbers(&self) -> usize {
        self.spans.len()
    }
}

impl Drop for Slab {
    fn drop(&mut self) {
        let spans = self.spans.iter_mut().map(|span| std::mem::replace(span, Span::NONE));
        spans.filter(|span| !span.is_none()).for_each(|span| self.pool.release(span));
    }
}
