//! Freight: a sharded, linearizable, in-memory key-value store whose unit of transport is a batch.
//!
//! Start with [`client::Client`] to use a store and [`server::Node`] to run one. `docs/ARCHITECTURE.md` shows how
//! the parts below stand on each other.

pub mod auth;
pub mod bench;
pub mod budget;
pub mod cli;
pub mod client;
pub mod completions;
pub mod cores;
pub mod decimal;
pub mod files;
pub mod hash;
pub mod hot_keys;
pub mod limits;
pub mod map;
pub mod metrics;
pub mod mover;
pub mod op;
pub mod op_list;
pub mod pages;
pub mod plot;
mod polling;
mod process;
pub mod profile;
pub mod resp;
pub mod server;
pub mod session;
pub mod shard;
pub mod short;
pub mod slots;
pub mod transport;
pub mod wire;
