//! Records: version, key and value side by side in one slot, and a deadline where there is one.
//!
//! ```text
//!   byte 0        8            12          14
//!        +--------+------------+-----------+-----+-------+- - - - - +- - - - -+
//!        | version| value bytes| key bytes | key | value | deadline | unused  |
//!        | u64    | u32 (24)   | u16       |     |       | u64      |         |
//!        +--------+------------+-----------+-----+-------+- - - - - +- - - - -+
//! ```
//!
//! 14 bytes beyond key and value, little-endian, at any alignment; 8 more for a deadline. A value's length needs 24
//! bits; of the 8 above one says that a deadline follows the value, and four are marks of whoever evicts.
//!
//!
//! ```text
//!   value bytes  31     30  29     28     27  25    24         23           0
//!                +---------+------+------+--------+----------+--------------+      free: the slot has no record
//!                | hits    | main | free | zero   | deadline | bytes        |      hits, main: of eviction
//!                +---------+------+------+--------+----------+--------------+
//! ```
//!
//! A marked length is longer than any slot. So whoever takes the value as if nothing were marked is stopped by the
//! check that he must make anyway, and a record without a deadline costs nothing for those that have one. Where
//! records are evicted most of them are marked: there [`Records::get_marked`] masks marks off before it looks.
#![forbid(unsafe_code)]

use super::index::Keys;
use super::memory::Pool;
use super::prefetch::prefetch;
use super::slab::{FREE_MARK, Handle, LINK_AT, Slab};
use crate::hash::{Key, KeyHasher};
use crate::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use crate::op::{Time, VERSION_ABSENT, Version};
use std::sync::Arc;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Header {
    version: U64,
    value_bytes: U32,
    key_bytes: U16,
}

const HEADER_BYTES: usize = size_of::<Header>();

/// Above a value's length: a deadline stands behind the value.
const DEADLINE_MARK: u32 = 1 << 24;

/// A value's length and the mark of a deadline, without those of eviction.
const UNMARKED: u32 = 2 * DEADLINE_MARK - 1;

/// Where the marks of eviction are, and which.
const MARKS_AT: usize = std::mem::offset_of!(Header, value_bytes) + 3;
const MAIN_MARK: u8 = 1 << 5;
const HIT: u8 = 1 << 6;

/// Bytes of a deadline.
const DEADLINE_BYTES: usize = size_of::<Time>();

const _: () = {
    assert!(size_of::<Header>() == 14);
    assert!(align_of::<Header>() == 1);
    assert!(std::mem::offset_of!(Header, version) == 0);
    assert!(LINK_AT == std::mem::offset_of!(Header, value_bytes) && FREE_MARK << 1 == (MAIN_MARK as u32) << 24);
    assert!(FREE_MARK > UNMARKED);
    assert!(std::mem::offset_of!(Header, value_bytes) == 8);
    assert!(std::mem::offset_of!(Header, key_bytes) == 12);
    // No slot is as long as a marked length: the largest is one record's, rounded up to whole pages.
    assert!(VALUE_BYTES_MAX + KEY_BYTES_MAX + 32 + (2 << 20) < DEADLINE_MARK);
};

/// Cache lines of a record to prefetch: what follows them the processor fetches ahead by itself.
const PREFETCH_LINES: usize = 4;

/// What eviction knows of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Marks(u8);

impl Marks {
    /// Of a record in the main queue that was not hit there.
    pub(super) const MAIN: Self = Self(MAIN_MARK);

    pub(super) fn is_main(self) -> bool {
        self.0 & MAIN_MARK != 0
    }

    /// The same in the main queue.
    pub(super) fn to_main(self) -> Self {
        Self(self.0 | MAIN_MARK)
    }

    /// Hits that were counted: up to 3.
    pub(super) fn hits(self) -> u8 {
        self.0 / HIT
    }

    /// With one hit more, up to 3.
    #[inline]
    pub(super) fn hit(self) -> Self {
        Self(self.0.checked_add(HIT).unwrap_or(self.0))
    }

    /// With one hit less.
    pub(super) fn cooled(self) -> Self {
        debug_assert!(self.hits() > 0, "there was a hit");
        Self(self.0 - HIT)
    }
}

/// A record, borrowed from its slot.
#[derive(Debug, Clone, Copy)]
pub(super) struct Record<'a> {
    pub(super) version: Version,
    pub(super) key: Key<'a>,
    pub(super) value: &'a [u8],
    pub(super) deadline: Option<Time>,
}

impl Record<'_> {
    /// Whether its deadline is reached.
    #[inline(always)]
    pub(super) fn is_expired(&self, now: Time) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now)
    }
}

