//! What can go wrong between two ends of shared memory, besides what any connection suffers.
#![forbid(unsafe_code)]

use rustix::io::Errno;
use std::time::Duration;
use thiserror::Error;

/// Why two processes do not come to share memory, or stop to.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ShmError {
    /// The peer's first bytes are none of ours.
    #[error("the peer speaks no shared-memory protocol: it begins with {got:#010x}")]
    NotShm {
        /// Its first four bytes.
        got: u32,
    },
    /// Another version of the protocol between the two processes.
    #[error("the peer speaks shared-memory protocol {got}, this build {expected}")]
    Version {
        /// The peer's.
        got: u16,
        /// Ours.
        expected: u16,
    },
    /// A handshake that ends in its middle.
    #[error("half a handshake: {got} of {needed} bytes")]
    HalfHandshake {
        /// Bytes that came.
        got: usize,
        /// Bytes of it.
        needed: usize,
    },
    /// A handshake without the memory it is about.
    #[error("a handshake with {got} descriptors where {needed} are needed")]
    Descriptors {
        /// Descriptors that came.
        got: usize,
        /// Descriptors that are needed.
        needed: usize,
    },
    /// A handshake that does not come.
    #[error("no handshake within {waited:?}")]
    Stalled {
        /// How long it was waited for.
        waited: Duration,
    },
    /// Sizes that no node of this protocol has.
    #[error("the node offers {requests} and {replies} granules, out of range")]
    BadOffer {
        /// Granules for requests.
        requests: u32,
        /// Granules for replies.
        replies: u32,
    },
    /// Memory that its owner could still cut off under us.
    #[error("the offered memory lacks the seals {missing}")]
    Unsealed {
        /// The seals that are missing.
        missing: String,
    },
    /// Memory shorter than what is to be in it.
    #[error("the offered memory has {got} bytes where {needed} are needed")]
    Size {
        /// Bytes there are.
        got: u64,
        /// Bytes announced.
        needed: u64,
    },
    /// A peer's counters contradict each other.
    #[error("the peer's counters are lies: {frames} frames in a ring of {max}")]
    BadCount {
        /// Frames in the ring by what it says.
        frames: u64,
        /// Frames that it has room for.
        max: u64,
    },
    /// A frame outside the segment.
    #[error("the peer's frame of {bytes} bytes at granule {first} lies outside its {granules} granules")]
    BadDescriptor {
        /// Its first granule.
        first: u32,
        /// Its bytes.
        bytes: u32,
        /// Granules there are.
        granules: u32,
    },
    /// A system call failed.
    #[error("{what}: {errno}")]
    System {
        /// What was tried.
        what: &'static str,
        /// The system's answer.
        errno: Errno,
    },
}

impl ShmError {
    /// For `map_err`: a system call that was to do something.
    pub(super) fn system(what: &'static str) -> impl FnOnce(Errno) -> Self {
        move |errno| Self::System { what, errno }
    }
}
