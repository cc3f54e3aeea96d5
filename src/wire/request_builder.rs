//! Building a request in a lent buffer: copy A of docs/ARCHITECTURE.md.
//!
//! ```text
//!   | header 64 | descriptors, those reserved too | operations' bytes --> end | room to grow |
//! ```
#![forbid(unsafe_code)]

use super::buffer::FrameBuffer;
use super::edit::EditOperand;
use super::error::BuildError;
use super::header::{FrameKind, HEADER_LENGTH, Header, Origin};
use super::number::{index, length};
use super::request::{DESCRIPTOR_BYTES, OpCode, OpDescriptor, RequestView, SwapOperand};
use crate::hash::Key;
use crate::limits;
use crate::op::{Action, Edit, Op};
use crate::short;
use zerocopy::IntoBytes;
use zerocopy::little_endian::{I64, U32};

/// Descriptors reserved ahead take at most a quarter of the frame.
const DESCRIPTORS_SHARE: u32 = 4 * 4;

/// Builds a request in a lent buffer: copy A of docs/ARCHITECTURE.md.
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
            Action::Edit(edit) => self.push_edit(op, &edit),
        }
    }

    #[cold]
    #[inline(never)]
    fn push_edit(&mut self, op: &Op<'_>, edit: &Edit<'_>) -> Result<(), BuildError> {
        if *edit == Edit::READ {
            return self.append_flagged(OpCode::Get, op, OpDescriptor::MORE_WANTED, &[], &[]);
        }
        let operand = EditOperand::new(edit, value_bytes(edit.bytes())?);
        let flags = if edit.value_wanted() { OpDescriptor::MORE_WANTED } else { 0 };
        self.append_flagged(OpCode::Edit, op, flags, operand.as_bytes(), edit.bytes())
    }

    /// Appends a plain get: [`RequestBuilder::push`] with less to decide.
    ///
    /// # Errors
    /// Why it does not fit; the batch is as before.
    #[inline]
    pub fn push_get<'k>(&mut self, key: impl Into<Key<'k>>) -> Result<(), BuildError> {
        let key = key.into();
        if self.push_get_in_place(key) {
            return Ok(());
        }
        self.push(&Op { key: key.as_bytes(), action: Action::Get, version_wanted: false })
    }

    /// Appends a plain get, if there is room for it as it is: false, and nothing is changed, where there is none.
    #[inline(always)]
    pub(crate) fn push_get_in_place(&mut self, key: Key<'_>) -> bool {
        let end = self.end.saturating_add(key.len());
        let at = payload_begin(self.op_count);
        if let Ok(key_bytes) = u16::try_from(key.len())
            && self.op_count < self.ops_reserved
            && end <= self.room
            && let Some((descriptors, bytes)) = self.buffer.split_at_mut_checked(self.end)
            && bytes.len() >= key.len()
            && let Some(slot) = descriptors.get_mut(at..)
        {
            let descriptor = OpDescriptor { code: OpCode::Get.code(), flags: 0, key_bytes: key_bytes.into() };
            let written = descriptor.write_to_prefix(slot);
            debug_assert!(written.is_ok(), "descriptors are reserved");
            key.copy_to(bytes);
            self.op_count = self.op_count.wrapping_add(1);
            self.end = end;
            return true;
        }
        false
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
        let frame = self.buffer.get(..self.end).expect("what was written lies in the buffer");
        debug_assert!(RequestView::parse(frame).is_ok(), "the view reads what the builder writes");
        (self.buffer, frame_bytes)
    }

    /// The finished frame of operations that were sent before, in the frame of the same session and sequence, where
    /// they stood at these indices.
    ///
    /// # Errors
    /// [`BuildError::FrameFull`] or [`BuildError::OutOfMemory`]: the indices need 2 bytes each.
    ///
    /// # Panics
    /// Where there is not one index an operation, each above the one before.
    pub fn finish_retry(mut self, origin: Origin, indices: &[u16]) -> Result<(B, u32), BuildError> {
        assert_eq!(indices.len(), index(self.op_count), "one index an operation");
        self.move_payload(self.op_count);
        let (begin, bytes) = (self.end, indices.as_bytes().len());
        let end = begin.saturating_add(bytes);
        if end > self.room {
            self.make_room(end)?;
        }
        let behind = HEADER_LENGTH.saturating_add(bytes);
        self.buffer.copy_within(HEADER_LENGTH..begin, behind);
        let block = self.buffer.get_mut(HEADER_LENGTH..behind).expect("room was made for the indices");
        for (to, index) in block.chunks_exact_mut(size_of::<u16>()).zip(indices) {
            to.copy_from_slice(&index.to_le_bytes());
        }
        let frame_bytes = length(end);
        let mut header = Header::new(FrameKind::Request, frame_bytes, self.op_count, origin);
        header.flags = (Header::RETRY | Header::INDICES).into();
        header.write_to_prefix(&mut self.buffer).expect("the buffer holds at least the header");
        let frame = self.buffer.get(..end).expect("what was written lies in the buffer");
        assert!(RequestView::parse(frame).is_ok(), "indices grow, and the view reads what the builder writes");
        Ok((self.buffer, frame_bytes))
    }

    #[inline(always)]
    fn append(&mut self, code: OpCode, op: &Op<'_>, operand: &[u8], value: &[u8]) -> Result<(), BuildError> {
        self.append_flagged(code, op, 0, operand, value)
    }

    #[inline(always)]
    fn append_flagged(
        &mut self,
        code: OpCode,
        op: &Op<'_>,
        flags: u8,
        operand: &[u8],
        value: &[u8],
    ) -> Result<(), BuildError> {
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
            flags: flags | u8::from(op.version_wanted).wrapping_mul(OpDescriptor::VERSION_WANTED),
            key_bytes: key_bytes.into(),
        };
        debug_assert!(self.op_count < self.ops_reserved, "{} of {} operations", self.op_count, self.ops_reserved);
        debug_assert!(end <= self.room && self.room <= index(self.frame_bytes_max), "{end} of {} bytes", self.room);
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
        assert!(ops >= self.op_count, "no descriptor in use is overwritten");
        assert!(to.saturating_add(moved) <= self.buffer.len(), "room was made for the move");
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
        assert!(self.room >= end, "the buffer grew to {} bytes instead of {end}", self.room);
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
    use crate::op::{Batch, Content, Expiry};

    fn ops() -> Vec<Op<'static>> {
        let op = |key, action, version_wanted| Op { key, action, version_wanted };
        vec![
            op(b"alpha", Action::Get, false),
            op(b"", Action::Put { value: b"value" }, true),
            op(b"gamma", Action::Delete, false),
            op(b"delta", Action::CompareAndSwap { expected: 7, value: b"" }, true),
            op(b"n", Action::Add { delta: -3 }, false),
            op(b"read", Action::Edit(Edit::READ), true),
            op(b"e", Action::Edit(Edit::new(Content::Keep, Expiry::After(5_000)).wanting_value()), false),
            op(b"f", Action::Edit(Edit::new(Content::Append(b"more"), Expiry::Keep)), true),
            op(b"g", Action::Edit(Edit::new(Content::Keep, Expiry::Keep)), true),
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
            view.for_each_key(|position, key, _| seen.push((position, key)));
            for ((position, key), op) in seen.into_iter().zip(ops()) {
                assert_eq!((key.as_bytes(), view.op(position)), (op.key, op));
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
