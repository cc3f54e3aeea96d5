//! Clients that go by a shard map, and nodes that own what it gives them.
#![forbid(unsafe_code)]

#[path = "../support/mod.rs"]
mod support;

mod changes;
mod hostile_moves;
mod kept;
mod losses;
mod moved_outcomes;
mod moves;
mod sharded;
mod slow_moves;
mod waiting;
