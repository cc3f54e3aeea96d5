//! The header: 64 bytes, one cache line, the same for every frame.
//!
//! ```text
//!    0  magic u32        | version u8 | kind u8 | flags u16 |
//!    8  frame_bytes u32  | op_count u32                     |
//!   16  session u64                                         |
//!   24  sequence u64                                        |
//!   32  acknowledged_up_to u64                              |
//!   40  map_epoch u64                                       |
//!   48  request u64                                         |
//!   56  time u64                                            |
//! ```
//!
//! The first 16 bytes keep their place in every protocol version, so that old and new can refuse each other.
#![forbid(unsafe_code)]

use super::error::WireError;
use crate::limits;
use std::cmp::Ordering;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of a header.
pub const HEADER_BYTES: u32 = 64;

/// The header as an index.
pub(crate) const HEADER_LENGTH: usize = super::number::index(HEADER_BYTES);

/// The first four bytes of every frame: `FRGT`.
pub const MAGIC: u32 = u32::from_le_bytes(*b"FRGT");

/// The protocol version this code speaks.
pub const PROTOCOL_VERSION: u8 = 1;

/// The header of every frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Header {
    /// [`MAGIC`]: a stream of something else is refused at its first bytes.
    pub magic: U32,
    /// [`PROTOCOL_VERSION`]: 255 versions outlast the project.
    pub version: u8,
    /// A [`FrameKind`].
    pub kind: u8,
    /// Of a request: [`Header::RETRY`], [`Header::INDICES`]. Otherwise zero.
    pub flags: U16,
    /// Length of the whole frame, header included; 32 bits, as offsets inside a frame.
    pub frame_bytes: U32,
    /// Operations in a request or reply, zero elsewhere; above 16 bits because a frame may hold 65,536.
    pub op_count: U32,
    /// The client session the batch belongs to, zero for none; random, so that it needs no registry.
    pub session: U64,
    /// The batch's number in its session.
    pub sequence: U64,
    /// Every reply below this sequence has arrived; a node may forget their outcomes.
    pub acknowledged_up_to: U64,
    /// The epoch of the shard map the sender acted on, zero for none.
    pub map_epoch: U64,
    /// Names a request on its connection; its reply carries the same.
    pub request: U64,
    /// Of a reply the node's time as it executed the request, in milliseconds since 1970, 0 where it has none;
    /// otherwise zero.
    pub time: U64,
}

const _: () = {
    assert!(size_of::<Header>() == HEADER_LENGTH);
    assert!(align_of::<Header>() == 1);
    assert!(std::mem::offset_of!(Header, magic) == 0);
    assert!(std::mem::offset_of!(Header, version) == 4);
    assert!(std::mem::offset_of!(Header, kind) == 5);
    assert!(std::mem::offset_of!(Header, flags) == 6);
    assert!(std::mem::offset_of!(Header, frame_bytes) == 8);
    assert!(std::mem::offset_of!(Header, op_count) == 12);
    assert!(std::mem::offset_of!(Header, session) == 16);
    assert!(std::mem::offset_of!(Header, sequence) == 24);
    assert!(std::mem::offset_of!(Header, acknowledged_up_to) == 32);
    assert!(std::mem::offset_of!(Header, map_epoch) == 40);
    assert!(std::mem::offset_of!(Header, request) == 48);
    assert!(std::mem::offset_of!(Header, time) == 56);
};

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameKind {
    /// The client's first frame: versions, capabilities, authentication.
    Hello = 1,
    /// The node's answer: version, capabilities, incarnation, limits.
    HelloReply = 2,
    /// A batch of operations.
    Request = 3,
    /// The outcomes of one request, in its order.
    Reply = 4,
    /// Why the sender closes the connection; the last frame on it.
    Refusal = 5,
    /// Asks for the node's statistics.
    Stats = 6,
    /// The statistics as JSON text.
    StatsReply = 7,
    /// Asks for a raw frame of a stated size: the wire-limit measurement.
    WireLimit = 8,
    /// That raw frame.
    WireLimitReply = 9,
    /// A step of a move of slots from node to node.
    Move = 10,
    /// What came of that step.
    MoveReply = 11,
    /// The node's question to a client that says who it is.
    Challenge = 12,
    /// The client's answer.
    Proof = 13,
    /// Answers a frame that its client may not send: nothing of it was executed, and the connection goes on.
    Denial = 14,
    /// Asks what goes on inside a node.
    Inspect = 15,
    /// That, or why it is not told.
    InspectReply = 16,
}

