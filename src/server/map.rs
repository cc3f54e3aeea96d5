//! What a node makes of the shard map: it owns what the newest map says of its incarnation.
#![forbid(unsafe_code)]

use crate::map::{Id, MapError, ShardMap};
use crate::shard::{Ownership, Store};
use crate::slots::SlotSet;
use std::sync::{Mutex, PoisonError};

/// The map that a node works with.
#[derive(Debug, Default)]
pub(super) struct Taken {
    map: Mutex<Option<ShardMap>>,
}

/// What a node tells of its map.
pub(super) struct Told {
    pub(super) epoch: u64,
    pub(super) cluster: Option<String>,
    pub(super) slots: Option<u32>,
}

impl Taken {
    /// Takes a map in the place of the one before; refused, that one stays.
    pub(super) fn take(&self, map: &ShardMap, incarnation: Id, store: &Store) -> Result<(), MapError> {
        let mut taken = self.map.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(old) = &*taken {
            map.check_follows(old)?;
            if map == old {
                return Ok(());
            }
        }
        let (epoch, cluster) = (map.epoch(), map.cluster());
        let named = map.slots_of_incarnation(incarnation);
        let slots = named.clone().unwrap_or(SlotSet::NONE);
        store.set_ownership(Ownership { epoch, slots });
        *taken = Some(map.clone());
        match named {
            Some(slots) => tracing::info!(
                "map of epoch {epoch}, cluster {cluster}: incarnation {incarnation} owns {} slots: {slots}",
                slots.count()
            ),
            None => tracing::warn!(
                "map of epoch {epoch}, cluster {cluster}, does not name incarnation {incarnation}: owns nothing"
            ),
        }
        Ok(())
    }

    pub(super) fn told(&self, incarnation: Id) -> Told {
        let taken = self.map.lock().unwrap_or_else(PoisonError::into_inner);
        let slots = |map: &ShardMap| map.slots_of_incarnation(incarnation).map_or(0, |slots| slots.count());
        Told {
            epoch: taken.as_ref().map_or(0, ShardMap::epoch),
            cluster: taken.as_ref().map(|map| map.cluster().to_string()),
            slots: taken.as_ref().map(slots),
        }
    }
}
