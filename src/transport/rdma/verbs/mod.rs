//! Verbs: libibverbs opened at run time, one noun a file.
//!
//! ```text
//!   device list --open--> Context --> ProtectionDomain --> MemoryRegion        (each holds what it is made of,
//!                            |               \                                  so that nothing is destroyed
//!                            |                +-----------> QueuePair           under its users)
//!                            +--> CompletionChannel --> CompletionQueue --/
//! ```
//!
//! Only plain verbs: extended completion queues complete wrongly on Soft-RoCE with the rdma-core of Debian 12.

mod abi;
mod async_event;
mod completion_channel;
mod completion_queue;
mod context;
mod device;
mod error;
#[cfg(test)]
mod feigned;
mod library;
mod memory_region;
mod protection_domain;
mod queue_pair;
#[cfg(test)]
mod tests;

pub use completion_queue::Failure;
pub use error::VerbsError;

pub(super) use abi::Completion;
pub(super) use async_event::{About, AsyncEvent};
pub(super) use completion_channel::CompletionChannel;
pub(super) use completion_queue::{CompletionQueue, Ended};
pub(super) use context::{Context, PortState};
pub(super) use memory_region::{MemoryRegion, PAGE_BYTES, PeerMay};
pub(super) use protection_domain::ProtectionDomain;
pub(super) use queue_pair::{
    PairAddress, PairDepth, PairPath, Piece, QueuePair, RECEIVES_AT_ONCE, Request, SENDS_AT_ONCE, Verb,
};
