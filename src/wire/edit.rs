//! An edit's operand, and its outcome in a reply.
//!
//! ```text
//!   operand            condition u8 | content u8 | expiry u8 | 0 | value_bytes u32 | time u64
//!   outcome            facts u8 | deadline u56
//!   with value before  facts u8 | deadline u56 | value_bytes u32 of the value now | value before
//! ```
//!
//! Drawn in `docs/WIRE_FORMAT.md`, "Edits and deadlines".
#![forbid(unsafe_code)]

use crate::limits::DEADLINE_MAX;
use crate::op::{Condition, Content, Edit, Edited, Expiry, Version};
use std::num::NonZeroU64;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// What an edit needs besides key and value.
#[derive(Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct EditOperand {
    /// 0 always, 1 absent, 2 present, 3 lasting, 4 expiring, 5 later, 6 sooner, 7 expiring and sooner.
    condition: u8,
    /// 0 keep, 1 write, 2 append, 3 remove.
    content: u8,
    /// 0 keep, 1 clear, 2 at `time`, 3 `time` milliseconds after the edit.
    expiry: u8,
    /// Zero, checked.
    reserved: u8,
    /// Length of what is written or appended, zero elsewhere.
    pub(super) value_bytes: U32,
    /// As `expiry` says, zero elsewhere.
    time: U64,
}

/// What stands in a reply of an edit, behind the version.
#[derive(Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct EditedBody {
    /// [`EditedBody::IS_DONE`] and so on.
    facts: u8,
    /// The deadline behind the edit, little-endian; zero where there is none.
    deadline: [u8; 7],
}

/// Bytes of an edit's outcome without version and value.
pub(super) const EDITED_BYTES: usize = size_of::<EditedBody>();

/// What stands between those and the value before.
pub(super) type BytesNow = U32;

const _: () = {
    assert!(size_of::<EditOperand>() == 16 && align_of::<EditOperand>() == 1);
    assert!(std::mem::offset_of!(EditOperand, value_bytes) == 4);
    assert!(std::mem::offset_of!(EditOperand, time) == 8);
    assert!(EDITED_BYTES == 8 && align_of::<EditedBody>() == 1);
    assert!(std::mem::offset_of!(EditedBody, deadline) == 1);
    assert!(DEADLINE_MAX == (1 << 56) - 1);
};

impl EditOperand {
    /// The operand of an edit whose bytes, so many, follow behind the key.
    pub(super) fn new(edit: &Edit<'_>, value_bytes: U32) -> Self {
        let condition = Condition::ALL.iter().zip(0..).find(|(condition, _)| **condition == edit.condition());
        let (_, condition) = condition.expect("every condition stands there");
        let content = match edit.content() {
            Content::Keep => 0,
            Content::Write(_) => 1,
            Content::Append(_) => 2,
            Content::Remove => 3,
        };
        let (expiry, time) = match edit.expiry() {
            Expiry::Keep => (0, 0),
            Expiry::Clear => (1, 0),
            Expiry::At(time) => (2, time),
            Expiry::After(ms) => (3, ms),
        };
        Self { condition, content, expiry, reserved: 0, value_bytes, time: time.into() }
    }

    /// The edit, with the bytes that follow; `None` where the operand says nothing known, or what is a get.
    pub(super) fn edit<'a>(&self, bytes: &'a [u8], value_wanted: bool) -> Option<Edit<'a>> {
        let condition = *Condition::ALL.get(usize::from(self.condition))?;
        let content = match (self.content, bytes) {
            (0, []) => Content::Keep,
            (1, _) => Content::Write(bytes),
            (2, _) => Content::Append(bytes),
            (3, []) => Content::Remove,
            _ => return None,
        };
        let expiry = match (self.expiry, self.time.get()) {
            (0, 0) => Expiry::Keep,
            (1, 0) => Expiry::Clear,
            (2, time) => Expiry::At(time),
            (3, ms) => Expiry::After(ms),
            _ => return None,
        };
        let edit = Edit::new(content, expiry).on(condition);
        let edit = if value_wanted { edit.wanting_value() } else { edit };
        (self.reserved == 0 && edit != Edit::READ).then_some(edit)
    }
}

impl EditedBody {
    const IS_DONE: u8 = 1;
    const WAS_THERE: u8 = 2;
    const IS_THERE: u8 = 4;

    /// What is told beside version and values.
    pub(super) fn new(edited: &Edited<'_>) -> Self {
        let facts =
            [(edited.is_done, Self::IS_DONE), (edited.was_there, Self::WAS_THERE), (edited.is_there, Self::IS_THERE)];
        let facts = facts.into_iter().fold(0, |facts, (is_so, fact)| if is_so { facts | fact } else { facts });
        let [deadline @ .., highest] = edited.deadline.map_or(0, NonZeroU64::get).to_le_bytes();
        debug_assert_eq!(highest, 0, "shards know no later deadline");
        Self { facts, deadline }
    }

    /// Whether it has no other facts than those.
    pub(super) fn is_valid(&self) -> bool {
        self.facts < Self::IS_THERE.saturating_mul(2)
    }

    /// The outcome, with the length of the value that is there now.
    pub(super) fn edited(&self, value_bytes: u32, version: Option<Version>) -> Edited<'static> {
        let has = |fact| self.facts & fact != 0;
        let [a, b, c, d, e, f, g] = self.deadline;
        Edited {
            is_done: has(Self::IS_DONE),
            was_there: has(Self::WAS_THERE),
            is_there: has(Self::IS_THERE),
            value: None,
            value_bytes,
            deadline: NonZeroU64::new(u64::from_le_bytes([a, b, c, d, e, f, g, 0])),
            version: version.and_then(NonZeroU64::new),
        }
    }
}
