//! The first frames on a connection, and the last one when a side refuses to go on.
//!
//! The client says which versions it speaks and what it can do; the node answers with the version both use, its
//! incarnation and its limits, or refuses. Where it has users it asks for a proof first: a method and its bytes follow
//! the fixed body (`authentication.rs`).
#![forbid(unsafe_code)]

use super::error::WireError;
use super::header::{FrameKind, HEADER_LENGTH, Header, Origin, PROTOCOL_VERSION};
use super::number::{index, length};
use crate::limits::{FRAME_BYTES_MAX, FRAME_BYTES_MIN};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Abilities a side offers; a bit is used only when both offer it. None are defined yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Capabilities(pub u64);

/// The body of a hello.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Hello {
    /// The oldest protocol version the client speaks.
    pub version_min: u8,
    /// The newest.
    pub version_max: u8,
    /// How the client proves who it is; zero for not at all. Its bytes follow this body.
    pub authentication_method: U16,
    /// The longest frame the client takes, in bytes; within the limits of [`crate::limits`].
    pub frame_bytes_max: U32,
    /// [`Capabilities`].
    pub capabilities: U64,
    /// Zero, checked.
    pub reserved: U64,
}

const _: () = {
    assert!(size_of::<Hello>() == 24 && align_of::<Hello>() == 1);
    assert!(std::mem::offset_of!(Hello, authentication_method) == 2);
    assert!(std::mem::offset_of!(Hello, frame_bytes_max) == 4);
    assert!(std::mem::offset_of!(Hello, capabilities) == 8);
    assert!(std::mem::offset_of!(Hello, reserved) == 16);
};

impl Hello {
    /// A hello of this protocol version, without authentication.
    #[must_use]
    pub fn new(frame_bytes_max: u32, capabilities: Capabilities) -> Self {
        Self {
            version_min: PROTOCOL_VERSION,
            version_max: PROTOCOL_VERSION,
            authentication_method: 0.into(),
            frame_bytes_max: frame_bytes_max.into(),
            capabilities: capabilities.0.into(),
            reserved: 0.into(),
        }
    }

    /// The hello in a frame.
    ///
    /// # Errors
    /// The first thing wrong with the frame.
    pub fn parse(frame: &[u8]) -> Result<&Self, WireError> {
        let hello: &Self = body(frame, FrameKind::Hello)?;
        if hello.reserved.get() != 0 {
            return Err(WireError::ReservedNotZero { offset: length(HEADER_LENGTH).saturating_add(16) });
        }
        if hello.version_min > hello.version_max {
            return Err(WireError::BadBody { what: "version range" });
        }
        check_frame_limit(hello.frame_bytes_max)?;
        Ok(hello)
    }
}

/// The body of a hello's reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct HelloReply {
    /// The protocol version both sides use from here on.
    pub version: u8,
    /// Zero, checked.
    pub reserved: u8,
    /// The processor that serves this connection, 65,535 where it isn't bound to one.
    pub cpu: U16,
    /// The longest frame the node takes and sends, in bytes; within the limits of [`crate::limits`].
    pub frame_bytes_max: U32,
    /// [`Capabilities`] both sides have.
    pub capabilities: U64,
    /// 128 bits drawn when the node started: another start is another node, with an empty memory.
    pub incarnation: [u8; 16],
    /// Requests a client may have in flight on this connection, at least one.
    pub frames_in_flight_max: U32,
    /// What the node allows: bit 0, it answers wire-limit frames.
    pub permissions: U32,
}

const _: () = {
    assert!(size_of::<HelloReply>() == 40 && align_of::<HelloReply>() == 1);
    assert!(std::mem::offset_of!(HelloReply, cpu) == 2);
    assert!(std::mem::offset_of!(HelloReply, frame_bytes_max) == 4);
    assert!(std::mem::offset_of!(HelloReply, capabilities) == 8);
    assert!(std::mem::offset_of!(HelloReply, incarnation) == 16);
    assert!(std::mem::offset_of!(HelloReply, frames_in_flight_max) == 32);
    assert!(std::mem::offset_of!(HelloReply, permissions) == 36);
};

impl HelloReply {
    /// The value of `cpu` for a connection that no one processor serves.
    pub const CPU_NONE: u16 = u16::MAX;

    /// The permission bit of wire-limit frames.
    pub const WIRE_LIMIT: u32 = 1;

    /// The reply in a frame.
    ///
    /// # Errors
    /// The first thing wrong with the frame.
    pub fn parse(frame: &[u8]) -> Result<&Self, WireError> {
        let reply: &Self = body(frame, FrameKind::HelloReply)?;
        if reply.reserved != 0 {
            return Err(WireError::ReservedNotZero { offset: length(HEADER_LENGTH).saturating_add(1) });
        }
        if reply.version != PROTOCOL_VERSION {
            return Err(WireError::BadVersion { got: reply.version });
        }
        if reply.frames_in_flight_max.get() == 0 {
            return Err(WireError::BadBody { what: "number of frames in flight" });
        }
        check_frame_limit(reply.frame_bytes_max)?;
        Ok(reply)
    }
}

