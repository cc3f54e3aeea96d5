//! How a shard makes room: for a slot, for a span of another size, for a value with pages of its own, for its index.
//!
//! ```text
//!   a slot of class C is refused --> one record of C goes, by policy              its slot serves: nothing else moves
//!   C lost a span's worth so, faster than others lose theirs --> a span of the slowest class is emptied for C
//!   C has no record                                           --> likewise
//!   pages of their own, or the index --> a whole chunk is emptied, and goes back to the account
//! ```
//!
//! So each class's records live about equally long, which is what one queue for all of them would do, and memory of
//! sizes that nobody writes any more goes to those that are written. The chunks of a store that evicts belong to one
//! shard each, so that it can empty one under its own lock.
//!
//! Records of an emptied span that were hit do not go: they take the places of others of their class that were not.
//!
//! An operation evicts one record as a rule, and a span's at most where it empties one: 4,096 of 16 bytes, some
//! hundreds of usual sizes. For a span of 256 KiB or 1 MiB, and for the index, it is a chunk's at most; for a value of
//! its own pages as many chunks' as it is long.
#![forbid(unsafe_code)]

use super::evict::Victim;
use super::index::{Index, Keys};
use super::memory::{CHUNK_BYTES, CHUNK_UNITS, UNIT_BYTES};
use super::record::{Marks, Record, Written};
use super::shard::Shard;
use super::size_class::SizeClass;
use super::slab::{CLASSES, Handle, LARGE};
use crate::limits::KEY_BYTES_MAX;
use crate::op::{Time, Version};

/// A class is given a span of another one's, if it loses its records more than so many times as fast.
const FASTER: f64 = 2.0;

/// Spans that are looked at for one without the record that stays.
const SPANS_LOOKED_AT_MAX: usize = 3;

/// Records that were hit, out of spans that are emptied.
#[derive(Debug, Default)]
pub(super) struct Hot {
    records: Vec<HotRecord>,
    /// Keys and values.
    bytes: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
struct HotRecord {
    version: Version,
    /// 0 for none.
    deadline: Time,
    /// Where its key and value begin, and their lengths.
    begin: u32,
    value_bytes: u32,
    key_bytes: u16,
    class: u16,
    marks: Marks,
}

const _: () = assert!(size_of::<HotRecord>() == 32 && KEY_BYTES_MAX <= u16::MAX as u32);

/// Room that is kept from one time to the next: that of a usual span, and of its records from 32 bytes on.
const HOT_BYTES_KEPT: usize = UNIT_BYTES as usize;
const HOT_RECORDS_KEPT: usize = HOT_BYTES_KEPT / size_of::<HotRecord>();

impl Hot {
    /// Copies a record; false where the system has no memory for that.
    fn take(&mut self, record: &Record<'_>, marks: Marks, class: usize) -> bool {
        let Record { version, key, value, deadline } = *record;
        let (begin, bytes) = (self.bytes.len(), key.len() + value.len());
        // At once as much as a usual span has.
        let wanted = bytes.max(HOT_BYTES_KEPT.saturating_sub(begin));
        if self.bytes.try_reserve(wanted).is_err() || self.records.try_reserve(1).is_err() {
            return false;
        }
        let (begin, value_bytes, key_bytes) = (begin as u32, value.len() as u32, key.len() as u16);
        let (class, deadline) = (class as u16, deadline.unwrap_or(0));
        self.records.push(HotRecord { version, deadline, begin, value_bytes, key_bytes, class, marks });
        self.bytes.extend_from_slice(&key);
        self.bytes.extend_from_slice(value);
        true
    }

    /// Keeps no more room than a usual span's.
    fn clear(&mut self) {
        self.records.clear();
        self.bytes.clear();
        self.records.shrink_to(HOT_RECORDS_KEPT);
        self.bytes.shrink_to(HOT_BYTES_KEPT);
    }
}

impl HotRecord {
    /// Its key and value.
    fn content<'a>(&self, bytes: &'a [u8]) -> (&'a [u8], &'a [u8]) {
        let bytes = &bytes[self.begin as usize..][..usize::from(self.key_bytes) + self.value_bytes as usize];
        bytes.split_at(self.key_bytes.into())
    }
}

impl<I: Index> Shard<I> {
    /// Evicts something behind a refusal, so that what was refused may fit now; false where there is nothing left that
    /// would help.
    pub(super) fn make_way(&mut self) -> bool {
        let Some(bytes) = self.records.slab.refusal() else {
            return self.give_up_chunk();
        };
        let (class, units) = match SizeClass::of(bytes) {
            Some(class) => (usize::from(class.index), class.span_units.into()),
            None => (usize::from(LARGE), CHUNK_UNITS),
        };
        if self.is_due(class)
            && let Some(other) = self.slowest(Some(class))
            && self.empty_spans(other, units)
        {
            return true;
        }
        self.evict_one(class) || self.slowest(None).is_some_and(|other| self.empty_spans(other, units))
    }