/// A record as it lies in its slot: what is asked of it is read, and no more.
#[derive(Clone, Copy)]
pub(super) struct Slot<'a> {
    header: &'a Header,
    payload: &'a [u8],
}

impl<'a> Slot<'a> {
    #[inline(always)]
    pub(super) fn key(self) -> Key<'a> {
        Key::at_front(self.payload, self.header.key_bytes.get().into())
    }

    /// Its value, unless its deadline is reached.
    #[inline(always)]
    pub(super) fn value(self, now: Time) -> Option<&'a [u8]> {
        let behind = self.behind_key();
        match behind.get(..self.header.value_bytes.get() as usize) {
            Some(value) => Some(value),
            None => marked_value(self.header, self.payload, now),
        }
    }

    /// Whether its deadline is reached.
    #[inline(always)]
    pub(super) fn is_expired(self, now: Time) -> bool {
        self.header.value_bytes.get() & DEADLINE_MARK != 0 && marked_value(self.header, self.payload, now).is_none()
    }

    /// All of it.
    #[inline(always)]
    pub(super) fn record(self) -> Record<'a> {
        match self.behind_key().get(..self.header.value_bytes.get() as usize) {
            Some(value) => Record { version: self.header.version.get(), key: self.key(), value, deadline: None },
            None => self.marked(),
        }
    }

    /// The same, as quick for a record that eviction has marked.
    #[inline(always)]
    fn record_marked(self) -> Record<'a> {
        match self.behind_key().get(..(self.header.value_bytes.get() & UNMARKED) as usize) {
            Some(value) => Record { version: self.header.version.get(), key: self.key(), value, deadline: None },
            None => self.marked(),
        }
    }

    #[inline(always)]
    fn behind_key(self) -> &'a [u8] {
        &self.payload[usize::from(self.header.key_bytes.get())..]
    }

    /// A record whose value's length is marked.
    #[cold]
    #[inline(never)]
    fn marked(self) -> Record<'a> {
        let value_bytes = self.header.value_bytes.get() & UNMARKED;
        let (value, behind) = self.behind_key().split_at((value_bytes % DEADLINE_MARK) as usize);
        let deadline = (value_bytes >= DEADLINE_MARK).then(|| {
            let (deadline, _) = U64::ref_from_prefix(behind).expect("a record with the mark has its deadline");
            deadline.get()
        });
        debug_assert!(self.header.value_bytes.get() >= DEADLINE_MARK, "an unmarked length is shorter than its slot");
        Record { version: self.header.version.get(), key: self.key(), value, deadline }
    }
}

/// The value of a record whose value's length is marked, unless its deadline is reached. Takes a [`Slot`] in parts, as
/// they fit registers: the whole would have to lie in memory for every record.
#[cold]
#[inline(never)]
fn marked_value<'a>(header: &'a Header, payload: &'a [u8], now: Time) -> Option<&'a [u8]> {
    let record = Slot { header, payload }.marked();
    (!record.is_expired(now)).then_some(record.value)
}

/// The records of one shard.
#[derive(Debug)]
pub(super) struct Records {
    pub(super) slab: Slab,
    hasher: KeyHasher,
    count: u64,
    payload_bytes: u64,
    /// Records with a deadline.
    expiring: u64,
    /// No deadline that was written since this was set is sooner.
    soonest: Time,
    pub(super) walk: Option<Walk>,
}

/// A look through all records for those that are expired: how far it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Walk {
    /// Where it goes on.
    pub(super) from: Handle,
    /// The soonest deadline of those that it met and that stay.
    pub(super) soonest: Time,
}

impl Records {
    pub(super) fn new(pool: &Arc<Pool>, hasher: KeyHasher) -> Self {
        Self { slab: Slab::new(pool), hasher, count: 0, payload_bytes: 0, expiring: 0, soonest: Time::MAX, walk: None }
    }

