//! Building a reply in a lent buffer: values come straight from records, or from elsewhere in the reply (copy B).
//!
//! ```text
//!   | header 64 | descriptors, in request order | values, as they come --> end | promised to what is to come | room |
//! ```
#![forbid(unsafe_code)]

use super::buffer::FrameBuffer;
use super::edit::{BytesNow, EditedBody};
use super::header::{FrameKind, HEADER_LENGTH, Header, Origin};
use super::number::{index, length, to_u24, wide};
use super::reply::{DESCRIPTOR_BYTES, FIXED_BYTES_MAX, ReplyDescriptor, ReplyView, Status, VERSION_BYTES, outcome_of};
use crate::limits;
use crate::op::{Edited, Outcome, Outcomes, ReadBack, Time, Version};
use std::num::NonZeroU64;
use zerocopy::{FromBytes, IntoBytes};

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
    /// The node's time.
    time: Time,
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
        Some(Self { buffer, op_count, ops_set: 0, end, promised, room, frame_bytes_max, time: 0 })
    }

    /// The same, telling at which time the request was executed.
    #[must_use]
    pub fn at(self, time: Time) -> Self {
        Self { time, ..self }
    }

    /// The finished frame: the buffer and how many of its bytes are the frame.
    ///
    /// # Panics
    /// Where an operation has no outcome: a bug of whoever executed the batch.
    #[must_use]
    pub fn finish(mut self, origin: Origin) -> (B, u32) {
        assert_eq!(self.ops_set, self.op_count, "each operation has one outcome");
        let frame_bytes = length(self.end);
        let mut header = Header::new(FrameKind::Reply, frame_bytes, self.op_count, origin);
        header.time = self.time.into();
        header.write_to_prefix(&mut self.buffer).expect("the buffer holds at least the header");
        assert!(self.end <= self.promised && self.promised <= self.buffer.len(), "no more was written than promised");
        let frame = self.buffer.get(..self.end).expect("what was written lies in the buffer");
        debug_assert!(ReplyView::parse(frame).is_ok(), "the view reads what the builder writes");
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
        assert!(!grown || self.room >= promised, "the buffer grew to {} bytes instead of {promised}", self.room);
        grown
    }

    #[inline(always)]
    fn write(&mut self, op_index: u32, status: Status, version: Option<Version>, value: &[u8]) {
        self.write_parts(op_index, status, version, length(value.len()), [value]);
    }

    #[inline(never)]
    fn write_edited(&mut self, op_index: u32, edited: &Edited<'_>) {
        let (body, version) = (EditedBody::new(edited), edited.version.map(NonZeroU64::get));
        let Some(value) = edited.value else {
            return self.write_parts(op_index, Status::Edited, version, edited.value_bytes, [body.as_bytes()]);
        };
        if !self.promise(size_of::<BytesNow>().saturating_add(value.len())) {
            // Whoever executes an edit asks for the room before; who tells of it again may find none.
            return self.write(op_index, Status::Unknown, None, &[]);
        }
        let (now, value_bytes) = (BytesNow::new(edited.value_bytes), length(value.len()));
        let parts = [body.as_bytes(), now.as_bytes(), value];
        self.write_parts(op_index, Status::EditedBefore, version, value_bytes, parts);
    }

    #[inline(always)]
    #[expect(clippy::arithmetic_side_effects, reason = "both ends lie in the buffer: room was promised")]
    fn write_parts<const N: usize>(
        &mut self,
        op_index: u32,
        status: Status,
        version: Option<Version>,
        value_bytes: u32,
        parts: [&[u8]; N],
    ) {
        let mark = if version.is_some() { ReplyDescriptor::VERSION } else { 0 };
        self.write_descriptor(
            op_index,
            ReplyDescriptor {
                status: status.code() | mark,
                value_bytes: to_u24(value_bytes),
                offset: length(self.end).into(),
            },
        );
        if let Some(version) = version {
            let bytes = self.buffer.get_mut(self.end..self.end + VERSION_BYTES).expect("room was promised");
            bytes.copy_from_slice(&version.to_le_bytes());
            self.end += VERSION_BYTES;
        }
        for part in parts {
            let bytes = self.buffer.get_mut(self.end..self.end + part.len()).expect("room was promised");
            bytes.copy_from_slice(part);
            self.end += part.len();
        }
    }

    #[inline(always)]
    fn write_descriptor(&mut self, op_index: u32, descriptor: ReplyDescriptor) {
        debug_assert!(op_index < self.op_count, "operation {op_index} of {}", self.op_count);
        let at = descriptor_at(op_index);
        debug_assert!(self.buffer.get(at) == Some(&0), "operation {op_index} has its outcome already");
        let written = self.buffer.get_mut(at..).and_then(|bytes| descriptor.write_to_prefix(bytes).ok());
        debug_assert!(written.is_some(), "descriptors are reserved");
        self.ops_set = self.ops_set.wrapping_add(1);
    }

    /// The descriptor that an operation was given.
    #[inline(always)]
    fn descriptor(&self, op_index: u32) -> &ReplyDescriptor {
        assert!(op_index < self.op_count, "operation {op_index} of {}", self.op_count);
        let descriptor = self.buffer.get(descriptor_at(op_index)..).map(ReplyDescriptor::ref_from_prefix);
        descriptor.and_then(Result::ok).expect("descriptors are reserved").0
    }
}

impl<B: FrameBuffer> Outcomes for ReplyBuilder<B> {
    const TELLS_AGAIN: bool = true;

    #[inline(always)]
    fn set(&mut self, op_index: u32, outcome: Outcome<'_>) {
        if let Outcome::Value { value, version: None } = outcome {
            self.set_plain_value(op_index, value);
        } else {
            self.set_any(op_index, outcome);
        }
    }