impl FrameKind {
    /// The kind of a code.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::Hello,
            2 => Self::HelloReply,
            3 => Self::Request,
            4 => Self::Reply,
            5 => Self::Refusal,
            6 => Self::Stats,
            7 => Self::StatsReply,
            8 => Self::WireLimit,
            9 => Self::WireLimitReply,
            10 => Self::Move,
            11 => Self::MoveReply,
            12 => Self::Challenge,
            13 => Self::Proof,
            14 => Self::Denial,
            15 => Self::Inspect,
            16 => Self::InspectReply,
            _ => return None,
        })
    }

    /// The code on the wire.
    #[must_use]
    #[expect(clippy::as_conversions, reason = "the discriminant is the code")]
    pub const fn code(self) -> u8 {
        self as u8
    }
}

/// The part of a header that says which batch of which session a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Origin {
    /// Names the request on its connection.
    pub request: u64,
    /// The client session, zero for none.
    pub session: u64,
    /// The batch's number in its session.
    pub sequence: u64,
    /// Every reply below this sequence has arrived.
    pub acknowledged_up_to: u64,
    /// The epoch of the sender's shard map, zero for none.
    pub map_epoch: u64,
}

impl Header {
    /// The request was sent before, in whole or in part, under the same session and sequence.
    pub const RETRY: u16 = 1;

    /// It holds some operations of the frame that was sent first, and says which; only with [`Header::RETRY`].
    pub const INDICES: u16 = 2;

    const RETRY_INDICES: u16 = Self::RETRY | Self::INDICES;

    /// A header of this protocol version.
    #[must_use]
    pub fn new(kind: FrameKind, frame_bytes: u32, op_count: u32, origin: Origin) -> Self {
        Self {
            magic: MAGIC.into(),
            version: PROTOCOL_VERSION,
            kind: kind.code(),
            flags: 0.into(),
            frame_bytes: frame_bytes.into(),
            op_count: op_count.into(),
            session: origin.session.into(),
            sequence: origin.sequence.into(),
            acknowledged_up_to: origin.acknowledged_up_to.into(),
            map_epoch: origin.map_epoch.into(),
            request: origin.request.into(),
            time: 0.into(),
        }
    }

    /// The header and the rest of a frame.
    ///
    /// # Errors
    /// The first thing wrong with the header, or [`WireError::Truncated`] or [`WireError::TrailingBytes`] where
    /// `frame` is not exactly as long as its header says.
    pub fn split(frame: &[u8]) -> Result<(&Self, FrameKind, &[u8]), WireError> {
        let got = u64::try_from(frame.len()).unwrap_or(u64::MAX);
        let (header, kind, rest) = Self::at_front(frame)?;
        let needed = u64::from(header.frame_bytes.get());
        match got.cmp(&needed) {
            Ordering::Less => Err(WireError::Truncated { needed, got }),
            Ordering::Equal => Ok((header, kind, rest)),
            Ordering::Greater => Err(WireError::TrailingBytes { frame: needed, got }),
        }
    }

    /// The header and what is there of the rest of a frame.
    ///
    /// # Errors
    /// The first thing wrong with the header, or [`WireError::Truncated`] where it is not all there.
    pub fn at_front(bytes: &[u8]) -> Result<(&Self, FrameKind, &[u8]), WireError> {
        let got = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let truncated = WireError::Truncated { needed: u64::from(HEADER_BYTES), got };
        let (header, rest) = Self::ref_from_prefix(bytes).map_err(|_| truncated)?;
        Ok((header, header.check(limits::FRAME_BYTES_MAX)?, rest))
    }

    /// As [`Header::split`], and of one kind.
    pub(super) fn split_kind(frame: &[u8], expected: FrameKind) -> Result<(&Self, &[u8]), WireError> {
        let (header, kind, rest) = Self::split(frame)?;
        if kind != expected {
            return Err(WireError::UnexpectedKind { got: kind.code(), expected: expected.code() });
        }
        Ok((header, rest))
    }

