//! What can go wrong below frames.
#![forbid(unsafe_code)]

use super::{Endpoint, shm::ShmError, tls::TlsError};
use crate::wire::WireError;
use std::io;
use std::time::Duration;
use thiserror::Error;

/// Why a connection cannot be made, or is lost.
#[derive(Debug, Error)]
pub enum TransportError {
    /// The endpoint cannot be listened at.
    #[error("cannot listen at {endpoint}: {source}")]
    Listen {
        /// The endpoint.
        endpoint: Endpoint,
        /// The system's reason.
        source: io::Error,
    },
    /// The endpoint cannot be reached.
    #[error("cannot connect to {endpoint}: {source}")]
    Connect {
        /// The endpoint.
        endpoint: Endpoint,
        /// The system's reason.
        source: io::Error,
    },
    /// No connection can be taken now.
    #[error("cannot accept a connection: {source}")]
    Accept {
        /// The system's reason.
        source: io::Error,
    },
    /// The connection broke.
    #[error("connection lost: {source}")]
    Lost {
        /// The system's reason.
        source: io::Error,
    },
    /// The peer closed the connection inside a frame.
    #[error("connection closed inside a frame: {got} of {needed} bytes had arrived")]
    CutShort {
        /// Bytes that had arrived.
        got: u32,
        /// Bytes of the frame, or of a header where not even that was there.
        needed: u32,
    },
    /// The peer stopped sending inside a frame.
    #[error("frame stalled: {got} of {needed} bytes had arrived, and too few within {wait:?}")]
    Stalled {
        /// Bytes that had arrived.
        got: u32,
        /// Bytes of the frame, or of a header where not even that was there.
        needed: u32,
        /// How long the rest, or the next part of it, was waited for.
        wait: Duration,
    },
    /// The peer stopped taking a frame.
    #[error("frame not taken: {taken} of {frame_bytes} bytes were, and too few within {wait:?}")]
    NotTaken {
        /// Bytes that were taken.
        taken: u32,
        /// Bytes of the frame.
        frame_bytes: u32,
        /// How long the peer was waited for.
        wait: Duration,
    },
    /// What arrives is no frame: framing is lost.
    #[error("peer does not speak this protocol: {0}")]
    Framing(#[from] WireError),
    /// Two processes do not come to share memory, or stop to.
    #[error("shared memory: {0}")]
    Shm(#[source] ShmError),
    /// Two processes do not come to speak TLS.
    #[error("{0}")]
    Tls(#[from] TlsError),
    /// The memory budget has no room for the peer's frame.
    #[error("no memory for a frame of {frame_bytes} bytes")]
    OutOfMemory {
        /// Bytes of the frame.
        frame_bytes: u32,
    },
}
