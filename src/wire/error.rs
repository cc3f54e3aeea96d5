//! What can be wrong with a frame, with the numbers that say where.
#![forbid(unsafe_code)]

use thiserror::Error;

/// Why bytes are not a frame, or a frame not what it says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum WireError {
    /// Fewer bytes than the frame, or the header, needs.
    #[error("frame cut short: {needed} bytes needed, {got} there")]
    Truncated {
        /// Bytes needed.
        needed: u64,
        /// Bytes there.
        got: u64,
    },
    /// More bytes than the frame's header says.
    #[error("frame of {frame} bytes in {got} bytes")]
    TrailingBytes {
        /// Bytes of the frame.
        frame: u64,
        /// Bytes there.
        got: u64,
    },
    /// The first four bytes are not Freight's.
    #[error("no Freight frame: magic {got:#010x}, expected {:#010x}{}", super::MAGIC, or_tls(*.got))]
    BadMagic {
        /// The four bytes, little-endian; zero where fewer are there.
        got: u32,
    },
    /// Another protocol version.
    #[error("protocol version {got}, this side speaks {}", super::PROTOCOL_VERSION)]
    BadVersion {
        /// The version in the header.
        got: u8,
    },
    /// A frame kind that does not exist.
    #[error("unknown frame kind {got}")]
    BadKind {
        /// The kind in the header.
        got: u8,
    },
    /// A frame of a kind that has no place here.
    #[error("frame kind {got} where {expected} was expected")]
    UnexpectedKind {
        /// The kind in the header.
        got: u8,
        /// The kind expected.
        expected: u8,
    },
    /// A reserved field is not zero.
    #[error("reserved field at byte {offset} is not zero")]
    ReservedNotZero {
        /// Offset in the frame.
        offset: u32,
    },
    /// A frame shorter than its header or longer than the limit.
    #[error("frame of {got} bytes, allowed are {min} to {max}")]
    BadFrameBytes {
        /// The length in the header.
        got: u32,
        /// The shortest frame.
        min: u32,
        /// The frame limit.
        max: u32,
    },
    /// More operations than a frame may hold.
    #[error("{got} operations in a frame, at most {max} are allowed")]
    TooManyOps {
        /// The count in the header.
        got: u32,
        /// The most allowed.
        max: u32,
    },
    /// An operation code that does not exist.
    #[error("operation {index}: unknown operation code {got}")]
    BadOpCode {
        /// Index of the operation.
        index: u32,
        /// The code.
        got: u8,
    },
    /// Flags that do not exist.
    #[error("operation {index}: unknown flags {got:#04x}")]
    BadFlags {
        /// Index of the operation.
        index: u32,
        /// The flags.
        got: u8,
    },
    /// An edit, or the outcome of one, that says nothing known: a code, a fact, or something that should be zero.
    #[error("operation {index}: malformed edit")]
    BadEdit {
        /// Index of the operation.
        index: u32,
    },
    /// An operation's first index is not above the one before.
    #[error("operation {index}: first index {got} behind {before}")]
    BadIndex {
        /// Index of the operation in this frame.
        index: u32,
        /// Its index in the frame that was sent first.
        got: u16,
        /// That of the operation before.
        before: u16,
    },
    /// A reply status that does not exist.
    #[error("operation {index}: unknown status {got}")]
    BadStatus {
        /// Index of the operation.
        index: u32,
        /// The status.
        got: u8,
    },
    /// A counter that is not 8 bytes.
    #[error("operation {index}: counter of {got} bytes, it takes 8")]
    BadCounter {
        /// Index of the operation.
        index: u32,
        /// The length it gives.
        got: u32,
    },
    /// A value longer than the limit, or than its status allows.
    #[error("operation {index}: value of {got} bytes, at most {max} are allowed")]
    ValueTooLong {
        /// Index of the operation.
        index: u32,
        /// The length it gives.
        got: u32,
        /// The longest allowed.
        max: u32,
    },
    /// An operation's bytes lie outside the frame's payload. Offsets count from the start of the frame.
    #[error("operation {index}: bytes {begin} to {end} of a payload from {payload_begin} to {payload_end}")]
    OutOfFrame {
        /// Index of the operation.
        index: u32,
        /// Where the first part that lies outside begins.
        begin: u64,
        /// Where it ends.
        end: u64,
        /// Where the payload begins.
        payload_begin: u64,
        /// Where the payload ends.
        payload_end: u64,
    },
    /// Two outcomes share bytes of the payload.
    #[error("operation {index}: its bytes begin at {begin}, before those of another end at {end}")]
    Overlap {
        /// Index of the later of the two.
        index: u32,
        /// Where its bytes begin, from the start of the frame.
        begin: u64,
        /// Where the other's end.
        end: u64,
    },
    /// The operations do not use up the payload, or use more than there is.
    #[error("operations use {used} bytes of a payload of {payload} bytes")]
    PayloadMismatch {
        /// Sum of the operations' bytes.
        used: u64,
        /// Bytes of payload.
        payload: u64,
    },
    /// A frame limit in a hello or its reply that no side may have.
    #[error("frame limit of {got} bytes, allowed are {min} to {max}")]
    BadFrameLimit {
        /// The limit in the frame.
        got: u32,
        /// The least allowed.
        min: u32,
        /// The greatest.
        max: u32,
    },
    /// A reply to a request that nobody waits for.
    #[error("reply to request {got}, which nobody waits for")]
    UnknownRequest {
        /// The request's number in the header.
        got: u64,
    },
    /// A reply to another number of operations than were asked.
    #[error("reply to {got} operations where {expected} were asked")]
    WrongOpCount {
        /// The count in the header.
        got: u32,
        /// The operations of the request.
        expected: u32,
    },
    /// Text that is not UTF-8, or a value that makes no sense, in a service frame.
    #[error("unreadable {what} in a service frame")]
    BadBody {
        /// Which field.
        what: &'static str,
    },
}

/// Why an operation does not fit the batch being built. The batch is as before and can be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BuildError {
    /// The key is too long for any frame.
    #[error("key of {got} bytes, at most {max} are allowed")]
    KeyTooLong {
        /// Its length.
        got: usize,
        /// The longest allowed.
        max: u32,
    },
    /// The value is too long for any frame.
    #[error("value of {got} bytes, at most {max} are allowed")]
    ValueTooLong {
        /// Its length.
        got: usize,
        /// The longest allowed.
        max: u32,
    },
    /// The batch holds as many operations as a frame may.
    #[error("the batch is full: {max} operations")]
    TooManyOps {
        /// The most allowed.
        max: u32,
    },
    /// The operation would make the frame longer than the node takes.
    #[error("the batch is full: {needed} bytes needed, the frame limit is {max}")]
    FrameFull {
        /// Bytes the frame would need.
        needed: u64,
        /// The node's frame limit.
        max: u32,
    },
    /// The transport has no more memory to lend.
    #[error("no memory for a frame of {needed} bytes")]
    OutOfMemory {
        /// Bytes the frame would need.
        needed: u64,
    },
}

/// Records of TLS begin with what they are, 20 to 23, and a version (RFC 8446, section 5.1); a byte may be all there
/// is.
fn or_tls(magic: u32) -> &'static str {
    match magic.to_le_bytes() {
        [20..=23, 3, ..] | [20..=23, 0, 0, 0] => "; it looks like TLS: is one end at tls://?",
        _ => "",
    }
}
