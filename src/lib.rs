//! Freight: a sharded, linearizable, in-memory key-value store whose unit of transport is a batch.

pub mod budget;
pub mod hash;
pub mod limits;
pub mod op;
pub mod op_list;
pub mod shard;
pub mod transport;
pub mod wire;
