//! What allocates nothing: views of frames, and a warm store.

mod counting;
#[path = "../golden/mod.rs"]
mod golden;
mod shard;
mod wire;
