//! Replies: the outcomes of one request.
//!
//! ```text
//!   | header 64 | descriptor 0 .. n-1, 8 bytes each | version u64 if flagged, value | ... |
//!
//!   descriptor   status u8 (top bit: a version comes first) | value_bytes u24 | offset u32
//! ```
//!
//! Descriptors stand in request order. Values stand in the order in which the shards came to them, so that each
//! is copied once, from its record or from another one's value that it repeats; hence the offset, counted from the
//! start of the frame.
#![forbid(unsafe_code)]

use super::edit::{BytesNow, EDITED_BYTES, EditedBody};
use super::error::WireError;
use super::header::{FrameKind, HEADER_LENGTH, Header};
use super::number::{from_u24, index, length, wide};
use super::request::descriptors;
use crate::limits;
use crate::op::{Edited, Outcome, VERSION_ABSENT, Version};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// One outcome's descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct ReplyDescriptor {
    /// A [`Status`], with [`ReplyDescriptor::VERSION`] where a version stands before the value.
    pub status: u8,
    /// Length of the value: 24 bits hold 8 MiB.
    pub value_bytes: [u8; 3],
    /// Where version and value begin, from the start of the frame.
    pub offset: U32,
}

pub(super) const DESCRIPTOR_BYTES: usize = size_of::<ReplyDescriptor>();

/// The most bytes an outcome that is no value takes behind its descriptor: a counter, or an edit's, and a version.
pub(super) const FIXED_BYTES_MAX: usize = 16;

pub(super) const VERSION_BYTES: usize = size_of::<Version>();

const _: () = {
    assert!(EDITED_BYTES + VERSION_BYTES == FIXED_BYTES_MAX);
    assert!(DESCRIPTOR_BYTES == 8);
    assert!(align_of::<ReplyDescriptor>() == 1);
    assert!(std::mem::offset_of!(ReplyDescriptor, status) == 0);
    assert!(std::mem::offset_of!(ReplyDescriptor, value_bytes) == 1);
    assert!(std::mem::offset_of!(ReplyDescriptor, offset) == 4);
    // limits.rs asserts from these that a reply to the largest batch still has room for one value of maximal
    // size, so that every retry makes progress.
    assert!(DESCRIPTOR_BYTES + FIXED_BYTES_MAX == 24 && HEADER_LENGTH + VERSION_BYTES == 72);
};

impl ReplyDescriptor {
    /// A version stands before the value.
    pub const VERSION: u8 = 0x80;
}

/// Statuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// A get's value.
    Value = 1,
    /// A change took effect.
    Done = 2,
    /// A counter after an add: 8 bytes, signed.
    Counter = 3,
    /// No record.
    NotFound = 4,
    /// Another version; the one that is there follows.
    VersionMismatch = 5,
    /// Not a decimal number.
    NotANumber = 6,
    /// The counter would overflow.
    CounterOverflow = 7,
    /// The memory cap is reached.
    OutOfMemory = 8,
    /// The value does not fit this reply; the get was not executed.
    ReplyFull = 9,
    /// The node does not own the key's slot; nothing was executed.
    WrongNode = 10,
    /// The operation was sent before, and the node no longer knows what became of it; not executed now.
    Unknown = 11,
    /// What an edit found and left behind: 8 bytes; the length is that of the value that is there now.
    Edited = 12,
    /// As [`Status::Edited`], and the value that was there before; the length is that of this one.
    EditedBefore = 13,
    /// An append would make the value too long.
    ValueTooLong = 14,
}

impl Status {
    fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::Value,
            2 => Self::Done,
            3 => Self::Counter,
            4 => Self::NotFound,
            5 => Self::VersionMismatch,
            6 => Self::NotANumber,
            7 => Self::CounterOverflow,
            8 => Self::OutOfMemory,
            9 => Self::ReplyFull,
            10 => Self::WrongNode,
            11 => Self::Unknown,
            12 => Self::Edited,
            13 => Self::EditedBefore,
            14 => Self::ValueTooLong,
            _ => return None,
        })
    }

    #[expect(clippy::as_conversions, reason = "the discriminant is the code")]
    pub(super) const fn code(self) -> u8 {
        self as u8
    }
}

/// A validated reply. Borrows the frame.
#[derive(Debug, Clone, Copy)]
pub struct ReplyView<'a> {
    header: &'a Header,
    descriptors: &'a [ReplyDescriptor],
    frame: &'a [u8],
    /// False where every operation was executed now; true where one was left out, or where nobody looked.
    may_leave_out: bool,
}

