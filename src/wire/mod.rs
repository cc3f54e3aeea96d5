//! The wire format: frames as views of bytes, no copy, no panic on any input.
//!
//! ```text
//!   request   | header 64 | op descriptors 4 x n    | operand, key, value of op 0, of op 1, ...   |
//!      again  | header 64 | first indices 2 x n, where it is only a part | descriptors ...        |
//!   reply     | header 64 | reply descriptors 8 x n | version, value of each op, as they came up  |
//!   others    | header 64 | one fixed body          | bytes                                       |
//! ```
//!
//! Integers are little-endian, every struct has alignment 1. A view validates a whole frame once, then yields
//! operations or outcomes that borrow from it. A builder writes into a buffer that a transport lends; what the
//! builder writes, the view checks. `docs/WIRE_FORMAT.md` draws the bytes; `tests/golden` holds them.
//!
//! Architecture invariant: nothing here knows a socket, a clock, a thread or a shard.
#![forbid(unsafe_code)]
#![deny(clippy::as_conversions, clippy::arithmetic_side_effects)]
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

mod authentication;
mod buffer;
mod counting;
mod edit;
mod error;
mod header;
mod hello;
mod inspect;
mod moves;
mod number;
mod reply;
mod reply_builder;
mod request;
mod request_builder;
mod service;

pub use authentication::{
    challenge, challenge_message, denial, denial_text, hello_message, hello_reply_message, hello_reply_with,
    hello_with, proof, proof_message,
};
pub use buffer::FrameBuffer;
pub use counting::count_outcomes;
pub use error::{BuildError, WireError};
pub use header::{FrameKind, HEADER_BYTES, Header, MAGIC, Origin, PROTOCOL_VERSION, frame_bytes, mark_retry};
pub use hello::{Capabilities, Hello, HelloReply, Refusal, RefusalCode, hello, hello_reply, refusal};
pub use inspect::{Inspect, Inspected};
pub use moves::{
    Handed, MoveBody, MoveChunk, MoveCommand, MoveReplyBody, MoveReplyView, MoveStatus, MoveView, move_request,
};
pub use reply::{ReplyDescriptor, ReplyOutcomes, ReplyView, Status};
pub use reply_builder::ReplyBuilder;
pub use request::{OpCode, OpDescriptor, RequestView};
pub use request_builder::RequestBuilder;
pub use service::{
    WIRE_LIMIT_BYTES_MIN, WireLimitView, stats_reply, stats_request, stats_text, wire_limit_reply, wire_limit_request,
};
