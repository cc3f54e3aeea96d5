//! Frames by which whoever runs a node looks inside: hot keys, and profiles where it was started with leave for that.
//!
//! ```text
//!   inspect         64  command u8, 3 reserved | seconds u32 | offset u64
//!   inspect reply   64  status u8, 7 reserved  | bytes_total u64 | what was asked for, or one line that says why not
//! ```
//!
//! A profile is begun, asked for until it is over, and then taken piece by piece: no frame waits for it, so that a
//! connection can be closed, or drained, at any time, and the profile ends with it. Drawn in `docs/WIRE_FORMAT.md`.
#![forbid(unsafe_code)]

use super::error::WireError;
use super::header::{FrameKind, HEADER_LENGTH, Header, Origin};
use super::hello::{body, service_frame};
use super::number::length;
use crate::limits::{PROFILE_BYTES_MAX, PROFILE_SECONDS_MAX};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inspect {
    /// Which keys are hot, as JSON text.
    HotKeys,
    /// Begin a profile of so many seconds, 1 to [`PROFILE_SECONDS_MAX`]. One that this connection has is given up.
    ProfileBegin {
        /// How long it samples.
        seconds: u32,
    },
    /// The profile that this connection began, from this byte on.
    ProfileTake {
        /// The first byte of it that is wanted.
        offset: u64,
    },
}

/// What comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inspected<'a> {
    /// It, or what of it fits a frame.
    Here {
        /// Bytes of all of it.
        bytes_total: u64,
        /// These of it.
        bytes: &'a [u8],
    },
    /// The profile is begun, and not over.
    NotYet,
    /// The node was started without leave for it; the line says how to give it.
    Forbidden(&'a str),
    /// Another profile is under way.
    Busy(&'a str),
    /// This connection has begun no profile.
    Nothing(&'a str),
    /// The node could not do it.
    Failed(&'a str),
}

/// The body of a question.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct InspectBody {
    command: u8,
    reserved: [u8; 3],
    seconds: U32,
    offset: U64,
}

/// The body of an answer.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct InspectedBody {
    status: u8,
    reserved: [u8; 7],
    bytes_total: U64,
}

const _: () = {
    assert!(size_of::<InspectBody>() == 16 && align_of::<InspectBody>() == 1);
    assert!(std::mem::offset_of!(InspectBody, seconds) == 4);
    assert!(std::mem::offset_of!(InspectBody, offset) == 8);
    assert!(size_of::<InspectedBody>() == 16 && align_of::<InspectedBody>() == 1);
    assert!(std::mem::offset_of!(InspectedBody, bytes_total) == 8);
};

const RESERVED: WireError = WireError::ReservedNotZero { offset: 65 };
const _: () = assert!(HEADER_LENGTH == 64);

impl Inspect {
    /// The question in a frame.
    ///
    /// # Errors
    /// The first thing wrong with the frame.
    pub fn parse(frame: &[u8]) -> Result<Self, WireError> {
        let asked: &InspectBody = body(frame, FrameKind::Inspect)?;
        let bad = |what| WireError::BadBody { what };
        let (seconds, offset) = (asked.seconds.get(), asked.offset.get());
        if asked.reserved != [0; 3] {
            return Err(RESERVED);
        }
        let inspect = match asked.command {
            1 => Self::HotKeys,
            2 => Self::ProfileBegin { seconds },
            3 => Self::ProfileTake { offset },
            _ => return Err(bad("command to inspect")),
        };
        let seconds_max = if asked.command == 2 { PROFILE_SECONDS_MAX } else { 0 };
        if !(seconds_max.min(1)..=seconds_max).contains(&seconds) {
            return Err(bad("length of a profile"));
        }
        if offset > 0 && asked.command != 3 || offset > PROFILE_BYTES_MAX {
            return Err(bad("offset in a profile"));
        }
        Ok(inspect)
    }

    /// It as a frame.
    #[must_use]
    pub fn frame(self, request: u64) -> Vec<u8> {
        let (command, seconds, offset) = match self {
            Self::HotKeys => (1, 0, 0),
            Self::ProfileBegin { seconds } => (2, seconds, 0),
            Self::ProfileTake { offset } => (3, 0, offset),
        };
        let asked = InspectBody { command, reserved: [0; 3], seconds: seconds.into(), offset: offset.into() };
        service_frame(FrameKind::Inspect, Origin { request, ..Origin::default() }, &[asked.as_bytes()])
    }
}

impl<'a> Inspected<'a> {
    /// The answer in a frame.
    ///
    /// # Errors
    /// The first thing wrong with the frame.
    pub fn parse(frame: &'a [u8]) -> Result<Self, WireError> {
        let (_, rest) = Header::split_kind(frame, FrameKind::InspectReply)?;
        let answer: &InspectedBody = body(frame, FrameKind::InspectReply)?;
        let bytes = rest.get(size_of::<InspectedBody>()..).unwrap_or_default();
        if answer.reserved != [0; 7] {
            return Err(RESERVED);
        }
        let bytes_total = answer.bytes_total.get();
        let longest = if answer.status == 1 { PROFILE_BYTES_MAX } else { 0 };
        if bytes_total > longest || answer.status == 1 && u64::from(length(bytes.len())) > bytes_total {
            return Err(WireError::BadBody { what: "length of what was inspected" });
        }
        let line = || match std::str::from_utf8(bytes) {
            Ok(line) if !line.contains(char::is_control) => Ok(line),
            _ => Err(WireError::BadBody { what: "text of an answer" }),
        };
        Ok(match answer.status {
            1 => Self::Here { bytes_total, bytes },
            2 if bytes.is_empty() => Self::NotYet,
            3 => Self::Forbidden(line()?),
            4 => Self::Busy(line()?),
            5 => Self::Nothing(line()?),
            6 => Self::Failed(line()?),
            _ => return Err(WireError::BadBody { what: "status of what was inspected" }),
        })
    }

    /// It as a frame. Control characters in lines become spaces.
    ///
    /// # Panics
    /// Where it has more bytes than it says in all, or more than [`PROFILE_BYTES_MAX`].
    #[must_use]
    pub fn frame(self, request: u64) -> Vec<u8> {
        let line = |line: &str| line.replace(char::is_control, " ").into_bytes();
        let (status, total, bytes) = match self {
            Self::Here { bytes_total, bytes } => (1, bytes_total, bytes.to_vec()),
            Self::NotYet => (2, 0, Vec::new()),
            Self::Forbidden(why) => (3, 0, line(why)),
            Self::Busy(why) => (4, 0, line(why)),
            Self::Nothing(why) => (5, 0, line(why)),
            Self::Failed(why) => (6, 0, line(why)),
        };
        assert!(total <= PROFILE_BYTES_MAX, "what is told is bounded");
        assert!(status != 1 || u64::from(length(bytes.len())) <= total, "a part is no longer than the whole");
        let answer = InspectedBody { status, reserved: [0; 7], bytes_total: total.into() };
        service_frame(FrameKind::InspectReply, Origin { request, ..Origin::default() }, &[answer.as_bytes(), &bytes])
    }
}