impl<'a> ReplyView<'a> {
    /// Validates a whole frame: afterwards every outcome is known to lie inside it.
    ///
    /// # Errors
    /// The first thing wrong with it.
    pub fn parse(frame: &'a [u8]) -> Result<Self, WireError> {
        let (header, rest) = Header::split_kind(frame, FrameKind::Reply)?;
        let op_count = header.op_count.get();
        let (descriptors, payload) = descriptors::<ReplyDescriptor>(rest, op_count)?;
        let frame_end = u64::from(length(frame.len()));
        let payload_bytes = u64::from(length(payload.len()));
        let payload_begin = frame_end.saturating_sub(payload_bytes);
        let mut used = 0_u64;
        let (mut cover, mut rare) = (Cover::default(), Rare::default());
        for (op_index, descriptor) in (0..op_count).zip(descriptors) {
            let bytes = match descriptor.plain_value_bytes() {
                Some(bytes) if bytes <= limits::VALUE_BYTES_MAX => u64::from(bytes),
                _ => rare.check(*descriptor, op_index)?,
            };
            let begin = u64::from(descriptor.offset.get());
            let end = begin.wrapping_add(bytes);
            debug_assert!(bytes <= u64::from(limits::VALUE_BYTES_MAX).saturating_add(20), "lengths were checked");
            if begin < payload_begin || end > frame_end {
                let (index, payload_end) = (op_index, frame_end);
                return Err(WireError::OutOfFrame { index, begin, end, payload_begin, payload_end });
            }
            // 65,536 times what a descriptor may say is far below 2^64.
            used = used.wrapping_add(bytes);
            cover.add(begin, end);
        }
        if used != payload_bytes {
            return Err(WireError::PayloadMismatch { used, payload: payload_bytes });
        }
        if !cover.is_exactly(payload_begin, frame_end) {
            return Err(first_overlap(descriptors));
        }
        if rare.has_edited {
            check_edited(descriptors, frame)?;
        }
        Ok(Self { header, descriptors, frame, may_leave_out: rare.may_leave_out })
    }

    /// A view of a frame that [`ReplyView::parse`] has already taken, without validating it again.
    ///
    /// # Panics
    /// On bytes that are no reply; outcomes of a frame that was never validated may panic too.
    #[must_use]
    #[inline]
    pub fn parsed(frame: &'a [u8]) -> Self {
        let (header, rest) = Header::ref_from_prefix(frame).expect("a validated frame has a header");
        debug_assert_eq!(header.kind, FrameKind::Reply.code(), "a validated reply is one");
        debug_assert_eq!(index(header.frame_bytes.get()), frame.len(), "a validated frame is whole");
        let (descriptors, _) =
            descriptors::<ReplyDescriptor>(rest, header.op_count.get()).expect("a validated frame has its descriptors");
        Self { header, descriptors, frame, may_leave_out: true }
    }

    /// The frame's header.
    #[must_use]
    pub fn header(&self) -> &'a Header {
        self.header
    }

    pub(super) fn descriptors(&self) -> &'a [ReplyDescriptor] {
        self.descriptors
    }

    /// Number of outcomes.
    #[must_use]
    pub fn op_count(&self) -> u32 {
        length(self.descriptors.len())
    }

    /// The outcome of the operation at `op_index`.
    ///
    /// # Panics
    /// Past the last operation.
    #[must_use]
    #[inline]
    #[expect(clippy::indexing_slicing, reason = "documented to panic past the last operation")]
    pub fn outcome(&self, op_index: u32) -> Outcome<'a> {
        outcome_of(self.frame, &self.descriptors[index(op_index)])
    }

    /// The outcomes in request order.
    #[inline]
    pub fn outcomes(&self) -> ReplyOutcomes<'a> {
        ReplyOutcomes { descriptors: self.descriptors.iter(), view: *self }
    }

    /// Whether any get was left out because the reply was full.
    #[must_use]
    pub fn has_reply_full(&self) -> bool {
        self.has(Status::ReplyFull)
    }

    /// Whether any operation was on a slot that the node does not own.
    #[must_use]
    pub fn has_wrong_node(&self) -> bool {
        self.has(Status::WrongNode)
    }

    /// Whether the node no longer knows what became of any operation.
    #[must_use]
    pub fn has_unknown(&self) -> bool {
        self.has(Status::Unknown)
    }

    fn has(&self, status: Status) -> bool {
        self.may_leave_out && self.descriptors.iter().any(|descriptor| descriptor.status == status.code())
    }
}

/// What was met among outcomes that are no plain values.
#[derive(Default)]
struct Rare {
    may_leave_out: bool,
    has_edited: bool,
}

impl Rare {
    /// Bytes behind such a descriptor. Apart, so that the loop over plain values has its registers for itself.
    #[inline(never)]
    fn check(&mut self, descriptor: ReplyDescriptor, op_index: u32) -> Result<u64, WireError> {
        self.may_leave_out |= descriptor.leaves_out();
        self.has_edited |= descriptor.is_edited();
        descriptor.check(op_index)
    }
}

