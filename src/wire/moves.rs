//! Frames that move slots: a mover asks the old owner for records and hands them to the new one.
//!
//! ```text
//!   move         64  command u8, 7 reserved | id 16 | epoch u64 | sequence u64 | argument u64 | slots or entries
//!   move reply   64  status u8, 7 reserved  | epoch u64 | keys_left u64 | version_max u64     | entries
//!   entry            version u64 | value_bytes u32 | key_bytes u16 | kind u8, 1 reserved | key | value
//!                    kind: 1 record, 2 key without one, 3 completion records as the value, no key,
//!                    4 record with a deadline, u64, behind the value
//! ```
//!
//! Entries pass through the mover as they are: what stands behind the body of a reply stands behind that of the next
//! request. Drawn in `docs/WIRE_FORMAT.md`, "Moves".
#![forbid(unsafe_code)]

use super::buffer::FrameBuffer;
use super::error::WireError;
use super::header::{FrameKind, HEADER_LENGTH, Header, Origin};
use super::hello::service_frame;
use super::number::{index, length, wide};
use crate::limits::{DEADLINE_MAX, MOVE_CHUNK_BYTES, MOVE_ENTRIES_MAX, MOVE_VERSION_MAX, SLOTS, VALUE_BYTES_MAX};
use crate::op::{Carried, VERSION_ABSENT};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// A step of a move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum MoveCommand {
    /// To the old owner: begin to note what changes in these slots.
    ExportBegin = 1,
    /// To the old owner: the next records. `argument` is the sequence of the latest reply that arrived, 0 for none.
    ExportNext = 2,
    /// To the old owner: give the slots up; what is left to hand over is final.
    Freeze = 3,
    /// To the new owner: make ready for these slots.
    ImportBegin = 4,
    /// To the new owner: take these records.
    Import = 5,
    /// To the new owner: that was all. `argument` is the highest version of the old owner.
    ImportFinish = 6,
    /// To either: the move is off. Slots that were given up stay so until the next map.
    End = 7,
    /// To any node: look for a newer map, and say which one is worked with.
    Look = 8,
}

impl MoveCommand {
    fn from_code(code: u8) -> Option<Self> {
        let all = [Self::ExportBegin, Self::ExportNext, Self::Freeze, Self::ImportBegin, Self::Import];
        all.into_iter().chain([Self::ImportFinish, Self::End, Self::Look]).find(|command| command.code() == code)
    }

    /// The code on the wire.
    #[must_use]
    #[expect(clippy::as_conversions, reason = "the discriminant is the code")]
    pub const fn code(self) -> u8 {
        self as u8
    }
}

/// What came of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum MoveStatus {
    /// It was done.
    Done = 1,
    /// There is no such move here: another took its place, a newer map ended it, or too much changed meanwhile.
    NoMove = 2,
    /// The node works with the map of another epoch, or with none.
    OtherEpoch = 3,
    /// The slots are not the old owner's to give, or are the new owner's already.
    BadSlots = 4,
    /// Another move has slots of this node given up: the next map ends it.
    Frozen = 5,
    /// Not the next step, nor the latest again: from a connection that is given up.
    OutOfOrder = 6,
    /// The node has no memory for it.
    OutOfMemory = 7,
    /// The node does not know where the map is kept: it could not end a move that is left alone.
    NoKeeper = 8,
    /// What it was given are no completion records.
    BadCompletions = 9,
}

impl MoveStatus {
    fn from_code(code: u8) -> Option<Self> {
        let all = [Self::Done, Self::NoMove, Self::OtherEpoch, Self::BadSlots, Self::Frozen, Self::OutOfOrder];
        all.into_iter()
            .chain([Self::OutOfMemory, Self::NoKeeper, Self::BadCompletions])
            .find(|status| status.code() == code)
    }

    /// The code on the wire.
    #[must_use]
    #[expect(clippy::as_conversions, reason = "the discriminant is the code")]
    pub const fn code(self) -> u8 {
        self as u8
    }
}

/// The body of a move frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct MoveBody {
    /// A [`MoveCommand`].
    pub command: u8,
    /// Zero, checked.
    pub reserved: [u8; 7],
    /// Names the move: random bits.
    pub id: [u8; 16],
    /// The epoch of the map that the move replaces.
    pub epoch: U64,
    /// Counts the steps to one node, from 1 on, so that one that comes late does nothing.
    pub sequence: U64,
    /// As the command says; 0 elsewhere.
    pub argument: U64,
}

/// The body of a move's reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct MoveReplyBody {
    /// A [`MoveStatus`].
    pub status: u8,
    /// Zero, checked.
    pub reserved: [u8; 7],
    /// The epoch of the map that the node works with, 0 for none.
    pub epoch: U64,
    /// Keys that changed and are still to be handed over; all bits set while not every record was handed over once.
    pub keys_left: U64,
    /// The highest version of any change there.
    pub version_max: U64,
}

