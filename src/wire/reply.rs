//! Replies: the outcomes of one request.
//!
//! ```text
//!   | header 64 | descriptor 0 .. n-1, 8 bytes each | version u64 if flagged, value | ... |
//!
//!   descriptor   status u8 (top bit: a version comes first) | value_bytes u24 | offset u32
//! ```
//!
//! Descriptors stand in request order. Values stand in the order in which the shards came to them, so that each
//! is copied once, straight from its record; hence the offset, counted from the start of the frame.
#![forbid(unsafe_code)]

use super::buffer::FrameBuffer;
use super::error::WireError;
use super::header::{FrameKind, HEADER_LENGTH, Header, Origin};
use super::number::{from_u24, index, length, to_u24, wide};
use super::request::descriptors;
use crate::limits;
use crate::op::{Outcome, Outcomes, Version};
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

const DESCRIPTOR_BYTES: usize = size_of::<ReplyDescriptor>();

/// The most bytes an outcome that is no value takes behind its descriptor: a counter and a version.
const FIXED_BYTES_MAX: usize = 16;

const VERSION_BYTES: usize = size_of::<Version>();

const _: () = {
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
            _ => return None,
        })
    }

    #[expect(clippy::as_conversions, reason = "the discriminant is the code")]
    const fn code(self) -> u8 {
        self as u8
    }
}

/// A validated reply. Borrows the frame.
#[derive(Debug, Clone, Copy)]
pub struct ReplyView<'a> {
    header: &'a Header,
    descriptors: &'a [ReplyDescriptor],
    frame: &'a [u8],
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
        let mut cover = Cover::default();
        for (op_index, descriptor) in (0..op_count).zip(descriptors) {
            let bytes = match descriptor.plain_value_bytes() {
                Some(bytes) if bytes <= limits::VALUE_BYTES_MAX => u64::from(bytes),
                _ => descriptor.check(op_index)?,
            };
            let begin = u64::from(descriptor.offset.get());
            let end = begin.saturating_add(bytes);
            if begin < payload_begin || end > frame_end {
                let (index, payload_end) = (op_index, frame_end);
                return Err(WireError::OutOfFrame { index, begin, end, payload_begin, payload_end });
            }
            used = used.saturating_add(bytes);
            cover.add(begin, end);
        }
        if used != payload_bytes {
            return Err(WireError::PayloadMismatch { used, payload: payload_bytes });
        }
        if !cover.is_exactly(payload_begin, frame_end) {
            return Err(first_overlap(descriptors));
        }
        Ok(Self { header, descriptors, frame })
    }

    /// A view of a frame that [`ReplyView::parse`] has already taken, without validating it again.
    ///
    /// # Panics
    /// On bytes that are no reply; outcomes of a frame that was never validated may panic too.
    #[must_use]
    #[inline]
    pub fn parsed(frame: &'a [u8]) -> Self {
        let (header, rest) = Header::ref_from_prefix(frame).expect("a validated frame has a header");
        let (descriptors, _) =
            descriptors::<ReplyDescriptor>(rest, header.op_count.get()).expect("a validated frame has its descriptors");
        Self { header, descriptors, frame }
    }

    /// The frame's header.
    #[must_use]
    pub fn header(&self) -> &'a Header {
        self.header
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
        self.outcome_of(&self.descriptors[index(op_index)])
    }

    /// The outcomes in request order.
    #[inline]
    pub fn outcomes(&self) -> ReplyOutcomes<'a> {
        ReplyOutcomes { descriptors: self.descriptors.iter(), view: *self }
    }

    /// Whether any get was left out because the reply was full.
    #[must_use]
    pub fn has_reply_full(&self) -> bool {
        self.descriptors.iter().any(|descriptor| descriptor.status == Status::ReplyFull.code())
    }

    #[inline(always)]
    #[expect(clippy::indexing_slicing, reason = "parse validated offset and length")]
    fn outcome_of(&self, descriptor: &ReplyDescriptor) -> Outcome<'a> {
        let bytes = &self.frame[index(descriptor.offset.get())..];
        if let Some(value_bytes) = descriptor.plain_value_bytes() {
            return Outcome::Value { value: &bytes[..index(value_bytes)], version: None };
        }
        any_outcome(descriptor, bytes)
    }
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
    let value = &bytes[..index(from_u24(descriptor.value_bytes))];
    let status = Status::from_code(descriptor.status & !ReplyDescriptor::VERSION);
    match status.expect("parse validated the status") {
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
        self.descriptors.next().map(|descriptor| self.view.outcome_of(descriptor))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.descriptors.size_hint()
    }
}

