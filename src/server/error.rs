//! Why a node does not start.
#![forbid(unsafe_code)]

use crate::shard::{Eviction, StoreError};
use crate::transport::TransportError;
use std::io;
use std::net::SocketAddr;
use thiserror::Error;

/// Why a node does not start, or ends.
#[derive(Debug, Error)]
pub enum ServerError {
    /// No endpoint to listen at.
    #[error("a node needs at least one endpoint to listen at")]
    NoEndpoint,
    /// A frame limit out of range.
    #[error("frame limit of {got} bytes, allowed are {min} to {max}")]
    FrameLimit {
        /// The limit asked for.
        got: u32,
        /// The least.
        min: u32,
        /// The largest.
        max: u32,
    },
    /// A memory cap too small to serve.
    #[error("memory cap of {got} bytes, at least {min} ({} MiB) are needed", min >> 20)]
    MemoryCap {
        /// The cap asked for.
        got: u64,
        /// The least.
        min: u64,
    },
    /// Records would be evicted at a cap that there is not.
    #[error("--evict {eviction} says what goes where memory is full, and without --memory it never is")]
    NothingToEvictFor {
        /// What was asked for.
        eviction: Eviction,
    },
    /// Others could connect without authentication.
    #[error(
        "{endpoint} can be reached from other machines and nobody has to authenticate: --users names those who may use \
         it, --insecure allows it to everybody"
    )]
    Insecure {
        /// The endpoint.
        endpoint: String,
    },
    /// An endpoint of TLS without what it takes.
    #[error("{endpoint} needs a certificate and its key: --tls-certificate FILE and --tls-key FILE")]
    NoCertificate {
        /// The endpoint.
        endpoint: String,
    },
    /// An endpoint cannot be listened at.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The store cannot be made.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Metrics cannot be told there.
    #[error("cannot listen at {address} for metrics: {source}")]
    Metrics {
        /// The address.
        address: SocketAddr,
        /// The system's reason.
        source: io::Error,
    },
    /// A thread or its runtime cannot be started.
    #[error("cannot start a thread: {source}")]
    Thread {
        /// The system's reason.
        source: io::Error,
    },
}
