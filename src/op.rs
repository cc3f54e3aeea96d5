//! A batch as operations and outcomes: the language between protocols and shards.
//!
//! Protocols (frames in [`crate::wire`], later RESP) make a [`Batch`] and collect [`Outcomes`]; the shards know
//! nothing else of either. Nothing here owns bytes: operations and outcomes borrow from frames and records.
//!
//! ```text
//!   protocol bytes --> impl Batch --Position, key--> shards --Outcome--> impl Outcomes --> protocol bytes
//! ```
#![forbid(unsafe_code)]

use crate::hash::{Key, ShortKey};
use std::num::NonZeroU64;
use std::time::Duration;

/// A record's version: drawn from its shard's counter at each change, never reused, 0 for "absent".
pub type Version = u64;

/// The version that stands for an absent record in a compare-and-swap.
pub const VERSION_ABSENT: Version = 0;

/// An instant: milliseconds since 1970 (Unix time), by the clock of the node that holds the record. None is 0.
pub type Time = u64;

/// One operation on one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Op<'a> {
    /// The key: 0 to [`crate::limits::KEY_BYTES_MAX`] bytes, any bytes.
    pub key: &'a [u8],
    /// What to do with it.
    pub action: Action<'a>,
    /// Whether the outcome should carry the record's version.
    pub version_wanted: bool,
}

/// What an operation does. Values are 0 to [`crate::limits::VALUE_BYTES_MAX`] bytes, any bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action<'a> {
    /// Reads the value.
    Get,
    /// Writes the value, whatever was there, for good: a deadline that was there is gone.
    Put {
        /// The new value.
        value: &'a [u8],
    },
    /// Removes the record.
    Delete,
    /// Writes the value if the record's version is `expected`; [`VERSION_ABSENT`] expects no record. As after a put the
    /// record has no deadline.
    CompareAndSwap {
        /// The version that must be there.
        expected: Version,
        /// The new value.
        value: &'a [u8],
    },
    /// Adds to a signed 64-bit counter that is stored as decimal text; an absent record counts from 0. The record keeps
    /// its deadline.
    Add {
        /// What to add; may be negative.
        delta: i64,
    },
    /// Changes value and deadline in one step, or reads both.
    Edit(Edit<'a>),
}

impl Action<'_> {
    /// Whether it changes nothing, whatever it finds.
    #[must_use]
    pub const fn only_reads(&self) -> bool {
        match self {
            Self::Get => true,
            Self::Edit(edit) => edit.only_reads(),
            Self::Put { .. } | Self::Delete | Self::CompareAndSwap { .. } | Self::Add { .. } => false,
        }
    }

    /// Whether its outcome brings the value that it found: such an outcome may be left out for want of room.
    #[must_use]
    pub const fn wants_value(&self) -> bool {
        match self {
            Self::Get => true,
            Self::Edit(edit) => edit.value_wanted(),
            Self::Put { .. } | Self::Delete | Self::CompareAndSwap { .. } | Self::Add { .. } => false,
        }
    }
}

/// A change of a record in one step, made if the record is as its condition says. Every change draws a new version,
/// that of the deadline alone too.
///
/// Compact, so that an operation that is none of these is no longer for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edit<'a> {
    bytes: &'a [u8],
    time: u64,
    content: ContentKind,
    expiry: ExpiryKind,
    condition: Condition,
    value_wanted: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ContentKind {
    Keep,
    Write,
    Append,
    Remove,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ExpiryKind {
    Keep,
    Clear,
    At,
    After,
}

const _: () = assert!(size_of::<Edit<'_>>() == 32 && size_of::<Action<'_>>() == 32);

impl<'a> Edit<'a> {
    /// Reads value and deadline.
    pub const READ: Self = Self::new(Content::Keep, Expiry::Keep).wanting_value();

    /// Does this to the value and that to the deadline, whatever is there.
    #[must_use]
    pub const fn new(content: Content<'a>, expiry: Expiry) -> Self {
        let (content, bytes): (_, &[u8]) = match content {
            Content::Keep => (ContentKind::Keep, &[]),
            Content::Write(bytes) => (ContentKind::Write, bytes),
            Content::Append(bytes) => (ContentKind::Append, bytes),
            Content::Remove => (ContentKind::Remove, &[]),
        };
        let (expiry, time) = match expiry {
            Expiry::Keep => (ExpiryKind::Keep, 0),
            Expiry::Clear => (ExpiryKind::Clear, 0),
            Expiry::At(time) => (ExpiryKind::At, time),
            Expiry::After(ms) => (ExpiryKind::After, ms),
        };
        Self { bytes, time, content, expiry, condition: Condition::Always, value_wanted: false }
    }

    /// The same, made only on this condition.
    #[must_use]
    pub const fn on(self, condition: Condition) -> Self {
        Self { condition, ..self }
    }

    /// The same, whose outcome carries the value that was there before.
    #[must_use]
    pub const fn wanting_value(self) -> Self {
        Self { value_wanted: true, ..self }
    }

    /// When it is made.
    #[must_use]
    pub const fn condition(&self) -> Condition {
        self.condition
    }

    /// What it does to the value.
    #[must_use]
    pub const fn content(&self) -> Content<'a> {
        match self.content {
            ContentKind::Keep => Content::Keep,
            ContentKind::Write => Content::Write(self.bytes),
            ContentKind::Append => Content::Append(self.bytes),
            ContentKind::Remove => Content::Remove,
        }
    }

    /// What it does to the deadline.
    #[must_use]
    pub const fn expiry(&self) -> Expiry {
        match self.expiry {
            ExpiryKind::Keep => Expiry::Keep,
            ExpiryKind::Clear => Expiry::Clear,
            ExpiryKind::At => Expiry::At(self.time),
            ExpiryKind::After => Expiry::After(self.time),
        }
    }

    /// Whether the outcome should carry the value that was there before.
    #[must_use]
    pub const fn value_wanted(&self) -> bool {
        self.value_wanted
    }

    /// The bytes that it writes or appends; none where it does neither.
    #[must_use]
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The same with other bytes to write or append.
    #[must_use]
    pub const fn with_bytes(self, bytes: &[u8]) -> Edit<'_> {
        let Self { time, content, expiry, condition, value_wanted, .. } = self;
        let bytes = if matches!(content, ContentKind::Write | ContentKind::Append) { bytes } else { &[] };
        Edit { bytes, time, content, expiry, condition, value_wanted }
    }

    /// Whether it changes nothing, whatever it finds.
    #[must_use]
    pub const fn only_reads(&self) -> bool {
        matches!((self.content, self.expiry), (ContentKind::Keep, ExpiryKind::Keep))
    }
}

