//! What can be wrong with a map, and with keeping one.
#![forbid(unsafe_code)]

use super::etcd::{Tried, told};
use super::{Id, TEXT_BYTES_MAX};
use crate::limits::SLOTS;
use crate::transport::Endpoint;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use thiserror::Error;

/// Why a map is none, or may not take another's place.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MapError {
    /// A longer text than any map needs.
    #[error("a text of {got} bytes or more: a map has at most {TEXT_BYTES_MAX}")]
    TooLong {
        /// Bytes that were read or written.
        got: usize,
    },
    /// No TOML, or a value of another kind than its key takes.
    #[error("line {line}: {message}")]
    Syntax {
        /// The line, from 1 on.
        line: usize,
        /// What is wrong there.
        message: String,
    },
    /// A key that a map does not have.
    #[error("unknown key '{key}'")]
    UnknownKey {
        /// The key.
        key: String,
    },
    /// Text that names no cluster or incarnation.
    #[error("{key} '{got}' is no identity: 32 hexadecimal digits")]
    BadId {
        /// The key it stands at.
        key: &'static str,
        /// The text.
        got: String,
    },
    /// Text that is no endpoint.
    #[error("address '{got}': {why}")]
    BadAddress {
        /// The text.
        got: String,
        /// Why not.
        why: String,
    },
    /// Text that names no slots.
    #[error("slots '{got}' are none: like '0-4095' or '9000', up to {}", SLOTS - 1)]
    BadSlots {
        /// The text.
        got: String,
    },
    /// An epoch that no map has.
    #[error("epoch {got}: a map has an epoch from 1 to {}", super::EPOCH_MAX)]
    Epoch {
        /// The epoch.
        got: u64,
    },
    /// More nodes than slots.
    #[error("{got} nodes, at most {SLOTS} can own a slot")]
    TooManyNodes {
        /// Nodes in the map.
        got: usize,
    },
    /// A node that cannot be reached.
    #[error("the node {incarnation} has no address")]
    NoAddress {
        /// The node.
        incarnation: Id,
    },
    /// One life named twice.
    #[error("two nodes have the incarnation {incarnation}")]
    SameIncarnation {
        /// The incarnation.
        incarnation: Id,
    },
    /// One address for two nodes, or twice for one.
    #[error("the address {address} stands twice")]
    SameAddress {
        /// The address.
        address: Endpoint,
    },
    /// A slot with two owners, or named twice for one.
    #[error("slot {slot} has two owners, {first} and {second}")]
    Overlap {
        /// The slot.
        slot: u16,
        /// One of them.
        first: Id,
        /// The other.
        second: Id,
    },
    /// A map of another cluster.
    #[error("a map of cluster {got}, not of {expected}")]
    OtherCluster {
        /// The cluster of the map.
        got: Id,
        /// The cluster that is worked with.
        expected: Id,
    },
    /// A map of the past.
    #[error("a map of epoch {got}, older than the one of epoch {at} that is worked with")]
    OlderEpoch {
        /// The epoch of the map.
        got: u64,
        /// The epoch that is worked with.
        at: u64,
    },
    /// Another map under the same epoch.
    #[error("another map of epoch {epoch} than the one that is worked with: a change needs a higher epoch")]
    SameEpoch {
        /// The epoch of both.
        epoch: u64,
    },
}

/// Why a map could not be read, waited for or replaced. Cheap to clone: one failure fails many calls.
#[derive(Debug, Clone, Error)]
pub enum MapStoreError {
    /// What is kept is no map, or may not take the place of the one that is known.
    #[error("{place}: {source}")]
    Map {
        /// Where it is kept.
        place: String,
        /// What is wrong.
        source: MapError,
    },
    /// Text that names no place for a map.
    #[error("'{got}' is no place for a map: {why}")]
    BadPlace {
        /// The text.
        got: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// No member of etcd gave an answer that is of use; nothing was changed.
    #[error("{place}: etcd gives no map: {}", told(tried))]
    NoAnswer {
        /// Where the map is kept.
        place: String,
        /// Every member that was asked, and why in vain.
        tried: Arc<[Tried]>,
    },
    /// Etcd was asked to replace the map, and did not say whether it has.
    #[error("{place}: whether the map was replaced is unknown: {tried}")]
    Unknown {
        /// Where the map is kept.
        place: String,
        /// The member, and what happened.
        tried: Tried,
    },
    /// The file cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: Arc<io::Error>,
    },
    /// Somebody else has replaced the map meanwhile, or it was not of the epoch that was thought. Epoch 0 is none.
    #[error("{place}: holds a map of epoch {got}, not of {expected} (0: none)")]
    Conflict {
        /// Where it is kept.
        place: String,
        /// The epoch there.
        got: u64,
        /// The epoch it was to replace.
        expected: u64,
    },
}