impl ReplyDescriptor {
    /// The length of a value without a version: what most outcomes are, and what is quickest to take apart.
    #[inline(always)]
    fn plain_value_bytes(&self) -> Option<u32> {
        (self.status == Status::Value.code()).then(|| from_u24(self.value_bytes))
    }

    /// Bytes behind the descriptor, once status and lengths are known to go together.
    #[inline(always)]
    fn check(&self, op_index: u32) -> Result<u64, WireError> {
        let value_bytes = from_u24(self.value_bytes);
        let versioned = self.status & Self::VERSION != 0;
        let bad_status = WireError::BadStatus { index: op_index, got: self.status };
        let too_long = |max| WireError::ValueTooLong { index: op_index, got: value_bytes, max };
        match Status::from_code(self.status & !Self::VERSION).ok_or(bad_status)? {
            Status::Value if value_bytes > limits::VALUE_BYTES_MAX => return Err(too_long(limits::VALUE_BYTES_MAX)),
            Status::Value => {}
            Status::Counter if value_bytes == 8 => {}
            Status::Counter => return Err(WireError::BadCounter { index: op_index, got: value_bytes }),
            _ if value_bytes > 0 => return Err(too_long(0)),
            Status::VersionMismatch if !versioned => return Err(bad_status),
            Status::Done | Status::VersionMismatch => {}
            _ if versioned => return Err(bad_status),
            _ => {}
        }
        let version_bytes = if versioned { u64::from(length(VERSION_BYTES)) } else { 0 };
        Ok(u64::from(value_bytes).saturating_add(version_bytes))
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

/// Builds a reply in a lent buffer; values are copied straight from records (copy B).
///
/// The buffer always has room for what is not a value, so that only gets can be left out, and it grows as
/// values need it, up to the frame limit.
#[derive(Debug)]
pub struct ReplyBuilder<B> {
    buffer: B,
    op_count: u32,
    ops_set: u32,
    /// Where the next version or value goes.
    end: usize,
    /// Bytes of header, descriptors and all that is not a value, at most, and of the values so far.
    promised: usize,
    /// What may be promised before the buffer has to grow: its length, but no more than the frame limit.
    room: usize,
    frame_bytes_max: usize,
}

impl<B: FrameBuffer> ReplyBuilder<B> {
    /// A reply to `op_count` operations. `None` where the buffer cannot hold even the descriptors.
    ///
    /// # Panics
    /// On a frame limit below [`limits::FRAME_BYTES_MIN`] or more operations than a frame holds.
    #[must_use]
    pub fn new(mut buffer: B, op_count: u32, frame_bytes_max: u32) -> Option<Self> {
        assert!(frame_bytes_max >= limits::FRAME_BYTES_MIN, "frame limit {frame_bytes_max}");
        assert!(op_count <= limits::FRAME_OPS_MAX, "{op_count} operations");
        let frame_bytes_max = index(frame_bytes_max.min(limits::FRAME_BYTES_MAX));
        let end = descriptor_at(op_count);
        let promised = end.checked_add(index(op_count).checked_mul(FIXED_BYTES_MAX)?)?;
        if buffer.len() < promised && !buffer.grow(promised) {
            return None;
        }
        // A stale descriptor in a lent buffer would hide that an operation was forgotten, or set twice.
        if cfg!(debug_assertions) {
            buffer.get_mut(HEADER_LENGTH..end).expect("the buffer holds the descriptors").fill(0);
        }
        let room = buffer.len().min(frame_bytes_max);
        Some(Self { buffer, op_count, ops_set: 0, end, promised, room, frame_bytes_max })
    }

    /// The finished frame: the buffer and how many of its bytes are the frame.
    ///
    /// # Panics
    /// Where an operation has no outcome: a bug of whoever executed the batch.
    #[must_use]
    pub fn finish(mut self, origin: Origin) -> (B, u32) {
        assert_eq!(self.ops_set, self.op_count, "each operation has one outcome");
        let frame_bytes = length(self.end);
        let header = Header::new(FrameKind::Reply, frame_bytes, self.op_count, origin);
        header.write_to_prefix(&mut self.buffer).expect("the buffer holds at least the header");
        (self.buffer, frame_bytes)
    }

    /// Makes room for a value; false where the frame limit or the lender forbids it.
    #[inline(always)]
    fn promise(&mut self, bytes: usize) -> bool {
        let promised = self.promised.saturating_add(bytes);
        if promised > self.room && !self.grow(promised) {
            return false;
        }
        self.promised = promised;
        true
    }

    #[cold]
    fn grow(&mut self, promised: usize) -> bool {
        if promised > self.frame_bytes_max {
            return false;
        }
        let doubled = self.room.saturating_mul(2).clamp(promised, self.frame_bytes_max);
        let grown = self.buffer.grow(doubled) || self.buffer.grow(promised);
        self.room = self.buffer.len().min(self.frame_bytes_max);
        grown
    }

    #[inline(always)]
    #[expect(clippy::arithmetic_side_effects, reason = "both ends lie in the buffer: room was promised")]
    fn write(&mut self, op_index: u32, status: Status, version: Option<Version>, value: &[u8]) {
        let mark = if version.is_some() { ReplyDescriptor::VERSION } else { 0 };
        let descriptor = ReplyDescriptor {
            status: status.code() | mark,
            value_bytes: to_u24(length(value.len())),
            offset: length(self.end).into(),
        };
        debug_assert!(op_index < self.op_count, "operation {op_index} of {}", self.op_count);
        let at = descriptor_at(op_index);
        debug_assert!(self.buffer.get(at) == Some(&0), "operation {op_index} has its outcome already");
        let written = self.buffer.get_mut(at..).and_then(|bytes| descriptor.write_to_prefix(bytes).ok());
        debug_assert!(written.is_some(), "descriptors are reserved");
        if let Some(version) = version {
            let bytes = self.buffer.get_mut(self.end..self.end + VERSION_BYTES).expect("room was promised");
            bytes.copy_from_slice(&version.to_le_bytes());
            self.end += VERSION_BYTES;
        }
        let bytes = self.buffer.get_mut(self.end..self.end + value.len()).expect("room was promised");
        bytes.copy_from_slice(value);
        self.end += value.len();
        self.ops_set = self.ops_set.wrapping_add(1);
    }
}

impl<B: FrameBuffer> Outcomes for ReplyBuilder<B> {
    #[inline(always)]
    fn set(&mut self, op_index: u32, outcome: Outcome<'_>) {
        if let Outcome::Value { value, version: None } = outcome
            && self.write_plain_value(op_index, value)
        {
            return;
        }
        self.set_any(op_index, outcome);
    }
}

impl<B: FrameBuffer> ReplyBuilder<B> {
    /// Writes a value without a version if there is room as it is: [`ReplyBuilder::write`] with less to decide.
    #[inline(always)]
    #[expect(clippy::arithmetic_side_effects, reason = "room bounds both sums, and the frame limit bounds room")]
    fn write_plain_value(&mut self, op_index: u32, value: &[u8]) -> bool {
        let (begin, at) = (self.end, descriptor_at(op_index));
        let promised = self.promised.saturating_add(value.len());
        if promised > self.room {
            return false;
        }
        debug_assert!(self.buffer.get(at) == Some(&0), "operation {op_index} has its outcome already");
        let descriptor = u64::from(Status::Value.code()) | wide(value.len()) << 8 | wide(begin) << 32;
        let Some((head, tail)) = self.buffer.split_at_mut_checked(begin) else { return false };
        let slots = (head.get_mut(at..at + DESCRIPTOR_BYTES), tail.get_mut(..value.len()));
        let (Some(descriptor_slot), Some(value_slot)) = slots else { return false };
        descriptor_slot.copy_from_slice(&descriptor.to_le_bytes());
        value_slot.copy_from_slice(value);
        self.end = begin + value.len();
        self.promised = promised;
        self.ops_set = self.ops_set.wrapping_add(1);
        true
    }

    #[inline(never)]
    fn set_any(&mut self, op_index: u32, outcome: Outcome<'_>) {
        match outcome {
            Outcome::Value { value, version } => {
                if self.promise(value.len().saturating_add(if version.is_some() { VERSION_BYTES } else { 0 })) {
                    self.write(op_index, Status::Value, version, value);
                } else {
                    self.write(op_index, Status::ReplyFull, None, &[]);
                }
            }
            Outcome::Done { version } => self.write(op_index, Status::Done, version, &[]),
            Outcome::Counter { value, version } => {
                self.write(op_index, Status::Counter, version, &value.to_le_bytes());
            }
            Outcome::NotFound => self.write(op_index, Status::NotFound, None, &[]),
            Outcome::VersionMismatch { current } => {
                self.write(op_index, Status::VersionMismatch, Some(current), &[]);
            }
            Outcome::NotANumber => self.write(op_index, Status::NotANumber, None, &[]),
            Outcome::CounterOverflow => self.write(op_index, Status::CounterOverflow, None, &[]),
            Outcome::OutOfMemory => self.write(op_index, Status::OutOfMemory, None, &[]),
            Outcome::ReplyFull => self.write(op_index, Status::ReplyFull, None, &[]),
            Outcome::Unknown | Outcome::NotSent => unreachable!("a node knows the outcome of what it executed"),
        }
    }
}

/// Where descriptor `op_index` begins, and so where the payload begins behind that many.
#[inline(always)]
#[expect(clippy::arithmetic_side_effects, reason = "at most 64 + 8 x 65,536")]
fn descriptor_at(op_index: u32) -> usize {
    HEADER_LENGTH + index(op_index) * DESCRIPTOR_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_builder_writes_the_view_reads_in_request_order() {
        let outcomes = [
            Outcome::Value { value: b"hello", version: None },
            Outcome::Value { value: b"", version: Some(3) },
            Outcome::Done { version: None },
            Outcome::Done { version: Some(u64::MAX) },
            Outcome::Counter { value: -1, version: Some(4) },
            Outcome::NotFound,
            Outcome::VersionMismatch { current: 0 },
            Outcome::NotANumber,
            Outcome::CounterOverflow,
            Outcome::OutOfMemory,
            Outcome::ReplyFull,
        ];
        let mut builder = ReplyBuilder::new(Vec::new(), 11, limits::FRAME_BYTES_MIN).expect("room");
        for (op_index, outcome) in (0..11).zip(outcomes).rev() {
            builder.set(op_index, outcome);
        }
        let (frame, bytes) = builder.finish(Origin { request: 5, ..Origin::default() });
        let frame = frame.get(..index(bytes)).expect("whole");
        let view = ReplyView::parse(frame).expect("valid");
        assert_eq!(view.outcomes().collect::<Vec<_>>(), outcomes);
        assert_eq!(ReplyView::parsed(frame).outcome(4), outcomes[4]);
        assert!(view.has_reply_full());
    }

    #[test]
    fn a_buffer_longer_than_the_frame_limit_does_not_raise_it() {
        let buffer = vec![0; index(limits::FRAME_BYTES_MIN).wrapping_mul(2)];
        let value = vec![7; index(limits::VALUE_BYTES_MAX)];
        let mut builder = ReplyBuilder::new(buffer, 2, limits::FRAME_BYTES_MIN).expect("room");
        builder.set(0, Outcome::Value { value: &value, version: None });
        builder.set(1, Outcome::Value { value: &value, version: None });
        let (_, bytes) = builder.finish(Origin::default());
        assert!(bytes <= limits::FRAME_BYTES_MIN, "{bytes} bytes");
    }

    #[test]
    fn values_past_the_frame_limit_become_reply_full_and_the_rest_still_fits() {
        let value = vec![7; index(limits::VALUE_BYTES_MAX)];
        let mut builder = ReplyBuilder::new(Vec::new(), 65_536, limits::FRAME_BYTES_MIN).expect("room");
        for op_index in 0..65_535 {
            builder.set(op_index, Outcome::Value { value: &value, version: Some(1) });
        }
        builder.set(65_535, Outcome::Counter { value: 1, version: Some(1) });
        let (frame, bytes) = builder.finish(Origin::default());
        assert!(bytes <= limits::FRAME_BYTES_MIN);
        let view = ReplyView::parse(frame.get(..index(bytes)).expect("whole")).expect("valid");
        assert_eq!(view.outcome(0), Outcome::Value { value: &value, version: Some(1) });
        assert_eq!(view.outcome(1), Outcome::ReplyFull);
        assert_eq!(view.outcome(65_535), Outcome::Counter { value: 1, version: Some(1) });
    }
}
