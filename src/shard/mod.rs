//! The shards: where records live and operations take effect.
//!
//! ```text
//!   Batch --> Scratch: one bin a shard --> Store: lock a shard once --> Shard: one operation after another
//!                                                                        |
//!                            index: hash --> handle (segments of buckets)|records: handle --> version, key, value
//!                                                                        |
//!                                        slab: slots of a size in spans  |
//!                                        pool: spans in 2 MiB chunks, charged to the node's Budget
//! ```
//!
//! An operation takes effect at one instant while its shard's lock is held, so each is linearizable on its key;
//! a batch visits its shards one after the other and is no transaction.
//!
//! Architecture invariant: shards know operations, hashes and a memory account. No sockets, no clock, no
//! randomness, no tasks: the hash secret and the time are given, and the same calls give the same outcomes.

mod bucket;
mod buckets;
mod changed;
mod directory;
mod edit;
mod evict;
mod evicting;
mod execute;
mod expiry;
mod ghost;
mod index;
#[cfg(test)]
mod index_tests;
#[cfg(feature = "leapfrog")]
mod leap;
mod memory;
mod moving;
mod ownership;
mod prefetch;
mod reclaim;
mod record;
mod repeats;
mod ring;
mod sampling;
mod scan;
mod segment;
#[expect(clippy::module_inception, reason = "the folder is about shards, the file about one")]
mod shard;
mod size_class;
mod slab;
mod store;
mod table;
mod tags;

pub use evict::{Eviction, UnknownEviction};
pub use execute::Scratch;
pub use moving::{Export, Sweep};
pub use ownership::Ownership;
pub use store::{IndexKind, Store, StoreConfig, StoreError, UnknownIndex};