/// Checks the outcomes of edits, which are known to lie in the frame.
#[cold]
fn check_edited(descriptors: &[ReplyDescriptor], frame: &[u8]) -> Result<(), WireError> {
    let mut edited = (0..).zip(descriptors).filter(|(_, descriptor)| descriptor.is_edited());
    match edited.find(|(_, descriptor)| !descriptor.is_valid_edited(frame)) {
        Some((index, _)) => Err(WireError::BadEdit { index }),
        None => Ok(()),
    }
}

/// The outcome of a descriptor of `frame` that was validated, or written by the builder.
#[inline(always)]
#[expect(clippy::indexing_slicing, reason = "parse validated offset and length")]
pub(super) fn outcome_of<'a>(frame: &'a [u8], descriptor: &ReplyDescriptor) -> Outcome<'a> {
    let bytes = &frame[index(descriptor.offset.get())..];
    if let Some(value_bytes) = descriptor.plain_value_bytes() {
        return Outcome::Value { value: &bytes[..index(value_bytes)], version: None };
    }
    any_outcome(descriptor, bytes)
}

/// The outcome of a validated descriptor whose bytes begin at the front of `bytes`.
#[inline(never)]
#[expect(clippy::indexing_slicing, reason = "parse validated offset and length")]
fn any_outcome<'a>(descriptor: &ReplyDescriptor, mut bytes: &'a [u8]) -> Outcome<'a> {
    let mut version = None;
    if descriptor.status & ReplyDescriptor::VERSION != 0 {
        let (number, rest) = U64::ref_from_prefix(bytes).expect("parse validated the version");
        version = Some(number.get());
        bytes = rest;
    }
    let value_bytes = from_u24(descriptor.value_bytes);
    let status = Status::from_code(descriptor.status & !ReplyDescriptor::VERSION);
    let status = status.expect("parse validated the status");
    if let Status::Edited | Status::EditedBefore = status {
        let (body, behind) = EditedBody::ref_from_prefix(bytes).expect("parse validated the length");
        if status == Status::Edited {
            return Outcome::Edited(body.edited(value_bytes, version));
        }
        let (now, before) = BytesNow::ref_from_prefix(behind).expect("parse validated the length");
        let value = Some(&before[..index(value_bytes)]);
        return Outcome::Edited(Edited { value, ..body.edited(now.get(), version) });
    }
    let value = &bytes[..index(value_bytes)];
    match status {
        Status::Value => Outcome::Value { value, version },
        Status::Done => Outcome::Done { version },
        Status::Counter => {
            let counter = value.first_chunk().expect("parse validated the counter's length");
            Outcome::Counter { value: i64::from_le_bytes(*counter), version }
        }
        Status::NotFound => Outcome::NotFound,
        Status::VersionMismatch => {
            Outcome::VersionMismatch { current: version.expect("parse validated that the version is there") }
        }
        Status::NotANumber => Outcome::NotANumber,
        Status::CounterOverflow => Outcome::CounterOverflow,
        Status::OutOfMemory => Outcome::OutOfMemory,
        Status::ReplyFull => Outcome::ReplyFull,
        Status::WrongNode => Outcome::WrongNode,
        Status::Unknown => Outcome::Unknown,
        Status::Edited | Status::EditedBefore => unreachable!("they are told above"),
        Status::ValueTooLong => Outcome::ValueTooLong,
    }
}

/// The outcomes of a reply, in request order.
#[derive(Debug, Clone)]
pub struct ReplyOutcomes<'a> {
    descriptors: std::slice::Iter<'a, ReplyDescriptor>,
    view: ReplyView<'a>,
}

impl<'a> Iterator for ReplyOutcomes<'a> {
    type Item = Outcome<'a>;

    #[inline(always)]
    fn next(&mut self) -> Option<Outcome<'a>> {
        self.descriptors.next().map(|descriptor| outcome_of(self.view.frame, descriptor))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.descriptors.size_hint()
    }
}

impl ReplyDescriptor {
    /// The length of a value without a version: what most outcomes are, and what is quickest to take apart.
    #[inline(always)]
    pub(super) fn plain_value_bytes(&self) -> Option<u32> {
        (self.status == Status::Value.code()).then(|| from_u24(self.value_bytes))
    }

    /// Whether the operation was not executed now.
    #[inline(always)]
    fn leaves_out(&self) -> bool {
        (Status::ReplyFull.code()..=Status::Unknown.code()).contains(&self.status)
    }

