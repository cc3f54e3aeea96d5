//! What may be concluded when something goes wrong, and that nothing goes wrong for others.
#![forbid(unsafe_code)]

#[path = "../support/binary.rs"]
#[expect(dead_code, reason = "the command line has tests of its own")]
mod binary;
#[path = "../support/mod.rs"]
mod support;

mod again;
mod client_limits;
mod coalescing;
mod draining;
mod dropping;
mod hostile_client;
mod hostile_node;
mod limits;
mod lost;
mod memory;
mod node_limits;
mod raw;
mod reply_full;
mod restart;
mod runtimes;
mod system_memory;
mod together;
