//! Why an RDMA connection ends.
#![forbid(unsafe_code)]

use super::greeting::GREETING_VERSION;
use super::verbs::{Failure, VerbsError};
use crate::transport::TransportError;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;

/// Why a connection cannot be opened, or is lost.
#[derive(Debug, Clone, Error)]
pub enum RdmaError {
    /// The peer is something else.
    #[error("the peer does not answer as an rdma:// endpoint: is it a tcp:// one?")]
    NotRdma,
    /// The peer is of another version.
    #[error("the peer opens RDMA connections by version {got}, this build by {GREETING_VERSION}")]
    Version {
        /// Its version.
        got: u16,
    },
    /// The peer says no.
    #[error("the peer refuses an RDMA connection: {text}")]
    Refused {
        /// Its reason.
        text: String,
    },
    /// The peer's part of opening a connection makes no sense.
    #[error("the peer opens the connection wrongly: {what}")]
    BadGreeting {
        /// What is wrong.
        what: &'static str,
    },
    /// The peer went away while the connection was opened.
    #[error("the peer closed while the connection was being opened")]
    HalfOpened,
    /// The peer stopped while the connection was opened.
    #[error("the peer did not open its side within {waited:?}")]
    Stalled {
        /// How long it had.
        waited: Duration,
    },
    /// The control connection broke.
    #[error("the control connection broke: {source}")]
    Control {
        /// The system's reason.
        source: Arc<io::Error>,
    },
    /// The peer closed the control connection.
    #[error("the peer is gone")]
    Gone,
    /// A work request failed.
    #[error("{failure}")]
    Completion {
        /// How.
        failure: Failure,
    },
    /// The peer does not keep to the protocol.
    #[error("the peer breaks the protocol: {what}")]
    Protocol {
        /// What it did.
        what: &'static str,
    },
    /// No registered memory for a message.
    #[error("no registered memory for a message")]
    NoMemory,
    /// The device failed.
    #[error("the RDMA device failed: see `dmesg`; a new connection opens it anew")]
    Device,
    /// The device reports that what this connection is made of failed.
    #[error("the RDMA device reports of this connection: {what}")]
    Reported {
        /// What happened.
        what: &'static str,
    },
    /// A verb was refused.
    #[error(transparent)]
    Verbs(#[from] VerbsError),
}

impl RdmaError {
    /// As an error of the system.
    pub(super) fn into_io(self) -> io::Error {
        match self {
            Self::Verbs(error) => error.into_io(),
            error => io::Error::other(error),
        }
    }

    /// As the loss of a connection.
    pub(super) fn lost(self) -> TransportError {
        let kind = match &self {
            Self::Control { source } => source.kind(),
            Self::Stalled { .. } => io::ErrorKind::TimedOut,
            Self::Completion { failure: Failure::Unreachable } => io::ErrorKind::TimedOut,
            Self::NotRdma | Self::Version { .. } | Self::BadGreeting { .. } | Self::Protocol { .. } => {
                io::ErrorKind::InvalidData
            }
            Self::Refused { .. } => io::ErrorKind::ConnectionRefused,
            _ => io::ErrorKind::ConnectionReset,
        };
        TransportError::Lost { source: io::Error::new(kind, self) }
    }
}
