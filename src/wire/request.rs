//! Requests: a batch of operations.
//!
//! ```text
//!   | header 64 | descriptor 0 .. n-1, 4 bytes each | op 0: operand, key, value | op 1: ... |
//!
//!   descriptor   code u8 | flags u8 | key_bytes u16
//!   operand      get, delete: none        put: value_bytes u32
//!                add: delta i64           compare-and-swap: expected u64, value_bytes u32
//!                edit: condition u8 | content u8 | expiry u8 | 0 | value_bytes u32 | time u64
//! ```
//!
//! A part of a frame that was sent before says between header and descriptors, in 2 bytes each, where its operations
//! stood there.
//!
//! Offsets are not sent: an operation's bytes begin where those of the one before end, so they cannot overlap,
//! and a get costs 4 bytes and its key.
#![forbid(unsafe_code)]

use super::edit::EditOperand;
use super::error::WireError;
use super::header::{FrameKind, Header};
use super::number::{index, length};
use crate::hash::{Key, ShortKey};
use crate::limits;
use crate::op::{Action, Batch, Edit, Op, Position, VisitKeys};
use zerocopy::little_endian::{I64, U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, transmute_ref};

/// One operation's descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct OpDescriptor {
    /// An [`OpCode`]; a byte with a range check, so that an unknown one is an error with a number.
    pub code: u8,
    /// [`OpDescriptor::VERSION_WANTED`] and [`OpDescriptor::MORE_WANTED`].
    pub flags: u8,
    /// Length of the key.
    pub key_bytes: U16,
}

pub(super) const DESCRIPTOR_BYTES: usize = size_of::<OpDescriptor>();

const _: () = {
    assert!(DESCRIPTOR_BYTES == 4);
    assert!(align_of::<OpDescriptor>() == 1);
    assert!(std::mem::offset_of!(OpDescriptor, code) == 0);
    assert!(std::mem::offset_of!(OpDescriptor, flags) == 1);
    assert!(std::mem::offset_of!(OpDescriptor, key_bytes) == 2);
};

impl OpDescriptor {
    /// The outcome shall carry the record's version.
    pub const VERSION_WANTED: u8 = 1;

    /// The outcome of an edit shall carry the value that was there before; that of a get the deadline, for it is an
    /// edit that reads then.
    pub const MORE_WANTED: u8 = 2;

    /// Whether this is a get without flags: what most operations are, and what is quickest to take apart.
    #[inline(always)]
    fn is_plain_get(self) -> bool {
        (self.code, self.flags) == (OpCode::Get.code(), 0)
    }

    /// The length of the key of a plain get, if it is short: by one load and one comparison.
    #[inline(always)]
    fn short_get_bytes(&self) -> Option<u8> {
        const PLAIN_GET: u32 = u32::from_le_bytes([0, 0, OpCode::Get.code(), 0]);
        let whole: &[u8; DESCRIPTOR_BYTES] = transmute_ref!(self);
        let key_bytes = u32::from_le_bytes(*whole).rotate_left(16).wrapping_sub(PLAIN_GET);
        (index(key_bytes) <= ShortKey::BYTES_MAX).then(|| key_bytes.to_le_bytes()[0])
    }
}

/// What a compare-and-swap needs besides key and value.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct SwapOperand {
    pub(super) expected: U64,
    pub(super) value_bytes: U32,
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
    /// Changes value and deadline, if the record is as a condition says.
    Edit = 6,
}

impl OpCode {
    fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::Get,
            2 => Self::Put,
            3 => Self::Delete,
            4 => Self::CompareAndSwap,
            5 => Self::Add,
            6 => Self::Edit,
            _ => return None,
        })
    }

    #[expect(clippy::as_conversions, reason = "the discriminant is the code")]
    pub(super) const fn code(self) -> u8 {
        self as u8
    }
}