    /// The batch this frame carries.
    #[must_use]
    pub fn origin(&self) -> Origin {
        Origin {
            request: self.request.get(),
            session: self.session.get(),
            sequence: self.sequence.get(),
            acknowledged_up_to: self.acknowledged_up_to.get(),
            map_epoch: self.map_epoch.get(),
        }
    }

    /// Whether the request was sent before.
    #[must_use]
    pub fn is_retry(&self) -> bool {
        self.flags.get() & Self::RETRY != 0
    }

    /// Whether it says which operations it holds.
    #[inline(always)]
    pub(super) fn has_indices(&self) -> bool {
        self.flags.get() & Self::INDICES != 0
    }

    /// Whether the kind may carry these flags.
    #[cold]
    fn may_carry(kind: FrameKind, flags: u16) -> bool {
        kind == FrameKind::Request && matches!(flags, Self::RETRY | Self::RETRY_INDICES)
    }

    fn check(&self, frame_bytes_max: u32) -> Result<FrameKind, WireError> {
        let frame_bytes = self.frame_bytes.get();
        if self.magic.get() != MAGIC {
            return Err(WireError::BadMagic { got: self.magic.get() });
        }
        if self.version != PROTOCOL_VERSION {
            return Err(WireError::BadVersion { got: self.version });
        }
        let kind = FrameKind::from_code(self.kind).ok_or(WireError::BadKind { got: self.kind })?;
        if frame_bytes < HEADER_BYTES || frame_bytes > frame_bytes_max {
            return Err(WireError::BadFrameBytes { got: frame_bytes, min: HEADER_BYTES, max: frame_bytes_max });
        }
        if self.flags.get() != 0 && !Self::may_carry(kind, self.flags.get()) {
            return Err(WireError::ReservedNotZero { offset: 6 });
        }
        if self.time.get() != 0 && kind != FrameKind::Reply {
            return Err(WireError::ReservedNotZero { offset: 56 });
        }
        if self.op_count.get() > limits::FRAME_OPS_MAX {
            return Err(WireError::TooManyOps { got: self.op_count.get(), max: limits::FRAME_OPS_MAX });
        }
        if self.op_count.get() != 0 && !matches!(kind, FrameKind::Request | FrameKind::Reply) {
            return Err(WireError::ReservedNotZero { offset: 12 });
        }
        Ok(kind)
    }
}

/// Makes a copy of a request one that is sent again, on another connection: what its header says of its operations, its
/// session and its sequence stays.
///
/// # Panics
/// On bytes that are no request.
pub fn mark_retry(frame: &mut [u8], origin: Origin) {
    let (header, _) = Header::mut_from_prefix(frame).expect("a frame has a header");
    assert_eq!(header.kind, FrameKind::Request.code(), "requests are sent again");
    header.flags = (header.flags.get() | Header::RETRY).into();
    header.request = origin.request.into();
    header.acknowledged_up_to = origin.acknowledged_up_to.into();
    header.map_epoch = origin.map_epoch.into();
}

/// The length of the frame that begins with these bytes: what a byte stream needs to know to cut frames out.
/// `Ok(None)` while fewer than [`HEADER_BYTES`] bytes are there and they may still become a frame: a peer that
/// speaks something else is refused at its first byte, one of another version at its fifth, not after a wait for
/// a header that never comes.
///
/// # Errors
/// The first thing wrong with the header: framing is lost, close the connection.
pub fn frame_bytes(prefix: &[u8], frame_bytes_max: u32) -> Result<Option<u32>, WireError> {
    if let Ok((header, _)) = Header::ref_from_prefix(prefix) {
        header.check(frame_bytes_max)?;
        return Ok(Some(header.frame_bytes.get()));
    }
    let magic = MAGIC.to_le_bytes();
    if prefix.iter().zip(&magic).any(|(got, expected)| got != expected) {
        let mut got = [0; 4];
        got.iter_mut().zip(prefix).for_each(|(to, from)| *to = *from);
        return Err(WireError::BadMagic { got: u32::from_le_bytes(got) });
    }
    match prefix.get(magic.len()) {
        Some(&got) if got != PROTOCOL_VERSION => Err(WireError::BadVersion { got }),
        _ => Ok(None),
    }
}
