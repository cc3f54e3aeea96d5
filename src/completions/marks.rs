//! Which operations of a frame are recorded, and the batch and outcomes between frame and shards that see to it.
#![forbid(unsafe_code)]

use super::record::{Draft, Recorded};
use crate::hash::{Key, slot};
use crate::op::{Batch, Op, Outcome, Outcomes, Position};

/// No slot: not recorded.
const NOT_RECORDED: u16 = u16::MAX;

/// The slot of each operation whose outcome is recorded: changes, and what may share a key with one. Gets that want a
/// version count as changes here, as telling them apart would take reading each operation once more.
#[derive(Debug)]
pub(super) struct Marks {
    slots: Vec<u16>,
    count: usize,
}

impl Marks {
    pub(super) fn of(batch: &impl Batch) -> Self {
        let ops = batch.op_count() as usize;
        let (mut slots, mut filter, mut count) = (vec![NOT_RECORDED; ops], Filter::new(ops), 0);
        batch.for_each_key(|position, key, is_plain_get| {
            if !is_plain_get {
                slots[position.index as usize] = slot(key);
                filter.add(key);
                count += 1;
            }
        });
        if count < ops && count > 0 {
            batch.for_each_key(|position, key, is_plain_get| {
                if is_plain_get && filter.may_have(key) {
                    slots[position.index as usize] = slot(key);
                    count += 1;
                }
            });
        }
        Self { slots, count }
    }

    /// How many operations are recorded.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// The slot of each operation that is recorded.
    pub(super) fn each(&self) -> impl Iterator<Item = Option<u16>> {
        self.slots.iter().map(|slot| (*slot != NOT_RECORDED).then_some(*slot))
    }
}

/// A set of keys that may hold others too. Whoever makes keys collide has more recorded in his own session.
struct Filter {
    bits: Vec<u64>,
}

impl Filter {
    /// For about so many keys; a sixteenth of others collide.
    fn new(keys: usize) -> Self {
        Self { bits: vec![0; (keys / 4).next_power_of_two()] }
    }

    #[inline]
    fn add(&mut self, key: Key<'_>) {
        let (word, bit) = self.place(key);
        self.bits[word] |= bit;
    }

    #[inline]
    fn may_have(&self, key: Key<'_>) -> bool {
        let (word, bit) = self.place(key);
        self.bits[word] & bit != 0
    }

    #[inline]
    fn place(&self, key: Key<'_>) -> (usize, u64) {
        let bytes = key.as_bytes();
        let word = |bytes: Option<&[u8; 8]>| bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let ends = match bytes.len() {
            0..8 => bytes.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)),
            _ => word(bytes.first_chunk()).rotate_left(29) ^ word(bytes.last_chunk()),
        };
        let mixed = (ends ^ bytes.len() as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        (mixed as usize >> 6 & (self.bits.len() - 1), 1 << (mixed & 63))
    }
}

/// A batch without the operations that have their outcome already.
pub(super) struct Rest<'a, B> {
    batch: &'a B,
    answered: &'a [bool],
}

impl<'a, B: Batch> Rest<'a, B> {
    pub(super) fn new(batch: &'a B, answered: &'a [bool]) -> Self {
        debug_assert_eq!(answered.len(), batch.op_count() as usize);
        Self { batch, answered }
    }
}

impl<B: Batch> Batch for Rest<'_, B> {
    fn op_count(&self) -> u32 {
        self.batch.op_count()
    }

    fn for_each_key<'a>(&'a self, mut visit: impl FnMut(Position, Key<'a>, bool)) {
        self.batch.for_each_key(|position, key, is_plain_get| {
            if !self.answered[position.index as usize] {
                visit(position, key, is_plain_get);
            }
        });
    }

    fn op(&self, position: Position) -> Op<'_> {
        self.batch.op(position)
    }

    fn first_index(&self, index: u32) -> u32 {
        self.batch.first_index(index)
    }
}

/// Hands outcomes over, and records those that are marked.
pub(super) struct Recording<'a, 'd, B, O> {
    batch: &'a B,
    marks: &'a Marks,
    draft: &'a mut Draft<'d>,
    outcomes: &'a mut O,
}

impl<'a, 'd, B: Batch, O: Outcomes> Recording<'a, 'd, B, O> {
    pub(super) fn new(batch: &'a B, marks: &'a Marks, draft: &'a mut Draft<'d>, outcomes: &'a mut O) -> Self {
        Self { batch, marks, draft, outcomes }
    }
}

impl<B: Batch, O: Outcomes> Outcomes for Recording<'_, '_, B, O> {
    #[inline]
    fn set(&mut self, index: u32, outcome: Outcome<'_>) {
        let slot = self.marks.slots[index as usize];
        if slot != NOT_RECORDED {
            let first = self.batch.first_index(index);
            debug_assert!(first <= u16::MAX.into(), "a frame holds no more operations");
            self.draft.push(&Recorded { index: first as u16, slot, outcome });
        }
        self.outcomes.set(index, outcome);
    }
}
