//! Where the maps of a run are kept: in a file, of which each client host has a copy that may be older, or in etcd, a
//! process that may stop and come back.
#![forbid(unsafe_code)]

use crate::etcd::Etcd;
use freight::map::{self, Id, MapStore, ShardMap};
use freight::slots::{SlotSet, range_text};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::time::sleep;
use toml::Table;

/// Who keeps the map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keeper {
    Files,
    Etcd,
}

/// The keeper of a run.
pub(crate) struct Maps {
    folder: TempDir,
    etcd: Option<Etcd>,
    store: Arc<dyn MapStore>,
}

impl Maps {
    /// An empty one; etcd listens at `address`, on its own loopback address where none is given.
    pub(crate) fn new(keeper: Keeper, address: Option<&str>) -> Self {
        let folder = tempfile::tempdir().expect("a scratch folder");
        let etcd = (keeper == Keeper::Etcd).then(|| address.map_or_else(Etcd::start, Etcd::start_at));
        let store = map::open(&of_nodes(&folder, etcd.as_ref())).expect("a place");
        Self { folder, etcd, store }
    }

    /// What nodes and movers go by.
    pub(crate) fn of_nodes(&self) -> PathBuf {
        of_nodes(&self.folder, self.etcd.as_ref())
    }

    /// What the clients at a host go by.
    pub(crate) fn of_clients(&self, host: usize) -> PathBuf {
        if self.etcd.is_some() { self.of_nodes() } else { self.folder.path().join(format!("client{host}.toml")) }
    }

    /// Whether nodes take each newer map as it comes; if not, a signal tells them, and clients have copies.
    pub(crate) fn is_watched(&self) -> bool {
        self.store.is_watched()
    }

    pub(crate) fn etcd(&mut self) -> &mut Etcd {
        self.etcd.as_mut().expect("the map is in etcd")
    }

    /// Puts the first map there.
    pub(crate) async fn create(&self, map: &ShardMap) {
        self.store.replace(0, map).await.expect("nothing was there");
    }

    /// The map that is there: of a keeper that is not, once it is back.
    pub(crate) async fn newest(&self) -> Arc<ShardMap> {
        loop {
            match self.store.load().await {
                Ok(map) => return map.expect("a map was put there"),
                Err(error) => println!("{error}"),
            }
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Puts the map that follows in the place of the one that is there, whoever else changes it meanwhile: what `next`
    /// makes of the last one that it saw is there when this returns.
    pub(crate) async fn change(&self, mut next: impl FnMut(&ShardMap) -> ShardMap) -> ShardMap {
        loop {
            let there = self.newest().await;
            let next = next(&there);
            match self.store.replace(there.epoch(), &next).await {
                Ok(()) => return next,
                // It may have been replaced all the same.
                Err(_) if *self.newest().await == next => return next,
                Err(error) => println!("{error}"),
            }
        }
    }

    /// Copies the nodes' map to the clients at a host.
    pub(crate) fn copy_to(&self, host: usize, map: &ShardMap) {
        write(&self.of_clients(host), map);
    }
}

fn of_nodes(folder: &TempDir, etcd: Option<&Etcd>) -> PathBuf {
    etcd.map_or_else(|| folder.path().join("nodes.toml"), |etcd| etcd.place().into())
}

/// Puts a map in a file that others may read meanwhile.
fn write(path: &Path, map: &ShardMap) {
    let beside = path.with_extension("new");
    fs::write(&beside, map.to_string()).and_then(|()| fs::rename(&beside, path)).expect("writable");
}

/// The next map, in which slots are a node's or nobody's: as by hand, without their records.
pub(crate) fn given(map: &ShardMap, slots: &SlotSet, to: Option<usize>) -> ShardMap {
    if let Some(to) = to {
        return map.moved(slots, to, None).expect("a map");
    }
    let mut text: Table = map.fenced().expect("a map").to_string().parse().expect("a table");
    for (place, node) in text["nodes"].as_array_mut().expect("nodes").iter_mut().enumerate() {
        let left = map.slots_of(place).without(slots);
        node["slots"] = left.ranges().map(|range| range_text(&range)).collect::<Vec<_>>().into();
    }
    text.to_string().parse().expect("a map")
}

/// The next map, with the same owners, one of them in another life.
pub(crate) fn named_anew(map: &ShardMap, node: usize, life: Id) -> ShardMap {
    let before = map.nodes()[node].incarnation.to_string();
    map.fenced().expect("a map").to_string().replace(&before, &life.to_string()).parse().expect("a map")
}