    /// Bytes behind the descriptor, once status and lengths are known to go together.
    #[inline(always)]
    pub(super) fn check(&self, op_index: u32) -> Result<u64, WireError> {
        let value_bytes = from_u24(self.value_bytes);
        let versioned = self.status & Self::VERSION != 0;
        let version_bytes = if versioned { wide(VERSION_BYTES) } else { 0 };
        let bad_status = WireError::BadStatus { index: op_index, got: self.status };
        let too_long = |max| WireError::ValueTooLong { index: op_index, got: value_bytes, max };
        match Status::from_code(self.status & !Self::VERSION).ok_or(bad_status)? {
            Status::Value | Status::Edited | Status::EditedBefore if value_bytes > limits::VALUE_BYTES_MAX => {
                return Err(too_long(limits::VALUE_BYTES_MAX));
            }
            Status::Value => {}
            Status::Edited => return Ok(wide(EDITED_BYTES).saturating_add(version_bytes)),
            Status::EditedBefore => {
                let fixed =
                    wide(EDITED_BYTES).saturating_add(wide(size_of::<BytesNow>())).saturating_add(version_bytes);
                return Ok(u64::from(value_bytes).saturating_add(fixed));
            }
            Status::Counter if value_bytes == 8 => {}
            Status::Counter => return Err(WireError::BadCounter { index: op_index, got: value_bytes }),
            _ if value_bytes > 0 => return Err(too_long(0)),
            Status::VersionMismatch if !versioned => return Err(bad_status),
            Status::Done | Status::VersionMismatch => {}
            _ if versioned => return Err(bad_status),
            _ => {}
        }
        Ok(u64::from(value_bytes).saturating_add(version_bytes))
    }

    /// Whether this is the outcome of an edit.
    #[inline(always)]
    fn is_edited(&self) -> bool {
        [Status::Edited.code(), Status::EditedBefore.code()].contains(&(self.status & !Self::VERSION))
    }

    /// Whether the outcome of an edit, which lies in the frame, says of itself what it can say.
    fn is_valid_edited(&self, frame: &[u8]) -> bool {
        let bytes = frame.get(index(self.offset.get())..).unwrap_or_default();
        let (version, bytes) = match U64::ref_from_prefix(bytes) {
            Ok((version, behind)) if self.status & Self::VERSION != 0 => (version.get(), behind),
            _ => (VERSION_ABSENT.wrapping_add(1), bytes),
        };
        let Ok((body, behind)) = EditedBody::ref_from_prefix(bytes) else { return false };
        let has_value = self.status & !Self::VERSION == Status::EditedBefore.code();
        let now = BytesNow::ref_from_prefix(behind).map_or(0, |(now, _)| now.get());
        version != VERSION_ABSENT && body.is_valid() && (!has_value || now <= limits::VALUE_BYTES_MAX)
    }
}

/// Tells in one pass, without memory, whether stretches of bytes cover a payload exactly once.
///
/// Stretches are arrows from begin to end. If begins and the payload's end are the same multiset as ends and the
/// payload's begin, every offset that is entered is left as often, and since arrows only go up, they form one
/// chain from begin to end: no gap and no overlap. The multisets are compared by a sum of scattered offsets, so
/// a mistake is seen but for one chance in 2^64; who forges one gains nothing, as each value lies in the frame.
#[derive(Default)]
struct Cover {
    sum: u64,
}

impl Cover {
    #[inline(always)]
    fn add(&mut self, begin: u64, end: u64) {
        self.sum = self.sum.wrapping_add(Self::scatter(end)).wrapping_sub(Self::scatter(begin));
    }

    fn is_exactly(&self, begin: u64, end: u64) -> bool {
        self.sum == Self::scatter(end).wrapping_sub(Self::scatter(begin))
    }

    /// Both halves of a product, folded: a sum of these says nothing about a sum of the offsets.
    #[inline(always)]
    fn scatter(offset: u64) -> u64 {
        let (low, high) = (offset ^ 0x9E37_79B9_7F4A_7C15).carrying_mul(0xD6E8_FEB8_6659_FD93, 0);
        low ^ high
    }
}

/// Names the overlap in descriptors whose bytes sum up to the payload without covering it.
#[cold]
fn first_overlap(descriptors: &[ReplyDescriptor]) -> WireError {
    let mut stretches = Vec::with_capacity(descriptors.len());
    for (index, descriptor) in (0..).zip(descriptors) {
        let (begin, bytes) = (u64::from(descriptor.offset.get()), descriptor.check(index).unwrap_or(0));
        if bytes > 0 {
            stretches.push((begin, begin.saturating_add(bytes), index));
        }
    }
    stretches.sort_unstable();
    let pairs = stretches.iter().zip(stretches.iter().skip(1));
    let overlap =
        pairs.map(|((_, end, _), (begin, _, index))| (*index, *begin, *end)).find(|(_, begin, end)| begin < end);
    let (index, begin, end) = overlap.expect("stretches that fill a payload but leave a gap overlap");
    WireError::Overlap { index, begin, end }
}