/// What stands before each key and value.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Entry {
    version: U64,
    value_bytes: U32,
    key_bytes: U16,
    kind: u8,
    reserved: u8,
}

/// A record.
const RECORD: u8 = 1;
/// A key that has no record any more.
const GONE: u8 = 2;
/// Completion records.
const COMPLETIONS: u8 = 3;
/// A record with a deadline.
const EXPIRING: u8 = 4;

/// Bytes of a deadline.
const DEADLINE_LENGTH: usize = 8;

/// The longest completion records, in bytes: one outcome with a value of maximal size.
const COMPLETIONS_BYTES_MAX: u32 = VALUE_BYTES_MAX.saturating_add(64);

/// What is handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handed<'a> {
    /// A record, or that a key has none.
    Record(Carried<'a>),
    /// What became of operations, in a format of their own.
    Completions(&'a [u8]),
}

impl<'a> From<Carried<'a>> for Handed<'a> {
    fn from(carried: Carried<'a>) -> Self {
        Self::Record(carried)
    }
}

const BODY_LENGTH: usize = size_of::<MoveBody>();
const REPLY_BODY_LENGTH: usize = size_of::<MoveReplyBody>();
const ENTRY_LENGTH: usize = size_of::<Entry>();
/// A bit a slot.
const SLOTS_LENGTH: usize = index(SLOTS).div_euclid(8);

const _: () = {
    assert!(BODY_LENGTH == 48 && align_of::<MoveBody>() == 1);
    assert!(std::mem::offset_of!(MoveBody, id) == 8);
    assert!(std::mem::offset_of!(MoveBody, epoch) == 24);
    assert!(std::mem::offset_of!(MoveBody, sequence) == 32);
    assert!(std::mem::offset_of!(MoveBody, argument) == 40);
    assert!(REPLY_BODY_LENGTH == 32 && align_of::<MoveReplyBody>() == 1);
    assert!(std::mem::offset_of!(MoveReplyBody, epoch) == 8);
    assert!(std::mem::offset_of!(MoveReplyBody, keys_left) == 16);
    assert!(std::mem::offset_of!(MoveReplyBody, version_max) == 24);
    assert!(ENTRY_LENGTH == 16 && align_of::<Entry>() == 1);
    assert!(std::mem::offset_of!(Entry, value_bytes) == 8);
    assert!(std::mem::offset_of!(Entry, key_bytes) == 12);
    assert!(std::mem::offset_of!(Entry, kind) == 14);
};

impl MoveBody {
    /// A step of a move.
    #[must_use]
    pub fn new(command: MoveCommand, id: [u8; 16], epoch: u64, sequence: u64, argument: u64) -> Self {
        let (epoch, sequence, argument) = (epoch.into(), sequence.into(), argument.into());
        Self { command: command.code(), reserved: [0; 7], id, epoch, sequence, argument }
    }
}

/// A step, and what it brings along.
#[derive(Debug, Clone, Copy)]
pub struct MoveView<'a> {
    /// Which one.
    pub command: MoveCommand,
    /// Its numbers.
    pub body: &'a MoveBody,
    payload: &'a [u8],
}

impl<'a> MoveView<'a> {
    /// The step in a frame.
    ///
    /// # Errors
    /// The first thing wrong with the frame.
    pub fn parse(frame: &'a [u8]) -> Result<Self, WireError> {
        let (_, rest) = Header::split_kind(frame, FrameKind::Move)?;
        let (body, payload) = MoveBody::ref_from_prefix(rest).map_err(|_| truncated(BODY_LENGTH, rest))?;
        let command = MoveCommand::from_code(body.command).ok_or(WireError::BadBody { what: "move command" })?;
        if body.reserved != [0; 7] {
            return Err(WireError::ReservedNotZero { offset: length(HEADER_LENGTH).saturating_add(1) });
        }
        match command {
            MoveCommand::ExportBegin | MoveCommand::ImportBegin => expect_payload(payload, SLOTS_LENGTH)?,
            MoveCommand::Import => check_entries(payload, HEADER_LENGTH.saturating_add(BODY_LENGTH))?,
            MoveCommand::ImportFinish if body.argument.get() > MOVE_VERSION_MAX => {
                return Err(WireError::BadBody { what: "version" });
            }
            _ => expect_payload(payload, 0)?,
        }
        Ok(Self { command, body, payload })
    }

    /// The slots that it names, a bit each; `None` where it names none.
    #[must_use]
    pub fn slots(&self) -> Option<&'a [u8; SLOTS_LENGTH]> {
        self.payload.try_into().ok().filter(|_| self.command != MoveCommand::Import)
    }

    /// What it brings.
    pub fn entries(&self) -> impl Iterator<Item = Handed<'a>> + use<'a> {
        let entries = if self.command == MoveCommand::Import { self.payload } else { &[] };
        entries_of(entries)
    }
}

