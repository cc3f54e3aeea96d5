//! The protocol of Redis: what a node says to clients that speak RESP2 or RESP3.
//!
//! ```text
//!   input --[parse, inline]--> words --[names, data]--> operations --> a batch of the store
//!                                |                                        |
//!                                `--[local, scan]--> reply                 `--[collect, render]--> replies, in order
//! ```
//!
//! Commands that have arrived together are one batch, so that memory works for all of them at once, and their replies
//! are written at once. A [`Session`] is one client; a [`Desk`] is what serving one takes, which those of a thread
//! share.
//!
//! Architecture invariant: no socket, runtime, clock or shard in here. A [`Host`] has those.
#![forbid(unsafe_code)]

mod collect;
mod data;
mod deadlines;
mod glob;
mod host;
mod info;
mod inline;
mod local;
mod names;
mod ops;
mod output;
mod parse;
mod portions;
mod problem;
mod render;
mod scan;
mod session;

pub use host::{Admission, Asked, ClientFacts, ClientLine, Commands, Denied, Host, NodeFacts, Takes};
pub use output::{Lend, Output, Protocol};
pub use problem::ProtocolError;
pub use session::{Desk, Served, Session, SessionLimits, Until};