    /// Where the record at a handle lies.
    #[inline(always)]
    pub(super) fn slot(&self, handle: Handle) -> Slot<'_> {
        let (header, payload) = Header::ref_from_prefix(self.slab.slot(handle)).expect("a slot is at least 16 bytes");
        Slot { header, payload }
    }

    /// The record at a handle.
    #[inline(always)]
    pub(super) fn get(&self, handle: Handle) -> Record<'_> {
        self.slot(handle).record()
    }

    /// As [`Records::get`], as quick for records that eviction has marked.
    #[inline(always)]
    pub(super) fn get_marked(&self, handle: Handle) -> Record<'_> {
        self.slot(handle).record_marked()
    }

    /// The hash of a key.
    pub(super) fn hash_of(&self, key: &[u8]) -> u64 {
        self.hasher.index_hash(key)
    }

    /// The key of the record at a handle.
    #[inline(always)]
    pub(super) fn key(&self, handle: Handle) -> Key<'_> {
        self.slot(handle).key()
    }

    /// A value's length as the header has it, with its mark.
    #[inline(always)]
    fn marked_bytes(&self, handle: Handle) -> u32 {
        self.slot(handle).header.value_bytes.get()
    }

    /// Stores a new record; `None`, and nothing changed, where the budget refuses.
    pub(super) fn insert(&mut self, version: Version, key: &[u8], content: Written<'_>) -> Option<Handle> {
        debug_assert!(version != VERSION_ABSENT, "a record has a version");
        let handle = self.slab.allocate(record_bytes(key, content.marked_bytes()))?;
        self.write(handle, version, key, content);
        self.count += 1;
        self.payload_bytes += (key.len() + content.value.len()) as u64;
        self.expiring += u64::from(content.deadline.is_some());
        Some(handle)
    }

    /// Gives the record of `key` another version and content: in place if the slot is of the right size, else under
    /// another handle. `None`, and nothing changed, where the budget refuses.
    #[inline]
    pub(super) fn overwrite(
        &mut self,
        handle: Handle,
        version: Version,
        key: &[u8],
        content: Written<'_>,
    ) -> Option<Handle> {
        debug_assert!(*self.key(handle) == *key && self.get(handle).version < version, "newer, of the same record");
        let (old, new) = (self.marked_bytes(handle), content.marked_bytes());
        if old == new {
            self.write(handle, version, key, content);
            return Some(handle);
        }
        let old = old & UNMARKED;
        let bytes = record_bytes(key, new);
        let target = if self.slab.fits_exactly(handle, bytes) { handle } else { self.slab.allocate(bytes)? };
        self.write(target, version, key, content);
        if target != handle {
            self.slab.free(handle);
        }
        self.recount(old, new);
        Some(target)
    }

    /// As [`Records::overwrite`], with a value that is the old one and bytes behind it.
    pub(super) fn extend(&mut self, handle: Handle, version: Version, content: Written<'_>) -> Option<Handle> {
        let Record { key, value, version: before, .. } = self.get(handle);
        debug_assert!(before < version, "a newer version of the same record");
        let (key_bytes, value_begin) = (key.len() as u16, HEADER_BYTES + key.len());
        let (value_end, value_bytes) = (value_begin + value.len(), (value.len() + content.value.len()) as u32);
        let (old, new) = (self.marked_bytes(handle) & UNMARKED, mark(value_bytes, content.deadline));
        let bytes = record_bytes(key.as_bytes(), new);
        let target = if self.slab.fits_exactly(handle, bytes) { handle } else { self.slab.allocate(bytes)? };
        if target != handle {
            self.slab.copy(handle, target, value_end);
            self.slab.free(handle);
        }
        let header = Header { version: version.into(), value_bytes: new.into(), key_bytes: key_bytes.into() };
        self.soonest = self.soonest.min(content.deadline.unwrap_or(Time::MAX));
        let (head, behind) = self.slab.slot_mut(target).split_at_mut(value_end);
        head[..HEADER_BYTES].copy_from_slice(header.as_bytes());
        put_behind(behind, content);
        self.recount(old, new);
        Some(target)
    }

    /// Forgets a record: its handle is invalid from here on.
    pub(super) fn remove(&mut self, handle: Handle) {
        let record = self.get(handle);
        let payload_bytes = (record.key.len() + record.value.len()) as u64;
        let expiring = u64::from(record.deadline.is_some());
        self.slab.free(handle);
        debug_assert!(self.count > 0 && self.payload_bytes >= payload_bytes, "what is removed was counted");
        debug_assert!(self.expiring >= expiring, "what is removed was counted");
        self.count -= 1;
        self.payload_bytes -= payload_bytes;
        self.expiring -= expiring;
    }

    /// Counts a record whose value's length and mark changed.
    fn recount(&mut self, old: u32, new: u32) {
        self.payload_bytes = self.payload_bytes - u64::from(old % DEADLINE_MARK) + u64::from(new % DEADLINE_MARK);
        self.expiring = self.expiring - u64::from(old / DEADLINE_MARK) + u64::from(new / DEADLINE_MARK);
    }

    #[inline(always)]
    fn write(&mut self, handle: Handle, version: Version, key: &[u8], content: Written<'_>) {
        let header = Header {
            version: version.into(),
            value_bytes: content.marked_bytes().into(),
            key_bytes: (key.len() as u16).into(),
        };
        if let Some(deadline) = content.deadline {
            self.soonest = self.soonest.min(deadline);
        }
        let slot = self.slab.slot_mut(handle);
        let (head, payload) = slot.split_at_mut(HEADER_BYTES);
        head.copy_from_slice(header.as_bytes());
        let (key_slot, behind) = payload.split_at_mut(key.len());
        key_slot.copy_from_slice(key);
        put_behind(behind, content);
        debug_assert_eq!(self.get(handle).value.len(), content.value.len(), "what is written is what is read");
    }

    /// The class of the slot of a record; `None` where the handle names none any more.
    pub(super) fn class_at(&self, handle: Handle) -> Option<usize> {
        let class = self.slab.class_at(handle)?;
        (self.marked_bytes(handle) & FREE_MARK == 0).then_some(class)
    }

    /// The marks of a record.
    #[inline]
    pub(super) fn marks(&self, handle: Handle) -> Marks {
        Marks(self.slab.slot(handle)[MARKS_AT] & !(MAIN_MARK - 1))
    }

    #[inline]
    pub(super) fn set_marks(&mut self, handle: Handle, marks: Marks) {
        let byte = &mut self.slab.slot_mut(handle)[MARKS_AT];
        *byte = *byte & (MAIN_MARK - 1) | marks.0;
    }

    /// Counts a hit.
    #[inline]
    pub(super) fn hit(&mut self, handle: Handle) {
        let marks = self.marks(handle);
        // What is hot already is not written any more: its cache line stays clean.
        if marks.hit() != marks {
            self.set_marks(handle, marks.hit());
        }
    }

    /// Asks the processor for a record that will be read soon.
    #[inline]
    pub(super) fn prefetch(&self, handle: Handle) {
        prefetch::<PREFETCH_LINES>(self.slab.slot(handle));
    }

    /// As [`Slab::used_from`]: every handle that it gives has a record.
    pub(super) fn used_from(&self, from: Handle, looks: usize) -> (Vec<Handle>, Option<Handle>) {
        self.slab.used_from(from, looks)
    }

    /// Number of records.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Bytes of all keys and values.
    pub(super) fn payload_bytes(&self) -> u64 {
        self.payload_bytes
    }

    /// Number of records with a deadline.
    pub(super) fn expiring(&self) -> u64 {
        self.expiring
    }

    /// The soonest deadline of the records, or a sooner one that no record has any more.
    pub(super) fn soonest(&self) -> Time {
        self.soonest
    }

    /// Counts anew from here on what is written.
    pub(super) fn set_soonest(&mut self, soonest: Time) {
        self.soonest = soonest;
    }

    /// Bytes held for records: spans and the tables that describe them.
    pub(super) fn bytes(&self) -> u64 {
        self.slab.bytes()
    }
}