    /// Gives memory back to the account, for others; false where there is none to give.
    pub(super) fn give_up_chunk(&mut self) -> bool {
        self.slowest(None).is_some_and(|class| self.empty_spans(class, CHUNK_UNITS))
    }

    /// Bytes that the account must have for what was refused to be there.
    pub(super) fn bytes_refused(&self) -> u64 {
        let refused = self.records.slab.refusal().unwrap_or_default();
        self.records.slab.pool().bytes_asked(refused.max(CHUNK_BYTES))
    }

    /// Evicts one record of a class; false where it has none.
    fn evict_one(&mut self, class: usize) -> bool {
        let now = self.now();
        let Some(evictor) = &mut self.evictor else { return false };
        let victim = evictor.victim(&mut self.records, class, now);
        victim.inspect(|victim| self.evict(*victim, class)).is_some()
    }

    fn evict(&mut self, victim: Victim, class: usize) {
        let Victim { handle, is_expired, is_remembered } = victim;
        let hash = self.records.hash(handle);
        let Some(evictor) = &mut self.evictor else { return };
        if is_remembered {
            evictor.remember(hash);
        }
        let key = self.records.key(handle);
        evictor.count(class, self.records.count(), is_expired, key.as_bytes());
        self.expired += u64::from(is_expired);
        self.forget_at(hash, handle);
    }

    /// Empties a span of a class, and all in the same run of `units` units; false where it has none that can be.
    fn empty_spans(&mut self, class: usize, units: u32) -> bool {
        if class == usize::from(LARGE) {
            return self.evict_one(class);
        }
        for _ in 0..SPANS_LOOKED_AT_MAX {
            let Some(evictor) = &mut self.evictor else { return false };
            let pinned = evictor.pinned;
            let Some(slot) = evictor.next_span(&self.records, class) else { return false };
            let spans = self.records.slab.spans_beside(slot, units);
            if pinned == Handle::NONE || spans.iter().all(|span| span.span() != pinned.span()) {
                let mut hot = std::mem::take(&mut evictor.hot);
                spans.into_iter().for_each(|span| self.empty_span(span, &mut hot));
                if units == CHUNK_UNITS {
                    self.records.slab.pool().trim();
                }
                hot.records.iter().for_each(|record| self.put_back(record, &hot.bytes));
                hot.clear();
                if let Some(evictor) = &mut self.evictor {
                    evictor.hot = hot;
                }
                return true;
            }
        }
        false
    }

    /// Takes every record out of a span: with the last it goes back to the pool. Those that were hit are to be put back
    /// elsewhere, the others are evicted.
    fn empty_span(&mut self, span: Handle, hot: &mut Hot) {
        let Some(class) = self.records.slab.class_at(span) else { return };
        let now = self.now();
        for handle in self.records.slab.used_beside(span) {
            let (record, marks) = (self.records.get_marked(handle), self.records.marks(handle));
            let is_expired = record.is_expired(now);
            if !is_expired && marks.hits() > 0 && hot.take(&record, marks, class) {
                self.forget_at(self.records.hash(handle), handle);
            } else {
                self.evict(Victim { handle, is_expired, is_remembered: false }, class);
            }
        }
        debug_assert!(self.records.slab.class_at(span).is_none(), "an empty span is no more");
    }

    /// Puts a record back in the place of one of its class that was not hit; it is evicted where there is none.
    fn put_back(&mut self, record: &HotRecord, bytes: &[u8]) {
        let HotRecord { version, marks, .. } = *record;
        let (class, deadline) = (usize::from(record.class), Some(record.deadline).filter(|time| *time != 0));
        let (key, value) = record.content(bytes);
        let hash = self.records.hash_of(key);
        let has_slot = self.records.slab.has_slot(class) || self.evict_one(class);
        if has_slot && self.import(key, hash, version, Written { value, deadline }) {
            if let Some(handle) = self.find_handle(|other| *other == *key, hash, Handle::NONE) {
                self.records.set_marks(handle, marks.cooled().to_main());
            }
            return;
        }
        if let Some(evictor) = &mut self.evictor {
            evictor.count(class, self.records.count(), false, key);
        }
    }

    /// Whether a class has lost a span's worth of records since this was said last.
    fn is_due(&mut self, class: usize) -> bool {
        let Some(evictor) = &mut self.evictor else { return false };
        evictor.next_in_class(&self.records, class).is_some_and(|slot| {
            let slots = self.records.slab.slots_beside(slot);
            evictor.is_due(class, slots)
        })
    }

    /// The class whose records go most slowly; where it is for another one, only if they go much more slowly than its.
    fn slowest(&self, than: Option<usize>) -> Option<usize> {
        let evictor = self.evictor.as_ref()?;
        let classes = (0..CLASSES).filter(|class| self.records.slab.class_slots(*class) > 0 && Some(*class) != than);
        let pace = |class: usize| evictor.lost_lately(class) / self.records.slab.class_slots(class) as f64;
        let slowest = classes.min_by(|one, other| pace(*one).total_cmp(&pace(*other)))?;
        than.is_none_or(|than| pace(slowest) * FASTER < pace(than)).then_some(slowest)
    }
}
