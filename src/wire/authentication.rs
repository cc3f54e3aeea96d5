//! The frames by which a client proves who it is, and the answer to what it may not do.
//!
//! ```text
//!   hello, and the first message --> <-- challenge      proof --> <-- hello reply, and the last message
//!   any frame that is answered   --> <-- denial: nothing of it was executed, and the connection goes on
//! ```
//!
//! What the messages say is for [`crate::auth`]; here they are bytes.
#![forbid(unsafe_code)]

use super::error::WireError;
use super::header::{FrameKind, Header, Origin};
use super::hello::{Hello, HelloReply, Refusal, RefusalCode, refusal_of, service_frame};
use zerocopy::IntoBytes;

/// A hello with the bytes of its authentication method.
#[must_use]
pub fn hello_with(hello: &Hello, message: &[u8]) -> Vec<u8> {
    service_frame(FrameKind::Hello, Origin::default(), &[hello.as_bytes(), message])
}

/// The bytes of a hello's authentication method.
///
/// # Errors
/// The first thing wrong with the frame.
pub fn hello_message(frame: &[u8]) -> Result<&[u8], WireError> {
    Hello::parse(frame)?;
    behind(frame, FrameKind::Hello, size_of::<Hello>())
}

/// A node's question to whoever says who it is.
#[must_use]
pub fn challenge(message: &[u8]) -> Vec<u8> {
    service_frame(FrameKind::Challenge, Origin::default(), &[message])
}

/// What a challenge asks.
///
/// # Errors
/// The first thing wrong with the frame.
pub fn challenge_message(frame: &[u8]) -> Result<&[u8], WireError> {
    behind(frame, FrameKind::Challenge, 0)
}

/// A client's answer to a challenge.
#[must_use]
pub fn proof(message: &[u8]) -> Vec<u8> {
    service_frame(FrameKind::Proof, Origin::default(), &[message])
}

/// What a proof says.
///
/// # Errors
/// The first thing wrong with the frame.
pub fn proof_message(frame: &[u8]) -> Result<&[u8], WireError> {
    behind(frame, FrameKind::Proof, 0)
}

/// A hello's reply to a client that has proved who it is.
#[must_use]
pub fn hello_reply_with(reply: &HelloReply, message: &[u8]) -> Vec<u8> {
    service_frame(FrameKind::HelloReply, Origin::default(), &[reply.as_bytes(), message])
}

/// The node's last message, behind its reply.
///
/// # Errors
/// The first thing wrong with the frame.
pub fn hello_reply_message(frame: &[u8]) -> Result<&[u8], WireError> {
    HelloReply::parse(frame)?;
    behind(frame, FrameKind::HelloReply, size_of::<HelloReply>())
}

/// The answer to a frame that its client may not send.
#[must_use]
pub fn denial(request: u64, text: &str) -> Vec<u8> {
    refusal_of(FrameKind::Denial, Origin { request, ..Origin::default() }, RefusalCode::Forbidden, text)
}

/// Why a frame was denied.
///
/// # Errors
/// The first thing wrong with the frame.
pub fn denial_text(frame: &[u8]) -> Result<&str, WireError> {
    Refusal::parse_kind(frame, FrameKind::Denial).map(|refusal| refusal.text)
}

fn behind(frame: &[u8], kind: FrameKind, body: usize) -> Result<&[u8], WireError> {
    let (_, rest) = Header::split_kind(frame, kind)?;
    Ok(rest.get(body..).unwrap_or_default())
}
