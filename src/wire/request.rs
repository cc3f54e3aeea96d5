//! Requests: a batch of operations.
//!
//! ```text
//!   | header 64 | descriptor 0 .. n-1, 4 bytes each | op 0: operand, key, value | op 1: ... |
//!
//!   descriptor   code u8 | flags u8 | key_bytes u16
//!   operand      get, delete: none        put: value_bytes u32
//!                add: delta i64           compare-and-swap: expected u64, value_bytes u32
//! ```
//!
//! Offsets are not sent: an operation's bytes begin where those of the one before end, so they cannot overlap,
//! and a get costs 4 bytes and its key.
#![forbid(unsafe_code)]

use super::buffer::FrameBuffer;
use super::error::{BuildError, WireError};
use super::header::{FrameKind, HEADER_LENGTH, Header, Origin};
use super::number::{index, length};
use crate::limits;
use crate::op::{Action, Batch, Op, Position};
use crate::short;
use zerocopy::little_endian::{I64, U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// One operation's descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct OpDescriptor {
    /// An [`OpCode`]; a byte with a range check, so that an unknown one is an error with a number.
    pub code: u8,
    /// [`OpDescriptor::VERSION_WANTED`] or zero.
    pub flags: u8,
    /// Length of the key.
    pub key_bytes: U16,
}

const DESCRIPTOR_BYTES: usize = size_of::<OpDescriptor>();

const _: () = {
    assert!(DESCRIPTOR_BYTES == 4);
    assert!(align_of::<OpDescriptor>() == 1);
    assert!(std::mem::offset_of!(OpDescriptor, code) == 0);
    assert!(std::mem::offset_of!(OpDescriptor, flags) == 1);
    assert!(std::mem::offset_of!(OpDescriptor, key_bytes) == 2);
};

/// Descriptors reserved ahead take at most a quarter of the frame.
const DESCRIPTORS_SHARE: u32 = 4 * 4;

impl OpDescriptor {
    /// The outcome shall carry the record's version.
    pub const VERSION_WANTED: u8 = 1;

    /// Whether this is a get without flags: what most operations are, and what is quickest to take apart.
    #[inline(always)]
    fn is_plain_get(self) -> bool {
        (self.code, self.flags) == (OpCode::Get.code(), 0)
    }
}

/// What a compare-and-swap needs besides key and value.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct SwapOperand {
    expected: U64,
    value_bytes: U32,
}

const _: () = assert!(size_of::<SwapOperand>() == 12 && align_of::<SwapOperand>() == 1);

/// Operation codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum OpCode {
    /// Reads a value.
    Get = 1,
    /// Writes a value.
    Put = 2,
    /// Removes a record.
    Delete = 3,
    /// Writes a value if the version matches.
    CompareAndSwap = 4,
    /// Adds to a counter.
    Add = 5,
}

impl OpCode {
    fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::Get,
            2 => Self::Put,
            3 => Self::Delete,
            4 => Self::CompareAndSwap,
            5 => Self::Add,
            _ => return None,
        })
    }

    #[expect(clippy::as_conversions, reason = "the discriminant is the code")]
    const fn code(self) -> u8 {
        self as u8
    }
}

/// A validated request. Borrows the frame; implements [`Batch`].
#[derive(Debug, Clone, Copy)]
pub struct RequestView<'a> {
    header: &'a Header,
    descriptors: &'a [OpDescriptor],
    payload: &'a [u8],
}

impl<'a> RequestView<'a> {
    /// Validates a whole frame: afterwards every operation is known to lie inside it.
    ///
    /// # Errors
    /// The first thing wrong with it.
    pub fn parse(frame: &'a [u8]) -> Result<Self, WireError> {
        let (header, rest) = Header::split_kind(frame, FrameKind::Request)?;
        let op_count = header.op_count.get();
        let (descriptors, payload) = descriptors::<OpDescriptor>(rest, op_count)?;
        match used_bytes(descriptors, payload) {
            Some(used) if used == payload.len() => Ok(Self { header, descriptors, payload }),
            _ => Err(first_error(frame, descriptors, payload)),
        }
    }

    /// The frame's header.
    #[must_use]
    pub fn header(&self) -> &'a Header {
        self.header
    }

    /// The operations in request order.
    #[expect(clippy::missing_panics_doc, reason = "parse validated every operation")]
    pub fn ops(&self) -> impl Iterator<Item = Op<'a>> + use<'a> {
        let mut remaining = self.payload;
        self.descriptors.iter().map(move |descriptor| {
            let (op, rest) = split_op(*descriptor, remaining).ok().expect("parse validated every operation");
            remaining = rest;
            op
        })
    }
}