/// A validated request. Borrows the frame; implements [`Batch`].
#[derive(Debug, Clone, Copy)]
pub struct RequestView<'a> {
    header: &'a Header,
    /// Where the operations stood in the frame that was sent first; none where they stand there as here.
    indices: &'a [U16],
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
        let (indices, rest) = if header.has_indices() { indices(rest, op_count)? } else { (&[][..], rest) };
        let (descriptors, payload) = descriptors::<OpDescriptor>(rest, op_count)?;
        match used_bytes(descriptors, payload) {
            Some(used) if used == payload.len() => Ok(Self { header, indices, descriptors, payload }),
            _ => Err(first_error(frame, descriptors, payload)),
        }
    }

    /// The frame's header.
    #[must_use]
    pub fn header(&self) -> &'a Header {
        self.header
    }

    /// A view of a frame that [`RequestView::parse`] has taken, or a builder wrote, without validating it again.
    ///
    /// # Panics
    /// On bytes that are no request; operations of a frame that was never validated may panic too.
    #[must_use]
    pub(crate) fn parsed(frame: &'a [u8]) -> Self {
        let (header, rest) = Header::ref_from_prefix(frame).expect("a validated frame has a header");
        debug_assert_eq!(header.kind, FrameKind::Request.code(), "a validated request is one");
        let op_count = header.op_count.get();
        let parts = if header.has_indices() { indices(rest, op_count) } else { Ok((&[][..], rest)) };
        let (indices, rest) = parts.expect("a validated frame has its indices");
        let parts = descriptors::<OpDescriptor>(rest, op_count);
        let (descriptors, payload) = parts.expect("a validated frame has its descriptors");
        Self { header, indices, descriptors, payload }
    }

    pub(super) fn descriptors(&self) -> &'a [OpDescriptor] {
        self.descriptors
    }

    /// Whether any operation may change something.
    #[must_use]
    pub fn has_changes(&self) -> bool {
        // No early end: a loop without one goes through many at a time, and most batches are all gets.
        self.descriptors.iter().fold(0, |others, descriptor| others | (descriptor.code ^ OpCode::Get.code())) != 0
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
    fn for_each_key<'a>(&'a self, mut visit: impl FnMut(Position, Key<'a>, bool)) {
        let mut offset = 0_u32;
        for (op_index, descriptor) in (0..).zip(self.descriptors) {
            let (key, is_plain_get, op_bytes) = self.key_at(*descriptor, offset);
            visit(Position { index: op_index, offset }, key, is_plain_get);
            offset = offset.wrapping_add(op_bytes);
        }
        debug_assert_eq!(index(offset), self.payload.len(), "the operations fill the payload");
    }

    #[inline(always)]
    fn visit_keys<'a>(&'a self, visitor: &mut impl VisitKeys<'a>) {
        let mut offset = 0_u32;
        for (op_index, descriptor) in (0..).zip(self.descriptors) {
            let position = Position { index: op_index, offset };
            let op_bytes = match (descriptor.short_get_bytes(), self.ahead(offset)) {
                (Some(key_bytes), Some(ahead)) => {
                    visitor.short_get(position, ShortKey::at_front(ahead, key_bytes));
                    key_bytes.into()
                }
                _ => {
                    let (key, is_plain_get, op_bytes) = self.key_at(*descriptor, offset);
                    visitor.other(position, key, is_plain_get);
                    op_bytes
                }
            };
            offset = offset.wrapping_add(op_bytes);
        }
        debug_assert_eq!(index(offset), self.payload.len(), "the operations fill the payload");
    }

    #[inline(always)]
    #[expect(clippy::indexing_slicing, reason = "documented to panic on a position of another batch")]
    fn op(&self, position: Position) -> Op<'_> {
        any_op_at(self.descriptors[index(position.index)], &self.payload[index(position.offset)..])
    }

    #[inline(always)]
    #[expect(clippy::indexing_slicing, reason = "documented to panic on a position of another batch")]
    fn plain_get(&self, position: Position) -> &[u8] {
        let descriptor = self.descriptors[index(position.index)];
        debug_assert!(descriptor.is_plain_get(), "asked of plain gets alone");
        &self.payload[index(position.offset)..][..usize::from(descriptor.key_bytes.get())]
    }

    #[inline]
    fn first_index(&self, op_index: u32) -> u32 {
        self.indices.get(index(op_index)).map_or(op_index, |first| first.get().into())
    }
}

impl<'a> RequestView<'a> {
    /// The key of the operation at `offset`, whether it is a plain get, and how many bytes the operation has.
    #[inline(always)]
    fn key_at(&self, descriptor: OpDescriptor, offset: u32) -> (Key<'a>, bool, u32) {
        let rest = self.payload.get(index(offset)..).expect("parse validated every operation");
        let is_plain_get = descriptor.is_plain_get();
        let (key, op_bytes) = if is_plain_get {
            let key_bytes = descriptor.key_bytes.get();
            (Key::at_front(rest, key_bytes.into()), key_bytes.into())
        } else {
            any_key_at(descriptor, rest)
        };
        (key, is_plain_get, op_bytes)
    }

    /// The payload's bytes from `offset` on, where there are enough to hold any short key.
    #[inline(always)]
    #[expect(clippy::arithmetic_side_effects, reason = "usize has more bits than an offset, or no frame is so long")]
    fn ahead(&self, offset: u32) -> Option<&'a [u8; ShortKey::BYTES_MAX]> {
        let from = index(offset);
        self.payload.get(from..from + ShortKey::BYTES_MAX)?.first_chunk()
    }
}