/// What a record is written with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Written<'a> {
    pub(super) value: &'a [u8],
    pub(super) deadline: Option<Time>,
}

impl Written<'_> {
    #[inline(always)]
    fn marked_bytes(&self) -> u32 {
        mark(self.value.len() as u32, self.deadline)
    }
}

#[inline(always)]
fn mark(value_bytes: u32, deadline: Option<Time>) -> u32 {
    value_bytes | if deadline.is_some() { DEADLINE_MARK } else { 0 }
}

/// Writes a value, and a deadline behind it if there is one.
#[inline(always)]
fn put_behind(bytes: &mut [u8], content: Written<'_>) {
    let (value, rest) = bytes.split_at_mut(content.value.len());
    value.copy_from_slice(content.value);
    if let Some(deadline) = content.deadline {
        rest[..DEADLINE_BYTES].copy_from_slice(&deadline.to_le_bytes());
    }
}

impl Keys for Records {
    fn hash(&self, handle: Handle) -> u64 {
        self.hasher.index_hash(self.key(handle))
    }

    fn prefetch(&self, handle: Handle) {
        prefetch::<1>(self.slab.slot(handle));
    }
}

/// Bytes of a record whose value's length is marked, or not.
#[inline]
fn record_bytes(key: &[u8], marked_bytes: u32) -> u32 {
    let (value_bytes, deadlines) = (marked_bytes % DEADLINE_MARK, marked_bytes / DEADLINE_MARK);
    debug_assert!(key.len() <= KEY_BYTES_MAX as usize && value_bytes <= VALUE_BYTES_MAX);
    (HEADER_BYTES + key.len()) as u32 + value_bytes + deadlines * DEADLINE_BYTES as u32
}
