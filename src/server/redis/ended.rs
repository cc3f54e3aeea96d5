//! Why connections of Redis clients end.
#![forbid(unsafe_code)]

use crate::resp::ProtocolError;
use crate::transport::TransportError;
use crate::transport::tls::TlsError;
use std::io;
use std::time::Duration;
use thiserror::Error;

/// Why a connection ends, other than by its client closing it or saying so.
#[derive(Debug, Error)]
pub(super) enum Ended {
    #[error("connection lost: {0}")]
    Lost(#[from] io::Error),
    #[error("no TLS handshake within {0:?}")]
    NoHandshake(Duration),
    #[error(transparent)]
    NoTls(TransportError),
    #[error("protocol error: {0}")]
    Protocol(ProtocolError),
    #[error("half a command, and no more of it within {0:?}")]
    Stalled(Duration),
    #[error("{waiting} bytes of replies, and none taken within {wait:?}")]
    NotTaken { waiting: usize, wait: Duration },
    #[error("no authentication within {0:?}")]
    Stranger(Duration),
    #[error("nothing came within {0:?}")]
    Idle(Duration),
    #[error("others asked for so many operations that there was no turn within {0:?}")]
    NoTurn(Duration),
    #[error("rights were taken away in the midst of what they were for")]
    Revoked,
    #[error("no memory for a command")]
    NoCommandMemory,
    #[error("no memory for a reply")]
    NoReplyMemory,
}

impl Ended {
    /// As metrics have it.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Lost(error) if error.get_ref().is_some_and(|source| source.is::<TlsError>()) => "tls",
            Self::Lost(_) => "lost",
            Self::NoHandshake(_) => "no_hello",
            Self::NoTls(TransportError::Tls(_)) => "tls",
            // Of an account.
            Self::NoTls(_) => "memory",
            Self::Protocol(_) => "malformed",
            Self::Stalled(_) => "stalled",
            Self::NotTaken { .. } => "not_taken",
            Self::Idle(_) => "idle",
            Self::NoTurn(_) => "throttled",
            Self::Stranger(_) | Self::Revoked => "unauthorized",
            Self::NoCommandMemory | Self::NoReplyMemory => "memory",
        }
    }
}
