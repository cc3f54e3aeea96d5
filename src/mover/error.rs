//! Why slots did not move.
#![forbid(unsafe_code)]

use crate::client::ClientError;
use crate::map::{Id, MapError, MapStoreError};
use crate::transport::Endpoint;
use crate::wire::MoveStatus;
use std::io;
use std::time::Duration;
use thiserror::Error;

/// Why a move ended without taking place, unless it says that this is not known.
#[derive(Debug, Error)]
pub enum MoveError {
    /// There is no map to change.
    #[error("there is no shard map yet: `freight cluster create` makes one")]
    NoMap,
    /// The map does not name the node.
    #[error("the map of epoch {epoch} names no node {incarnation}")]
    NoNode {
        /// The node.
        incarnation: Id,
        /// The epoch of the map.
        epoch: u64,
    },
    /// The keeper of the map does not keep or tell it.
    #[error(transparent)]
    Store(#[from] MapStoreError),
    /// There can be no such map.
    #[error(transparent)]
    Map(#[from] MapError),
    /// A node cannot be asked.
    #[error("{endpoint} cannot be asked: {source}")]
    Unreachable {
        /// The node.
        endpoint: Endpoint,
        /// Why.
        source: ClientError,
    },
    /// A node does not take a step.
    #[error("{endpoint} refuses: {}", why(*.status))]
    Refused {
        /// The node.
        endpoint: Endpoint,
        /// Why.
        status: MoveStatus,
    },
    /// A node does not come to work with the newest map.
    #[error("{endpoint} works with the map of epoch {got}, not of {expected}: does it read the same map?")]
    Behind {
        /// The node.
        endpoint: Endpoint,
        /// The epoch of its map.
        got: u64,
        /// The newest map's.
        expected: u64,
    },
    /// Another map took the place of the one that the move was to replace: nothing moved.
    #[error("another map, of epoch {epoch}, came first: nothing moved")]
    Overtaken {
        /// Its epoch.
        epoch: u64,
    },
    /// A node that was said to be dead answers.
    #[error("{endpoint} answers: it is not dead, so its records need not be given up")]
    Alive {
        /// The node.
        endpoint: Endpoint,
    },
    /// A node owns slots, and so stays in the map.
    #[error("the node {incarnation} owns {slots} slots: move them first")]
    OwnsSlots {
        /// The node.
        incarnation: Id,
        /// How many.
        slots: u32,
    },
    /// The system has no randomness to name a move with.
    #[error("no randomness to name a move with: {0}")]
    Random(io::Error),
    /// The keeper did not say whether it took the map: it is not known whether the slots moved.
    #[error(
        "the keeper of the map gives no answer within {patience:?}, so whether the slots moved is not known: {source}"
    )]
    Unsettled {
        /// How long it was asked.
        patience: Duration,
        /// What it said last.
        source: MapStoreError,
    },
}

/// What a status means to people.
fn why(status: MoveStatus) -> &'static str {
    match status {
        MoveStatus::Done => "nothing",
        MoveStatus::NoMove => "another move or a newer map ended this one, or more changed meanwhile than it notes",
        MoveStatus::OtherEpoch => "it works with another map",
        MoveStatus::BadSlots => "the slots are not the old owner's, or are the new owner's",
        MoveStatus::Frozen => "a move that was left alone still has slots given up there",
        MoveStatus::OutOfOrder => "another mover does the same steps",
        MoveStatus::OutOfMemory => "it has no memory for more records",
        MoveStatus::BadCompletions => "it was given no completion records in their place",
        MoveStatus::NoKeeper => "it was started without --map",
    }
}