impl Batch for RequestView<'_> {
    fn op_count(&self) -> u32 {
        length(self.descriptors.len())
    }

    #[inline]
    fn for_each_key<'a>(&'a self, mut visit: impl FnMut(Position, &'a [u8])) {
        let mut offset = 0;
        for (op_index, descriptor) in (0..).zip(self.descriptors) {
            let rest = self.payload.get(offset..).expect("parse validated every operation");
            let (op, op_bytes) = op_at(*descriptor, rest);
            visit(Position { index: op_index, offset: length(offset) }, op.key);
            offset = offset.wrapping_add(op_bytes);
        }
    }

    #[inline(always)]
    #[expect(clippy::indexing_slicing, reason = "documented to panic on a position of another batch")]
    fn op(&self, position: Position) -> Op<'_> {
        let descriptor = self.descriptors[index(position.index)];
        op_at(descriptor, &self.payload[index(position.offset)..]).0
    }
}

/// The operation at the front of `rest` in a validated request, and how many bytes it has.
#[inline(always)]
#[expect(clippy::indexing_slicing, reason = "parse validated every operation")]
fn op_at(descriptor: OpDescriptor, rest: &[u8]) -> (Op<'_>, usize) {
    if descriptor.is_plain_get() {
        let key_bytes = usize::from(descriptor.key_bytes.get());
        return (Op { key: &rest[..key_bytes], action: Action::Get, version_wanted: false }, key_bytes);
    }
    any_op_at(descriptor, rest)
}

#[inline(never)]
fn any_op_at(descriptor: OpDescriptor, rest: &[u8]) -> (Op<'_>, usize) {
    let (op, after) = split_op(descriptor, rest).ok().expect("parse validated every operation");
    (op, rest.len().wrapping_sub(after.len()))
}

/// How many bytes of the payload the operations use; `None` where one is not what it should be. May be more than
/// there are: then one of the last plain gets has no bytes.
#[inline]
fn used_bytes(descriptors: &[OpDescriptor], payload: &[u8]) -> Option<usize> {
    let mut used = 0_usize;
    for descriptor in descriptors {
        // Most operations are plain gets, and of those only the key's length is to be known here.
        if descriptor.is_plain_get() {
            used = used.wrapping_add(usize::from(descriptor.key_bytes.get()));
        } else {
            let (_, rest) = split_op(*descriptor, payload.get(used..)?).ok()?;
            used = payload.len().wrapping_sub(rest.len());
        }
    }
    Some(used)
}

/// What is wrong with a request that is known to be malformed.
#[cold]
fn first_error(frame: &[u8], descriptors: &[OpDescriptor], payload: &[u8]) -> WireError {
    let mut remaining = payload;
    for (op_index, descriptor) in (0..).zip(descriptors) {
        match split_op(*descriptor, remaining) {
            Ok((_, rest)) => remaining = rest,
            Err(error) => return error.into_wire_error(op_index, frame, payload),
        }
    }
    let payload = u64::from(length(payload.len()));
    WireError::PayloadMismatch { used: payload.saturating_sub(u64::from(length(remaining.len()))), payload }
}

/// The first `count` descriptors of `rest`, and what follows them.
pub(super) fn descriptors<D: FromBytes + KnownLayout + Immutable + Unaligned>(
    rest: &[u8],
    count: u32,
) -> Result<(&[D], &[u8]), WireError> {
    <[D]>::ref_from_prefix_with_elems(rest, index(count)).map_err(|_| {
        let needed = u64::from(count).saturating_mul(u64::from(length(size_of::<D>())));
        WireError::Truncated { needed, got: u64::from(length(rest.len())) }
    })
}

/// What is wrong with one operation; made into a [`WireError`] only when it is reported.
enum OpError {
    Code(u8),
    Flags(u8),
    Value(u32),
    /// A part needs more bytes than the payload has left.
    Short {
        needed: usize,
        left: usize,
    },
}

impl OpError {
    #[cold]
    fn into_wire_error(self, op_index: u32, frame: &[u8], payload: &[u8]) -> WireError {
        match self {
            Self::Code(got) => WireError::BadOpCode { index: op_index, got },
            Self::Flags(got) => WireError::BadFlags { index: op_index, got },
            Self::Value(got) => WireError::ValueTooLong { index: op_index, got, max: limits::VALUE_BYTES_MAX },
            Self::Short { needed, left } => {
                let payload_end = u64::from(length(frame.len()));
                let payload_begin = payload_end.saturating_sub(u64::from(length(payload.len())));
                let begin = payload_end.saturating_sub(u64::from(length(left)));
                let end = begin.saturating_add(u64::from(length(needed)));
                WireError::OutOfFrame { index: op_index, begin, end, payload_begin, payload_end }
            }
        }
    }
}