/// What came of a step, and what it brings back.
#[derive(Debug, Clone, Copy)]
pub struct MoveReplyView<'a> {
    /// How it ended.
    pub status: MoveStatus,
    /// Its numbers.
    pub body: &'a MoveReplyBody,
    /// The entries, as they are handed on.
    pub payload: &'a [u8],
}

impl<'a> MoveReplyView<'a> {
    /// The reply in a frame.
    ///
    /// # Errors
    /// The first thing wrong with the frame.
    pub fn parse(frame: &'a [u8]) -> Result<Self, WireError> {
        let (_, rest) = Header::split_kind(frame, FrameKind::MoveReply)?;
        let (body, payload) = MoveReplyBody::ref_from_prefix(rest).map_err(|_| truncated(REPLY_BODY_LENGTH, rest))?;
        let status = MoveStatus::from_code(body.status).ok_or(WireError::BadBody { what: "status of a move" })?;
        if body.reserved != [0; 7] {
            return Err(WireError::ReservedNotZero { offset: length(HEADER_LENGTH).saturating_add(1) });
        }
        check_entries(payload, HEADER_LENGTH.saturating_add(REPLY_BODY_LENGTH))?;
        Ok(Self { status, body, payload })
    }

    /// What it brings.
    pub fn entries(&self) -> impl Iterator<Item = Handed<'a>> + use<'a> {
        entries_of(self.payload)
    }

    /// Keys left to hand over; `None` while not every record was handed over once.
    #[must_use]
    pub fn keys_left(&self) -> Option<u64> {
        Some(self.body.keys_left.get()).filter(|keys| *keys != u64::MAX)
    }
}

/// A step as a frame.
#[must_use]
pub fn move_request(request: u64, body: &MoveBody, payload: &[u8]) -> Vec<u8> {
    service_frame(FrameKind::Move, Origin { request, ..Origin::default() }, &[body.as_bytes(), payload])
}

/// A reply to a step, being built.
#[derive(Debug)]
pub struct MoveChunk<B> {
    buffer: B,
    end: usize,
    entries: u32,
    /// Whether the lender had no room for a record.
    pub out_of_memory: bool,
}

impl<B: FrameBuffer> MoveChunk<B> {
    /// Bytes of the shortest one.
    pub const BYTES_MIN: usize = HEADER_LENGTH.saturating_add(REPLY_BODY_LENGTH);

    /// An empty one; `None` where the lender has no room for it.
    #[must_use]
    pub fn new(mut buffer: B) -> Option<Self> {
        let has_room = buffer.grow(Self::BYTES_MIN);
        has_room.then_some(Self { buffer, end: Self::BYTES_MIN, entries: 0, out_of_memory: false })
    }

    /// Adds a record or completion records; false, and nothing added, where there are enough in it, or no more room can
    /// be had.
    ///
    /// # Panics
    /// On a key or value that is longer than any record's: our own bug.
    pub fn push<'a>(&mut self, handed: impl Into<Handed<'a>>) -> bool {
        let (kind, carried) = match handed.into() {
            Handed::Record(carried) if carried.version == VERSION_ABSENT => (GONE, carried),
            Handed::Record(carried) if carried.deadline.is_some() => (EXPIRING, carried),
            Handed::Record(carried) => (RECORD, carried),
            Handed::Completions(value) => (COMPLETIONS, Carried { value, ..Carried::GONE }),
        };
        let Carried { key, version, value, deadline } = carried;
        let deadline = deadline.map(u64::to_le_bytes);
        let deadline: &[u8] = deadline.as_ref().map_or(&[], |bytes| bytes);
        let payload = ENTRY_LENGTH.saturating_add(key.len()).saturating_add(value.len()).saturating_add(deadline.len());
        let end = self.end.saturating_add(payload);
        let is_full = end > index(MOVE_CHUNK_BYTES) || self.entries == MOVE_ENTRIES_MAX;
        if is_full && self.entries > 0 {
            return false;
        }
        if !self.buffer.grow(end) {
            self.out_of_memory = self.entries == 0;
            return false;
        }
        let entry = Entry {
            version: version.into(),
            value_bytes: length(value.len()).into(),
            key_bytes: U16::new(u16::try_from(key.len()).expect("the store checked the key")),
            kind,
            reserved: 0,
        };
        let mut room = self.buffer.get_mut(self.end..end).expect("the buffer grew");
        for part in [entry.as_bytes(), key, value, deadline] {
            let (to, rest) = room.split_at_mut(part.len());
            to.copy_from_slice(part);
            room = rest;
        }
        (self.end, self.entries) = (end, self.entries.saturating_add(1));
        true
    }

    /// Whether nothing was added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// The frame, and its length.
    ///
    /// # Panics
    /// Never: there was room from the start.
    #[must_use]
    pub fn finish(mut self, request: u64, body: &MoveReplyBody) -> (B, u32) {
        let frame_bytes = length(self.end);
        let origin = Origin { request, ..Origin::default() };
        let header = Header::new(FrameKind::MoveReply, frame_bytes, 0, origin);
        let (head, rest) = self.buffer.split_at_mut(HEADER_LENGTH);
        header.write_to(head).expect("it is as long as a header");
        body.write_to_prefix(rest).expect("there was room from the start");
        (self.buffer, frame_bytes)
    }
}

