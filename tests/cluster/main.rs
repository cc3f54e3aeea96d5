//! Node processes on a network of their own, under load, while a nemesis works: what the clients are told is
//! linearizable, and every fault was felt. Planted bugs, behind the same clients and the same nemesis, are caught.
//!
//! ```text
//!   nemesis --signals, maps, cuts, relays--> node processes <--TCP-- clients --calls--> history --> checker
//!      `-- moves of slots, their movers killed; etcd stopped and killed
//! ```
#![forbid(unsafe_code)]

#[path = "../support/binary.rs"]
#[allow(dead_code, reason = "each test target uses a part")]
mod binary;
#[path = "../support/etcd.rs"]
#[allow(dead_code, reason = "each test target uses a part")]
mod etcd;
mod faults;
mod keys;
mod kinds;
mod load;
mod maps;
mod movers;
mod nemesis;
mod network;
mod nodes;
#[path = "../linearizability/recorded.rs"]
mod recorded;
mod relay;
mod soak;
#[path = "../support/mod.rs"]
mod support;
#[path = "../linearizability/workload.rs"]
mod workload;