/// Takes one operation off the front of `bytes`.
#[inline(always)]
fn split_op(descriptor: OpDescriptor, bytes: &[u8]) -> Result<(Op<'_>, &[u8]), OpError> {
    let code = OpCode::from_code(descriptor.code).ok_or(OpError::Code(descriptor.code))?;
    if descriptor.flags & !OpDescriptor::VERSION_WANTED != 0 {
        return Err(OpError::Flags(descriptor.flags));
    }
    let version_wanted = descriptor.flags != 0;
    let key_bytes = usize::from(descriptor.key_bytes.get());
    let (action, key, rest) = match code {
        OpCode::Get => {
            let (key, rest) = take(bytes, key_bytes)?;
            (Action::Get, key, rest)
        }
        OpCode::Delete => {
            let (key, rest) = take(bytes, key_bytes)?;
            (Action::Delete, key, rest)
        }
        OpCode::Put => {
            let (value_bytes, rest) = operand::<U32>(bytes)?;
            let (key, rest) = take(rest, key_bytes)?;
            let (value, rest) = take_value(rest, value_bytes.get())?;
            (Action::Put { value }, key, rest)
        }
        OpCode::CompareAndSwap => {
            let (swap, rest) = operand::<SwapOperand>(bytes)?;
            let (key, rest) = take(rest, key_bytes)?;
            let (value, rest) = take_value(rest, swap.value_bytes.get())?;
            (Action::CompareAndSwap { expected: swap.expected.get(), value }, key, rest)
        }
        OpCode::Add => {
            let (delta, rest) = operand::<I64>(bytes)?;
            let (key, rest) = take(rest, key_bytes)?;
            (Action::Add { delta: delta.get() }, key, rest)
        }
    };
    Ok((Op { key, action, version_wanted }, rest))
}

#[inline(always)]
fn operand<T: FromBytes + KnownLayout + Immutable + Unaligned>(bytes: &[u8]) -> Result<(&T, &[u8]), OpError> {
    T::ref_from_prefix(bytes).map_err(|_| OpError::Short { needed: size_of::<T>(), left: bytes.len() })
}

#[inline(always)]
fn take(bytes: &[u8], count: usize) -> Result<(&[u8], &[u8]), OpError> {
    bytes.split_at_checked(count).ok_or(OpError::Short { needed: count, left: bytes.len() })
}

#[inline(always)]
fn take_value(bytes: &[u8], count: u32) -> Result<(&[u8], &[u8]), OpError> {
    if count > limits::VALUE_BYTES_MAX {
        return Err(OpError::Value(count));
    }
    take(bytes, index(count))
}

/// Builds a request in a lent buffer: copy A, the only one on the client's side.
///
/// Descriptors are reserved for the expected number of operations, so that operations are written once, in
/// place; a wrong guess costs one move of the bytes behind them. Reserved descriptors count towards the frame
/// limit while the batch is built, but never take more than a quarter of it.
#[derive(Debug)]
pub struct RequestBuilder<B> {
    buffer: B,
    frame_bytes_max: u32,
    op_count: u32,
    ops_reserved: u32,
    /// Where the next operation's bytes go.
    end: usize,
    /// Where they must end before the buffer has to grow: its length, but no more than the frame limit.
    room: usize,
}

impl<B: FrameBuffer> RequestBuilder<B> {
    /// An empty batch, with descriptors reserved for `ops_expected` operations. A frame limit above
    /// [`limits::FRAME_BYTES_MAX`] counts as that.
    ///
    /// # Errors
    /// [`BuildError::OutOfMemory`] where the buffer cannot grow to hold the descriptors.
    pub fn new(mut buffer: B, ops_expected: u32, frame_bytes_max: u32) -> Result<Self, BuildError> {
        let frame_bytes_max = frame_bytes_max.min(limits::FRAME_BYTES_MAX);
        let ops_reserved = ops_expected.min(frame_bytes_max / DESCRIPTORS_SHARE).clamp(1, limits::FRAME_OPS_MAX);
        let end = payload_begin(ops_reserved);
        if buffer.len() < end && !buffer.grow(end) {
            return Err(BuildError::OutOfMemory { needed: u64::from(length(end)) });
        }
        let room = buffer.len().min(index(frame_bytes_max));
        Ok(Self { buffer, frame_bytes_max, op_count: 0, ops_reserved, end, room })
    }