/// What an edit expects. A record without a deadline lasts for ever, later than any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// Nothing.
    Always,
    /// No record.
    IfAbsent,
    /// A record.
    IfPresent,
    /// A record that has no deadline.
    IfLasting,
    /// A record that has one.
    IfExpiring,
    /// A record that lasts longer behind the edit than before.
    IfLater,
    /// A record that lasts less long behind the edit than before.
    IfSooner,
    /// Both of [`Condition::IfExpiring`] and [`Condition::IfSooner`].
    IfExpiringSooner,
}

impl Condition {
    /// All there are, in the order of their codes on the wire.
    pub const ALL: [Self; 8] = [
        Self::Always,
        Self::IfAbsent,
        Self::IfPresent,
        Self::IfLasting,
        Self::IfExpiring,
        Self::IfLater,
        Self::IfSooner,
        Self::IfExpiringSooner,
    ];
}

/// What an edit does to the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content<'a> {
    /// Leaves it; where there is no record there is none behind it.
    Keep,
    /// Writes this value, whatever was there.
    Write(&'a [u8]),
    /// Appends these bytes; an absent record is written.
    Append(&'a [u8]),
    /// Removes the record.
    Remove,
}

/// What an edit does to the deadline: from it on the record is absent. One that is reached already removes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    /// Leaves it; a record that is new has none.
    Keep,
    /// The record has none from here on.
    Clear,
    /// This instant, [`crate::limits::DEADLINE_MAX`] at the latest.
    At(Time),
    /// So many milliseconds after the edit.
    After(u64),
}

impl Expiry {
    /// So long after the edit; a part of a millisecond counts as one.
    #[must_use]
    pub fn in_no_less_than(duration: Duration) -> Self {
        Self::After(u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX))
    }
}

/// What became of one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome<'a> {
    /// A get found this value.
    Value {
        /// The value's bytes.
        value: &'a [u8],
        /// The record's version, if it was wanted.
        version: Option<Version>,
    },
    /// A put, delete or compare-and-swap took effect.
    Done {
        /// The record's new version, if it was wanted; never for a delete.
        version: Option<Version>,
    },
    /// An add took effect and left the counter at `value`.
    Counter {
        /// The counter after the add.
        value: i64,
        /// The record's new version, if it was wanted.
        version: Option<Version>,
    },
    /// A get or delete found no record. A delete changed nothing.
    NotFound,
    /// A compare-and-swap found another version; nothing was changed.
    VersionMismatch {
        /// The version that is there, [`VERSION_ABSENT`] for none.
        current: Version,
    },
    /// What an edit found, and left behind; or found and left, where its condition did not hold.
    Edited(Edited<'a>),
    /// An append would make the value longer than [`crate::limits::VALUE_BYTES_MAX`]; nothing was changed.
    ValueTooLong,
    /// An add found a value that is no decimal 64-bit integer; nothing was changed.
    NotANumber,
    /// An add would overflow 64 bits; nothing was changed.
    CounterOverflow,
    /// The node's memory cap is reached; nothing was changed.
    OutOfMemory,
    /// The value that the operation should bring no longer fits the reply; it was not executed. A client asks again by
    /// itself for what only reads.
    ReplyFull,
    /// The node does not own the key's slot; nothing was executed. A client with a map asks whoever does.
    WrongNode,
    /// The operation may or may not have taken effect: the connection was lost before an answer, or the node no longer
    /// knows what became of an operation that is asked again.
    Unknown,
    /// The operation had no effect: its node could not be reached in time, or refused it. Made by clients.
    NotSent,
}