/// The first indices of `count` operations, each above the one before, and what follows them.
#[cold]
fn indices(rest: &[u8], count: u32) -> Result<(&[U16], &[u8]), WireError> {
    let (indices, rest) = descriptors::<U16>(rest, count)?;
    let steps = (1..).zip(indices.iter().zip(indices.iter().skip(1)));
    for (index, (before, got)) in steps.map(|(index, (before, got))| (index, (before.get(), got.get()))) {
        if got <= before {
            return Err(WireError::BadIndex { index, got, before });
        }
    }
    Ok((indices, rest))
}

/// The key of the operation at the front of `rest` in a validated request, and how many bytes the operation has: where
/// the key and the value's length stand goes by its code.
#[inline(never)]
#[expect(clippy::indexing_slicing, reason = "parse validated every operation")]
fn any_key_at(descriptor: OpDescriptor, rest: &[u8]) -> (Key<'_>, u32) {
    let (operand_bytes, length_at) = match OpCode::from_code(descriptor.code) {
        Some(OpCode::Put) => (size_of::<U32>(), Some(0)),
        Some(OpCode::CompareAndSwap) => {
            (size_of::<SwapOperand>(), Some(std::mem::offset_of!(SwapOperand, value_bytes)))
        }
        Some(OpCode::Edit) => (size_of::<EditOperand>(), Some(std::mem::offset_of!(EditOperand, value_bytes))),
        Some(OpCode::Add) => (size_of::<I64>(), None),
        Some(OpCode::Get | OpCode::Delete) | None => (0, None),
    };
    let value_bytes = length_at.map_or(0, |at| {
        let (value_bytes, _) = U32::ref_from_prefix(&rest[at..]).expect("parse validated the operand");
        index(value_bytes.get())
    });
    let key_bytes = usize::from(descriptor.key_bytes.get());
    let op_bytes = operand_bytes.wrapping_add(key_bytes).wrapping_add(value_bytes);
    debug_assert!(op_bytes <= rest.len(), "an operation lies in its frame");
    (Key::at_front(&rest[operand_bytes..], key_bytes), length(op_bytes))
}

#[inline(never)]
fn any_op_at(descriptor: OpDescriptor, rest: &[u8]) -> Op<'_> {
    let (op, _) = split_op(descriptor, rest).ok().expect("parse validated every operation");
    op
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
            debug_assert!(rest.len() <= payload.len(), "what is left is a part");
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
    /// An edit's operand that says nothing known.
    Edit,
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
            Self::Edit => WireError::BadEdit { index: op_index },
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
    if code == OpCode::Edit || descriptor.flags & !OpDescriptor::VERSION_WANTED != 0 {
        return split_edit(descriptor, code, bytes);
    }
    let key_bytes = usize::from(descriptor.key_bytes.get());
    let (action, key, rest) = match code {
        OpCode::Get | OpCode::Edit => {
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
    Ok((Op { key, action, version_wanted: descriptor.flags != 0 }, rest))
}

/// Takes an edit off the front of `bytes`, or tells what is wrong with the flags of another operation. Apart, so that
/// an operation without edits is none the slower.
#[cold]
#[inline(never)]
fn split_edit(descriptor: OpDescriptor, code: OpCode, bytes: &[u8]) -> Result<(Op<'_>, &[u8]), OpError> {
    const FLAGS: u8 = OpDescriptor::VERSION_WANTED | OpDescriptor::MORE_WANTED;
    if descriptor.flags & !FLAGS != 0 || !matches!(code, OpCode::Get | OpCode::Edit) {
        return Err(OpError::Flags(descriptor.flags));
    }
    let wants = |flag| descriptor.flags & flag != 0;
    let key_bytes = usize::from(descriptor.key_bytes.get());
    let (edit, key, rest) = if code == OpCode::Get {
        let (key, rest) = take(bytes, key_bytes)?;
        (Edit::READ, key, rest)
    } else {
        let (operand, rest) = operand::<EditOperand>(bytes)?;
        let (key, rest) = take(rest, key_bytes)?;
        let (value, rest) = take_value(rest, operand.value_bytes.get())?;
        let edit = operand.edit(value, wants(OpDescriptor::MORE_WANTED)).ok_or(OpError::Edit)?;
        (edit, key, rest)
    };
    Ok((Op { key, action: Action::Edit(edit), version_wanted: wants(OpDescriptor::VERSION_WANTED) }, rest))
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