    /// Number of operations pushed.
    #[must_use]
    pub fn op_count(&self) -> u32 {
        self.op_count
    }

    /// Appends an operation, copying key and value into the frame.
    ///
    /// # Errors
    /// Why it does not fit; the batch is as before.
    #[inline]
    pub fn push(&mut self, op: &Op<'_>) -> Result<(), BuildError> {
        match op.action {
            Action::Get => self.append(OpCode::Get, op, &[], &[]),
            Action::Delete => self.append(OpCode::Delete, op, &[], &[]),
            Action::Put { value } => self.append(OpCode::Put, op, value_bytes(value)?.as_bytes(), value),
            Action::CompareAndSwap { expected, value } => {
                let operand = SwapOperand { expected: expected.into(), value_bytes: value_bytes(value)? };
                self.append(OpCode::CompareAndSwap, op, operand.as_bytes(), value)
            }
            Action::Add { delta } => self.append(OpCode::Add, op, I64::new(delta).as_bytes(), &[]),
        }
    }

    /// Appends a plain get: [`RequestBuilder::push`] with less to decide.
    ///
    /// # Errors
    /// Why it does not fit; the batch is as before.
    #[inline]
    pub fn push_get(&mut self, key: &[u8]) -> Result<(), BuildError> {
        let end = self.end.saturating_add(key.len());
        let at = payload_begin(self.op_count);
        if let Ok(key_bytes) = u16::try_from(key.len())
            && self.op_count < self.ops_reserved
            && end <= self.room
            && let Some((descriptors, bytes)) = self.buffer.split_at_mut_checked(self.end)
            && let Some(key_slot) = bytes.get_mut(..key.len())
            && let Some(slot) = descriptors.get_mut(at..)
        {
            let descriptor = OpDescriptor { code: OpCode::Get.code(), flags: 0, key_bytes: key_bytes.into() };
            let written = descriptor.write_to_prefix(slot);
            debug_assert!(written.is_ok(), "descriptors are reserved");
            short::copy(key_slot, key);
            self.op_count = self.op_count.wrapping_add(1);
            self.end = end;
            return Ok(());
        }
        self.push(&Op { key, action: Action::Get, version_wanted: false })
    }

    /// The finished frame: the buffer and how many of its bytes are the frame.
    #[must_use]
    #[expect(clippy::missing_panics_doc, reason = "the buffer holds at least the header")]
    pub fn finish(mut self, origin: Origin) -> (B, u32) {
        if self.op_count < self.ops_reserved {
            self.move_payload(self.op_count);
        }
        let frame_bytes = length(self.end);
        let header = Header::new(FrameKind::Request, frame_bytes, self.op_count, origin);
        header.write_to_prefix(&mut self.buffer).expect("the buffer holds at least the header");
        (self.buffer, frame_bytes)
    }

    #[inline(always)]
    fn append(&mut self, code: OpCode, op: &Op<'_>, operand: &[u8], value: &[u8]) -> Result<(), BuildError> {
        let Ok(key_bytes) = u16::try_from(op.key.len()) else {
            return Err(BuildError::KeyTooLong { got: op.key.len(), max: limits::KEY_BYTES_MAX });
        };
        if self.op_count == self.ops_reserved {
            self.reserve_ops()?;
        }
        let op_bytes = operand.len().saturating_add(op.key.len()).saturating_add(value.len());
        let end = self.end.saturating_add(op_bytes);
        if end > self.room {
            self.make_room(end)?;
        }
        let descriptor = OpDescriptor {
            code: code.code(),
            flags: u8::from(op.version_wanted).wrapping_mul(OpDescriptor::VERSION_WANTED),
            key_bytes: key_bytes.into(),
        };
        let at = payload_begin(self.op_count);
        let written = self.buffer.get_mut(at..).and_then(|bytes| descriptor.write_to_prefix(bytes).ok());
        debug_assert!(written.is_some(), "descriptors are reserved");
        let bytes = self.buffer.get_mut(self.end..end).expect("room was made for the operation");
        let (operand_bytes, bytes) = bytes.split_at_mut(operand.len());
        let (key, value_bytes) = bytes.split_at_mut(op.key.len());
        operand_bytes.copy_from_slice(operand);
        short::copy(key, op.key);
        value_bytes.copy_from_slice(value);
        self.op_count = self.op_count.wrapping_add(1);
        self.end = end;
        Ok(())
    }

