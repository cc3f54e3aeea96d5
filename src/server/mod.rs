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
mod accounts;
mod clock;
mod config;
mod connection;
mod drain;
mod ended;
mod error;
mod follow;
mod identity;
mod idle;
mod inspect;
mod limits;
mod local_node;
mod map;
mod metrics_listener;
mod metrics_page;
mod moves;
mod nearness;
mod node;
mod passwords;
mod profiler;
mod rate;
mod redis;
mod redis_clients;
mod redis_counting;
mod redis_forward;
mod redis_host;
mod redis_input;
mod redis_listener;
mod seldom;
mod slow;
mod standing;
mod sweeper;
mod users;
mod worker;

pub use clock::Clock;
pub use config::NodeConfig;
pub use error::ServerError;
pub use identity::Identity;
pub use limits::Limits;
pub use local_node::LocalNode;
pub use node::Node;
