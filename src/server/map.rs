//! What a node makes of the shard map: it owns what the newest map says of its incarnation.
//!
//! ```text
//!   map taken   own at once what was held before and is the node's still, and what a finished import brought
//!               sweep out the records of all other slots, step by step
//!               own the slots that came without records, empty
//! ```
//!
//! So but for a move under way there are no records of slots that are not the node's: one that comes back brings what
//! its move brings, or nothing. Whoever comes by takes the next step of a sweep, and nothing else is begun before its
//! end.
#![forbid(unsafe_code)]

use super::moves::{Incoming, Outgoing};
use crate::limits::MOVE_VERSION_MAX;
use crate::map::{Id, MapError, ShardMap};
use crate::op::Version;
use crate::shard::{Ownership, Store, Sweep};
use crate::slots::SlotSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The map that a node works with, and the moves under way.
#[derive(Debug)]
pub(super) struct Taken {
    state: Mutex<State>,
}

/// What is true of slots, but for what the store says.
#[derive(Debug)]
pub(super) struct State {
    incarnation: Id,
    map: Option<ShardMap>,
    pub(super) outgoing: Option<Outgoing>,
    pub(super) incoming: Option<Incoming>,
    sweep: Option<Sweep>,
    /// What is owned once the sweep is over.
    owned_then: Option<Ownership>,
}

/// Changes of a shard that the versions of one epoch suffice for.
const VERSIONS_AN_EPOCH: u64 = 1 << 42;

/// Epochs that are told apart: a million, behind which a version of a lost life could match again.
const EPOCHS_MAX: u64 = 1 << 20;

const _: () = assert!(EPOCHS_MAX * VERSIONS_AN_EPOCH < MOVE_VERSION_MAX, "records can be moved");

/// No life that began before this epoch has drawn a higher version.
fn versions_before(epoch: u64) -> Version {
    epoch.min(EPOCHS_MAX) * VERSIONS_AN_EPOCH
}

/// What a node tells of its map.
pub(super) struct Told {
    pub(super) epoch: u64,
    pub(super) cluster: Option<String>,
    pub(super) slots: Option<u32>,
    pub(super) moves: Vec<String>,
}

impl Taken {
    pub(super) fn new(incarnation: Id) -> Self {
        let state = State { incarnation, map: None, outgoing: None, incoming: None, sweep: None, owned_then: None };
        Self { state: Mutex::new(state) }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a map in the place of the one before; refused, that one stays. Blocks until what is lost is swept out.
    pub(super) fn take(&self, map: &ShardMap, store: &Store) -> Result<(), MapError> {
        loop {
            let mut state = self.lock();
            if !state.advance(store) {
                state.begin(map, store)?;
                break;
            }
        }
        while self.lock().advance(store) {}
        Ok(())
    }

    /// As [`Taken::take`], letting others have their turn.
    pub(super) async fn take_slowly(&self, map: &ShardMap, store: &Store) -> Result<(), MapError> {
        self.when_swept(store, |state| state.begin(map, store)).await?;
        self.when_swept(store, |_| ()).await;
        Ok(())
    }

    /// Does something when no sweep is under way.
    pub(super) async fn when_swept<T>(&self, store: &Store, act: impl FnOnce(&mut State) -> T) -> T {
        loop {
            {
                let mut state = self.lock();
                if !state.advance(store) {
                    return act(&mut state);
                }
            }
            tokio::task::yield_now().await;
        }
    }

    /// The map that the node works with.
    pub(super) fn map(&self) -> Option<ShardMap> {
        self.lock().map.clone()
    }

    pub(super) fn told(&self) -> Told {
        let state = self.lock();
        let outgoing = state.outgoing.iter().map(ToString::to_string);
        Told {
            epoch: state.epoch(),
            cluster: state.map.as_ref().map(|map| map.cluster().to_string()),
            slots: state.map.as_ref().map(|_| state.mapped().count()),
            moves: outgoing.chain(state.incoming.iter().map(ToString::to_string)).collect(),
        }
    }
}

impl State {
    /// The epoch of the map, 0 for none.
    pub(super) fn epoch(&self) -> u64 {
        self.map.as_ref().map_or(0, ShardMap::epoch)
    }

    /// What the map gives to the node.
    pub(super) fn mapped(&self) -> SlotSet {
        let slots = self.map.as_ref().and_then(|map| map.slots_of_incarnation(self.incarnation));
        slots.unwrap_or(SlotSet::NONE)
    }

    /// Sweeps out what an import has brought so far.
    pub(super) fn drop_incoming(&mut self) {
        if self.incoming.take().is_some() {
            self.sweep = Some(Sweep::new(self.mapped()));
        }
    }

    /// Takes a step of the sweep under way; false where there is none.
    fn advance(&mut self, store: &Store) -> bool {
        let Some(sweep) = &mut self.sweep else { return false };
        if !store.sweep(sweep) {
            self.sweep = None;
            if let Some(owned) = self.owned_then.take() {
                store.set_ownership(owned);
            }
        }
        self.sweep.is_some()
    }

    fn begin(&mut self, map: &ShardMap, store: &Store) -> Result<(), MapError> {
        if let Some(old) = &self.map {
            map.check_follows(old)?;
            if map == old {
                return Ok(());
            }
        }
        let (epoch, place) = (map.epoch(), map.place_of(self.incarnation));
        let slots = place.map_or(SlotSet::NONE, |place| map.slots_of(place));
        let arrived = place.and_then(|place| map.arrived_by(place));
        let before = self.mapped();
        let brought = self.incoming.take_if(|incoming| arrived == Some(incoming.id()) && incoming.is_finished());
        let there = brought.map_or(before.clone(), |incoming| before.joined(incoming.slots()));
        let held = there.shared(&slots);
        if slots.without(&there) != SlotSet::NONE {
            // Another life may have served them, and its records are lost: its versions shall match no record here.
            store.raise_versions(versions_before(epoch));
        }
        if self.outgoing.take().is_some() {
            store.end_export();
        }
        store.set_ownership(Ownership { epoch, slots: held.clone() });
        let is_left_over = self.incoming.take().is_some() || there.without(&slots) != SlotSet::NONE;
        let owned = Ownership { epoch, slots: slots.clone() };
        if is_left_over {
            self.sweep = Some(Sweep::new(held));
            self.owned_then = Some(owned);
        } else {
            store.set_ownership(owned);
        }
        self.map = Some(map.clone());
        let (cluster, incarnation) = (map.cluster(), self.incarnation);
        match place {
            Some(_) => tracing::info!(
                "map of epoch {epoch}, cluster {cluster}: incarnation {incarnation} owns {} slots: {slots}",
                slots.count()
            ),
            None => tracing::warn!(
                "map of epoch {epoch}, cluster {cluster}, does not name incarnation {incarnation}: owns nothing"
            ),
        }
        Ok(())
    }
}