fn truncated(needed: usize, rest: &[u8]) -> WireError {
    WireError::Truncated { needed: wide(needed), got: wide(rest.len()) }
}

fn expect_payload(payload: &[u8], bytes: usize) -> Result<(), WireError> {
    match payload.len() {
        got if got == bytes => Ok(()),
        got => Err(WireError::PayloadMismatch { used: wide(bytes), payload: wide(got) }),
    }
}

/// Checks entries that begin at an offset of their frame.
fn check_entries(payload: &[u8], payload_begin: usize) -> Result<(), WireError> {
    let payload_end = wide(payload_begin.saturating_add(payload.len()));
    let mut rest = payload;
    let mut number = 0_u32;
    while !rest.is_empty() {
        if number == MOVE_ENTRIES_MAX {
            return Err(WireError::TooManyOps { got: number.saturating_add(1), max: MOVE_ENTRIES_MAX });
        }
        let begin = payload_end.saturating_sub(wide(rest.len()));
        let outside = |bytes: usize| WireError::OutOfFrame {
            index: number,
            begin,
            end: begin.saturating_add(wide(bytes)),
            payload_begin: wide(payload_begin),
            payload_end,
        };
        let (entry, bytes) = Entry::ref_from_prefix(rest).map_err(|_| outside(ENTRY_LENGTH))?;
        entry.check(number)?;
        let used = index(entry.key_bytes.get().into()).saturating_add(index(entry.value_bytes.get()));
        let used = used.saturating_add(if entry.kind == EXPIRING { DEADLINE_LENGTH } else { 0 });
        let (payload, after) =
            bytes.split_at_checked(used).ok_or_else(|| outside(ENTRY_LENGTH.saturating_add(used)))?;
        if entry.kind == EXPIRING && deadline_of(payload).is_none_or(|deadline| deadline > DEADLINE_MAX) {
            return Err(WireError::BadBody { what: "deadline of a move" });
        }
        rest = after;
        number = number.saturating_add(1);
    }
    Ok(())
}

/// The deadline at the end of an entry that has one.
fn deadline_of(payload: &[u8]) -> Option<u64> {
    payload.last_chunk::<DEADLINE_LENGTH>().map(|bytes| u64::from_le_bytes(*bytes))
}

impl Entry {
    fn check(&self, number: u32) -> Result<(), WireError> {
        let (got, version) = (self.value_bytes.get(), self.version.get());
        let (max, versions) = match self.kind {
            RECORD | EXPIRING => (VALUE_BYTES_MAX, VERSION_ABSENT.saturating_add(1)..=MOVE_VERSION_MAX),
            GONE => (0, VERSION_ABSENT..=VERSION_ABSENT),
            COMPLETIONS if self.key_bytes.get() == 0 => (COMPLETIONS_BYTES_MAX, VERSION_ABSENT..=VERSION_ABSENT),
            _ => return Err(WireError::BadBody { what: "entry of a move" }),
        };
        if self.reserved != 0 || !versions.contains(&version) {
            return Err(WireError::BadBody { what: "entry of a move" });
        }
        if got > max {
            return Err(WireError::ValueTooLong { index: number, got, max });
        }
        Ok(())
    }
}

/// The entries of a payload that was checked.
fn entries_of<'a>(mut rest: &'a [u8]) -> impl Iterator<Item = Handed<'a>> + use<'a> {
    std::iter::from_fn(move || {
        let (entry, bytes) = Entry::ref_from_prefix(rest).ok()?;
        let (key, bytes) = bytes.split_at_checked(entry.key_bytes.get().into())?;
        let (value, mut after) = bytes.split_at_checked(index(entry.value_bytes.get()))?;
        let mut deadline = None;
        if entry.kind == EXPIRING {
            let (bytes, behind) = after.split_first_chunk::<DEADLINE_LENGTH>()?;
            (deadline, after) = (Some(u64::from_le_bytes(*bytes)), behind);
        }
        rest = after;
        Some(match entry.kind {
            COMPLETIONS => Handed::Completions(value),
            _ => Handed::Record(Carried { key, version: entry.version.get(), value, deadline }),
        })
    })
}
