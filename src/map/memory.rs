//! A map in memory: the twin of the file, for tests and simulations.
#![forbid(unsafe_code)]

use super::store::{Pending, check_replaces};
use super::{MapStore, ShardMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Keeps a map in memory; share it in an `Arc`.
#[derive(Debug, Default)]
pub struct MapMemory {
    map: Mutex<Option<Arc<ShardMap>>>,
    /// Wakes in the order of waiting, so that a seed replays it; tokio's watch draws an order.
    changed: Notify,
}

const PLACE: &str = "map in memory";

impl MapMemory {
    fn lock(&self) -> MutexGuard<'_, Option<Arc<ShardMap>>> {
        self.map.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MapStore for MapMemory {
    fn load(&self) -> Pending<'_, Option<Arc<ShardMap>>> {
        Box::pin(async { Ok(self.lock().clone()) })
    }

    fn newer_than(&self, epoch: u64) -> Pending<'_, Arc<ShardMap>> {
        Box::pin(async move {
            loop {
                // Before the look, so that no change falls in between.
                let changed = self.changed.notified();
                let map = self.lock().clone();
                match map {
                    Some(map) if map.epoch() > epoch => return Ok(map),
                    _ => changed.await,
                }
            }
        })
    }

    fn replace<'a>(&'a self, expected: u64, map: &'a ShardMap) -> Pending<'a, ()> {
        Box::pin(async move {
            let mut there = self.lock();
            check_replaces(PLACE, there.as_deref(), expected, map)?;
            *there = Some(Arc::new(map.clone()));
            drop(there);
            self.changed.notify_waiters();
            Ok(())
        })
    }
}