    /// Doubles the reserved descriptors.
    #[cold]
    fn reserve_ops(&mut self) -> Result<(), BuildError> {
        if self.op_count == limits::FRAME_OPS_MAX {
            return Err(BuildError::TooManyOps { max: limits::FRAME_OPS_MAX });
        }
        let reserved = self.ops_reserved.saturating_mul(2).min(limits::FRAME_OPS_MAX);
        let more = payload_begin(reserved).saturating_sub(payload_begin(self.ops_reserved));
        self.make_room(self.end.saturating_add(more))?;
        self.move_payload(reserved);
        Ok(())
    }

    /// Moves the operations' bytes to behind `ops` descriptors; the buffer is large enough.
    fn move_payload(&mut self, ops: u32) {
        let (from, to) = (payload_begin(self.ops_reserved), payload_begin(ops));
        let moved = self.end.saturating_sub(from);
        self.buffer.copy_within(from..self.end, to);
        self.end = to.saturating_add(moved);
        self.ops_reserved = ops;
    }

    /// Grows the buffer to hold `end` bytes, at least doubling it.
    #[cold]
    fn make_room(&mut self, end: usize) -> Result<(), BuildError> {
        let (needed, limit) = (u64::try_from(end).unwrap_or(u64::MAX), index(self.frame_bytes_max));
        if end > limit {
            return Err(BuildError::FrameFull { needed, max: self.frame_bytes_max });
        }
        let doubled = self.room.saturating_mul(2).clamp(end, limit);
        if self.room < end && !self.buffer.grow(doubled) && !self.buffer.grow(end) {
            return Err(BuildError::OutOfMemory { needed });
        }
        self.room = self.buffer.len().min(limit);
        Ok(())
    }
}

#[inline(always)]
fn value_bytes(value: &[u8]) -> Result<U32, BuildError> {
    match u32::try_from(value.len()) {
        Ok(n) if n <= limits::VALUE_BYTES_MAX => Ok(n.into()),
        _ => Err(BuildError::ValueTooLong { got: value.len(), max: limits::VALUE_BYTES_MAX }),
    }
}

/// Where the operations' bytes begin behind `ops` descriptors, and so where descriptor `ops` begins.
#[inline(always)]
#[expect(clippy::arithmetic_side_effects, reason = "at most 64 + 4 x 65,536")]
fn payload_begin(ops: u32) -> usize {
    HEADER_LENGTH + index(ops) * DESCRIPTOR_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ops() -> Vec<Op<'static>> {
        let op = |key, action, version_wanted| Op { key, action, version_wanted };
        vec![
            op(b"alpha", Action::Get, false),
            op(b"", Action::Put { value: b"value" }, true),
            op(b"gamma", Action::Delete, false),
            op(b"delta", Action::CompareAndSwap { expected: 7, value: b"" }, true),
            op(b"n", Action::Add { delta: -3 }, false),
        ]
    }

    fn build(ops: &[Op<'_>], ops_expected: u32) -> Vec<u8> {
        let mut builder = RequestBuilder::new(Vec::new(), ops_expected, limits::FRAME_BYTES_MIN).expect("room");
        for op in ops {
            builder.push(op).expect("room");
        }
        let (mut frame, bytes) = builder.finish(Origin { request: 9, ..Origin::default() });
        frame.truncate(index(bytes));
        frame
    }

    #[test]
    fn what_the_builder_writes_the_view_reads_whatever_was_reserved() {
        for ops_expected in [0, 1, 2, 5, 6, 1000, u32::MAX] {
            let frame = build(&ops(), ops_expected);
            let view = RequestView::parse(&frame).expect("valid");
            assert_eq!(view.ops().collect::<Vec<_>>(), ops());
            assert_eq!(view.header().request.get(), 9);
            let mut seen = Vec::new();
            view.for_each_key(|position, key| seen.push((position, key)));
            for ((position, key), op) in seen.into_iter().zip(ops()) {
                assert_eq!((key, view.op(position)), (op.key, op));
            }
        }
    }

    #[test]
    fn a_full_batch_refuses_and_stays_as_it_was() {
        let mut builder = RequestBuilder::new(Vec::new(), 1, 200).expect("room");
        let put = Op { key: b"k", action: Action::Put { value: &[1; 100] }, version_wanted: false };
        builder.push(&put).expect("room for one");
        assert!(matches!(builder.push(&put), Err(BuildError::FrameFull { max: 200, .. })));
        let (frame, bytes) = builder.finish(Origin::default());
        let frame = frame.get(..index(bytes)).expect("whole");
        assert_eq!(RequestView::parse(frame).expect("valid").ops().collect::<Vec<_>>(), vec![put]);
    }
}
