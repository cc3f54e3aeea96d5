//! A map in etcd: what a real one does when it stops and comes back, and what one does that lies.
#![forbid(unsafe_code)]

#[path = "../support/etcd.rs"]
#[allow(dead_code, reason = "each test target uses a part")]
mod etcd;

#[path = "../support/binary.rs"]
#[allow(dead_code, reason = "each test target uses a part")]
mod binary;

mod hostile;
mod outages;
mod processes;

use freight::limits::SLOTS;
use freight::map::{Id, MapEtcd, MapNode, ShardMap};
use freight::slots::SlotSet;
use std::sync::mpsc;
use tokio::runtime::Builder;

/// A map of one node.
fn map(epoch: u64) -> ShardMap {
    let addresses = vec!["tcp://127.0.0.1:7411".parse().expect("an endpoint")];
    let node = MapNode { addresses, incarnation: Id([2; 16]) };
    ShardMap::new(Id([1; 16]), epoch, vec![(node, SlotSet::ALL)]).expect("a map")
}

/// A map that is too much for etcd as it comes, whose requests have 1.5 MiB at most.
fn largest() -> ShardMap {
    let node = |slot: u16| {
        let incarnation = Id([slot.to_be_bytes(); 8].concat().try_into().expect("16 bytes"));
        let addresses = vec![format!("tcp://10.0.0.1:{}", 40_000 + slot).parse().expect("an endpoint")];
        (MapNode { addresses, incarnation }, SlotSet::from_iter([slot]))
    };
    ShardMap::new(Id([1; 16]), 1, (0..SLOTS as u16).map(node).collect()).expect("a map")
}

fn at(place: &str) -> MapEtcd {
    MapEtcd::new(place).expect("a place")
}

fn run<T>(test: impl Future<Output = T>) -> T {
    Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(test)
}

/// Runs a test whose clock stands still unless it is advanced: what a pause would bring does not come.
fn run_frozen<T>(test: impl Future<Output = T>) -> T {
    let runtime = Builder::new_current_thread().enable_all().start_paused(true).build().expect("a runtime");
    // While something blocks, tokio's clock does not run ahead by itself.
    let (end, ended) = mpsc::channel::<()>();
    runtime.spawn_blocking(move || ended.recv());
    let result = runtime.block_on(test);
    drop(end);
    result
}