    #[inline(always)]
    fn set_plain_value(&mut self, op_index: u32, value: &[u8]) {
        if !self.write_plain_value(op_index, value) {
            self.set_any(op_index, Outcome::Value { value, version: None });
        }
    }

    #[inline]
    #[expect(clippy::arithmetic_side_effects, reason = "both ends lie in the buffer: room was promised")]
    fn set_again(&mut self, op_index: u32, first: u32) {
        let descriptor = *self.descriptor(first);
        let Some(bytes) = descriptor.plain_value_bytes().map(index) else {
            debug_assert_eq!(descriptor.check(op_index), Ok(0), "a get without a value brings nothing");
            return self.write_descriptor(op_index, descriptor);
        };
        if !self.promise(bytes) {
            return self.write(op_index, Status::ReplyFull, None, &[]);
        }
        let (begin, told) = (self.end, index(descriptor.offset.get()));
        self.buffer.copy_within(told..told + bytes, begin);
        self.end = begin + bytes;
        self.write_descriptor(op_index, ReplyDescriptor { offset: length(begin).into(), ..descriptor });
    }

    fn has_room(&mut self, value_bytes: usize) -> bool {
        let promised = self.promised.saturating_add(size_of::<BytesNow>()).saturating_add(value_bytes);
        promised <= self.room || self.grow(promised)
    }
}

impl<B: FrameBuffer> ReadBack for ReplyBuilder<B> {
    #[inline]
    fn read_back(&self, op_index: u32) -> Outcome<'_> {
        outcome_of(&self.buffer, self.descriptor(op_index))
    }
}

impl<B: FrameBuffer> ReplyBuilder<B> {
    /// Writes a value without a version if there is room as it is: [`ReplyBuilder::write`] with less to decide.
    #[inline(always)]
    #[expect(clippy::arithmetic_side_effects, reason = "no slice is longer than half of what a usize holds")]
    fn write_plain_value(&mut self, op_index: u32, value: &[u8]) -> bool {
        let (begin, at) = (self.end, descriptor_at(op_index));
        let promised = self.promised + value.len();
        if promised > self.room {
            return false;
        }
        debug_assert!(op_index < self.op_count, "operation {op_index} of {}", self.op_count);
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
            Outcome::Edited(edited) => self.write_edited(op_index, &edited),
            Outcome::ValueTooLong => self.write(op_index, Status::ValueTooLong, None, &[]),
            Outcome::NotFound => self.write(op_index, Status::NotFound, None, &[]),
            Outcome::VersionMismatch { current } => {
                self.write(op_index, Status::VersionMismatch, Some(current), &[]);
            }
            Outcome::NotANumber => self.write(op_index, Status::NotANumber, None, &[]),
            Outcome::CounterOverflow => self.write(op_index, Status::CounterOverflow, None, &[]),
            Outcome::OutOfMemory => self.write(op_index, Status::OutOfMemory, None, &[]),
            Outcome::ReplyFull => self.write(op_index, Status::ReplyFull, None, &[]),
            Outcome::WrongNode => self.write(op_index, Status::WrongNode, None, &[]),
            Outcome::Unknown => self.write(op_index, Status::Unknown, None, &[]),
            Outcome::NotSent => unreachable!("a node was sent what it answers"),
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

    const EDITED: Edited<'_> = Edited {
        is_done: true,
        was_there: true,
        is_there: true,
        value: Some(b"before"),
        value_bytes: 9,
        deadline: NonZeroU64::new(1),
        version: NonZeroU64::new(2),
    };

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
            Outcome::WrongNode,
            Outcome::Unknown,
            Outcome::Edited(EDITED),
            Outcome::Edited(Edited { value: Some(b""), deadline: None, ..EDITED }),
            Outcome::Edited(Edited { value: None, version: None, ..EDITED }),
            Outcome::ValueTooLong,
        ];
        let mut builder = ReplyBuilder::new(Vec::new(), 17, limits::FRAME_BYTES_MIN).expect("room");
        for (op_index, outcome) in (0..17).zip(outcomes).rev() {
            builder.set(op_index, outcome);
        }
        let (frame, bytes) = builder.finish(Origin { request: 5, ..Origin::default() });
        let frame = frame.get(..index(bytes)).expect("whole");
        let view = ReplyView::parse(frame).expect("valid");
        assert_eq!(view.outcomes().collect::<Vec<_>>(), outcomes);
        assert_eq!(ReplyView::parsed(frame).outcome(4), outcomes[4]);
        assert!(view.has_reply_full() && view.has_wrong_node() && view.has_unknown());
    }

    #[test]
    fn what_is_told_again_is_what_was_told_the_first_time_as_long_as_it_fits() {
        let long = vec![7; index(limits::VALUE_BYTES_MAX)];
        let mut builder = ReplyBuilder::new(Vec::new(), 9, limits::FRAME_BYTES_MIN).expect("room");
        builder.set(6, Outcome::NotFound);
        builder.set(4, Outcome::Value { value: &long, version: None });
        builder.set(2, Outcome::Value { value: b"", version: None });
        builder.set(0, Outcome::Value { value: b"hello", version: None });
        for (op_index, first) in [(1, 0), (3, 2), (5, 4), (7, 6), (8, 5)] {
            builder.set_again(op_index, first);
        }
        let (frame, bytes) = builder.finish(Origin::default());
        let view = ReplyView::parse(frame.get(..index(bytes)).expect("whole")).expect("valid");
        assert_eq!(view.outcome(1), Outcome::Value { value: b"hello", version: None });
        assert_eq!(view.outcome(3), Outcome::Value { value: b"", version: None });
        assert_eq!([5, 7, 8].map(|at| view.outcome(at)), [Outcome::ReplyFull, Outcome::NotFound, Outcome::ReplyFull]);
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
