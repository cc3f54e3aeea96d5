//! Concurrent clients on real nodes: what they were told can be explained by one order of each key's operations.
//! And nodes with a planted bug, behind the same clients, recorder and checker, are caught.
#![forbid(unsafe_code)]

mod clocks;
mod deaths;
mod eviction;
mod expiry;
mod faulty;
#[path = "../cluster/keys.rs"]
mod keys;
mod moves;
mod once;
mod planted;
mod recorded;
mod sharded;
mod sim;
#[path = "../checker/store.rs"]
mod store;
#[path = "../support/mod.rs"]
mod support;
mod threads;
mod workload;
