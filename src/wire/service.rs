//! Frames beside the data path: statistics and the wire-limit measurement.
#![forbid(unsafe_code)]

use super::error::WireError;
use super::header::{FrameKind, HEADER_BYTES, HEADER_LENGTH, Header, Origin};
use super::hello::service_frame;
use super::number::length;
use crate::limits;
use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, IntoBytes};

/// Asks for statistics.
#[must_use]
pub fn stats_request(request: u64) -> Vec<u8> {
    service_frame(FrameKind::Stats, Origin { request, ..Origin::default() }, &[])
}

/// Statistics as JSON text.
#[must_use]
pub fn stats_reply(request: u64, json: &str) -> Vec<u8> {
    service_frame(FrameKind::StatsReply, Origin { request, ..Origin::default() }, &[json.as_bytes()])
}

/// The JSON text of a statistics reply.
///
/// # Errors
/// The first thing wrong with the frame.
pub fn stats_text(frame: &[u8]) -> Result<&str, WireError> {
    let (_, text) = Header::split_kind(frame, FrameKind::StatsReply)?;
    std::str::from_utf8(text).map_err(|_| WireError::BadBody { what: "statistics" })
}

/// Header and body of a wire-limit request, in bytes: none is shorter.
pub const WIRE_LIMIT_BYTES_MIN: u32 = HEADER_BYTES + 4;

/// A wire-limit request: any bytes, answered by a raw frame of the size it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WireLimitView {
    /// Bytes of the reply, header included.
    pub reply_bytes: u32,
}

impl WireLimitView {
    /// The request in a frame.
    ///
    /// # Errors
    /// The first thing wrong with the frame.
    pub fn parse(frame: &[u8]) -> Result<Self, WireError> {
        let (_, rest) = Header::split_kind(frame, FrameKind::WireLimit)?;
        let (reply_bytes, _) = U32::ref_from_prefix(rest)
            .map_err(|_| WireError::Truncated { needed: 4, got: u64::from(length(rest.len())) })?;
        let (got, max) = (reply_bytes.get(), limits::FRAME_BYTES_MAX);
        if !(HEADER_BYTES..=max).contains(&got) {
            return Err(WireError::BadFrameBytes { got, min: HEADER_BYTES, max });
        }
        Ok(Self { reply_bytes: got })
    }
}

/// Writes a wire-limit request of `frame_bytes` over the front of a buffer; the rest is sent as it is.
///
/// # Panics
/// Where the buffer is shorter than the frame, or the frame than header and body.
pub fn wire_limit_request(buffer: &mut [u8], request: u64, frame_bytes: u32, reply_bytes: u32) {
    raw_header(buffer, FrameKind::WireLimit, request, frame_bytes);
    let body = buffer.get_mut(HEADER_LENGTH..).expect("raw_header asserted the length");
    U32::new(reply_bytes).write_to_prefix(body).expect("a wire-limit request has a body");
}

/// Writes the header of a wire-limit reply of `frame_bytes` over the front of a buffer.
///
/// # Panics
/// Where the buffer is shorter than the frame.
pub fn wire_limit_reply(buffer: &mut [u8], request: u64, frame_bytes: u32) {
    raw_header(buffer, FrameKind::WireLimitReply, request, frame_bytes);
}

fn raw_header(buffer: &mut [u8], kind: FrameKind, request: u64, frame_bytes: u32) {
    assert!(buffer.len() >= super::number::index(frame_bytes), "the buffer holds the frame");
    let header = Header::new(kind, frame_bytes, 0, Origin { request, ..Origin::default() });
    header.write_to_prefix(buffer).expect("a frame holds its header");
}