/// What an edit found, and what is there behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edited<'a> {
    /// Whether the condition held.
    pub is_done: bool,
    /// Whether there was a record.
    pub was_there: bool,
    /// Whether there is one now.
    pub is_there: bool,
    /// The value that was there, if it was wanted.
    pub value: Option<&'a [u8]>,
    /// Length of the value that is there now, in bytes.
    pub value_bytes: u32,
    /// The deadline of the record that is there now, if it has one.
    pub deadline: Option<NonZeroU64>,
    /// The version of the record that is there now, if it was wanted.
    pub version: Option<NonZeroU64>,
}

const _: () = assert!(size_of::<Edited<'_>>() == 40 && size_of::<Outcome<'_>>() == 40);

/// A record on its way from one node to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Carried<'a> {
    /// Its key.
    pub key: &'a [u8],
    /// Its version, which it keeps; [`VERSION_ABSENT`] where the key has no record any more.
    pub version: Version,
    /// Its value; empty where there is no record.
    pub value: &'a [u8],
    /// Its deadline, which it keeps.
    pub deadline: Option<Time>,
}

impl Carried<'_> {
    /// A key without a record; the empty one.
    pub const GONE: Self = Self { key: &[], version: VERSION_ABSENT, value: &[], deadline: None };
}

/// Where an operation stands in its batch: a protocol's own handle, cheap to copy and to keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The operation's index in the batch as sent.
    pub index: u32,
    /// Private to the protocol: where the operation's bytes begin.
    pub offset: u32,
}

/// A validated batch of operations.
pub trait Batch {
    /// Number of operations.
    fn op_count(&self) -> u32;

    /// Visits every operation's position and key, and whether it is a get that wants no version, in request order,
    /// reading the batch once from front to back.
    fn for_each_key<'a>(&'a self, visit: impl FnMut(Position, Key<'a>, bool));

    /// Visits every key as [`Batch::for_each_key`] does, a short one of a plain get as a number.
    #[inline]
    fn visit_keys<'a>(&'a self, visitor: &mut impl VisitKeys<'a>) {
        self.for_each_key(|position, key, is_plain_get| match key.short() {
            Some(short) if is_plain_get => visitor.short_get(position, short),
            _ => visitor.other(position, key, is_plain_get),
        });
    }

    /// The operation at a position that [`Batch::for_each_key`] gave.
    ///
    /// # Panics
    /// May panic on a position of another batch.
    fn op(&self, position: Position) -> Op<'_>;

    /// The key of an operation that [`Batch::for_each_key`] called a get that wants no version: all that there is to
    /// know of it.
    ///
    /// # Panics
    /// As [`Batch::op`].
    #[inline]
    fn plain_get(&self, position: Position) -> &[u8] {
        self.op(position).key
    }

    /// Where the operation at `index` stood in the batch as first built, where this is a part of it that is asked
    /// again: what it is known by. Grows with `index`.
    #[inline]
    fn first_index(&self, index: u32) -> u32 {
        index
    }
}

/// Takes the keys of a batch, in request order.
pub trait VisitKeys<'a> {
    /// Of a get that wants no version: short, and what most are.
    fn short_get(&mut self, position: Position, key: ShortKey);

    /// Of any other, and whether it is a get that wants no version: its key may be short too.
    fn other(&mut self, position: Position, key: Key<'a>, is_plain_get: bool);
}

/// Collects the outcome of each operation, in any order, each exactly once.
pub trait Outcomes {
    /// Whether [`Outcomes::set_again`] can be called: gets that repeat another one of their batch need not be executed.
    const TELLS_AGAIN: bool = false;

    /// Takes the outcome of the operation at `index`. A value that no longer fits becomes [`Outcome::ReplyFull`]; every
    /// other outcome always fits.
    fn set(&mut self, index: u32, outcome: Outcome<'_>);

    /// Takes the value of a get that wants no version: what most outcomes are.
    #[inline]
    fn set_plain_value(&mut self, index: u32, value: &[u8]) {
        self.set(index, Outcome::Value { value, version: None });
    }

    /// Gives the operation at `index` the outcome of the one at `first`, both of them gets that want no version. A
    /// value that does not fit twice becomes [`Outcome::ReplyFull`].
    ///
    /// # Panics
    /// Without [`Outcomes::TELLS_AGAIN`].
    fn set_again(&mut self, index: u32, first: u32) {
        unreachable!("operation {index} told as {first} is, to who does not tell again");
    }

    /// Whether the value that an edit should bring, of so many bytes, fits. Where it does not the edit is not executed.
    fn has_room(&mut self, value_bytes: usize) -> bool {
        let _takes_any = value_bytes;
        true
    }
}

/// Outcomes that can be read where they were collected.
pub trait ReadBack: Outcomes {
    /// The outcome that the operation at `index` was given.
    ///
    /// # Panics
    /// May panic where it has none.
    fn read_back(&self, index: u32) -> Outcome<'_>;
}
