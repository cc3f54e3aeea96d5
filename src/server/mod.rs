//! A node: one runtime a core, frames executed to completion on the core where they arrive.
//!
//! ```text
//!   acceptor (thread 0) --connection, by placement--> thread i: [ receive -> execute -> send ] per connection
//!                                                        \---- shards, one lock each ----/
//! ```
//!
//! A thread never waits for another but at a shard's lock. A connection holds one frame and its reply at a time,
//! and is not read while its reply is not taken, so a slow client costs its own buffers and nothing else.
#![forbid(unsafe_code)]

mod acceptor;
mod connection;
mod follow;
mod map;
mod moves;
mod node;
mod worker;

pub use node::{Identity, LocalNode, Node, NodeConfig, ServerError};