/// Why a side refuses to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum RefusalCode {
    /// No common protocol version.
    Version = 1,
    /// Too many connections.
    Connections = 2,
    /// Not allowed without authentication.
    Unauthorized = 3,
    /// A malformed frame.
    Malformed = 4,
    /// The node is shutting down.
    Draining = 5,
    /// The frame asks for something this node does not allow.
    Forbidden = 6,
    /// The node has no memory left for this frame.
    Memory = 7,
}

impl RefusalCode {
    fn from_code(code: u16) -> Option<Self> {
        Some(match code {
            1 => Self::Version,
            2 => Self::Connections,
            3 => Self::Unauthorized,
            4 => Self::Malformed,
            5 => Self::Draining,
            6 => Self::Forbidden,
            7 => Self::Memory,
            _ => return None,
        })
    }

    #[expect(clippy::as_conversions, reason = "the discriminant is the code")]
    const fn code(self) -> u16 {
        self as u16
    }
}

/// A refusal: a code for programs and a line for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal<'a> {
    /// Why.
    pub code: RefusalCode,
    /// One line of text, without control characters: it goes to terminals and logs.
    pub text: &'a str,
}

impl<'a> Refusal<'a> {
    /// The refusal in a frame.
    ///
    /// # Errors
    /// The first thing wrong with the frame.
    pub fn parse(frame: &'a [u8]) -> Result<Self, WireError> {
        Self::parse_kind(frame, FrameKind::Refusal)
    }

    /// As [`Refusal::parse`], of a frame of another kind.
    pub(super) fn parse_kind(frame: &'a [u8], kind: FrameKind) -> Result<Self, WireError> {
        let (_, rest) = Header::split_kind(frame, kind)?;
        let (code, text) = U16::ref_from_prefix(rest).map_err(|_| truncated(size_of::<U16>(), rest))?;
        let code = RefusalCode::from_code(code.get()).ok_or(WireError::BadBody { what: "refusal code" })?;
        match std::str::from_utf8(text) {
            Ok(text) if !text.contains(char::is_control) => Ok(Self { code, text }),
            _ => Err(WireError::BadBody { what: "refusal text" }),
        }
    }
}

/// A hello as a frame.
#[must_use]
pub fn hello(hello: &Hello) -> Vec<u8> {
    service_frame(FrameKind::Hello, Origin::default(), &[hello.as_bytes()])
}

/// A hello's reply as a frame.
#[must_use]
pub fn hello_reply(reply: &HelloReply) -> Vec<u8> {
    service_frame(FrameKind::HelloReply, Origin::default(), &[reply.as_bytes()])
}

/// A refusal as a frame. Control characters in the text become spaces.
#[must_use]
pub fn refusal(code: RefusalCode, text: &str) -> Vec<u8> {
    refusal_of(FrameKind::Refusal, Origin::default(), code, text)
}

/// As [`refusal`], as a frame of another kind.
pub(super) fn refusal_of(kind: FrameKind, origin: Origin, code: RefusalCode, text: &str) -> Vec<u8> {
    let text = text.replace(char::is_control, " ");
    service_frame(kind, origin, &[U16::new(code.code()).as_bytes(), text.as_bytes()])
}

/// A frame of header and parts; for the rare frames that no transport lends a buffer for.
pub(super) fn service_frame(kind: FrameKind, origin: Origin, parts: &[&[u8]]) -> Vec<u8> {
    let bytes = parts.iter().fold(HEADER_LENGTH, |sum, part| sum.saturating_add(part.len()));
    let mut frame = Vec::with_capacity(bytes);
    frame.extend_from_slice(Header::new(kind, length(bytes), 0, origin).as_bytes());
    for part in parts {
        frame.extend_from_slice(part);
    }
    frame
}

/// The fixed body of a service frame; what follows it belongs to later versions and is passed over.
pub(super) fn body<T: FromBytes + KnownLayout + Immutable + Unaligned>(
    frame: &[u8],
    kind: FrameKind,
) -> Result<&T, WireError> {
    let (_, rest) = Header::split_kind(frame, kind)?;
    T::ref_from_prefix(rest).map(|(body, _)| body).map_err(|_| truncated(size_of::<T>(), rest))
}

/// Builders rely on a sane limit, and a limit from the wire may be anything.
fn check_frame_limit(limit: U32) -> Result<(), WireError> {
    let (got, min, max) = (limit.get(), FRAME_BYTES_MIN, FRAME_BYTES_MAX);
    if (min..=max).contains(&got) { Ok(()) } else { Err(WireError::BadFrameLimit { got, min, max }) }
}

fn truncated(needed: usize, rest: &[u8]) -> WireError {
    debug_assert!(needed < index(u32::MAX), "bodies are small");
    WireError::Truncated { needed: u64::from(length(needed)), got: u64::from(length(rest.len())) }
}
