//! A batch as operations and outcomes: the language between protocols and shards.
//!
//! Protocols (frames in [`crate::wire`], later RESP) make a [`Batch`] and collect [`Outcomes`]; the shards know
//! nothing else of either. Nothing here owns bytes: operations and outcomes borrow from frames and records.
//!
//! ```text
//!   protocol bytes --> impl Batch --Position, key--> shards --Outcome--> impl Outcomes --> protocol bytes
//! ```
#![forbid(unsafe_code)]

use crate::hash::Key;

/// A record's version: drawn from its shard's counter at each change, never reused, 0 for "absent".
pub type Version = u64;

/// The version that stands for an absent record in a compare-and-swap.
pub const VERSION_ABSENT: Version = 0;

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
    /// Writes the value, whatever was there.
    Put {
        /// The new value.
        value: &'a [u8],
    },
    /// Removes the record.
    Delete,
    /// Writes the value if the record's version is `expected`; [`VERSION_ABSENT`] expects no record.
    CompareAndSwap {
        /// The version that must be there.
        expected: Version,
        /// The new value.
        value: &'a [u8],
    },
    /// Adds to a signed 64-bit counter that is stored as decimal text; an absent record counts from 0.
    Add {
        /// What to add; may be negative.
        delta: i64,
    },
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
    /// An add found a value that is no decimal 64-bit integer; nothing was changed.
    NotANumber,
    /// An add would overflow 64 bits; nothing was changed.
    CounterOverflow,
    /// The node's memory cap is reached; nothing was changed.
    OutOfMemory,
    /// A get whose value no longer fits the reply; it was not executed. The client asks again by itself.
    ReplyFull,
    /// The node does not own the key's slot; nothing was executed. A client with a map asks whoever does.
    WrongNode,
    /// The operation may or may not have taken effect: the connection was lost before an answer, or the node no longer
    /// knows what became of an operation that is asked again.
    Unknown,
    /// The operation had no effect: its node could not be reached in time, or refused it. Made by clients.
    NotSent,
}

/// A record on its way from one node to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Carried<'a> {
    /// Its key.
    pub key: &'a [u8],
    /// Its version, which it keeps; [`VERSION_ABSENT`] where the key has no record any more.
    pub version: Version,
    /// Its value; empty where there is no record.
    pub value: &'a [u8],
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

    /// The operation at a position that [`Batch::for_each_key`] gave.
    ///
    /// # Panics
    /// May panic on a position of another batch.
    fn op(&self, position: Position) -> Op<'_>;

    /// Where the operation at `index` stood in the batch as first built, where this is a part of it that is asked
    /// again: what it is known by. Grows with `index`.
    #[inline]
    fn first_index(&self, index: u32) -> u32 {
        index
    }
}

/// Collects the outcome of each operation, in any order, each exactly once.
pub trait Outcomes {
    /// Takes the outcome of the operation at `index`. A value that no longer fits becomes
    /// [`Outcome::ReplyFull`]; every other outcome always fits.
    fn set(&mut self, index: u32, outcome: Outcome<'_>);
}

/// Outcomes that can be read where they were collected.
pub trait ReadBack: Outcomes {
    /// The outcome that the operation at `index` was given.
    ///
    /// # Panics
    /// May panic where it has none.
    fn read_back(&self, index: u32) -> Outcome<'_>;
}
