//! A map in memory: the twin of the file, for tests and simulations.
#![forbid(unsafe_code)]

use super::store::{Pending, check_replaces};
use super::{MapStore, ShardMap};
use std::sync::Arc;
use tokio::sync::watch;

/// Keeps a map in memory; share it in an `Arc`.
#[derive(Debug, Default)]
pub struct MapMemory {
    map: watch::Sender<Option<Arc<ShardMap>>>,
}

const PLACE: &str = "map in memory";

impl MapStore for MapMemory {
    fn load(&self) -> Pending<'_, Option<Arc<ShardMap>>> {
        Box::pin(async { Ok(self.map.borrow().clone()) })
    }

    fn newer_than(&self, epoch: u64) -> Pending<'_, Arc<ShardMap>> {
        let mut changes = self.map.subscribe();
        Box::pin(async move {
            let newer = |map: &Option<Arc<ShardMap>>| map.as_ref().is_some_and(|map| map.epoch() > epoch);
            let map = changes.wait_for(newer).await.expect("its sender is borrowed");
            Ok(Arc::clone(map.as_ref().expect("a newer map is one")))
        })
    }

    fn replace<'a>(&'a self, expected: u64, map: &'a ShardMap) -> Pending<'a, ()> {
        Box::pin(async move {
            let mut checked = Ok(());
            self.map.send_if_modified(|there| {
                checked = check_replaces(PLACE, there.as_deref(), expected, map);
                if checked.is_ok() {
                    *there = Some(Arc::new(map.clone()));
                }
                checked.is_ok()
            });
            checked
        })
    }
}
